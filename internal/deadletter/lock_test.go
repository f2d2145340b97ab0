package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// machine is the client of a machine whose clock is wrong, and whose requests may fail. What it writes about times, its clock says.
type machine struct {
	*dynamodb.Client
	skew    time.Duration
	rowless bool // answers never show the row whose condition failed

	mu    sync.Mutex
	calls int
	dies  int  // at this call of UpdateItem, from 1
	after bool // what it does there, happens
	dead  bool

	outage      [2]time.Time // from, to
	slow        time.Duration
	slowAnswers bool // not the requests
}

var errNoConnection = errors.New("no connection")

func (m *machine) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	m.mu.Lock()
	m.calls++
	here, now := m.calls == m.dies, time.Now()
	m.dead = m.dead || here
	fails := m.dead && (!here || !m.after) || !now.Before(m.outage[0]) && now.Before(m.outage[1])
	m.mu.Unlock()
	if until, ok := in.ExpressionAttributeValues[":until"].(*types.AttributeValueMemberN); ok {
		in.ExpressionAttributeValues[":until"] = rows.Millis(rows.Time(rows.Item{"n": until}, "n").Add(m.skew))
	}
	if fails {
		return nil, errNoConnection
	}
	if !m.slowAnswers {
		time.Sleep(m.slow)
	}
	out, err := m.Client.UpdateItem(context.WithoutCancel(ctx), in, opts...) // it arrives, whoever waits for the answer
	if m.slowAnswers {
		time.Sleep(m.slow)
	}
	if failed := (*types.ConditionalCheckFailedException)(nil); m.rowless && errors.As(err, &failed) {
		failed.Item = nil
	}
	if here || ctx.Err() != nil {
		return nil, errNoConnection
	}
	return out, err
}

// lockable is a table with a queue and a letter without one, and both as targets.
func lockable(t *testing.T) (*shelf, []deadletter.Target) {
	f := newShelf(t)
	put(t, f.s, letterOf("1"))
	alone := letterOf("2")
	alone.Event.AggregateID = ""
	put(t, f.s, alone)
	return f, []deadletter.Target{{Queue: "a"}, {Letter: "#2"}}
}

func TestALockHasOneHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, targets := lockable(t)
		defer f.Close()
		for _, target := range targets {
			for _, client := range []*machine{{Client: f.DynamoDB}, {Client: f.DynamoDB, rowless: true}} {
				s := f.store(t, client)
				mine, err := s.Lock(t.Context(), target, "me")
				require.NoError(t, err)
				held, release := mine.Hold(t.Context())
				began := time.Now()
				for range 10 {
					yours, err := s.Lock(t.Context(), target, "you")
					require.NoError(t, err)
					require.Nil(t, yours)
					require.Zero(t, time.Since(began)%time.Minute, "it says so at once")
					time.Sleep(time.Minute)
				}
				require.NoError(t, held.Err())
				require.NoError(t, release(t.Context()))
				require.ErrorIs(t, held.Err(), context.Canceled)
				yours, err := s.Lock(t.Context(), target, "you")
				require.NoError(t, err)
				require.NotNil(t, yours)
				require.NoError(t, release(t.Context()), "of somebody else's lock: nothing happens")
				again, err := s.Lock(t.Context(), target, "you")
				require.NoError(t, err)
				require.NotNil(t, again, "its answer may have been lost")
				_, release = again.Hold(t.Context())
				require.NoError(t, release(t.Context()))
			}
		}
		_, err := f.s.Lock(t.Context(), deadletter.Target{Queue: "b"}, "me")
		require.ErrorIs(t, err, deadletter.ErrMissing)
	})
}

