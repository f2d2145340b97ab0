package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// bury makes dead letters: for each aggregate a poison and n - 1 events behind it.
func (o *office) bury(t *testing.T, aggregates, n int) {
	var records []outbox.Record
	for i := range n {
		for a := range aggregates {
			id := fmt.Sprintf("%d-%d", a, i)
			if i == 0 {
				id = "poison" + id
			}
			records = append(records, rec(id, fmt.Sprintf("agg%d", a)))
		}
	}
	require.NoError(t, o.consumer(t, outbox.WithMaxAttempts(1)).Process(t.Context(), records...))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handled, o.calls = nil, map[string]int{}
}

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

func TestARedriveRemovesNothingUnhandled(t *testing.T) {
	o := newOffice(t)
	r := rec("poison", "")
	r.Table = "events"
	require.NoError(t, o.consumer(t, outbox.WithMaxAttempts(1)).Process(t.Context(), r))
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
	record := strings.Replace(change("1", "a"), `"timestamp":{"N":"1719347890250"}`, `"timestamp":{"S":"soon"}`, 1)
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

// Two redrives of everything, on two machines, handle each letter once and keep the order.
func TestRedrivesFromTwoPlaces(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 10, 5)
	require.NoError(t, o.consumer(t, outbox.WithMaxAttempts(1)).Process(t.Context(), rec("poison-x", ""), rec("poison-y", "")))
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

// A redrive that is stopped leaves the rest, and nobody has to wait for its claim.
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

// A handler that outlives its claim in a redrive is told so in time.
func TestAHandlerInARedriveHasAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 1)
		c := newConsumer(t)
		outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
			<-ctx.Done()
			return ctx.Err()
		})
		began := time.Now()
		done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Failed: 1}, done)
		require.Less(t, time.Since(began), time.Minute)
	})
}

// killed is a client of a process that is killed before or after its nth call: from then on it reaches nothing.
type killed struct {
	outbox.DeadLetterClient
	mu    sync.Mutex
	left  int
	after bool
	calls int
}

var errKilled = errors.New("killed")

func mortal[In, Out any](k *killed, ctx context.Context, in In, opts []func(*dynamodb.Options), do func(context.Context, In, ...func(*dynamodb.Options)) (Out, error)) (Out, error) {
	k.mu.Lock()
	k.calls++
	k.left--
	dead, last := k.left < 0, k.left == 0
	k.mu.Unlock()
	var none Out
	if dead || last && !k.after {
		return none, errKilled
	}
	out, err := do(ctx, in, opts...)
	if last {
		return none, errKilled
	}
	return out, err
}

func (k *killed) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.Query)
}
func (k *killed) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.GetItem)
}
func (k *killed) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.PutItem)
}
func (k *killed) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.UpdateItem)
}
func (k *killed) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.DeleteItem)
}
func (k *killed) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.TransactWriteItems)
}

// A kill before or after any call, while events become dead letters and while they are redriven: every event is handled, in
// order, at most one of each aggregate once more for the crash; and nothing stays behind in the table.
func TestAKillAtEveryCallOfDeadLettersAndRedrive(t *testing.T) {
	cases := 0
	for _, during := range []string{"parking", "redrive"} {
		for _, after := range []bool{false, true} {
			for n, more := 1, true; more; n++ {
				bubble(t, func(t *testing.T) {
					o := newOffice(t)
					defer o.Close()
					k := &killed{DeadLetterClient: o.DynamoDB, left: n, after: after}
					records := []outbox.Record{rec("poison1", "p"), rec("poison", ""), rec("p2", "p"), rec("p3", "p")}
					if during == "parking" {
						_ = o.consumerOf(t, o.table(t, k), outbox.WithMaxAttempts(1)).Process(t.Context(), records...)
					}
					time.Sleep(time.Second) // in a bubble nothing takes time, and they are in the order of their storing
					require.NoError(t, o.consumer(t, outbox.WithMaxAttempts(1)).Process(t.Context(), records...))
					require.Empty(t, o.handled)
					require.Equal(t, []string{"#poison", "p#p2", "p#p3", "p#poison1"}, o.ids(t))
					o.repair()
					if during == "redrive" {
						_, _ = o.table(t, k).Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
					}
					time.Sleep(2 * time.Minute) // until claims have ended
					_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
					require.NoError(t, err)
					require.NoError(t, o.consumer(t).Process(t.Context(), rec("p4", "p")))
					var order []string
					repeated := 0
					for _, id := range o.handled {
						if id == "poison" {
							continue
						}
						if slices.Contains(order, id) {
							repeated++
							continue
						}
						order = append(order, id)
					}
					require.Equal(t, []string{"poison1", "p2", "p3", "p4"}, order)
					require.Contains(t, o.handled, "poison")
					require.LessOrEqual(t, repeated, 1)
					require.LessOrEqual(t, o.calls["poison"], 3, "the first time, when it failed, included")
					require.Empty(t, rowsOf(t, o, "letters"))
					more = k.calls >= n
				})
				cases++
				require.Less(t, n, 100)
			}
		}
	}
	t.Logf("%d cases", cases)
}

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
		r := run(t, w)
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
		_, err = o.letters.RedriveRequested(ctx, c)
		require.ErrorIs(t, err, context.Canceled)
		pending, err := o.letters.PendingRedrives(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, pending)
		_, err = o.letters.RedriveRequested(t.Context(), o.consumer(t))
		require.NoError(t, err)
		require.Empty(t, rowsOf(t, o, "letters"))
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
	done, err := o.letters.RedriveRequested(t.Context(), o.consumer(t))
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

// A redrive whose claim ran out while it waited for its pace, and that another one has overtaken, ends there.
func TestAClaimThatRanOutIsNotTakenAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 4)
		o.repair()
		slow := make(chan outbox.RedriveResult)
		go func() {
			done, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{PerSecond: 1.0 / 66})
			require.NoError(t, err)
			slow <- done
		}()
		time.Sleep(63 * time.Second)
		done, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{ID: "agg0#0-2"}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 2}, done)
		require.Equal(t, outbox.RedriveResult{Redriven: 1, Busy: 1}, <-slow)
		require.Equal(t, []string{"poison0-0", "0-1", "0-2"}, o.handled)
	})
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
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithMaxAttempts(1)))
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
