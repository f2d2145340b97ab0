package redrive_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/internal/redrive"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// newStore returns a store with two letters in a queue, and one without a queue.
func newStore(t *testing.T) *deadletter.Store {
	_, s := newTable(t)
	return s
}

func newTable(t *testing.T) (*dynamodb.Client, *deadletter.Store) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	for _, e := range []event.Event{{ID: "1", AggregateID: "a", SequenceNumber: "1"}, {ID: "2", AggregateID: "a", SequenceNumber: "2"}, {ID: "3"}} {
		store(t, s, e)
	}
	return a.DynamoDB, s
}

func engine(s *deadletter.Store, handle func(context.Context, *deadletter.Letter) redrive.Outcome) redrive.Engine {
	return redrive.Engine{Store: s, Handle: handle, Logger: slog.New(slog.DiscardHandler), Concurrency: 1}
}

var (
	queue  = deadletter.Target{Queue: "a"}
	single = deadletter.Target{Letter: "#3"}
)

// What each outcome makes of a letter, of the letters behind it, and of the request that asked for it. The zero value changes nothing.
func TestOutcomes(t *testing.T) {
	for name, one := range map[string]struct {
		outcome  redrive.Outcome
		result   redrive.Result
		called   []string
		attempts map[string]int // of the letters that stay
		err      string         // of the first letter, if it stays
		requests int            // that stay
	}{
		"handled": {redrive.Outcome{Verdict: redrive.Handled}, redrive.Result{Redriven: 3}, []string{"1", "2", "3"}, map[string]int{}, "", 0},
		"failed": {redrive.Outcome{Verdict: redrive.Failed, Reason: "again"}, redrive.Result{Failed: 2}, []string{"1", "3"},
			map[string]int{"1": 2, "2": 1, "3": 2}, "again", 0},
		"not tried": {redrive.Outcome{}, redrive.Result{Busy: 2}, []string{"1", "3"}, map[string]int{"1": 1, "2": 1, "3": 1}, "first", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			for _, target := range []deadletter.Target{queue, single} {
				require.NoError(t, s.Ask(t.Context(), target))
			}
			var called []string
			e := engine(s, func(_ context.Context, l *deadletter.Letter) redrive.Outcome {
				called = append(called, l.Event.ID)
				return one.outcome
			})
			result, err := e.Answer(t.Context(), t.Context(), 10)
			require.NoError(t, err)
			require.Equal(t, one.result, result)
			require.ElementsMatch(t, one.called, called)
			attempts := map[string]int{}
			for l, err := range s.AllHeads(t.Context()) {
				require.NoError(t, err)
				attempts[l.Event.ID] = l.Attempts
				if l.Event.ID == "1" {
					require.Equal(t, one.err, l.Error)
				}
			}
			require.Equal(t, one.attempts, attempts)
			requests, err := s.Requests(t.Context(), 10)
			require.NoError(t, err)
			require.Len(t, requests, one.requests)
			parked, _, _, err := s.Parked(t.Context(), "", 10)
			require.NoError(t, err)
			require.Equal(t, len(attempts) > 0, len(parked) > 0)
			for _, target := range []deadletter.Target{queue, single} {
				lock, err := s.Lock(t.Context(), target, "me")
				if len(attempts) == 0 {
					require.ErrorIs(t, err, deadletter.ErrMissing)
				} else {
					require.NotNil(t, lock, "the locks are released: %v", err)
				}
			}
		})
	}
}

// A queue or a letter that somebody else holds is left alone, and its request stays.
func TestALockedTargetIsLeftAlone(t *testing.T) {
	s := newStore(t)
	for _, target := range []deadletter.Target{queue, single} {
		require.NoError(t, s.Ask(t.Context(), target))
		lock, err := s.Lock(t.Context(), target, "somebody")
		require.NoError(t, err)
		require.NotNil(t, lock)
	}
	result, err := engine(s, nil).Answer(t.Context(), t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, redrive.Result{Busy: 2}, result)
	requests, err := s.Requests(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, requests, 2)
}

// An error of the targets ends the redrive, which waits for what it has begun.
func TestTargetsThatFail(t *testing.T) {
	s, down := newStore(t), errors.New("down")
	targets := func(yield func(deadletter.Target, error) bool) {
		_ = yield(queue, nil) && yield(deadletter.Target{}, down) && yield(single, nil)
	}
	result, err := engine(s, func(context.Context, *deadletter.Letter) redrive.Outcome {
		return redrive.Outcome{Verdict: redrive.Handled}
	}).Redrive(t.Context(), t.Context(), iter.Seq2[deadletter.Target, error](targets))
	require.ErrorIs(t, err, down)
	require.Equal(t, redrive.Result{Redriven: 2}, result)
	_, err = s.Head(t.Context(), single.Letter)
	require.NoError(t, err, "it was not begun")
}
