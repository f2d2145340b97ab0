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

// An event that is left to the next owner is not overtaken by a later one of its aggregate, in whatever batch that is.
func TestWhatIsGivenUpIsNotOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		first, later := event("first"), event("later")
		broken := true
		handle := func(_ context.Context, e outbox.Event[orderCreated]) error {
			f.mu.Lock()
			down := broken
			f.mu.Unlock()
			if e.ID == "first" && down {
				return errors.New("down")
			}
			f.note(t, e)
			return nil
		}
		w := f.start(t, handle, outbox.WithHandlerRetry(outbox.Retry{BaseDelay: time.Hour, MaxDelay: time.Hour}))
		require.NoError(t, f.writer.Put(t.Context(), "orders", order{"1"}, first))
		time.Sleep(5 * time.Second) // it has failed, and waits
		require.NoError(t, f.writer.Put(t.Context(), "orders", order{"1"}, later))
		time.Sleep(5 * time.Second) // it waits for the first, in another batch
		require.NoError(t, w.stop())
		require.Empty(t, f.order["order-1"])
		f.mu.Lock()
		broken = false
		f.mu.Unlock()
		w = f.start(t, handle)
		f.await(t, "both handled", time.Minute, f.all([]string{"first", "later"}))
		require.NoError(t, w.stop())
		require.Equal(t, []string{"first", "later"}, f.order["order-1"])
	})
}

// A poison ends Run within the drain timeout, whatever the handlers of other events do, in every shard.
func TestAPoisonEndsRunWithinTheDrainTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		started := make(chan struct{}, 100)
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			switch e.Data.Description {
			case "slow":
				started <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			case "failing":
				return errors.New("down")
			case "poison":
				return outbox.Permanent(errors.New("no"))
			}
			return nil
		}, outbox.WithDrainTimeout(5*time.Second), outbox.WithHandlerRetry(outbox.Retry{BaseDelay: time.Hour, MaxDelay: time.Hour}))
		put := func(what string, n int) {
			for i := range n {
				e := event(fmt.Sprint(what, i))
				e.AggregateID, e.Data.Description = e.ID, what
				require.NoError(t, f.writer.Put(t.Context(), "orders", order{e.ID}, e))
			}
		}
		put("slow", 4)
		put("failing", 4)
		for range 4 {
			<-started
		}
		begin := time.Now()
		put("poison", 1)
		<-w.done
		require.ErrorIs(t, *w.err, outbox.ErrPermanent)
		require.Less(t, time.Since(begin), 8*time.Second)
	})
}

// A worker that comes and goes without meeting the record does not forget how often it has failed.
func TestAttemptsSurviveAWorkerThatReadsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		attempts := 0
		handle := func(context.Context, outbox.Event[orderCreated]) error {
			attempts++
			return errors.New("down")
		}
		retry := outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 10, BaseDelay: time.Second})
		require.NoError(t, f.writer.Put(t.Context(), "orders", order{"1"}, event("e")))
		w := f.start(t, handle, retry)
		<-w.done
		require.Equal(t, 10, attempts)

		heal, err := f.Cut("Kinesis")
		require.NoError(t, err)
		w = f.start(t, handle, retry)
		time.Sleep(time.Minute)
		require.NoError(t, w.stop())
		heal()
		require.Equal(t, 10, attempts)

		w = f.start(t, handle, retry)
		<-w.done
		require.ErrorContains(t, *w.err, "11 attempts")
		require.Equal(t, 11, attempts)
	})
}
