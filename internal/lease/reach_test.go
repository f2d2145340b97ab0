package lease

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// With the defaults, every shard of a worker that is killed at any moment is read again within 10 s.
func TestFailover(t *testing.T) {
	var all []time.Duration
	for phase := range 40 {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 12)
			a, b := f.start(nil), f.start(nil)
			time.Sleep(time.Duration(137*phase) * time.Millisecond)
			c := f.start(nil)
			f.balance(5*time.Second, a, b, c)
			time.Sleep(4*time.Second + time.Duration(phase)*50*time.Millisecond)
			f.takeGaps()
			f.kill(c)
			f.balance(15*time.Second, a, b)
			all = append(all, slices.Max(f.takeGaps()))
			f.stop()
			f.members = nil
		})
	}
	slices.Sort(all)
	t.Logf("failover: best %v, median %v, worst %v", all[0], all[len(all)/2], all[len(all)-1])
	require.Less(t, all[len(all)-1], 10*time.Second)
	require.Greater(t, all[0], 6*time.Second, "a lease was taken from a worker that may have been alive")
}

// When a worker joins or leaves, each shard that moves stands still for less than a second.
func TestPlannedHandover(t *testing.T) {
	var joins, leaves, stops []time.Duration
	for phase := range 40 {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 12)
			a, b := f.start(nil), f.start(nil)
			f.balance(5*time.Second, a, b)
			time.Sleep(3*time.Second + time.Duration(phase)*53*time.Millisecond)
			f.takeGaps()
			c := f.start(nil)
			f.balance(3*time.Second, a, b, c)
			gaps := f.takeGaps()
			require.Len(t, gaps, 4)
			joins = append(joins, gaps...)

			time.Sleep(3*time.Second + time.Duration(phase)*31*time.Millisecond)
			took, err := f.stopOne(a)
			require.NoError(t, err)
			f.balance(3*time.Second, b, c)
			gaps = f.takeGaps()
			require.Len(t, gaps, 4)
			leaves, stops = append(leaves, gaps...), append(stops, took)
			f.stop()
			f.members = nil
		})
	}
	for name, gaps := range map[string][]time.Duration{"join": joins, "leave": leaves} {
		slices.Sort(gaps)
		t.Logf("handover, %s: median %v, worst %v", name, gaps[len(gaps)/2], gaps[len(gaps)-1])
		require.Less(t, gaps[len(gaps)-1], time.Second)
	}
	slices.Sort(stops)
	t.Logf("Run returned after %v, worst %v", stops[len(stops)/2], stops[len(stops)-1])
}

// 100 shards are balanced within three ticks: with 10 workers that start together, and with nine that join one.
func TestBalanceWithinThreeTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 100)
		var members []*member
		for range 10 {
			members = append(members, f.start(nil))
		}
		t.Logf("ten at once: balanced after %v", f.balance(1500*time.Millisecond, members...))
		f.stop()
		f.members = nil
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 100)
		members := []*member{f.start(nil)}
		f.balance(1500*time.Millisecond, members...)
		time.Sleep(2300 * time.Millisecond)
		for range 9 {
			members = append(members, f.start(nil))
		}
		t.Logf("nine join one: balanced after %v", f.balance(1500*time.Millisecond, members...))
		f.stop()
		f.members = nil
	})
}

// A worker makes 1.25 calls per tick, however many shards there are.
func TestCallsDoNotDependOnShards(t *testing.T) {
	for _, shards := range []int{1, 10, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, shards)
			a, b := f.start(nil), f.start(nil)
			f.balance(10*time.Second, a, b)
			time.Sleep(5 * time.Second)
			before := a.wire.count() + b.wire.count()
			const ticks = 120
			time.Sleep(ticks * time.Second / 2)
			perTick := float64(a.wire.count()+b.wire.count()-before) / 2 / ticks
			t.Logf("%d shards: %.2f calls per worker and tick", shards, perTick)
			require.InDelta(t, 1.25, perTick, 0.1)
			f.stop()
			f.members = nil
		})
	}
}

// TestScale prints what a large fleet does: 200 shards and 20 workers, or with LEASE_SCALE=1 (two minutes) 1,000 and 100.
func TestScale(t *testing.T) {
	shards, workers := 200, 20
	if os.Getenv("LEASE_SCALE") != "" {
		shards, workers = 1000, 100
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, shards)
		var members []*member
		for range workers {
			members = append(members, f.start(nil))
		}
		calls := func() (n int) {
			for _, m := range members {
				n += m.wire.count()
			}
			return n
		}
		took := f.balance(20*time.Second, members...)
		t.Logf("%d shards, %d workers at once: balanced after %v with %d calls", shards, workers, took, calls())
		time.Sleep(12 * time.Second)
		before := calls()
		time.Sleep(30 * time.Second)
		least, most, _ := f.spread(members...)
		t.Logf("calm: %.0f calls/s in all, %d to %d leases each", float64(calls()-before)/30, least, most)

		before = calls()
		f.takeGaps()
		for _, m := range members[:workers/10] {
			f.kill(m)
		}
		members = members[workers/10:]
		took = f.balance(20*time.Second, members...)
		t.Logf("a tenth of them killed: balanced after %v, worst failover %v, %d calls/s meanwhile",
			took, slices.Max(f.takeGaps()), int(float64(calls()-before)/took.Seconds()))
		f.stop()
		f.members = nil
	})
}
