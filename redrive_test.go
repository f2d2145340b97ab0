package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestRedriveTakesAnAggregateUpToTheLetter(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 2, 3)
	o.repair()
	c := o.consumer(t)
	dry, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{ID: "agg0#0-1"}, outbox.RedriveOptions{DryRun: true})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 2}, dry)
	require.Empty(t, o.handled)
	done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{ID: "agg0#0-1"}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, dry, done)
	require.Equal(t, []string{"poison0-0", "0-1"}, o.handled)
	require.NoError(t, c.Process(t.Context(), rec("0-3", "agg0")))
	require.Len(t, o.handled, 2, "the aggregate is parked as long as a letter is there")

	// Whichever letter matches, an aggregate is redriven from its first one.
	done, err = o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{AggregateID: "agg1", ErrorContains: "parked"}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 3}, done)
	require.Equal(t, []string{"poison1-0", "1-1", "1-2"}, o.handled[2:])
	done, err = o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 2}, done)
	require.Equal(t, []string{"0-2", "0-3"}, o.handled[5:])
	require.Empty(t, rowsOf(t, o, "letters"))
}

func TestWhatFailsAgainStays(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 2, 3)
	var seen []outbox.RedriveResult
	done, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{
		Progress: func(r outbox.RedriveResult) { seen = append(seen, r) },
	})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Failed: 2}, done)
	require.Equal(t, []outbox.RedriveResult{{Failed: 1}, {Failed: 2}}, seen)
	require.Empty(t, o.handled, "nothing overtakes what failed")
	require.Equal(t, map[string]int{"poison0-0": 1, "poison1-0": 1}, o.calls)
	l, err := o.letters.Get(t.Context(), "agg0#poison0-0")
	require.NoError(t, err)
	require.Equal(t, 2, l.Attempts)
	require.False(t, l.TriedAt.IsZero())
}

// An aggregate is redriven once, however many of its letters a filter selects, and asked for once.
func TestAFilterSelectsAnAggregateOnce(t *testing.T) {
	for name, filter := range map[string]outbox.DeadLetterFilter{
		"all": {}, "by type": {Type: "T"}, "by aggregate": {AggregateID: "agg0"}, "by both": {Type: "T", AggregateID: "agg0"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.bury(t, 1, 3)
			n, err := o.letters.RequestRedrive(t.Context(), filter)
			require.NoError(t, err)
			require.Equal(t, 3, n)
			require.Equal(t, 1, o.pending(t))
			done, err := o.letters.Redrive(t.Context(), o.consumer(t), filter, outbox.RedriveOptions{})
			require.NoError(t, err)
			require.Equal(t, outbox.RedriveResult{Failed: 1}, done)
			require.Equal(t, map[string]int{"poison0-0": 1}, o.calls)
		})
	}
}

func TestARedriveRemovesNothingUnhandled(t *testing.T) {
	o := newOffice(t)
	r := rec("poison", "")
	r.Table = "events"
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), r))
	o.repair()
	elsewhere := newConsumer(t, outbox.WithTables("others"))
	outbox.HandleType(elsewhere, "T", o.handle)
	for want, c := range map[string]*outbox.Consumer{"has no handler": newConsumer(t), "not one of WithTables": elsewhere} {
		done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Failed: 1}, done)
		l, err := o.letters.Get(t.Context(), "#poison")
		require.NoError(t, err)
		require.Contains(t, l.Error, want)
	}
	require.Empty(t, o.handled)
}

// A record that could not be decoded is decoded again: with the right names it is an event after all.
func TestARedriveDecodesAgain(t *testing.T) {
	o := newOffice(t)
	record := strings.Replace(changeRecord("1", "a"), `"timestamp":{"N":"1719347890250"}`, `"timestamp":{"S":"soon"}`, 1)
	require.Equal(t, unfinished(""), o.invoke(t, o.consumer(t), record))
	done, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Failed: 1}, done)
	c := newConsumer(t, outbox.WithAttributes(outbox.Attributes{Time: outbox.NoAttribute}))
	outbox.HandleType(c, "T", o.handle)
	done, err = o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
	require.Equal(t, []string{"1"}, o.handled)
}

