package replay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// calls are those of Reconcile that were told. It is safe for concurrent use.
type calls struct {
	mu   sync.Mutex
	done []call
}

// call is what a program was told.
type call struct {
	by      int
	segment int
	at      time.Time
	err     error
}

func (c *calls) told(by int) func(replay.ReconcileResult, error) {
	return func(r replay.ReconcileResult, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.done = append(c.done, call{by, r.Segment, time.Now(), err})
	}
}

// all returns the calls so far.
func (c *calls) all() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]call(nil), c.done...)
}

// A program that runs all the time reads each segment once in a cycle, in the middle of its slot, and ends with its context.
func TestReconcileEveryReadsEachSegmentInItsSlot(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 7 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t)
			defer s.Close()
			s.handles(t, 30)
			for i := range 30 {
				s.put(t, s.now(fmt.Sprint("lost", i), "a"))
			}
			time.Sleep(time.Hour)
			const n = 5
			var told calls
			ctx, cancel := context.WithTimeout(t.Context(), 2*n*every)
			defer cancel()
			o := replay.ReconcileOptions{Every: every, Cycle: n * every}
			require.NoError(t, s.events.ReconcileEvery(ctx, s.consumer(t), o, nil, told.told(0)))
			all := told.all()
			require.Len(t, all, 2*n)
			for i, c := range all {
				require.NoError(t, c.err)
				slot := c.at.Unix() / int64(every/time.Second)
				require.EqualValues(t, slot%n, c.segment)
				require.Equal(t, time.Unix(slot*int64(every/time.Second), 0).Add(every/2), c.at)
				if i > 0 {
					require.Equal(t, every, c.at.Sub(all[i-1].at))
				}
			}
			for i := range 30 {
				s.requireOnce(t, fmt.Sprint("lost", i))
			}
		})
	}
}

// Of a fleet of workers one reads each segment. When it is killed as its turn begins, another one reads the segment, in the same slot.
func TestOneWorkerOfAFleetReconciles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShopIn(t, newWorldOf(t, 1)) // nobody hands a shard over because another one has fewer
		defer s.Close()
		leases, err := outbox.NewLeaseTable(s.DynamoDB, "leases", "mails")
		require.NoError(t, err)
		require.NoError(t, leases.Create(t.Context()))
		time.Sleep(time.Hour)
		const every, n = time.Minute, 3
		var told calls
		var ended sync.WaitGroup
		killed := -1 // the member that dies in its turn
		var mu sync.Mutex
		fleet := make([]*outboxtest.Process, 3)
		for i := range fleet {
			p := s.Process(t.Context(), outboxtest.Death{})
			fleet[i] = p
			inbox, err := outbox.NewInbox(p.DynamoDB, "inbox", "mails")
			require.NoError(t, err)
			consumer := newConsumer(t, s.handle, outbox.WithInbox(inbox))
			leases, err := outbox.NewLeaseTable(p.DynamoDB, "leases", "mails")
			require.NoError(t, err)
			worker, err := outbox.NewWorker(p.Kinesis, "events", consumer, leases)
			require.NoError(t, err)
			events, err := replay.New(p.DynamoDB, "events")
			require.NoError(t, err)
			turn := func(ctx context.Context) (bool, error) {
				mine, err := worker.HoldsFirstShard(ctx)
				mu.Lock()
				defer mu.Unlock()
				if mine && killed == -1 && len(told.all()) == n {
					killed = i
					p.Kill()
				}
				return mine, err
			}
			ended.Go(func() { _ = worker.Run(p.Context()) })
			ended.Go(func() {
				o := replay.ReconcileOptions{Every: every, Cycle: n * every}
				_ = events.ReconcileEvery(p.Context(), consumer, o, turn, told.told(i))
			})
		}
		began := time.Now()
		time.Sleep((2*n + 1) * every)
		for _, p := range fleet {
			p.Kill()
		}
		ended.Wait()

		mu.Lock()
		defer mu.Unlock()
		require.NotEqual(t, -1, killed)
		slots := map[int64]int{} // which member has read
		for _, c := range told.all() {
			if c.err != nil {
				continue // of who was killed
			}
			slot := c.at.Unix() / int64(every/time.Second)
			require.NotContains(t, slots, slot)
			slots[slot] = c.by
			if before, read := slots[slot-1]; read && before != c.by {
				require.Equal(t, killed, before)
			}
		}
		for slot := began.Unix()/int64(every/time.Second) + 1; slot <= began.Unix()/int64(every/time.Second)+2*n; slot++ {
			require.Contains(t, slots, slot)
		}
	})
}

