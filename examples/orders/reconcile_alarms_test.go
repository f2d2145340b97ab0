package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/deployment"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The alarms of template and module go off for what the reconcile tells, and for nothing else: an event that was lost, and a day in which a part of the
// table was not done. For three days it is invoked in each hour, up to a quarter of an hour late, and CloudWatch looks each minute.
func TestTheAlarmsHearWhatTheReconcileTells(t *testing.T) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(before)
	for _, c := range []struct {
		name    string
		happens map[int]string // in an hour
		// What is expected from the second day on, given the hour in which the lost event is found.
		undelivered, incomplete func(found int) []int // the hours of the alarm
	}{
		{name: "each part is done"},
		{name: "a part is left out", happens: map[int]string{30: "nothing"}, incomplete: func(int) []int { return hours(31, 55) }},
		{name: "a part is cut off", happens: map[int]string{30: "cut off"}, incomplete: func(int) []int { return hours(31, 55) }},
		{name: "a part is cut off and repeated", happens: map[int]string{30: "cut off and repeated"}},
		{name: "a part is left out, and another one is read twice", happens: map[int]string{30: "nothing", 35: "twice"}, incomplete: func(int) []int { return hours(31, 36) }},
		{name: "a part is left out between two that are read twice, and nobody hears of it", happens: map[int]string{29: "twice", 30: "nothing", 31: "twice"}},
		{name: "nobody calls any more", happens: map[int]string{50: "the end"}, incomplete: func(int) []int { return hours(51, 72) }},
		{name: "an event is lost", happens: map[int]string{23: "lost"}, undelivered: func(found int) []int { return hours(found, found+2) }},
		{name: "an event is lost and cannot be handled", happens: map[int]string{23: "lost for long"},
			undelivered: func(found int) []int { return append(hours(found, found+2), hours(found+24, min(found+26, 72))...) },
			incomplete:  func(found int) []int { return hours(found+1, 72) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newReconciled(t)
				defer w.cloud.Close()
				ended := false
				for hour := range 72 {
					ended = ended || c.happens[hour] == "the end"
					w.hour(t, hour, c.happens[hour], ended)
				}
				for hour := range 72 {
					want := 1
					if c.happens[hour] == "lost for long" {
						want = 0
					}
					require.Equal(t, want, w.mails[fmt.Sprint("order-", hour)], "mails of hour %d", hour)
				}
				for source, d := range w.deployed {
					undelivered := w.on(t, d, service.UndeliveredMetric)
					incomplete := w.on(t, d, service.ReconciledMetric)
					found := 0
					if c.undelivered != nil {
						require.NotEmpty(t, undelivered, source)
						found = undelivered[0]
						require.Equal(t, c.undelivered(found), undelivered, "undelivered, %s", source)
					} else {
						require.Empty(t, undelivered, source)
					}
					if c.incomplete != nil {
						require.Equal(t, c.incomplete(found), incomplete, "incomplete, %s", source)
					} else {
						require.Empty(t, incomplete, source)
					}
				}
			})
		})
	}
}

// hours are those from one to before another.
func hours(from, to int) (all []int) {
	for h := from; h < to; h++ {
		all = append(all, h)
	}
	return all
}

// reconciled is a service whose events are handled, but for one that is lost. It is the log that CloudWatch reads, and the mailer.
type reconciled struct {
	cloud     *outboxtest.AWS
	deployed  map[string]*deployment.Deployment
	writer    *outbox.Writer
	consumer  *outbox.Consumer
	reconcile *service.Reconcile
	began     time.Time

	mu    sync.Mutex
	lines []metricLine
	down  bool
	mails map[string]int // by order
}

// metricLine is a value of a metric, and when it was written.
type metricLine struct {
	metric         string
	written, stamp time.Time
	value          float64
}

func newReconciled(t *testing.T) *reconciled {
	w := &reconciled{cloud: outboxtest.Start(t), deployed: map[string]*deployment.Deployment{}, began: time.Now(), mails: map[string]int{}}
	template, err := os.ReadFile("template.yaml")
	require.NoError(t, err)
	w.deployed["template"], err = deployment.CloudFormation(template, sender())
	require.NoError(t, err)
	w.deployed["module"], err = deployment.Terraform(moduleFiles(t), moduleVariables())
	require.NoError(t, err)
	require.Equal(t, w.began, w.began.Truncate(service.ReconcileEvery))
	c := service.Config{EventsTable: "events", InboxTable: "inbox", DeadLettersTable: "letters", Stack: names(t, w.deployed["template"]).Stack, MailRate: 1000}
	w.cloud.CreateTable(t, c.EventsTable, "eventId")
	createOwn(t, w.cloud.DynamoDB, c.InboxTable, c.DeadLettersTable, "leases")
	w.writer, err = outbox.NewWriter(w.cloud.DynamoDB, c.EventsTable, outbox.WithTTL(service.EventsKept))
	require.NoError(t, err)
	w.consumer, err = service.NewConsumer(w.cloud.DynamoDB, c, w, w)
	require.NoError(t, err)
	w.reconcile, err = service.NewReconcile(w.cloud.DynamoDB, c, w, w)
	require.NoError(t, err)
	return w
}