// A queue without letters that is locked is closed by the holder of the lock, and takes the lock with it. Until then it parks nothing.
func TestALockedQueueIsClosedByItsHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, targets := lockable(t)
		defer f.Close()
		mine, err := f.s.Lock(t.Context(), targets[0], "me")
		require.NoError(t, err)
		held, release := mine.Hold(t.Context())
		closed, err := mine.Close(t.Context())
		require.NoError(t, err)
		require.False(t, closed, "it has a letter")
		f.remove(t)
		closed, err = f.s.Close(t.Context(), "a")
		require.NoError(t, err)
		require.False(t, closed, "somebody else holds the lock")
		parked, err := f.s.AreParked(t.Context(), []string{"a"})
		require.NoError(t, err)
		require.Empty(t, parked)
		time.Sleep(time.Minute)
		require.NoError(t, held.Err())
		closed, err = mine.Close(t.Context())
		require.NoError(t, err)
		require.True(t, closed)
		_, err = f.s.Queue(t.Context(), "a")
		require.ErrorIs(t, err, deadletter.ErrMissing)
		put(t, f.s, letterOf("9"))
		closed, err = mine.Close(t.Context())
		require.ErrorIs(t, err, deadletter.ErrLockLost, "it is another queue")
		require.False(t, closed)
		require.NoError(t, release(t.Context()))
	})
}

// A letter without a queue takes the lock with it.
func TestALockEndsWithItsLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, targets := lockable(t)
		defer f.Close()
		mine, err := f.s.Lock(t.Context(), targets[1], "me")
		require.NoError(t, err)
		held, release := mine.Hold(t.Context())
		l, err := f.s.Head(t.Context(), targets[1].Letter)
		require.NoError(t, err)
		_, err = f.s.Remove(t.Context(), &l)
		require.NoError(t, err)
		time.Sleep(6 * time.Second)
		require.ErrorIs(t, context.Cause(held), deadletter.ErrLockLost)
		require.NoError(t, release(t.Context()))
	})
}

// Whatever the clocks say, and whenever a holder dies, is cut off or is slow: nobody has the lock while the context of another holder lasts, a
// holder that can beat keeps the lock, and one that cannot loses it within a minute and a half.
func TestALockPassesOn(t *testing.T) {
	cases, taken := 0, 0
	type trouble struct {
		name string
		of   func(m *machine)
		dead time.Duration // after which time somebody else may have it; 0 if nobody may
	}
	troubles := []trouble{{"none", func(*machine) {}, 0}}
	for n := 1; n <= 5; n++ {
		for _, after := range []bool{false, true} {
			troubles = append(troubles, trouble{fmt.Sprintf("it dies at call %d, after %t", n, after), func(m *machine) { m.dies, m.after = n, after }, time.Duration(n+1) * 5 * time.Second})
		}
	}
	for _, long := range []time.Duration{4, 12, 21, 60} {
		for _, from := range []time.Duration{3, 8} {
			lost := (from + long) * time.Second
			if long < 10 {
				lost = 0
			}
			troubles = append(troubles, trouble{fmt.Sprintf("it is cut off for %d s after %d s", long, from), func(m *machine) {
				m.outage = [2]time.Time{time.Now().Add(from * time.Second), time.Now().Add((from + long) * time.Second)}
			}, lost})
		}
	}
	for _, slow := range []time.Duration{1, 3, 6} {
		for _, answers := range []bool{false, true} {
			lost := time.Duration(0)
			if slow > 4 {
				lost = 30 * time.Second
			}
			troubles = append(troubles, trouble{fmt.Sprintf("slow by %d s, answers %t", slow, answers), func(m *machine) { m.slow, m.slowAnswers = slow*time.Second, answers }, lost})
		}
	}
	for i, trouble := range troubles {
		target := i % 2
		for _, skew := range []time.Duration{-time.Hour, -time.Minute, 0, time.Minute, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				name := fmt.Sprintf("target %d, %s, clock %s", target, trouble.name, skew)
				f, targets := lockable(t)
				defer f.Close()
				began := time.Now()
				one := &machine{Client: f.DynamoDB, skew: skew}
				trouble.of(one)
				first, err := f.store(t, one).Lock(t.Context(), targets[target], "first")
				if err != nil { // it died right here
					require.ErrorIs(t, err, errNoConnection, name)
					first = nil
				}
				held, release := context.Context(nil), func(context.Context) error { return nil }
				if first != nil {
					held, release = first.Hold(t.Context())
				}
				var got time.Duration
				for time.Since(began) < 150*time.Second {
					second, err := f.s.Lock(t.Context(), targets[target], "second")
					require.NoError(t, err, name)
					if second != nil {
						if held != nil {
							require.Error(t, held.Err(), "%s: two have the lock", name)
						}
						got = time.Since(began)
						_, release := second.Hold(t.Context())
						require.NoError(t, release(t.Context()))
						break
					}
					time.Sleep(time.Second)
				}
				_ = release(t.Context())
				switch {
				case trouble.dead == 0:
					require.NoError(t, err, name)
					require.Zero(t, got, "%s: the lock was taken from a holder that beats", name)
				case held == nil:
					require.LessOrEqual(t, got, 90*time.Second, name)
				case errors.Is(context.Cause(held), deadletter.ErrLockLost):
					require.LessOrEqual(t, got, trouble.dead+90*time.Second, name)
					if one.dead {
						require.NotZero(t, got, name)
					}
				}
				if got > 0 {
					taken++
				}
				cases++
			})
		}
	}
	t.Logf("%d cases, the lock was taken over in %d", cases, taken)
	require.Greater(t, taken, cases/4)
}

