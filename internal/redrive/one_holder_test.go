package redrive_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/redrive"
)

// asksAgain is a client that gets no answer to its first DeleteItem, and asks again after meanwhile has run.
type asksAgain struct {
	deadletter.Client
	meanwhile func()
}

func (c *asksAgain) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	if meanwhile := c.meanwhile; meanwhile != nil {
		c.meanwhile = nil
		if _, err := c.Client.DeleteItem(ctx, in, opts...); err != nil {
			return nil, err
		}
		meanwhile()
	}
	return c.Client.DeleteItem(ctx, in, opts...)
}

// A queue's last letter goes while a redrive has it, and a new letter comes: two redrives never handle the new one at once.
func TestALetterBehindTheLastHasOneHandler(t *testing.T) {
	for _, discarded := range []bool{true, false} {
		client, s := newTable(t)
		again := &asksAgain{Client: client}
		mine, err := deadletter.New(again, "letters", "c")
		require.NoError(t, err)

		var mu sync.Mutex
		var order []string
		running, most := 0, 0
		handled := func(l *deadletter.Letter, wait func()) redrive.Outcome {
			mu.Lock()
			order = append(order, l.Event.ID)
			running++
			most = max(most, running)
			mu.Unlock()
			wait()
			mu.Lock()
			running--
			mu.Unlock()
			return redrive.Outcome{Verdict: redrive.Handled}
		}
		firstIsOver, otherIsOver, otherHandles := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
		// newLetter stores a letter, and begins another redrive. It returns when this handles a letter, or is over.
		newLetter := func() {
			store(t, s, event.Event{ID: "9", AggregateID: "a", SequenceNumber: "9"})
			go func() {
				defer close(otherIsOver)
				_, err := engine(s, func(_ context.Context, l *deadletter.Letter) redrive.Outcome {
					return handled(l, func() { otherHandles <- struct{}{}; <-firstIsOver })
				}).Redrive(t.Context(), t.Context(), only(queue))
				require.NoError(t, err)
			}()
			select {
			case <-otherHandles:
			case <-otherIsOver:
			}
		}
		if !discarded {
			again.meanwhile = newLetter
		}
		result, err := engine(mine, func(ctx context.Context, l *deadletter.Letter) redrive.Outcome {
			return handled(l, func() {
				if discarded && l.Event.ID == "2" {
					_, err := s.Remove(ctx, l)
					require.NoError(t, err)
					_, err = s.Close(ctx, "a")
					require.NoError(t, err)
					newLetter()
				}
			})
		}).Redrive(t.Context(), t.Context(), only(queue))
		close(firstIsOver)
		<-otherIsOver
		require.NoError(t, err)
		require.Equal(t, 1, most, "at once; discarded: %t", discarded)
		require.Equal(t, []string{"1", "2", "9"}, order, "discarded: %t", discarded)
		if discarded {
			require.Equal(t, redrive.Result{Redriven: 3}, result)
		} else {
			require.Equal(t, redrive.Result{Redriven: 2, Busy: 1}, result, "the other one has the new letter")
		}
		_, err = s.Queue(t.Context(), "a")
		require.ErrorIs(t, err, deadletter.ErrMissing)
	}
}

// only are the targets of a redrive.
func only(targets ...deadletter.Target) func(func(deadletter.Target, error) bool) {
	return func(yield func(deadletter.Target, error) bool) {
		for _, target := range targets {
			if !yield(target, nil) {
				return
			}
		}
	}
}

func store(t *testing.T, s *deadletter.Store, e event.Event) {
	_, err := s.Put(t.Context(), &deadletter.Letter{Event: e, Error: "first", Attempts: 1, StoredAt: time.Now()})
	require.NoError(t, err)
}
