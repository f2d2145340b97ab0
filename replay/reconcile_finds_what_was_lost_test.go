package replay_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// Each way in which an event is lost between the table and the handler: the event "lost" is in the table, and no delivery brings it. Reconcile
// delivers it once, and then nothing is undelivered.
func TestWhatTheStreamHasLostIsFoundAndDeliveredOnce(t *testing.T) {
	broken := errors.New("broken")
	for cause, lose := range map[string]func(*testing.T, *shop){
		"a record that is too large for the stream": func(t *testing.T, s *shop) {
			s.oversized(t, "lost")
			s.deliver(t, source(), s.consumer(t))
		},
		"a destination that was disabled": func(t *testing.T, s *shop) {
			s.destination(t, false)
			s.put(t, s.now("lost", "a"))
			s.destination(t, true)
			s.deliver(t, source(), s.consumer(t))
		},
		"the stream's retention": func(t *testing.T, s *shop) {
			s.put(t, s.now("lost", "a"))
			time.Sleep(25 * time.Hour)
			s.deliver(t, source(), s.consumer(t))
		},
		"the age limit of a mapping": func(t *testing.T, s *shop) {
			s.put(t, s.now("lost", "a"))
			time.Sleep(time.Hour)
			late := source()
			late.MaxAge = time.Minute
			s.deliver(t, late, s.consumer(t))
		},
		"the attempts of a mapping": func(t *testing.T, s *shop) {
			s.fail = func(string) error { return broken }
			s.put(t, s.now("lost", "a"))
			few := source()
			few.MaxAttempts = 2
			s.deliver(t, few, s.consumer(t, outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 1})))
			s.fail = nil
		},
		"a mapping without item failures": func(t *testing.T, s *shop) {
			s.fail = func(string) error { return broken }
			s.put(t, s.now("lost", "a"))
			s.deliver(t, outboxtest.EventSource{Stream: "events"}, s.consumer(t, outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 1})))
			s.fail = nil
		},
		"a filter": func(t *testing.T, s *shop) {
			s.put(t, s.now("lost", "a"))
			only := source()
			only.Filter = []string{"MODIFY"}
			s.deliver(t, only, s.consumer(t))
		},
		"a start at the latest record": func(t *testing.T, s *shop) {
			s.put(t, s.now("lost", "a"))
			require.NoError(t, s.Drain(t.Context())) // the stream has it
			latest := source()
			latest.StartingPosition = "LATEST"
			s.deliver(t, latest, s.consumer(t))
		},
		"a deployment without the handler": func(t *testing.T, s *shop) {
			s.put(t, s.now("lost", "a"))
			s.deliver(t, source(), s.without(t))
		},
	} {
		t.Run(cause, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t)
				defer s.Close()
				lose(t, s)
				require.Zero(t, s.runs["lost"])
				time.Sleep(time.Hour)

				var found []string
				o := replay.ReconcileOptions{Found: func(r outbox.Record, err error) {
					require.NoError(t, err)
					found = append(found, r.ID)
				}}
				r, err := s.reconcile(t, s.consumer(t), o)
				require.NoError(t, err)
				require.Equal(t, []string{"lost"}, found)
				require.False(t, r.Oldest.IsZero())
				r.Oldest = time.Time{}
				require.Equal(t, replay.ReconcileResult{Segments: 1, Searched: 2, Handled: 1, Undelivered: 1, Delivered: 1}, r)
				s.requireOnce(t, "first", "lost")

				r, err = s.reconcile(t, s.consumer(t), o)
				require.NoError(t, err)
				require.Equal(t, replay.ReconcileResult{Segments: 1, Searched: 2, Handled: 2}, r)
				s.deliver(t, source(), s.consumer(t)) // as far as the stream has it
				s.requireOnce(t, "first", "lost")
			})
		})
	}
}

// The last event of an aggregate has no follower that would heal it.
func TestTheLastEventOfAnAggregateIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		ordered := func() *outbox.Consumer { return s.consumer(t, outbox.WithOrder(s.DynamoDB, "events", time.Time{})) }
		for n := int64(1); n <= 5; n++ {
			r := s.now(outbox.SequencedID("a", n), "a")
			r.Sequence = n
			s.put(t, r)
			if n == 2 {
				s.deliver(t, source(), ordered())
			}
		}
		time.Sleep(time.Hour)
		r, err := s.reconcile(t, ordered(), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{3, 3, 3}, []int{r.Handled, r.Undelivered, r.Delivered})
		r, err = s.reconcile(t, ordered(), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{6, 0}, []int{r.Handled, r.Undelivered})
		position, err := s.inbox.Position(t.Context(), "events", "a")
		require.NoError(t, err)
		require.EqualValues(t, 5, position)
		for n := int64(1); n <= 5; n++ {
			s.requireOnce(t, outbox.SequencedID("a", n))
		}
	})
}

// An event that is written after its number was passed, and that no delivery brings, becomes a dead letter, as one that is delivered.
func TestAnEventBehindAPassIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		_, err := s.inbox.Pass(t.Context(), "events", "a", 1)
		require.NoError(t, err)
		time.Sleep(time.Second)
		r := s.now(outbox.SequencedID("a", 1), "a")
		r.Sequence = 1
		s.put(t, r)
		time.Sleep(time.Hour)
		c := s.consumer(t, outbox.WithOrder(s.DynamoDB, "events", time.Time{}), outbox.WithDeadLetters(s.letters))
		got, err := s.reconcile(t, c, replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{1, 1}, []int{got.Undelivered, got.Delivered}, "%+v", got)
		for l, err := range s.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			require.Contains(t, l.Error, outbox.ErrLate.Error())
		}
		got, err = s.reconcile(t, c, replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{1, 0}, []int{got.DeadLetters, got.Undelivered}, "%+v", got)
		require.Equal(t, map[string]int{"first": 1}, s.runs)
	})
}

// Two runs at once, and a mapping that comes late: each event has its effect once.
func TestRunsAtOnceDeliverOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.handles(t, 50)
		var ids []string
		for i := range 50 {
			ids = append(ids, fmt.Sprint("lost", i))
			s.put(t, s.now(ids[i], fmt.Sprint("a", i%5)))
		}
		time.Sleep(time.Hour)
		done := make(chan error)
		for range 3 {
			c := newConsumer(t, func(ctx context.Context, e outbox.Event[noted]) error {
				time.Sleep(10 * time.Millisecond)
				return s.handle(ctx, e)
			}, outbox.WithInbox(s.inbox))
			go func() {
				_, err := s.events.Reconcile(t.Context(), c, replay.ReconcileOptions{})
				done <- err
			}()
		}
		for range 3 {
			if err := <-done; err != nil {
				require.ErrorIs(t, err, outbox.ErrClaimed, "the other run has it")
			}
		}
		s.deliver(t, source(), s.consumer(t))
		s.requireOnce(t, ids...)
		r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{101, 0}, []int{r.Handled, r.Undelivered})
	})
}