// A holder that cannot beat is told so before anybody else can have the lock, and one whose beats only fail now and then is not.
func TestAHolderThatCannotBeatIsTold(t *testing.T) {
	for _, long := range []time.Duration{8 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			f, targets := lockable(t)
			defer f.Close()
			m := &machine{Client: f.DynamoDB}
			lock, err := f.store(t, m).Lock(t.Context(), targets[0], "me")
			require.NoError(t, err)
			held, release := lock.Hold(t.Context())
			defer func() { _ = release(context.WithoutCancel(t.Context())) }()
			began := time.Now()
			m.mu.Lock()
			m.outage = [2]time.Time{began, began.Add(long)}
			m.mu.Unlock()
			select {
			case <-held.Done():
				require.Equal(t, time.Hour, long)
				require.Equal(t, 15*time.Second, time.Since(began))
				require.ErrorIs(t, context.Cause(held), deadletter.ErrLockLost)
			case <-time.After(5 * time.Minute):
				require.Less(t, long, time.Hour)
			}
		})
	}
}

// Who has no time to watch leaves the lock alone. What it saw counts in its next call: calls that are too short take over a dead holder's lock
// together, and never that of one that beats.
func TestShortCallsTakeALockOverTogether(t *testing.T) {
	for _, dead := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f, targets := lockable(t)
			defer f.Close()
			for _, target := range targets {
				other := f.store(t, f.DynamoDB)
				lock, err := other.Lock(t.Context(), target, "other")
				require.NoError(t, err)
				release := func(context.Context) error { return nil }
				if !dead {
					_, release = lock.Hold(t.Context())
				}
				time.Sleep(time.Minute)
				s, began, calls := f.store(t, f.DynamoDB), time.Now(), 0
				for lock = nil; lock == nil && calls < 20; calls++ {
					short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					lock, err = s.Lock(short, target, fmt.Sprint("call ", calls))
					cancel()
					require.NoError(t, err)
					require.Zero(t, time.Since(began)%(8*time.Second), "it does not wait in vain")
					if lock == nil {
						time.Sleep(8 * time.Second)
					}
				}
				if dead {
					require.NotNil(t, lock)
					require.Equal(t, 24*time.Second, time.Since(began))
				} else {
					require.Nil(t, lock)
				}
				require.NoError(t, release(t.Context()))
			}
		})
	}
}
