package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tenure is a time for which a worker had a shard, as it says itself.
type tenure struct {
	p        *process
	shard    string
	fence    int64
	from, to time.Time // to is zero if it has not said that it ended
	how      string
}

// term is a shard in the hands of one owner.
type term struct {
	shard string
	fence int64
}

// judge looks at everything that the workers have printed.
func (f *fleet) judge(t *testing.T) {
	tenures := f.tenures(t)
	require.Empty(t, f.unconfirmed(), "orders answered with 201 and not confirmed")
	confirmations := f.repeated(t, tenures)

	counts, times := map[string]int{}, map[string][]time.Duration{}
	for _, k := range f.strikes {
		counts[k.kind]++
		took, calm := f.takeovers(t, k, tenures)
		times[k.kind] = append(times[k.kind], took...)
		if k.kind == ended || calm {
			times[k.kind+", nothing else"] = append(times[k.kind+", nothing else"], took...)
		}
	}
	note := fmt.Sprintf("fleet on %s: %s, lease %s: %d orders (%d requests repeated), %d workers %d times killed, %d stopped, %d asked to end; "+
		"%d splits, %d merges (%d refused)\n    %s", f.on, f.duration, f.lease, len(f.placed), f.repeats, fleetWorkers, counts[killed], counts[stopped],
		counts[ended], f.reshard.split, f.reshard.merged, f.reshard.refused, confirmations)
	for _, kind := range []string{killed, killed + ", nothing else", stopped, stopped + ", nothing else", ended} {
		if d := times[kind]; len(d) > 0 {
			slices.Sort(d)
			note += fmt.Sprintf("\n    %s: the shard's next owner after %s (median), %s (worst) of %d", kind,
				d[len(d)/2].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond), len(d))
		}
	}
	summaries.note(note)
	t.Log(note)
	// What a busy machine adds is not ours: the numbers printed say more.
	for _, kind := range []string{killed, stopped} {
		for _, d := range times[kind+", nothing else"] {
			require.Less(t, d, f.lease*5/4+3*time.Second, "takeover from a worker that was "+kind)
		}
	}
}

// tenures are all times of ownership. No two workers have had the same fence of a shard.
func (f *fleet) tenures(t *testing.T) map[term]*tenure {
	out := map[term]*tenure{}
	for _, p := range f.all {
		require.Empty(t, p.garbled, "lines that are no JSON, from "+p.name)
		for _, e := range p.journal() {
			key := term{e.Shard, e.Fence}
			switch e.Did {
			case "confirmed":
			case "gained":
				require.NotContains(t, out, key, "two owners")
				out[key] = &tenure{p: p, shard: e.Shard, fence: e.Fence, from: e.At}
			default:
				require.Contains(t, out, key, "given up, and never had")
				out[key].to, out[key].how = e.At, e.Did
			}
		}
	}
	return out
}

// repeated counts what was confirmed again. No takeover repeats more than its bound, and none repeats anything
// after an owner that gave the shard up in good order.
func (f *fleet) repeated(t *testing.T, tenures map[term]*tenure) string {
	seen := map[string][]entry{}
	total := 0
	for _, p := range f.all {
		for _, e := range p.journal() {
			if e.Did == "confirmed" {
				total++
				require.Contains(t, tenures, term{e.Shard, e.Fence}, "confirmed without a lease")
				seen[e.Shard+" "+e.Sequence] = append(seen[e.Shard+" "+e.Sequence], e)
			}
		}
	}
	again, late := map[term]int{}, 0
	for _, entries := range seen {
		slices.SortFunc(entries, func(a, b entry) int { return int(a.Fence - b.Fence) })
		for i := 1; i < len(entries); i++ {
			before, e := entries[i-1], entries[i]
			require.NotEqual(t, before.Fence, e.Fence, "one owner has confirmed %s twice", e.OrderID)
			again[term{e.Shard, e.Fence}]++
			if how := tenures[term{before.Shard, before.Fence}].how; how == "released" || how == "ended" {
				require.Failf(t, "confirmed again after a clean end", "%+v\n%+v", before, e)
			}
			if before.At.After(e.At) {
				late++
			}
		}
	}
	worst := 0
	for _, n := range again {
		worst = max(worst, n)
	}
	require.LessOrEqual(t, worst, fleetBound, "records that one takeover has repeated")
	return fmt.Sprintf("%d confirmations, %d of them again, in %d of %d terms, at most %d (bound %d); %d by a worker that had lost the shard, after its next owner",
		total, total-len(seen), len(again), len(tenures), worst, fleetBound, late)
}

// takeovers are how long it took from a strike until others had the worker's shards. calm says that nobody else was struck
// meanwhile.
func (f *fleet) takeovers(t *testing.T, k *strike, tenures map[term]*tenure) (took []time.Duration, calm bool) {
	last := k.at
	for _, held := range tenures {
		if held.p != k.p || held.from.After(k.at) || !held.to.IsZero() && (held.to.Before(k.at) || held.how == "ended") {
			continue
		}
		var next *tenure
		for _, other := range tenures {
			if other.shard == held.shard && other.fence > held.fence && (next == nil || other.fence < next.fence) {
				next = other
			}
		}
		if next == nil {
			require.NotEqualf(t, killed, k.kind, "nobody has taken over %s", held.shard)
			continue // it came back soon enough, or the run was over
		}
		took = append(took, next.from.Sub(k.at))
		if next.from.After(last) {
			last = next.from
		}
	}
	for _, other := range f.strikes {
		if other.p != k.p && other.at.Before(last) && other.over.After(k.at) {
			return took, false
		}
	}
	return took, true
}
