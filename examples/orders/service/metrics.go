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

// The metric of dead letters. CloudWatch makes it of lines in the embedded metric format:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html.
const (
	MetricNamespace   = "Orders"
	DeadLettersMetric = "DeadLetters"
	ConsumerDimension = "Consumer"
)

// deadLetterMetric writes a line for each dead letter. It is safe for concurrent use.
type deadLetterMetric struct {
	mu  sync.Mutex
	out io.Writer
}

type metricLine struct {
	AWS      metricMeta `json:"_aws"`
	Consumer string     `json:"Consumer"`
	Count    int        `json:"DeadLetters"`
	// What follows is no metric. It can be searched for in the log.
	DeadLetter string `json:"deadLetter"`
	EventType  string `json:"eventType"`
	Parked     bool   `json:"parked"`
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

// count is a DeadLettered hook.
func (m *deadLetterMetric) count(ctx context.Context, l outbox.DeadLetter) {
	if l.Again {
		return // counted when it was stored
	}
	line, err := json.Marshal(metricLine{
		AWS: metricMeta{Timestamp: time.Now().UnixMilli(), Metrics: []metricDirective{{
			Namespace: MetricNamespace, Dimensions: [][]string{{ConsumerDimension}},
			Metrics: []metricName{{Name: DeadLettersMetric, Unit: "Count"}},
		}}},
		Consumer: Group, Count: 1, DeadLetter: l.ID, EventType: l.Record.Type, Parked: l.Parked,
	})
	if err == nil {
		m.mu.Lock()
		_, err = m.out.Write(append(line, '\n'))
		m.mu.Unlock()
	}
	if err != nil {
		slog.WarnContext(ctx, "metric not written", "metric", DeadLettersMetric, "error", err)
	}
}
