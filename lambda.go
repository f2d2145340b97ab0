package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/grace"
	"github.com/seed-1b628d3f/outbox/internal/lambdaevent"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// Invoke handles one invocation of AWS Lambda behind an event source mapping for a Kinesis data stream or a DynamoDB stream;
// it recognises which. It makes *Consumer a handler for lambda.Start of github.com/aws/aws-lambda-go. The mapping must have
// FunctionResponseTypes ReportBatchItemFailures; without it Lambda ignores the answer and takes every batch for done.
//
// The answer names the first record that is unfinished, since Lambda delivers everything from there on again. A handler that fails is called
// again in place (WithInvokeRetry). After the last failure nothing new is started, and running handlers finish. A record that cannot be decoded
// is a failure that is not repeated in place. Failures are logged, because the answer has no place for them. Shortly before ctx's deadline
// (WithDeadlineMargin) Invoke stops and reports what is finished. With WithDeadLetters, what cannot be handled is stored there and the others go
// on.
//
// An error means that payload is no such invocation, that a handler or hook of c has called Invoke, or that NewConsumer has not made c.
// Nothing was handled.
//
// What is written after a handler, such as a mark of an inbox, a counted attempt or a dead letter, ends with the first three quarters of the
// margin: an answer in time is worth more. Invoke waits for a handler that ignores its context, since it would otherwise run on in the next
// invocation, beside the next delivery of its event.
//
// See https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html.
func (c *Consumer) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if err := errors.Join(c.made(), c.notNested(ctx)); err != nil {
		return nil, fmt.Errorf("outbox: Invoke: %w", err)
	}
	ctx, cancel := c.beforeDeadline(ctx)
	defer cancel()
	b := c.newBatch(ctx, 0, true)
	rest, err := b.decode(payload)
	if err != nil {
		return nil, fmt.Errorf("outbox: Invoke: the payload is no event of Kinesis or DynamoDB Streams: %w", err)
	}
	for i := range rest.skipped {
		c.skipNotEvent(ctx, &rest.skipped[i].record, rest.skipped[i].reason)
	}
	stopped := b.run()
	if stopped == nil {
		stopped = ctx.Err()
	}
	failed := b.result(stopped)
	switch {
	case failed != nil:
		if failed.Stopped != nil {
			c.logger.WarnContext(ctx, "outbox: invocation cut short, the rest will be delivered again",
				"unfinished", len(failed.Unfinished), "records", len(b.deliveries), "reason", failed.Stopped)
		}
		return lambdaevent.Answer(b.deliveries[failed.Unfinished[0]].record.SequenceNumber), nil
	case rest.poison != nil:
		c.logFailure(ctx, rest.poison, hopeless)
		return lambdaevent.Answer(rest.poison.Record.SequenceNumber), nil
	}
	return lambdaevent.Answer(""), nil
}

// undelivered are the records of an invocation that do not become deliveries.
type undelivered struct {
	skipped []skip        // they are no events
	poison  *HandlerError // the first one that cannot be read; what follows it is not looked at
}

type skip struct {
	record Record // where it came from
	reason error
}

// decode turns an invocation into deliveries, in one pass.
func (b *batch) decode(payload []byte) (rest undelivered, err error) {
	var r lambdaevent.Record
	s, memory := lambdaevent.New(payload), slab.New(len(payload))
	from := func(to *Record) {
		to.StreamARN, to.ShardID, to.SequenceNumber = r.SourceARN, r.ShardID, r.SequenceNumber(memory)
	}
	for i := 0; s.Next(&r); i++ {
		if rest.poison != nil {
			continue
		}
		if b.deliveries == nil {
			// The first record tells about how many there are; a change record and its envelopes are no shorter than this.
			b.deliveries = make([]delivery, 0, len(payload)/max(s.Offset(), 512)+1)
		}
		n := len(b.deliveries)
		b.deliveries = append(b.deliveries, delivery{})
		d := &b.deliveries[n]
		got, reason := b.c.receive(d, r.Data, r.Err, from, memory)
		switch got {
		case receivedEvent, receivedDoomed:
			continue
		case receivedOther:
			rest.skipped = append(rest.skipped, skip{d.record, reason})
		case receivedPoison:
			rest.poison = &HandlerError{Index: i, Record: d.record, Err: reason}
		}
		b.deliveries = b.deliveries[:n]
	}
	return rest, s.Err()
}

// beforeDeadline returns a context for handlers, which ends early enough to answer. What is written after them has three quarters of the margin.
func (c *Consumer) beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	margin := min(c.deadlineMargin, max(time.Until(deadline)/5, 0))
	return context.WithDeadline(grace.Until(ctx, deadline.Add(-margin/4)), deadline.Add(-margin))
}
