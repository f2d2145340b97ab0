package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// Redrive hands the dead letters that somebody asked for (outbox dead redrive) to the handlers again, and counts those that wait. It also looks
// whether new events reach the stream, which no metric of AWS tells. It is a handler for lambda.Start, to be invoked on a schedule, and safe for
// concurrent use.
type Redrive struct {
	client   *dynamodb.Client
	events   string // the table
	stream   string // its name
	letters  *outbox.DeadLetterTable
	consumer *outbox.Consumer
	metrics  *metrics
}

// NewRedrive returns a Redrive with the handlers of NewConsumer. Each invocation writes two lines with a metric to metricLines: how many
// dead letters wait, and whether new events reach the stream; so does each new dead letter, as with NewConsumer.
func NewRedrive(client *dynamodb.Client, c Config, mailer Mailer, metricLines io.Writer) (*Redrive, error) {
	m := newMetrics(c, metricLines)
	consumer, letters, err := newConsumer(client, c, mailer, m)
	if err != nil {
		return nil, err
	}
	return &Redrive{client, c.EventsTable, c.EventsStream, letters, consumer, m}, nil
}

// keepTime is how long before the invocation's deadline a redrive or a reconcile stops, so that it can keep what became of what it has begun.
const keepTime = 10 * time.Second

// mostCounted bounds what counting reads: letters have payloads.
const mostCounted = 100

// Invoke implements lambda.Handler. It takes any payload. The answer counts the dead letters, as outbox.RedriveResult does. That the
// time is over is no error: the next invocation goes on. An error is one of DynamoDB.
func (r *Redrive) Invoke(ctx context.Context, _ []byte) ([]byte, error) {
	redriving, cancel := beforeDeadline(ctx, keepTime)
	defer cancel()
	result, err := r.letters.AnswerRedriveRequests(redriving, r.consumer)
	if result != (outbox.RedriveResult{}) || err != nil {
		slog.InfoContext(ctx, "redriven", "redriven", result.Redriven, "failed", result.Failed, "busy", result.Busy, "error", err)
	}
	if redriving.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	if err = errors.Join(err, r.count(ctx), r.look(ctx)); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]int{"redriven": result.Redriven, "failed": result.Failed, "busy": result.Busy})
}

// count tells how many dead letters wait, at most mostCounted. The metric of stored letters is back at 0 a minute after each; this one
// stays until somebody has redriven or discarded the last. Without time for it nothing is told.
func (r *Redrive) count(ctx context.Context) error {
	n := 0
	for _, err := range r.letters.List(ctx, outbox.DeadLetterFilter{}) {
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if n++; n == mostCounted {
			break
		}
	}
	r.metrics.waiting(ctx, n)
	return nil
}

// look tells whether the events table's destination is at work, that of the stream which the consumer reads. Without time for it nothing is told.
func (r *Redrive) look(ctx context.Context) error {
	out, err := r.client.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &r.events})
	if err != nil && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the destination of table %s: %w", r.events, err)
	}
	r.metrics.destination(ctx, slices.ContainsFunc(out.KinesisDataStreamDestinations, func(d types.KinesisDataStreamDestination) bool {
		active := d.DestinationStatus == types.DestinationStatusActive || d.DestinationStatus == types.DestinationStatusUpdating
		return active && strings.HasSuffix(aws.ToString(d.StreamArn), ":stream/"+r.stream)
	}))
	return nil
}