// An event that is decoded again comes from where its record came from.
func TestAnEventThatIsDecodedAgainKeepsItsPlace(t *testing.T) {
	o := newOffice(t)
	record := strings.Replace(changeRecord("1", "a"), `"timestamp":{"N":"1719347890250"}`, `"timestamp":{"S":"soon"}`, 1)
	require.Equal(t, unfinished(""), o.invoke(t, o.consumer(t), record))
	stored := o.list(t, outbox.DeadLetterFilter{})[0].Record
	require.Equal(t, "s0", stored.SequenceNumber)
	c := newConsumer(t, outbox.WithAttributes(outbox.Attributes{Time: outbox.NoAttribute}))
	outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
		r, _ := outbox.RecordFromContext(ctx)
		require.Equal(t, []string{stored.StreamARN, stored.ShardID, stored.SequenceNumber}, []string{r.StreamARN, r.ShardID, r.SequenceNumber})
		return nil
	})
	done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
}

// Two redrives of everything, on two machines, handle each letter once and keep the order.
func TestRedrivesFromTwoPlaces(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 10, 5)
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison-x", ""), rec("poison-y", "")))
	o.repair()
	o.calls = map[string]int{}
	var wg sync.WaitGroup
	var redriven [3]outbox.RedriveResult
	for i := range redriven {
		wg.Go(func() {
			var err error
			redriven[i], err = o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.Equal(t, 52, redriven[0].Redriven+redriven[1].Redriven+redriven[2].Redriven)
	require.Len(t, o.calls, 52)
	for id, n := range o.calls {
		require.Equal(t, 1, n, id)
	}
	for a := range 10 {
		var order []string
		for _, id := range o.handled {
			if strings.HasPrefix(strings.TrimPrefix(id, "poison"), fmt.Sprintf("%d-", a)) {
				order = append(order, id[len(id)-1:])
			}
		}
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, order)
	}
	require.Empty(t, rowsOf(t, o, "letters"))
}

func TestARedriveHasAPace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 11)
		o.repair()
		began := time.Now()
		_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{PerSecond: 0.5})
		require.NoError(t, err)
		require.Len(t, o.handled, 11)
		require.Equal(t, 20*time.Second, time.Since(began).Round(time.Second))
	})
}

// A redrive that is stopped leaves the rest, and nobody has to wait for its lock.
func TestARedriveCanBeStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 5)
		o.repair()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		done, err := o.letters.Redrive(ctx, o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{PerSecond: 0.5})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3, done.Redriven)
		done, err = o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 2}, done)
	})
}

// A letter that is gone takes nobody along, whoever removed it and whenever.
func TestARedriveOfALetterThatIsGone(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 1, 4)
	o.repair()
	_, err := o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{ID: "agg0#0-1"})
	require.NoError(t, err)
	require.NoError(t, o.letters.Discard(t.Context(), "agg0#0-1"))
	done, err := o.letters.AnswerRedriveRequests(t.Context(), o.consumer(t))
	require.NoError(t, err)
	require.Zero(t, done)
	pending, err := o.letters.PendingRedrives(t.Context())
	require.NoError(t, err)
	require.Zero(t, pending)

	c := newConsumer(t) // its first handler discards the next letter
	outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
		if e.ID == "poison0-0" {
			require.NoError(t, o.letters.Discard(ctx, "agg0#0-2"))
		}
		return o.handle(ctx, e)
	})
	done, err = o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 2}, done)
	require.Equal(t, []string{"poison0-0", "0-3"}, o.handled)
}

// A letter whose handler finds no place in time was not tried.
func TestALetterThatIsNotStartedIsNoAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 1)
		o.repair()
		c := newConsumer(t, outbox.WithConcurrency(1))
		outbox.HandleType(c, "T", o.handle)
		outbox.HandleType(c, "SLOW", func(context.Context, outbox.Event[struct{}]) error { time.Sleep(2 * time.Minute); return nil })
		slow := make(chan error)
		go func() { slow <- c.Process(t.Context(), outbox.Record{ID: "s", Type: "SLOW"}) }()
		time.Sleep(time.Second)
		done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Busy: 1}, done)
		l, err := o.letters.Get(t.Context(), "agg0#poison0-0")
		require.NoError(t, err)
		require.Equal(t, 1, l.Attempts)
		require.Equal(t, "the printer is on fire", l.Error)
		require.NoError(t, <-slow)
	})
}

