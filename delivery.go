package outbox

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/slab"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// delivery is a record on its way to its handler, and what came of it. It is also the context of the handler: one allocation for a
// batch instead of two for each record. While the batch runs, only the goroutine of its record writes to it.
type delivery struct {
	context.Context
	consumer *Consumer // whose handler or hooks it is for
	record   Record
	err      error // of the last attempt
	finished bool
	waits    int     // how often the verdict was waits, in a Worker
	doomed   *doomed // it becomes a dead letter; nil for an event that its handler may get

	cause     error   // of the last attempt that counts, outside a Worker
	verdict   verdict // on that attempt
	accounted bool    // account has seen it
	anew      bool    // what was counted before is of events before it, which are handled now (WithOrder)

	failures int32 // how often the verdict was failed or hopeless, outside a Worker
	races    int32 // how often the verdict was lost
	reruns   int32 // lost races and conflicts, outside a Worker
	before   int32 // attempts that others have made, and that this process knows of

	// A handler may leave goroutines behind that ask for them.
	calls int32 // of the handler, here
	known int32 // 1: the inbox says that the event was handled before
	moved int32 // 1: the position of its aggregate is behind it (WithOrder)
	spent int32 // 1: the claim's time was over when the last call returned
	ahead int32 // 1: the last call has handled an event before it (WithOrder)
}

// doomed is why a delivery becomes a dead letter instead of reaching its handler.
type doomed struct {
	err      error
	raw      []byte // the record, if it could not be decoded; otherwise nil
	attempts int
}

// Value returns the delivery itself, for what is asked of a handler's context, and tells notNested whether its Consumer is handling it.
func (d *delivery) Value(key any) any {
	if key == (deliveryKey{}) {
		return d
	}
	if h, ok := key.(handlingKey); ok && h.consumer == d.consumer {
		return true
	}
	return d.Context.Value(key)
}

// attempts returns how many attempts outside a Worker count.
func (d *delivery) attempts() deadletter.Attempts {
	return deadletter.Attempts{Failed: int(d.failures), Lost: int(d.races)}
}

type deliveryKey struct{}

func deliveryOf(ctx context.Context) *delivery {
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	return d
}

// handledBefore notes that the inbox knows the event of a handler's context as handled before.
func handledBefore(ctx context.Context) {
	if d := deliveryOf(ctx); d != nil {
		atomic.StoreInt32(&d.known, 1)
	}
}

// timeSpent notes that a handler has used all the time of its claim.
func timeSpent(ctx context.Context) {
	if d := deliveryOf(ctx); d != nil {
		atomic.StoreInt32(&d.spent, 1)
	}
}

// progress notes that an event before the one of a handler's context was handled.
func progress(ctx context.Context) {
	if d := deliveryOf(ctx); d != nil {
		atomic.StoreInt32(&d.ahead, 1)
	}
}

// progressed reports whether the last attempt has handled an event before this one.
func (d *delivery) progressed() bool { return atomic.LoadInt32(&d.ahead) == 1 }

// handlingKey is the key of a context's value that is there while the Consumer handles an event.
type handlingKey struct{ consumer *Consumer }

// notNested refuses a call that a handler or a hook of the Consumer makes with its context. It would wait for places and aggregates of which the
// handler has one.
func (c *Consumer) notNested(ctx context.Context) error {
	if ctx.Value(handlingKey{c}) == nil {
		return nil
	}
	return errors.New("called by a handler or hook of the same Consumer, it would wait for itself: write an event instead, or use another Consumer")
}

// RecordFromContext returns the record that is being handled. ok is false if ctx is not the context of a handler, or of a hook that is told
// of an event. Such a context keeps all records of its batch in memory.
func RecordFromContext(ctx context.Context) (r Record, ok bool) {
	if d := deliveryOf(ctx); d != nil {
		return d.record, true
	}
	return Record{}, false
}

// AttemptFromContext returns which call of the handler for the event this is, as far as the process knows: 1 for the first. It counts all
// calls, also those that do not count as attempts, and those that a claim or the inbox kept from the handler. Use it in a handler, its
// middleware, and the hooks Handled and Duplicate; it may be 0 there if no handler could be called. In other hooks it means nothing.
//
//   - In Invoke and Process it counts the calls of this delivery, with a dead letter table as without.
//   - In a Worker it counts the calls since this Worker has read the event, and the failed attempts that were stored before.
//   - In a redrive it goes on from the letter's Attempts.
func AttemptFromContext(ctx context.Context) int {
	if d := deliveryOf(ctx); d != nil {
		return int(d.before + atomic.LoadInt32(&d.calls))
	}
	return 0
}

// origin fills in where a record came from. It is called only for a record that somebody gets to see, since it may take memory:
// on a table with a time to live most records are removals, which nobody does.
type origin func(*Record)

// receipt is what a record turns out to be.
type receipt int

const (
	receivedEvent   receipt = iota // for its handler
	receivedIgnored                // no event, and nobody wants to know of it
	receivedOther                  // no event, and the log or a hook wants to know of it (skipNotEvent)
	receivedDoomed                 // cannot be read, and becomes a dead letter
	receivedPoison                 // cannot be read, and there is no dead letter table: nothing behind it may be handled
)

// receive finds out what a record is, and makes d its delivery. For anything but an event, the error says why. Then the delivery's record has
// nothing but where it came from, and of what is ignored nothing of use. broken is why there is no change record in data.
func (c *Consumer) receive(d *delivery, data []byte, broken error, from origin, memory *slab.Slab) (receipt, error) {
	var reason notEventError
	var malformed *DecodeError
	if broken != nil {
		malformed = &DecodeError{Reason: broken.Error()}
	} else {
		reason, malformed = decodeRecord(&d.record, data, c.layout, c.tables, memory)
		if malformed != nil && c.isForeign(data) {
			reason, malformed = notEventError(changerec.Foreign), nil
		}
	}
	switch {
	case malformed == nil && reason == 0:
		from(&d.record)
		return receivedEvent, nil
	case malformed == nil && !c.tellsSkipped() && !c.remarkable(reason):
		return receivedIgnored, reason
	}
	d.record = Record{}
	from(&d.record)
	switch {
	case malformed == nil:
		return receivedOther, reason
	case c.dead == nil:
		return receivedPoison, malformed
	}
	d.doomed = &doomed{err: malformed, raw: append([]byte{}, data...)} // not nil, even if it is empty
	return receivedDoomed, malformed
}

// isForeign reports whether the user says that a record belongs to others. Only data that cannot be a change record is asked about.
func (c *Consumer) isForeign(data []byte) (foreign bool) {
	if c.foreign == nil || !changerec.CannotBeOurs(data) {
		return false
	}
	p := usercode.Apart(func() { foreign = c.foreign(bytes.Clone(data)) })
	if p != nil {
		c.logger.Error("outbox: the function of WithForeignRecords panicked: the record is not foreign", "panic", p.Value, "stack", string(p.Stack))
	}
	return foreign && p == nil
}
