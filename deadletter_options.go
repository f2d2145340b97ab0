package outbox

import (
	"errors"
	"fmt"

	"github.com/seed-1b628d3f/outbox/internal/parked"
)

// DeadLetterOption configures WithDeadLetters.
type DeadLetterOption interface{ applyDeadLetters(*deadLetters) error }

type deadLetterOption func(*deadLetters) error

func (o deadLetterOption) applyDeadLetters(d *deadLetters) error { return o(d) }

// WithDeadLetters makes a Consumer store what it cannot handle, and go on. An event becomes a dead letter when its handler returns a Permanent
// error, when its attempts are spent (WithHandlerRetry in a Worker, WithInvokeAttempts in Invoke and Process) or its lost races are too many
// (HandleTx), or when its record cannot be decoded. The letter is stored before the record counts as finished. If the table cannot be written,
// the record stays unfinished and is delivered again; this does not count as an attempt.
//
// A dead letter parks its aggregate: later events of the aggregate are stored behind the letter, in order, without calling a handler, until
// they are redriven. Other aggregates go on.
//
// Another process may park an aggregate as well. So Invoke and Process read the table once a call if an event has an aggregate: strongly
// consistent, and one read unit while few aggregates are parked. If many are parked, a call takes at most five units, or two for each
// of its aggregates. A Worker reads the table at most once a second for all its shards, and before the first batch of each shard that it takes over.
// It may learn a second late that an aggregate is parked, and 10 ms later for each 25 that are parked if there are more than 2,500; events that
// it has read before may still reach their handlers. While the table cannot be read, no batch with such an event begins.
//
// Default: no dead letters. In Lambda an event that cannot be handled is then delivered until the mapping's limits; a Worker's Run ends.
func WithDeadLetters(t *DeadLetterTable, opts ...DeadLetterOption) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		switch {
		case t == nil:
			return errors.New("WithDeadLetters: the table is nil")
		case t.made() != nil:
			return t.made()
		case c.dead != nil:
			return errors.New("WithDeadLetters: given twice")
		}
		dead := &deadLetters{table: t, store: t.store, attempts: 10, parked: parked.New()}
		if err := applyAll(opts, func(o DeadLetterOption) error { return o.applyDeadLetters(dead) }); err != nil {
			return fmt.Errorf("WithDeadLetters: %w", err)
		}
		c.dead = dead
		return nil
	})
}

// LetLaterEventsPass lets the later events of a dead letter's aggregate reach their handlers. This gives up their order. Default: they are
// parked.
func LetLaterEventsPass() DeadLetterOption {
	return deadLetterOption(func(d *deadLetters) error {
		d.pass = true
		return nil
	})
}

// WithInvokeAttempts sets how often Invoke and Process try an event before it becomes a dead letter: 1 to 1,000, default 10. Give the mapping
// of a Lambda function more attempts than that, or limit it by age alone. A Worker has WithHandlerRetry instead.
//
// Each call of the handler that fails is an attempt; lost races (HandleTx), ErrClaimed and ErrUnavailable are not. Attempts are counted in the
// dead letter table, one write for each delivery that fails. So the calls of the last invocation (WithInvokeRetry) may exceed the number. A
// count is forgotten after 14 days without another failure. It belongs to one record of the stream: a replay or a copy of the event has a count
// of its own. An attempt that the invocation's deadline cuts off counts. An attempt that ends the process does not, and neither do those of an
// event that waits for its next call when another failure ends the batch.
func WithInvokeAttempts(n int) DeadLetterOption {
	return deadLetterOption(func(d *deadLetters) error {
		if n < 1 || n > 1000 {
			return fmt.Errorf("WithInvokeAttempts: want 1 to 1,000, have %d", n)
		}
		d.attempts = n
		return nil
	})
}
