package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/lambdaevent"
)

// Invoke handles one invocation of AWS Lambda behind an event source mapping for a Kinesis data stream or a DynamoDB stream;
// it recognises which. It makes *Consumer a handler for lambda.Start of github.com/aws/aws-lambda-go. The mapping must have
// FunctionResponseTypes ReportBatchItemFailures; without it Lambda ignores the answer and takes every batch for done.
//
// The answer names the first record that is unfinished, since Lambda delivers everything from there on again. After a
// failure nothing new is started, and running handlers finish. A record that cannot be decoded is a failure like any other.
// Failures are logged, because the answer has no place for them. Shortly before ctx's deadline (WithDeadlineMargin) Invoke
// stops and reports what is finished.
//
// An error means that payload is no such invocation, and nothing was handled.
//
// See https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html.
func (c *Consumer) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	delivered, err := lambdaevent.Parse(payload)
	if err != nil {
		return nil, fmt.Errorf("outbox: Invoke: the payload is no event of Kinesis or DynamoDB Streams: %w", err)
	}
	ctx, cancel := c.beforeDeadline(ctx)
	defer cancel()

	// Records that are no events are finished; the first malformed one ends the batch, and what follows it stays unstarted.
	records := make([]Record, 0, len(delivered))
	numbers := make([]string, 0, len(delivered)+1) // the sequence numbers of records, then of the malformed one
	var malformed *HandlerError
	for i, d := range delivered {
		var r Record
		err := d.Err
		if err == nil {
			err = decodeRecord(&r, d.Data, c.layout, c.tables)
		} else {
			err = &DecodeError{Reason: err.Error()}
		}
		r.StreamARN, r.ShardID, r.SequenceNumber = d.SourceARN, d.ShardID, d.SequenceNumber
		if errors.Is(err, ErrNotEvent) {
			c.skipNotEvent(ctx, &r, err)
			continue
		}
		numbers = append(numbers, d.SequenceNumber)
		if err != nil {
			malformed = &HandlerError{Index: i, Record: r, Err: err}
			break
		}
		records = append(records, r)
	}

	b := c.newBatch(ctx, len(records), true)
	for i := range records {
		b.deliveries[i].record = records[i]
	}
	b.run()
	failed := b.result(ctx.Err())
	switch {
	case failed != nil:
		if failed.Stopped != nil {
			c.logger.WarnContext(ctx, "outbox: invocation cut short, the rest will be delivered again",
				"unfinished", len(failed.Unfinished), "records", len(records), "reason", failed.Stopped)
		}
		return lambdaevent.Answer(numbers[failed.Unfinished[0]]), nil
	case malformed != nil:
		c.logFailure(ctx, malformed)
		return lambdaevent.Answer(malformed.Record.SequenceNumber), nil
	}
	return lambdaevent.Answer(""), nil
}

// beforeDeadline returns a context that ends early enough to answer.
func (c *Consumer) beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	margin := min(c.deadlineMargin, max(time.Until(deadline)/5, 0))
	return context.WithDeadline(ctx, deadline.Add(-margin))
}
