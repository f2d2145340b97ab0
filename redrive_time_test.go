package outbox_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// A handler in a redrive has a minute, and is told so.
func TestAHandlerInARedriveHasAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 1)
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
			<-ctx.Done()
			return ctx.Err()
		})
		began := time.Now()
		done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Failed: 1}, done)
		require.Equal(t, time.Minute, time.Since(began))
		require.NotContains(t, log.String(), "ignores")
	})
}

// The minute begins when the handler does: the time in which other handlers had all places is not taken from it.
func TestTheMinuteOfALetterBeginsWithItsHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 1)
		c := newConsumer(t, outbox.WithConcurrency(1))
		outbox.HandleType(c, "SLOW", func(context.Context, outbox.Event[struct{}]) error { time.Sleep(50 * time.Second); return nil })
		outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
			select {
			case <-time.After(40 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		slow := make(chan error)
		go func() { slow <- c.Process(t.Context(), outbox.Record{ID: "s", Type: "SLOW"}) }()
		time.Sleep(time.Second)
		done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
		require.NoError(t, <-slow)
	})
}

// A handler that ignores its context holds up the redrive, which keeps the lock and says so once a minute.
func TestAHandlerThatIgnoresItsContextInARedriveIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 1)
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
			time.Sleep(3*time.Minute + 30*time.Second)
			return nil
		})
		redriven := make(chan outbox.RedriveResult)
		go func() {
			done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.NoError(t, err)
			redriven <- done
		}()
		time.Sleep(3 * time.Minute)
		other, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Busy: 1}, other)
		require.Equal(t, outbox.RedriveResult{Redriven: 1}, <-redriven)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, 3, strings.Count(log.String(), "level=WARN"), log.String())
		require.Contains(t, log.String(), `holds up the redrive" event=poison0-0 type=T aggregate=agg0 for=3m1s`)
	})
}