// Confirm implements service.Mailer.
func (w *reconciled) Confirm(_ context.Context, _ string, order service.OrderCreated) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return outbox.Unavailable(errors.New("down"))
	}
	w.mails[order.OrderID]++
	return nil
}

// Changed implements service.Mailer. Nothing changes here.
func (w *reconciled) Changed(context.Context, string, service.OrderChanged) error {
	return errors.New("nothing has changed")
}

// Write takes a line with a metric.
func (w *reconciled) Write(line []byte) (int, error) {
	var head struct {
		AWS struct {
			Timestamp         int64
			CloudWatchMetrics []struct{ Metrics []struct{ Name string } }
		} `json:"_aws"`
	}
	var values map[string]any
	if err := errors.Join(json.Unmarshal(line, &head), json.Unmarshal(line, &values)); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	metric := head.AWS.CloudWatchMetrics[0].Metrics[0].Name
	w.lines = append(w.lines, metricLine{metric, time.Now(), time.UnixMilli(head.AWS.Timestamp), values[metric].(float64)})
	return len(line), nil
}

// hour lets an hour pass, in which an order is placed, and confirmed unless it is lost.
func (w *reconciled) hour(t *testing.T, hour int, what string, ended bool) {
	ends := time.Now().Add(service.ReconcileEvery)
	id := fmt.Sprint("order-", hour)
	e := outbox.Event[service.OrderCreated]{ID: id, AggregateID: id, Time: time.Now(), Data: service.OrderCreated{OrderID: id}}
	time.Sleep(20 * time.Minute)
	require.NoError(t, w.writer.Transact(t.Context(), nil, e))
	switch what {
	case "lost":
	case "lost for long":
		w.breaks(true)
	default:
		r := outbox.Record{ID: id, AggregateID: id, Type: e.Data.EventType(), Time: e.Time, Payload: []byte(fmt.Sprintf(`{"orderId":%q}`, id)), Table: "events"}
		down := w.breaks(false)
		require.NoError(t, w.consumer.Process(t.Context(), r))
		w.breaks(down)
	}
	time.Sleep(10*time.Minute + time.Duration(hour*7%15)*time.Minute)
	invoke := func(timeout time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		_, err := w.reconcile.Invoke(ctx, nil)
		down := w.breaks(false)
		w.breaks(down)
		require.Equal(t, timeout < 0 || down && w.found(), err != nil, "hour %d: %v", hour, err)
	}
	switch {
	case ended || what == "nothing":
	case what == "cut off":
		invoke(-1)
	case what == "cut off and repeated":
		invoke(-1)
		time.Sleep(time.Minute)
		invoke(10 * time.Minute)
	case what == "twice":
		invoke(10 * time.Minute)
		invoke(10 * time.Minute)
	default:
		invoke(10 * time.Minute)
	}
	time.Sleep(time.Until(ends))
}

// breaks says whether mails cannot be sent from now on, and returns whether they could not before.
func (w *reconciled) breaks(down bool) (before bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, w.down = w.down, down
	return before
}

// found says whether the last invocation has told of undelivered events.
func (w *reconciled) found() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := len(w.lines) - 1
	return i >= 0 && w.lines[i].written.Equal(time.Now()) && w.lines[i].metric == service.UndeliveredMetric && w.lines[i].value > 0
}

// on returns in which hours after the first day the alarm on a metric is on for a moment.
func (w *reconciled) on(t *testing.T, d *deployment.Deployment, metric string) (on []int) {
	i := slices.IndexFunc(d.Alarms, func(a deployment.Alarm) bool { return a.Metric.Name == metric })
	require.NotEqual(t, -1, i, metric)
	for now := w.began.Add(24 * time.Hour); now.Before(w.began.Add(72 * time.Hour)); now = now.Add(time.Minute) {
		if hour := int(now.Sub(w.began) / time.Hour); w.sounds(d.Alarms[i], now) && !slices.Contains(on, hour) {
			on = append(on, hour)
		}
	}
	return on
}

// sounds evaluates an alarm with a sliding window, by what was written before.
func (w *reconciled) sounds(a deployment.Alarm, now time.Time) bool {
	value, n := 0.0, 0
	for _, l := range w.lines {
		if l.metric != a.Metric.Name || l.written.After(now) || l.stamp.After(now) || !l.stamp.After(now.Add(-time.Duration(a.Period)*time.Second)) {
			continue
		}
		if n++; a.Metric.Statistic == "Sum" {
			value += l.value
		} else {
			value = max(value, l.value)
		}
	}
	switch {
	case n == 0:
		return a.Missing == "breaching"
	case a.Comparison == "LessThanThreshold":
		return value < a.Threshold
	}
	return value > a.Threshold
}
