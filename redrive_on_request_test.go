package outbox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// A Worker does what was asked for by somebody who has no handlers.
func TestAWorkerRedrivesOnRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		letters, err := outbox.NewDeadLetterTable(f.DynamoDB, "letters", "mails")
		require.NoError(t, err)
		require.NoError(t, letters.Create(t.Context()))
		broken := true
		c := newConsumer(t, outbox.WithTables("events"), outbox.WithDeadLetters(letters))
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
			f.mu.Lock()
			down := broken
			f.mu.Unlock()
			if down && e.AggregateID == "e-0" {
				return outbox.Permanent(errors.New("no"))
			}
			f.note(t, e)
			return nil
		})
		w, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases)
		require.NoError(t, err)
		r := runWorker(t, w)
		ids := f.put(t, "e", 3, 5)
		f.await(t, "the others handled", time.Minute, func() bool { return len(f.handled) == 10 })
		time.Sleep(10 * time.Second)
		f.mu.Lock()
		broken = false
		f.mu.Unlock()
		n, err := letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{AggregateID: "e-0"})
		require.NoError(t, err)
		require.Equal(t, 5, n)
		pending, err := letters.PendingRedrives(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, pending)
		f.await(t, "all handled", time.Minute, f.all(ids))
		time.Sleep(5 * time.Second)
		pending, err = letters.PendingRedrives(t.Context())
		require.NoError(t, err)
		require.Zero(t, pending)
		require.NoError(t, r.stop())
		f.requireTimes(t, 1, ids)
		scan, err := f.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("letters")})
		require.NoError(t, err)
		require.Empty(t, scan.Items)
	})
}

// A redrive that was asked for and is cut short stays asked for.
func TestARequestOutlivesARedriveThatIsCutShort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 4)
		o.repair()
		_, err := o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		c := newConsumer(t)
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { cancel(); return nil })
		_, err = o.letters.AnswerRedriveRequests(ctx, c)
		require.ErrorIs(t, err, context.Canceled)
		pending, err := o.letters.PendingRedrives(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, pending)
		_, err = o.letters.AnswerRedriveRequests(t.Context(), o.consumer(t))
		require.NoError(t, err)
		require.Empty(t, rowsOf(t, o, "letters"))
	})
}

// A request is answered when its letters are handled or have failed again or are gone, and not while somebody else redrives them.
func TestWhenARequestIsAnswered(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 1, 2)
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "")))
	n, err := o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, 2, o.pending(t), "one for the aggregate, one for the letter without one")
	done, err := o.letters.AnswerRedriveRequests(t.Context(), o.consumer(t))
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Failed: 2}, done)
	require.Zero(t, o.pending(t), "they have failed again")

	o.repair()
	_, err = o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{AggregateID: "agg0"})
	require.NoError(t, err)
	c := newConsumer(t)
	outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
		if e.ID == "poison0-0" {
			busy, err := o.letters.AnswerRedriveRequests(ctx, o.consumer(t))
			require.NoError(t, err)
			require.Equal(t, outbox.RedriveResult{Busy: 1}, busy)
			require.Equal(t, 1, o.pending(t), "somebody else is at it, who may fail")
		}
		return o.handle(ctx, e)
	})
	done, err = o.letters.AnswerRedriveRequests(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 2}, done)
	require.Zero(t, o.pending(t))

	_, err = o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{ID: "#poison"})
	require.NoError(t, err)
	waiting := newConsumer(t)
	outbox.HandleType(waiting, "T", func(context.Context, outbox.Event[struct{}]) error { return outbox.ErrClaimed })
	done, err = o.letters.AnswerRedriveRequests(t.Context(), waiting)
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Busy: 1}, done)
	require.Equal(t, 1, o.pending(t), "it was not tried")
	require.NoError(t, o.letters.Discard(t.Context(), "#poison"))
	done, err = o.letters.AnswerRedriveRequests(t.Context(), o.consumer(t))
	require.NoError(t, err)
	require.Zero(t, done)
	require.Zero(t, o.pending(t), "it is gone")
}

// A request that cannot be removed is an error, and is answered again.
func TestARequestThatCannotBeRemoved(t *testing.T) {
	o := newOffice(t)
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "")))
	o.repair()
	_, err := o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
	require.NoError(t, err)
	done, err := o.table(t, &brokenTable{Client: o.DynamoDB, deletes: true}).AnswerRedriveRequests(t.Context(), o.consumer(t))
	require.ErrorIs(t, err, errNoPermission)
	require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
	require.Equal(t, 1, o.pending(t))
	done, err = o.letters.AnswerRedriveRequests(t.Context(), o.consumer(t))
	require.NoError(t, err)
	require.Zero(t, done)
	require.Empty(t, rowsOf(t, o, "letters"))
}

// A Worker that is stopped leaves a handler of a redrive the drain timeout, and no more.
func TestAWorkerThatStopsDrainsItsRedrive(t *testing.T) {
	for name, takes := range map[string]time.Duration{"in time": 5 * time.Second, "too long": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOffice(t)
				defer o.Close()
				o.CreateOutbox(t, "events", "events", 1)
				o.bury(t, 1, 1)
				started, calls := make(chan struct{}, 10), 0
				c := newConsumer(t, outbox.WithDeadLetters(o.letters))
				outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
					calls++
					started <- struct{}{}
					select {
					case <-time.After(takes):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				w, err := outbox.NewWorker(o.Kinesis, "events", c, &outbox.MemoryLeases{}, outbox.WithDrainTimeout(20*time.Second))
				require.NoError(t, err)
				r := runWorker(t, w)
				_, err = o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
				require.NoError(t, err)
				<-started
				stopped := time.Now()
				require.NoError(t, r.stop())
				require.Equal(t, 1, calls)
				if took := time.Since(stopped).Round(time.Second); takes < 20*time.Second {
					require.Equal(t, takes, took)
					require.Empty(t, o.ids(t))
				} else {
					require.Equal(t, 20*time.Second, took)
					require.Len(t, o.ids(t), 1)
					require.Equal(t, 1, o.pending(t), "the next one does it")
				}
			})
		})
	}
}

// While a service that a handler needs is down, a Worker asks it ever less often for what was requested; then at once again.
func TestARequestedRedriveSparesAServiceThatIsDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.CreateOutbox(t, "events", "events", 1)
		o.bury(t, 1, 1)
		var calls []time.Time
		var mu sync.Mutex
		down := true
		c := newConsumer(t, outbox.WithDeadLetters(o.letters))
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, time.Now())
			if down {
				return outbox.Unavailable(errors.New("no answer"))
			}
			return nil
		})
		w, err := outbox.NewWorker(o.Kinesis, "events", c, &outbox.MemoryLeases{})
		require.NoError(t, err)
		r := runWorker(t, w)
		_, err = o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		mu.Lock()
		down = false
		var pauses []string
		for i := range calls[1:] {
			pauses = append(pauses, calls[i+1].Sub(calls[i]).Round(time.Second).String())
		}
		mu.Unlock()
		require.Equal(t, []string{"4s", "8s", "16s", "32s", "1m0s", "1m0s"}, pauses[:6])
		require.Less(t, len(pauses), 15)
		time.Sleep(time.Minute + 20*time.Second)
		require.Zero(t, o.pending(t), "it was tried within a minute")

		require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "")))
		_, err = o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		require.Zero(t, o.pending(t), "at once")
		require.NoError(t, r.stop())
	})
}
