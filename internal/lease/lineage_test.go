package lease

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAhead(t *testing.T) {
	row := func(id, checkpoint string, parents ...string) Lease {
		return Lease{Shard: Shard{ID: id, Parents: parents}, Progress: Progress{Checkpoint: checkpoint}}
	}
	hollow := func(id string, key uint64, parents ...string) Lease {
		l := row(id, ShardEnd, parents...)
		l.Holes = map[string]Hole{"7": {Key: key}, "8": {}}
		return l
	}
	gone := hollow("s-2", 2, "s-1")
	gone.Gone = true
	me := row("s-5", "0", "s-2", "s-3")
	for name, test := range map[string]struct {
		leases []Lease
		want   map[uint64]bool
		older  bool // the view is older than the end of an ancestor
	}{
		"both parents are finished":         {[]Lease{row("s-2", ShardEnd), row("s-3", ShardEnd)}, nil, false},
		"a parent has holes":                {[]Lease{hollow("s-2", 2), row("s-3", ShardEnd)}, map[uint64]bool{2: true}, false},
		"both have":                         {[]Lease{hollow("s-2", 2), hollow("s-3", 3)}, map[uint64]bool{2: true, 3: true}, false},
		"a grandparent has":                 {[]Lease{hollow("s-1", 1), row("s-2", ShardEnd, "s-1"), row("s-3", ShardEnd, "s-1")}, map[uint64]bool{1: true}, false},
		"a shard aside has":                 {[]Lease{row("s-2", ShardEnd), row("s-3", ShardEnd), hollow("s-4", 4)}, nil, false},
		"holes of a shard that is read":     {[]Lease{{Shard: Shard{ID: "s-2"}, Progress: Progress{Checkpoint: "9", Holes: map[string]Hole{"7": {Key: 2}}}}, row("s-3", ShardEnd)}, nil, true},
		"a parent has not ended":            {[]Lease{row("s-2", "9"), row("s-3", ShardEnd)}, nil, true},
		"a grandparent has not":             {[]Lease{row("s-1", "9"), row("s-2", ShardEnd, "s-1"), row("s-3", ShardEnd)}, nil, true},
		"the source has forgotten a parent": {[]Lease{gone, row("s-3", ShardEnd)}, nil, false},
		"the table has, and a shard before": {[]Lease{hollow("s-1", 1), row("s-3", ShardEnd)}, map[uint64]bool{1: true}, false},
		"the table has, and a shard after":  {[]Lease{row("s-3", ShardEnd), hollow("s-6", 6)}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			keys, ok := newLineage(View{Leases: append(test.leases, me)}).ahead(me)
			require.Equal(t, test.want, keys)
			require.Equal(t, test.older, !ok)
		})
	}
}

// A shard that has ended with holes is handed over and acquired like any other. Its child is read meanwhile, and told of the holes until they
// are finished, wherever this happens.
func TestAShardThatEndsWithHoles(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		ahead := map[uint64]bool{9: true}
		finish := make(chan struct{})
		owners, ended := 0, 0
		childWaits, childGoesOn := time.Time{}, time.Time{}
		begin := func() {
			f.start(func(c *Config) {
				c.Consume = func(ctx context.Context, h *Held) error {
					if h.Shard().ID == "child" {
						keys, changed := h.Ahead()
						require.Equal(t, ahead, keys)
						childWaits = time.Now()
						select {
						case <-changed:
							keys, _ = h.Ahead()
							require.Empty(t, keys)
							childGoesOn = time.Now()
						case <-h.Stop():
							return nil
						}
						<-h.Stop()
						return nil
					}
					owners++
					holes := map[string]Hole{"7": {Attempts: owners, Key: 9}}
					if h.Progress().Checkpoint == ShardEnd {
						require.Equal(t, owners-1, h.Progress().Holes["7"].Attempts)
					}
					require.NoError(t, h.End(ctx, holes, []Shard{{ID: "child", Parents: []string{"s-0000"}}}))
					require.Equal(t, Progress{Checkpoint: ShardEnd, Holes: holes}, h.Progress())
					select {
					case <-h.Stop():
						return nil
					case <-finish:
						return h.End(ctx, nil, nil)
					}
				}
				c.Hooks.Ended = func(string, int64, []Shard) { ended++ }
			})
		}
		begin()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.NotEmpty(t, f.rows()["s-0000"].Owner)
		require.NotEmpty(t, f.rows()["child"].Owner)
		require.False(t, childWaits.IsZero())
		begin()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.NotEqual(t, f.rows()["s-0000"].Owner, f.rows()["child"].Owner, "one each")
		require.Zero(t, ended)
		require.True(t, childGoesOn.IsZero())
		close(finish)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.False(t, childGoesOn.IsZero())
		require.Equal(t, 1, ended)
		require.Empty(t, f.rows()["s-0000"].Owner)
		require.True(t, f.rows()["s-0000"].finished())
	})
}

// A Consume that begins anew stores first what its predecessor could not: under whatever kind of write.
func TestConfirmRepeatsTheLastWrite(t *testing.T) {
	for _, kind := range []string{"Save", "End", "Finish"} {
		t.Run(kind, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, f *fleet) {
				store := &deafOnce{Store: &f.table, kind: kind}
				calls, done := 0, false
				holes := map[string]Hole{"7": {Key: 9}}
				f.start(func(c *Config) {
					c.Store = store
					c.Consume = func(ctx context.Context, h *Held) error {
						if h.Shard().ID != "s-0000" {
							<-h.Stop()
							return nil
						}
						calls++
						if calls > 1 {
							store.deaf = false
							require.NoError(t, h.Confirm(ctx))
							require.NoError(t, h.Confirm(ctx), "nothing is left to confirm")
							done = true
							<-h.Stop()
							return nil
						}
						require.NoError(t, h.Confirm(ctx))
						store.deaf = true
						brief, cancel := context.WithTimeout(ctx, time.Millisecond)
						defer cancel()
						switch kind {
						case "Save":
							return h.Save(brief, Progress{Checkpoint: "5"})
						case "End":
							return h.End(brief, holes, nil)
						}
						store.deaf = false
						require.NoError(t, h.End(ctx, holes, nil))
						store.deaf = true
						return h.End(brief, nil, nil)
					}
				})
				time.Sleep(5 * time.Second)
				synctest.Wait()
				require.Equal(t, map[string]Progress{"Save": {Checkpoint: "5"}, "End": {Checkpoint: ShardEnd, Holes: holes}, "Finish": {Checkpoint: ShardEnd}}[kind],
					f.rows()["s-0000"].Progress)
				require.Equal(t, kind != "Finish", f.rows()["s-0000"].Owner != "")
				require.True(t, done)
			})
		})
	}
}

var errDeaf = errors.New("no answer")

// deafOnce loses the requests of one kind while it is deaf.
type deafOnce struct {
	Store
	kind string
	deaf bool
}

func (d *deafOnce) Save(ctx context.Context, key Key, n int64, p Progress) error {
	if d.deaf && d.kind == "Save" {
		return errDeaf
	}
	return d.Store.Save(ctx, key, n, p)
}

func (d *deafOnce) End(ctx context.Context, key Key, n int64, holes map[string]Hole, children []Shard) error {
	if d.deaf && d.kind == "End" {
		return errDeaf
	}
	return d.Store.End(ctx, key, n, holes, children)
}

func (d *deafOnce) Finish(ctx context.Context, key Key) error {
	if d.deaf && d.kind == "Finish" {
		return errDeaf
	}
	return d.Store.Finish(ctx, key)
}
