package service

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// How often Reconcile is invoked, and the time in which all invocations together read the whole table. The schedule has to be in the middle of each
// ReconcileEvery, of which the clock's multiples are the limits; the alarm counts invocations over ReconcileCycle.
const (
	ReconcileEvery = time.Hour
	ReconcileCycle = 24 * time.Hour
)

// Reconcile looks for events of the table that no delivery has brought, and hands them to the handlers. It is a handler for lambda.Start, to be
// invoked on a schedule, and safe for concurrent use.
type Reconcile struct {
	events   *replay.Events
	consumer *outbox.Consumer
	metrics  *metrics
}

// NewReconcile returns a Reconcile with the handlers of NewConsumer. Each invocation writes two lines with a metric to metricLines: how many events
// had been lost, and, if the part of the table was read to its end and nothing is left, that the part is done.
func NewReconcile(client *dynamodb.Client, c Config, mailer Mailer, metricLines io.Writer) (*Reconcile, error) {
	m := newMetrics(c, metricLines)
	consumer, _, err := newConsumer(client, c, mailer, m)
	if err != nil {
		return nil, err
	}
	events, err := replay.New(client, c.EventsTable)
	if err != nil {
		return nil, err
	}
	return &Reconcile{events, consumer, m}, nil
}

// mostNamed bounds how many events an invocation names in the log.
const mostNamed = 100

// Invoke implements lambda.Handler. It takes any payload. The answer counts events, as replay.ReconcileResult does. An error means that the part
// of the table is not done: Lambda repeats the invocation, and a day later the part is read again.
func (r *Reconcile) Invoke(ctx context.Context, _ []byte) ([]byte, error) {
	slot := time.Now().Truncate(ReconcileEvery)
	reconciling, cancel := beforeDeadline(ctx, keepTime)
	defer cancel()
	named := 0
	result, err := r.events.Reconcile(reconciling, r.consumer, replay.ReconcileOptions{Every: ReconcileEvery, Cycle: ReconcileCycle,
		Found: func(record outbox.Record, err error) {
			what := "undelivered"
			if err != nil {
				what = "unreadable"
			}
			if named++; named <= mostNamed {
				slog.WarnContext(ctx, what, "event", record.ID, "type", record.Type, "aggregate", record.AggregateID, "time", record.Time, "error", err)
			}
		}})
	if err == nil && result.Unreadable > 0 {
		err = fmt.Errorf("%d rows are no whole events, and nobody knows what they were", result.Unreadable)
	}
	slog.InfoContext(ctx, "reconciled", "result", result, "error", err)
	if err == nil || result.Undelivered > 0 {
		r.metrics.undelivered(ctx, result.Undelivered)
	}
	if err != nil {
		return nil, err
	}
	r.metrics.reconciled(ctx, slot.Add(ReconcileEvery))
	return json.Marshal(map[string]int{"segment": result.Segment, "searched": result.Searched, "undelivered": result.Undelivered, "delivered": result.Delivered})
}
