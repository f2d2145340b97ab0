package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// wrongClock is a client of a machine whose clock is wrong: what it writes about the end of a lock, its clock says.
type wrongClock struct {
	outbox.DeadLetterClient
	by time.Duration
}

func (c *wrongClock) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if until, ok := in.ExpressionAttributeValues[":until"].(*types.AttributeValueMemberN); ok {
		var n int64
		if _, err := fmt.Sscan(until.Value, &n); err != nil {
			return nil, err
		}
		in.ExpressionAttributeValues[":until"] = num(fmt.Sprint(n + c.by.Milliseconds()))
	}
	return c.DeadLetterClient.UpdateItem(ctx, in, opts...)
}

// A redrive on a machine whose clock is wrong reaches the table no more after some call, while its handlers run on until they are stopped; and
// another machine redrives again and again. Two never handle letters of one aggregate at once, and all letters are handled, in order.
func TestOneRedriveAtATimeWhateverTheClocksSay(t *testing.T) {
	cases, repeated := 0, 0
	for _, skew := range []time.Duration{-2 * time.Minute, 0, 2 * time.Minute} {
		for _, long := range []time.Duration{time.Second, 12 * time.Second} {
			for _, after := range []bool{false, true} {
				for n, more := 1, true; more; n++ {
					bubble(t, func(t *testing.T) {
						o := newOffice(t)
						defer o.Close()
						o.bury(t, 1, 3)
						o.repair()
						running := 0
						handle := func(ctx context.Context, e outbox.Event[struct{}]) error {
							o.mu.Lock()
							running++
							atOnce := running
							o.mu.Unlock()
							defer func() {
								o.mu.Lock()
								running--
								o.mu.Unlock()
							}()
							require.Equal(t, 1, atOnce, "at once: skew %s, %s, call %d, after %t", skew, long, n, after)
							select {
							case <-time.After(long):
								return o.handle(ctx, e)
							case <-ctx.Done():
								return ctx.Err()
							}
						}
						k := &killed{DeadLetterClient: &wrongClock{o.DynamoDB, skew}, left: n, after: after}
						first := make(chan struct{})
						go func() {
							defer close(first)
							c := newConsumer(t)
							outbox.HandleType(c, "T", handle)
							_, _ = o.table(t, k).Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
						}()
						c := newConsumer(t)
						outbox.HandleType(c, "T", handle)
						for began := time.Now(); len(rowsOf(t, o, "letters")) > 0; {
							time.Sleep(700 * time.Millisecond)
							_, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
							require.NoError(t, err)
							require.Less(t, time.Since(began), 5*time.Minute)
						}
						<-first
						var order []string
						for _, id := range o.handled {
							if slices.Contains(order, id) {
								repeated++
								continue
							}
							order = append(order, id)
						}
						require.Equal(t, []string{"poison0-0", "0-1", "0-2"}, order)
						require.LessOrEqual(t, len(o.handled), 4)
						more = k.calls >= n
					})
					cases++
					require.Less(t, n, 100)
				}
			}
		}
	}
	t.Logf("%d cases, in %d of them a letter was handled twice", cases, repeated)
}

// A redrive keeps its lock while it waits for its pace. One that cannot write any more loses the lock, stops its handler, and begins no other
// letter when it can write again.
func TestALockIsKeptByWhoCanWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		o.bury(t, 1, 4)
		o.repair()
		cut := &cutOff{DeadLetterClient: o.DynamoDB}
		c := newConsumer(t)
		running, most := 0, 0
		handle := func(ctx context.Context, e outbox.Event[struct{}]) error {
			o.mu.Lock()
			running++
			most = max(most, running)
			o.mu.Unlock()
			defer func() {
				o.mu.Lock()
				running--
				o.mu.Unlock()
			}()
			if e.ID == "0-1" && cut.isCut() {
				<-ctx.Done() // for ever, if nobody stops it
				return ctx.Err()
			}
			return o.handle(ctx, e)
		}
		outbox.HandleType(c, "T", handle)
		slow := make(chan outbox.RedriveResult)
		go func() {
			done, err := o.table(t, cut).Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{PerSecond: 1.0 / 66})
			require.NoError(t, err)
			slow <- done
		}()
		time.Sleep(65 * time.Second) // between its first letter and its second
		other := newConsumer(t)
		outbox.HandleType(other, "T", handle)
		again := func() outbox.RedriveResult {
			done, err := o.letters.Redrive(t.Context(), other, outbox.DeadLetterFilter{ID: "agg0#0-2"}, outbox.RedriveOptions{})
			require.NoError(t, err)
			return done
		}
		require.Equal(t, outbox.RedriveResult{Busy: 1}, again())
		time.Sleep(500 * time.Millisecond)
		cut.set(true)
		time.Sleep(2 * time.Second) // the handler of the second letter runs
		require.Equal(t, outbox.RedriveResult{Busy: 1}, again())
		time.Sleep(25 * time.Second)
		cut.set(false)
		require.Equal(t, outbox.RedriveResult{Redriven: 2}, again())
		require.Equal(t, outbox.RedriveResult{Redriven: 1, Busy: 1}, <-slow)
		require.Equal(t, []string{"poison0-0", "0-1", "0-2"}, o.handled)
		require.Equal(t, 1, most)
	})
}

// cutOff is a client that reads and, while it is cut off, does not update.
type cutOff struct {
	outbox.DeadLetterClient
	mu  sync.Mutex
	cut bool
}

func (c *cutOff) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

func (c *cutOff) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (c *cutOff) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if c.isCut() {
		return nil, errors.New("cut off")
	}
	return c.DeadLetterClient.UpdateItem(ctx, in, opts...)
}

// A redrive with a deadline, as in Lambda, has cut its handler off and released its lock by then: the next one finds it free at once.
func TestARedriveIsOverBeforeItsDeadline(t *testing.T) {
	for name, before := range map[string]time.Duration{"a minute": time.Minute, "3 s": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOffice(t)
				defer o.Close()
				o.bury(t, 1, 1)
				o.repair()
				require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.Latency, Service: "DynamoDB", Duration: 100 * time.Millisecond, Probability: 1}))
				c := newConsumer(t)
				outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error { <-ctx.Done(); return ctx.Err() })
				ctx, cancel := context.WithTimeout(t.Context(), before)
				defer cancel()
				done, err := o.letters.Redrive(ctx, c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Zero(t, done)
				require.NoError(t, ctx.Err(), "the deadline has passed")
				o.StopFaults()
				done, err = o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
				require.NoError(t, err)
				require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
			})
		})
	}
}
