package outbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// The mark is looked at after failures that may come from what was done before, and only then.
func TestWhenTheMarkIsLookedAt(t *testing.T) {
	never := outbox.Permanent(errors.New("never"))
	one := outbox.Effects{Writes: []types.TransactWriteItem{countCommit("1")}}
	for name, c := range map[string]struct {
		before  func(w *inboxWorld, t *testing.T) // what is there already
		effects outbox.Effects
		failure error
		answers []error // in DynamoDB's place, for the commit
		want    error
		looks   int
		// permanent is whether the error is.
		permanent bool
	}{
		"success":              {effects: one},
		"a handler that fails": {failure: never, want: never, looks: 1, permanent: true},
		"a handler that fails, and another has a claim": {
			before: (*inboxWorld).claimedByOthers, failure: never, want: never, looks: 1, permanent: true,
		},
		"a condition that fails": {
			effects: one, answers: []error{canceled(reason("ConditionalCheckFailed"), reason("None"))}, want: outbox.ErrConditionFailed, looks: 9,
		},
		"a claim in the way":         {before: (*inboxWorld).claimedByOthers, effects: one, want: outbox.ErrClaimed},
		"another event with this id": {before: (*inboxWorld).takenByAnother, effects: one, want: outbox.ErrPermanent, permanent: true},
		"throttling":                 {effects: one, answers: []error{canceled(reason("None"), reason("ThrottlingError"))}, want: outbox.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newInboxWorld(t)
				defer w.Close()
				if c.before != nil {
					c.before(w, t)
				}
				p := &process{}
				writer := newWriter(t, w.client(p, true))
				if c.answers != nil {
					writer = newWriter(t, &scriptedClient{answers: c.answers})
				}
				consumer := newConsumer(t, outbox.WithInbox(w.inbox(t, w.client(p, true))))
				outbox.HandleTx(consumer, writer, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) { return c.effects, c.failure })
				err := consumer.Process(t.Context(), createdRecord("1"))
				if c.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, c.want)
					require.Equal(t, c.permanent, errors.Is(err, outbox.ErrPermanent))
				}
				looks := 0
				for _, call := range p.calls() {
					if call == "GetItem" {
						looks++
					}
				}
				require.Equal(t, c.looks, looks, p.calls())
			})
		})
	}
}

// takenByAnother marks another event with the id 1.
func (w *inboxWorld) takenByAnother(t *testing.T) {
	w.inTheInbox(t, "else", values{"handledAt": millis(time.Now())})
}

// A handler of HandleTx whose time is over was tried, with and without a look.
func TestADeadlineOfHandleTxIsAnAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newInboxWithLetters(t)
		defer a.Close()
		c := newConsumer(t, outbox.WithInbox(a.inbox(t, a.DynamoDB)), outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(2)))
		outbox.HandleTx(c, a.writer, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			<-ctx.Done()
			if e.ID == "fails" {
				return outbox.Effects{}, ctx.Err()
			}
			return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(e.ID)}}, nil // too late
		})
		for _, id := range []string{"fails", "late"} {
			for n := range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := c.Process(ctx, createdRecord(id))
				cancel()
				require.Equal(t, n == 0, err != nil, "%s: %v", id, err)
			}
			l, err := a.letters.Get(t.Context(), "order-"+id+"#"+id)
			require.NoError(t, err)
			require.Equal(t, 2, l.Attempts)
		}
	})
}
