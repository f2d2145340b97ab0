package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// TestAnAttemptIsJudgedAlikeEverywhere: what a handler returns means the same in Process, in a Worker and in a redrive. Two attempts are
// allowed.
func TestAnAttemptIsJudgedAlikeEverywhere(t *testing.T) {
	down := errors.New("down")
	panics := errors.New("the handler panics")
	const lostRaces = 1000
	for name, test := range map[string]struct {
		err    error
		calls  int                  // until the event is finished, or a dead letter; 0 means that it waits, however often it is called
		letter bool                 // it is one
		again  outbox.RedriveResult // what a redrive counts that meets the same
		reruns bool                 // in place
	}{
		"nothing":                         {nil, 1, false, outbox.RedriveResult{Redriven: 1}, false},
		"a failure":                       {down, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"a panic":                         {panics, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"a permanent failure":             {outbox.Permanent(down), 1, true, outbox.RedriveResult{Failed: 1}, false},
		"one that something wraps":        {fmt.Errorf("while mailing: %w", outbox.Permanent(down)), 1, true, outbox.RedriveResult{Failed: 1}, false},
		"an error whose Is panics":        {hostileError{is: true}, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"an error whose As panics":        {hostileError{as: true}, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"an error whose Unwrap panics":    {fmt.Errorf("load: %w", hostileError{unwrap: true}), 2, true, outbox.RedriveResult{Failed: 1}, false},
		"an error whose text panics":      {hostileError{text: true}, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"an error that is a nil pointer":  {(*nilError)(nil), 2, true, outbox.RedriveResult{Failed: 1}, false},
		"an error that is anything":       {hostileError{any: true}, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"another's claim":                 {fmt.Errorf("wait: %w", outbox.ErrClaimed), 0, false, outbox.RedriveResult{Busy: 1}, false},
		"a permanent one under a claim":   {errors.Join(outbox.Permanent(down), outbox.ErrClaimed), 0, false, outbox.RedriveResult{Busy: 1}, false},
		"an outage":                       {fmt.Errorf("mail: %w", outbox.Unavailable(down)), 0, false, outbox.RedriveResult{Busy: 1}, false},
		"an outage, said by the sentinel": {fmt.Errorf("mail: %w", outbox.ErrUnavailable), 0, false, outbox.RedriveResult{Busy: 1}, false},
		"a permanent outage":              {outbox.Permanent(outbox.Unavailable(down)), 1, true, outbox.RedriveResult{Failed: 1}, false},
		"an outage of what is permanent":  {outbox.Unavailable(outbox.Permanent(down)), 1, true, outbox.RedriveResult{Failed: 1}, false},
		"an outage beside a permanent":    {errors.Join(outbox.Unavailable(down), outbox.Permanent(down)), 1, true, outbox.RedriveResult{Failed: 1}, false},
		"an outage under a claim":         {errors.Join(outbox.Unavailable(down), outbox.ErrClaimed), 0, false, outbox.RedriveResult{Busy: 1}, false},
		"an outage in a lost race":        {errors.Join(outbox.ErrConditionFailed, outbox.Unavailable(down)), 0, false, outbox.RedriveResult{Busy: 1}, false},
		"a conflict":                      {fmt.Errorf("store: %w", outbox.ErrConflict), 0, false, outbox.RedriveResult{Busy: 1}, true},
		"a permanent conflict":            {outbox.Permanent(outbox.ErrConflict), 1, true, outbox.RedriveResult{Failed: 1}, false},
		"a lost race":                     {fmt.Errorf("store: %w", outbox.ErrConditionFailed), lostRaces, true, outbox.RedriveResult{Failed: 1}, true},
		"a permanent lost race":           {outbox.Permanent(outbox.ErrConditionFailed), 1, true, outbox.RedriveResult{Failed: 1}, false},
		"an event's id that is taken":     {outbox.ErrEventConflict, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"its own context's end in time":   {context.DeadlineExceeded, 2, true, outbox.RedriveResult{Failed: 1}, false},
		"a cancellation of its own kind":  {context.Canceled, 2, true, outbox.RedriveResult{Failed: 1}, false},
	} {
		inPlace := 1 // in one delivery, outside a Worker
		if test.reruns {
			inPlace = 9
		}
		fail := func() error {
			if test.err == panics { //nolint:errorlint // some of the errors panic when they are asked
				panic("on fire")
			}
			return test.err
		}
		t.Run(name+", in Process", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o, calls := newOffice(t), 0
				defer o.Close()
				c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(2)))
				outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
					calls++
					return fail()
				})
				err, want, deliveries := errors.New("not called yet"), test.calls*inPlace, 5
				if test.calls == lostRaces {
					deliveries = (lostRaces + inPlace - 1) / inPlace
					want = deliveries * inPlace
				}
				for range deliveries {
					if err != nil {
						err = c.Process(t.Context(), rec("1", "a"))
					}
				}
				if test.calls == 0 {
					require.ErrorIs(t, err, test.err)
					require.Equal(t, 5*inPlace, calls)
				} else {
					require.NoError(t, err)
					require.Equal(t, want, calls)
				}
				letters := o.list(t, outbox.DeadLetterFilter{})
				require.Equal(t, test.letter, len(letters) == 1, letters)
				if test.letter {
					require.Equal(t, want, letters[0].Attempts)
				}
			})
		})
		t.Run(name+", in a redrive", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o, calls := newOffice(t), 0
				defer o.Close()
				o.bury(t, 1, 1)
				c := newConsumer(t, outbox.WithDeadLetters(o.letters))
				outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
					calls++
					return fail()
				})
				done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
				require.NoError(t, err)
				require.Equal(t, test.again, done)
				require.Equal(t, inPlace, calls)
				left := o.list(t, outbox.DeadLetterFilter{})
				require.Len(t, left, 1-test.again.Redriven)
				for _, l := range left {
					require.Equal(t, 1+test.again.Failed, l.Attempts)
				}
			})
		})
		t.Run(name+", in a Worker", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newFleetWithLetters(t)
				defer m.Close()
				m.oneShard(t)
				c := newConsumer(t, outbox.WithTables("events"), outbox.WithDeadLetters(m.letters))
				outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
					m.mu.Lock()
					m.calls[e.ID]++
					m.mu.Unlock()
					return fail()
				})
				w, err := outbox.NewWorker(m.Kinesis, "events", c, m.leases,
					outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 2, BaseDelay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond}))
				require.NoError(t, err)
				r := runWorker(t, w)
				m.put(t, "bad", 1, 1)
				time.Sleep(10 * time.Second)
				if test.calls == lostRaces {
					time.Sleep(20 * time.Minute)
				}
				require.NoError(t, r.stop())
				calls := m.calls["bad-0-0"]
				if test.calls == 0 {
					require.Greater(t, calls, 5)
				} else {
					require.Equal(t, test.calls, calls)
				}
				ids := m.letterIDs(t)
				require.Equal(t, test.letter, len(ids) == 1, ids)
				leases, err := m.leases.(*outbox.LeaseTable).Status(t.Context(), "events")
				require.NoError(t, err)
				for _, lease := range leases {
					require.Empty(t, lease.Attempts, "waiting is no attempt, and what is over has none to count")
				}
			})
		})
	}
}

// hostileError is an error of a user whose methods do what they should not.
type hostileError struct{ is, as, unwrap, text, any bool }

func (e hostileError) Error() string {
	if e.text {
		panic("text")
	}
	return "hostile"
}

func (e hostileError) Is(error) bool {
	if e.is {
		panic("is")
	}
	return false
}

// As says, with any, that the error is whatever it is asked for, and sets nothing.
func (e hostileError) As(any) bool {
	if e.as {
		panic("as")
	}
	return e.any
}

func (e hostileError) Unwrap() error {
	if e.unwrap {
		panic("unwrap")
	}
	return nil
}

// nilError has methods that need a value.
type nilError struct{ text string }

func (e *nilError) Error() string     { return e.text }
func (e *nilError) Is(err error) bool { return e.text == err.Error() }
