package service

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
)

// The metrics. CloudWatch makes them of lines in the embedded metric format:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html.
const (
	MetricNamespace   = "Orders"
	DeadLettersMetric = "DeadLetters"         // a count, when a letter is stored
	WaitingMetric     = "WaitingDeadLetters"  // a gauge, with each redrive
	DestinationMetric = "DisabledDestination" // a gauge, with each redrive: 1 if new events do not reach the stream
	UndeliveredMetric = "UndeliveredEvents"   // a gauge, with each reconciling: events that no delivery has brought
	ReconciledMetric  = "ReconciledSegments"  // 1 for each part of the events table that was read to its end, and of which nothing is left
	StackDimension    = "Stack"               // two stacks in one Region have metrics of their own
)

// metrics writes lines for CloudWatch. It is safe for concurrent use.
type metrics struct {
	stack string
	mu    sync.Mutex
	out   io.Writer
}

func newMetrics(c Config, out io.Writer) *metrics { return &metrics{stack: c.Stack, out: out} }

type metricHead struct {
	AWS      metricMeta `json:"_aws"`
	Stack    string     `json:"Stack"`
	Consumer string     `json:"consumer"`
}

type deadLetterLine struct {
	metricHead
	Count int `json:"DeadLetters"`
	// What follows is no metric. It can be searched for in the log.
	DeadLetter string `json:"deadLetter"`
	EventType  string `json:"eventType"`
	Parked     bool   `json:"parked"`
}

type waitingLine struct {
	metricHead
	Waiting int `json:"WaitingDeadLetters"`
}

type destinationLine struct {
	metricHead
	Disabled int `json:"DisabledDestination"`
}

type undeliveredLine struct {
	metricHead
	Undelivered int `json:"UndeliveredEvents"`
}

type reconciledLine struct {
	metricHead
	Reconciled int `json:"ReconciledSegments"`
}

type metricMeta struct {
	Timestamp int64             `json:"Timestamp"`
	Metrics   []metricDirective `json:"CloudWatchMetrics"`
}

type metricDirective struct {
	Namespace  string       `json:"Namespace"`
	Dimensions [][]string   `json:"Dimensions"`
	Metrics    []metricName `json:"Metrics"`
}

type metricName struct {
	Name string `json:"Name"`
	Unit string `json:"Unit"`
}

func (m *metrics) head(metric string) metricHead {
	return metricHead{Stack: m.stack, Consumer: Group, AWS: metricMeta{Timestamp: time.Now().UnixMilli(), Metrics: []metricDirective{{
		Namespace: MetricNamespace, Dimensions: [][]string{{StackDimension}}, Metrics: []metricName{{Name: metric, Unit: "Count"}},
	}}}}
}

// deadLettered is a hook of the Consumer.
func (m *metrics) deadLettered(ctx context.Context, l outbox.DeadLetter) {
	if l.Again {
		return // counted when it was stored
	}
	m.write(ctx, DeadLettersMetric, deadLetterLine{metricHead: m.head(DeadLettersMetric), Count: 1, DeadLetter: l.ID, EventType: l.Record.Type, Parked: l.Parked})
}

// waiting tells how many dead letters wait.
func (m *metrics) waiting(ctx context.Context, n int) {
	m.write(ctx, WaitingMetric, waitingLine{metricHead: m.head(WaitingMetric), Waiting: n})
}

// destination tells whether new events reach the stream.
func (m *metrics) destination(ctx context.Context, active bool) {
	line := destinationLine{metricHead: m.head(DestinationMetric)}
	if !active {
		line.Disabled = 1
	}
	m.write(ctx, DestinationMetric, line)
}

// undelivered tells how many events no delivery had brought.
func (m *metrics) undelivered(ctx context.Context, n int) {
	m.write(ctx, UndeliveredMetric, undeliveredLine{metricHead: m.head(UndeliveredMetric), Undelivered: n})
}

// reconciled tells that a part of the table is done. Its time is the end of its slot, still to come, whenever in the slot it was done: so each
// day, whenever it begins, has as many times as a cycle has slots, and an alarm can count them. CloudWatch takes times of up to two hours ahead.
func (m *metrics) reconciled(ctx context.Context, slotEnds time.Time) {
	line := reconciledLine{metricHead: m.head(ReconciledMetric), Reconciled: 1}
	line.AWS.Timestamp = slotEnds.UnixMilli()
	m.write(ctx, ReconciledMetric, line)
}

func (m *metrics) write(ctx context.Context, metric string, line any) {
	text, err := json.Marshal(line)
	if err == nil {
		m.mu.Lock()
		_, err = m.out.Write(append(text, '\n'))
		m.mu.Unlock()
	}
	if err != nil {
		slog.WarnContext(ctx, "metric not written", "metric", metric, "error", err)
	}
}