// What Reconcile would refuse is refused at once. An error of a turn or of a call is told, and the next slot comes.
func TestReconcileEveryTellsAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		var told calls
		o := replay.ReconcileOptions{Every: time.Hour, Cycle: time.Hour}
		for text, refused := range map[string]func() error{
			"no Every: want how often, have 0": func() error {
				return s.events.ReconcileEvery(t.Context(), s.consumer(t), replay.ReconcileOptions{}, nil, told.told(0))
			},
			"told is nil: nobody would hear of what is undelivered": func() error {
				return s.events.ReconcileEvery(t.Context(), s.consumer(t), o, nil, nil)
			},
			"the Consumer is nil": func() error { return s.events.ReconcileEvery(t.Context(), nil, o, nil, told.told(0)) },
		} {
			require.EqualError(t, refused(), "replay: ReconcileEvery: "+text)
		}
		require.Empty(t, told.all())

		broken := errors.New("broken")
		asked := 0
		turn := func(context.Context) (bool, error) { // it is never this program's turn in the second hour, and it is not known at first in the third
			switch asked++; asked {
			case 1:
				return true, nil
			case 11:
				return false, broken
			}
			return asked > 11, nil
		}
		s.fail = func(string) error { return broken }
		s.put(t, s.now("lost", "a"))
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)))
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
		defer cancel()
		require.NoError(t, s.events.ReconcileEvery(ctx, s.consumer(t), o, turn, told.told(0)))
		all := told.all()
		require.Len(t, all, 4, "%+v", all)
		for i, c := range all {
			require.ErrorIs(t, c.err, broken, "call %d", i)
		}
		require.ErrorContains(t, all[1].err, "replay: ReconcileEvery: whose turn it is: broken")
	})
}

// slowScans lets a scan take its time, whatever its context says, unless it is to hang.
type slowScans struct {
	*dynamodb.Client
	takes time.Duration
	hangs bool // until the context ends
}

func (s *slowScans) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	if s.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	out, err := s.Client.Scan(ctx, in, opts...)
	time.Sleep(s.takes)
	return out, err
}

// Each segment is read, or told of: a read that hangs ends with its slot, and what passed while a call took too long is told.
func TestEachSegmentIsReadOrTold(t *testing.T) {
	for name, c := range map[string]struct {
		client         slowScans
		called, passed int // in ten hours
	}{
		"a read hangs":             {slowScans{hangs: true}, 10, 0},
		"a call takes 100 minutes": {slowScans{takes: 100 * time.Minute}, 5, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t)
				defer s.Close()
				client := c.client
				client.Client = s.DynamoDB
				var err error
				s.events, err = replay.New(&client, "events")
				require.NoError(t, err)
				time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour+time.Minute)
				defer cancel()
				var told calls
				o := replay.ReconcileOptions{Every: time.Hour, Cycle: 4 * time.Hour}
				began := time.Now().Unix() / 3600
				require.NoError(t, s.events.ReconcileEvery(ctx, s.consumer(t), o, nil, told.told(0)))
				called, passed := 0, 0
				for i, call := range told.all() {
					require.EqualValues(t, (began+int64(i))%4, call.segment, "call %d", i)
					if call.err == nil || errors.Is(call.err, context.DeadlineExceeded) { // the segment has no rows, or rows that nobody could judge in time
						called++
						continue
					}
					require.ErrorContains(t, call.err, "was not read in its time")
					passed++
				}
				require.Equal(t, []int{c.called, c.passed}, []int{called, passed})
			})
		})
	}
}
