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
	DeadLettersMetric = "DeadLetters"        // a count, when a letter is stored
	WaitingMetric     = "WaitingDeadLetters" // a gauge, with each redrive
	ConsumerDimension = "Consumer"
)

// metrics writes lines for CloudWatch. It is safe for concurrent use.
type metrics struct {
	mu  sync.Mutex
	out io.Writer
}

type metricHead struct {
	AWS      metricMeta `json:"_aws"`
	Consumer string     `json:"Consumer"`
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

func headOf(metric string) metricHead {
	return metricHead{Consumer: Group, AWS: metricMeta{Timestamp: time.Now().UnixMilli(), Metrics: []metricDirective{{
		Namespace: MetricNamespace, Dimensions: [][]string{{ConsumerDimension}}, Metrics: []metricName{{Name: metric, Unit: "Count"}},
	}}}}
}

// deadLettered is a hook of the Consumer.
func (m *metrics) deadLettered(ctx context.Context, l outbox.DeadLetter) {
	if l.Again {
		return // counted when it was stored
	}
	m.write(ctx, DeadLettersMetric, deadLetterLine{metricHead: headOf(DeadLettersMetric), Count: 1, DeadLetter: l.ID, EventType: l.Record.Type, Parked: l.Parked})
}

// waiting tells how many dead letters wait.
func (m *metrics) waiting(ctx context.Context, n int) {
	m.write(ctx, WaitingMetric, waitingLine{metricHead: headOf(WaitingMetric), Waiting: n})
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
