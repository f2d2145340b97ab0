package service

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
)

// Redrive hands the dead letters that somebody asked for (outbox dead redrive) to the handlers again. It is a handler for
// lambda.Start, to be invoked on a schedule, and safe for concurrent use.
type Redrive struct {
	letters  *outbox.DeadLetterTable
	consumer *outbox.Consumer
}

// NewRedrive returns a Redrive with the handlers of NewConsumer.
func NewRedrive(client *dynamodb.Client, c Config, mailer Mailer, metrics io.Writer) (*Redrive, error) {
	consumer, letters, err := newConsumer(client, c, mailer, metrics)
	if err != nil {
		return nil, err
	}
	return &Redrive{letters, consumer}, nil
}

// keepTime is how long before the invocation's deadline a redrive stops, so that it can keep what became of the letters it has begun.
const keepTime = 10 * time.Second

// Invoke implements lambda.Handler. It takes any payload. The answer counts the dead letters, as outbox.RedriveResult does. That the
// time is over is no error: the next invocation goes on. An error is one of the dead letter table.
func (r *Redrive) Invoke(ctx context.Context, _ []byte) ([]byte, error) {
	ctx, cancel := beforeDeadline(ctx, keepTime)
	defer cancel()
	result, err := r.letters.AnswerRedriveRequests(ctx, r.consumer)
	if result != (outbox.RedriveResult{}) || err != nil {
		slog.InfoContext(ctx, "redriven", "redriven", result.Redriven, "failed", result.Failed, "busy", result.Busy, "error", err)
	}
	if err != nil && (ctx.Err() == nil || !errors.Is(err, context.DeadlineExceeded)) {
		return nil, err
	}
	return json.Marshal(map[string]int{"redriven": result.Redriven, "failed": result.Failed, "busy": result.Busy})
}