// Two events with one id, of two types or tables, are two dead letters.
func TestTheSameIDOfAnotherEventIsAnotherDeadLetter(t *testing.T) {
	o := newOffice(t)
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(1)))
	for _, eventType := range []string{"T", "U"} {
		outbox.HandleType(c, eventType, func(context.Context, outbox.Event[struct{}]) error { return errors.New("no") })
	}
	large := []byte(`{"x":"` + strings.Repeat("x", 380<<10) + `"}`)
	for range 2 {
		for _, r := range []outbox.Record{
			{ID: "1", Type: "T", AggregateID: "a", Table: "x"}, {ID: "1", Type: "U", AggregateID: "a", Table: "x"}, {ID: "1", Type: "T", AggregateID: "a", Table: "y"},
			{ID: "2", Type: "T", Payload: large}, {ID: "2", Type: "U", Payload: large[:len(large)-1]},
		} {
			require.NoError(t, c.Process(t.Context(), r))
		}
	}
	require.Len(t, o.ids(t), 5)
}

// An aggregate may take longer than a lock lasts: it is renewed for each letter.
func TestALongRedriveKeepsItsLock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 4)
		c := newConsumer(t)
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { time.Sleep(50 * time.Second); return nil })
		done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 4}, done)
	})
}

// What arrives while an aggregate is redriven is handled behind the rest, by the same redrive.
func TestARedriveTakesWhatArrivesMeanwhile(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 1, 3)
	o.repair()
	other := o.consumer(t)
	c := newConsumer(t)
	outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
		if e.ID == "0-2" { // the last one
			require.NoError(t, other.Process(ctx, rec("0-3", "agg0")))
		}
		return o.handle(ctx, e)
	})
	done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 4}, done)
	require.Equal(t, []string{"poison0-0", "0-1", "0-2", "0-3"}, o.handled)
	require.Empty(t, rowsOf(t, o, "letters"))
}

// An aggregate whose last letters are discarded between two handlers is done.
func TestARedriveOfAQueueThatIsDiscarded(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 1, 3)
	o.repair()
	done, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{Progress: func(r outbox.RedriveResult) {
		require.NoError(t, o.letters.Discard(t.Context(), "agg0#0-1"))
		require.NoError(t, o.letters.Discard(t.Context(), "agg0#0-2"))
	}})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
	require.Empty(t, rowsOf(t, o, "letters"))
}

// A handler that succeeded just before its context ended has succeeded, and one that failed then was not tried.
func TestARedriveThatEndsWithItsHandler(t *testing.T) {
	for name, failure := range map[string]error{"success": nil, "failure": errors.New("cut off")} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.bury(t, 1, 2)
			ctx, cancel := context.WithCancel(t.Context())
			c := newConsumer(t)
			outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { cancel(); return failure })
			done, err := o.letters.Redrive(ctx, c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.ErrorIs(t, err, context.Canceled)
			left := o.list(t, outbox.DeadLetterFilter{AggregateID: "agg0"})
			if failure == nil {
				require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
				require.Len(t, left, 1)
				return
			}
			require.Zero(t, done)
			require.Len(t, left, 2)
			require.Equal(t, 1, left[0].Attempts)
			require.Equal(t, "the printer is on fire", left[0].Error)
		})
	}
}

// A redrive ends with the table: it does not try one aggregate after the other.
func TestARedriveEndsWithItsTable(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 20, 1)
	o.repair()
	_, err := o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
	require.NoError(t, err)
	c := newConsumer(t, outbox.WithConcurrency(1))
	outbox.HandleType(c, "T", o.handle)
	for name, redrive := range map[string]func(*outbox.DeadLetterTable) (outbox.RedriveResult, error){
		"at once": func(letters *outbox.DeadLetterTable) (outbox.RedriveResult, error) {
			return letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		},
		"on request": func(letters *outbox.DeadLetterTable) (outbox.RedriveResult, error) {
			return letters.AnswerRedriveRequests(t.Context(), c)
		},
	} {
		client := &brokenTable{Client: o.DynamoDB, updates: true}
		done, err := redrive(o.table(t, client))
		require.ErrorIs(t, err, errNoPermission, name)
		require.Zero(t, done)
		require.LessOrEqual(t, client.calls, 2, "%s: one that fails, and one that waited for its place", name)
	}
	require.Empty(t, o.handled)
}

func TestRedriveRefusesARateThatIsNone(t *testing.T) {
	o := newOffice(t)
	for _, rate := range []float64{-1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{PerSecond: rate})
		require.ErrorContains(t, err, "PerSecond")
	}
}
