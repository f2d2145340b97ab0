package lease

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// closedTable is a table that is not there, or may not be used, until it is.
type closedTable struct {
	Store
	err atomic.Pointer[error]
}

func (m *closedTable) set(err error) {
	if err == nil {
		m.err.Store(nil)
		return
	}
	m.err.Store(&err)
}

func (m *closedTable) answer() error {
	if err := m.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (m *closedTable) Register(ctx context.Context, worker string, d time.Duration) error {
	if err := m.answer(); err != nil {
		return err
	}
	return m.Store.Register(ctx, worker, d)
}

func (m *closedTable) Beat(ctx context.Context, w Worker) error {
	if err := m.answer(); err != nil {
		return err
	}
	return m.Store.Beat(ctx, w)
}

func (m *closedTable) View(ctx context.Context) (View, error) {
	if err := m.answer(); err != nil {
		return View{}, err
	}
	return m.Store.View(ctx)
}

func (m *closedTable) Look(ctx context.Context) ([]Worker, error) {
	if err := m.answer(); err != nil {
		return nil, err
	}
	return m.Store.Look(ctx)
}

// asked is a member whose problems can be asked for.
func (f *fleet) asked(change func(*Config)) (*member, func() string) {
	health := new(Health)
	m := f.start(all(change, func(c *Config) { c.Health = health }))
	return m, func() string {
		synctest.Wait()
		return health.text()
	}
}

func (h *Health) text() string {
	var texts []string
	for _, p := range h.Problems() {
		texts = append(texts, p.Error())
	}
	return strings.Join(texts, "; ")
}

// A table and a permission may come minutes after the worker. Until then the worker asks again, and says what it lacks.
func TestATableThatComesLate(t *testing.T) {
	for _, late := range []string{"from the start", "views only"} {
		t.Run(late, func(t *testing.T) {
			bubble(t, 4, func(t *testing.T, f *fleet) {
				table := new(closedTable)
				denied := Denied(errors.New("access denied"))
				var reading atomic.Bool
				reading.Store(true)
				m, problems := f.asked(func(c *Config) {
					table.Store = c.Store
					c.Store = table
					if late == "views only" {
						c.Store = &blinded{c.Store, &reading}
						return
					}
					table.set(denied)
				})
				for range 10 {
					time.Sleep(time.Minute)
					require.Contains(t, problems(), "denied")
					require.Contains(t, problems(), "the lease table has not been read yet")
				}
				table.set(nil)
				reading.Store(false)
				f.balance(time.Minute, m)
				require.Empty(t, problems())
			})
		})
	}
}

// A worker that is cut off from the table, or from its source, says so no later than its leases end, and no longer when it is back.
func TestAWorkerSaysWhatItLacks(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		table, down := new(closedTable), errors.New("no route")
		var unread, unlisted atomic.Bool
		m, problems := f.asked(all(f.answers(func(shard string) error {
			if unread.Load() && shard == "s-0002" {
				return down
			}
			return nil
		}), func(c *Config) {
			table.Store = c.Store
			c.Store = table
			c.Shards = func(ctx context.Context) ([]Shard, error) {
				if unlisted.Load() {
					return nil, down
				}
				return f.list(ctx)
			}
		}))
		require.Equal(t, "no heartbeat has been stored yet; the lease table has not been read yet; the shards of the stream have not been listed yet",
			(&Health{}).text(), "nothing is known before")
		f.balance(time.Minute, m)
		require.Empty(t, problems())

		table.set(down)
		time.Sleep(5 * time.Second)
		require.Empty(t, problems(), "the leases last")
		time.Sleep(5 * time.Second)
		require.Regexp(t, `^no heartbeat has been stored for (9|10)s: no route; the lease table has not been read for (9|10)s: no route$`, problems())
		table.set(nil)
		f.balance(time.Minute, m)
		require.Empty(t, problems())

		unread.Store(true)
		time.Sleep(12 * time.Second)
		require.Regexp(t, `^shard s-0002 has not been read for \d+s: no route$`, problems())
		for range 5 * 60 { // also when the others are told to read it
			time.Sleep(time.Second)
			require.Contains(t, problems(), "shard s-0002 has not been read for")
		}
		unread.Store(false)
		time.Sleep(2 * time.Second)
		require.Empty(t, problems())

		unlisted.Store(true)
		time.Sleep(time.Minute)
		require.Empty(t, problems(), "the last listing is not old")
		time.Sleep(3 * time.Minute)
		require.Regexp(t, `^the shards of the stream have not been listed for \dm\d+s: no route$`, problems())
		unlisted.Store(false)
		time.Sleep(2 * time.Minute)
		require.Empty(t, problems())
	})
}

// A worker that fails at all its shards for long leaves them to others, and says so after it has given them up, too.
func TestAWorkerThatLeavesItsShardsSaysWhy(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		a := f.start(f.answers(healthy))
		var unread atomic.Bool
		b, problems := f.asked(f.answers(func(string) error {
			if unread.Load() {
				return errDenied
			}
			return nil
		}))
		f.balance(time.Minute, a, b)
		unread.Store(true)
		time.Sleep(3 * time.Minute)
		require.Regexp(t, `^the worker leaves its shards to others: shard s-\d+ could not be read for \dm\ds: `, problems())
		_, err := f.stopOne(a)
		require.NoError(t, err)
	})
}

// A worker that stops is not ready for more.
func TestAWorkerThatStopsSaysSo(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		hang := make(chan struct{})
		m, problems := f.asked(func(c *Config) {
			c.Consume = func(_ context.Context, h *Held) error {
				<-h.Stop()
				<-hang
				return nil
			}
		})
		time.Sleep(10 * time.Second)
		require.Empty(t, problems())
		m.cancel()
		time.Sleep(time.Second)
		require.Equal(t, "the worker is stopping", problems())
		close(hang)
		require.NoError(t, <-m.done)
		m.done = nil
	})
}
