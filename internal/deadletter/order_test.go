package deadletter

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// modelOrder is the rule, said otherwise: one letter after the other in the order of storing, but first, whatever its place, each earlier one
// that is left. later reports whether a is known to be later than b.
func modelOrder(letters []place, later func(a, b *place) bool) (order []place) {
	done := map[string]bool{}
	var emit func(l place)
	emit = func(l place) {
		if done[l.id] {
			return
		}
		done[l.id] = true
		var earlier []place
		for _, o := range letters {
			if later(&l, &o) {
				earlier = append(earlier, o)
			}
		}
		slices.SortStableFunc(earlier, func(a, b place) int { // the earliest first
			switch {
			case later(&b, &a):
				return -1
			case later(&a, &b):
				return 1
			}
			return 0
		})
		for _, o := range earlier {
			emit(o)
		}
		order = append(order, l)
	}
	for _, l := range letters {
		emit(l)
	}
	return order
}

func laterInShard(a, b *place) bool {
	return a.shard != "" && a.shard == b.shard && cmp.Or(cmp.Compare(len(a.number), len(b.number)), cmp.Compare(a.number, b.number)) > 0
}

func laterInAggregate(a, b *place) bool {
	return a.sequence != 0 && b.sequence != 0 && a.table == b.table && a.sequence > b.sequence
}

// The sequences of two letters decide, whatever else is in the queue, and so do their numbers in a shard if no letter of the queue has a sequence.
// What is not known is left to the order of storing.
func TestEveryShortQueueIsInOrder(t *testing.T) {
	var kinds []place
	for _, where := range []place{{}, {shard: "1", number: "5"}, {shard: "1", number: "12"}, {shard: "2", number: "9"}} {
		for _, what := range []place{{}, {table: "x", sequence: 1}, {table: "x", sequence: 2}, {table: "y", sequence: 1}} {
			where.table, where.sequence = what.table, what.sequence
			kinds = append(kinds, where)
		}
	}
	queues := 0
	var try func(queue []place)
	try = func(queue []place) {
		queues++
		checkOrder(t, queue)
		if len(queue) >= 3 {
			return
		}
		for _, k := range kinds {
			k.n = int64(len(queue) + 1)
			k.id = fmt.Sprint(k.n)
			try(append(slices.Clone(queue), k))
		}
	}
	try(nil)
	rng := rand.New(rand.NewPCG(1, 10))
	for range 5000 { // of those with some more
		queue := make([]place, 4+rng.IntN(3))
		for i := range queue {
			queue[i] = kinds[rng.IntN(len(kinds))]
			queue[i].n, queue[i].id = int64(i+1), fmt.Sprint(i+1)
		}
		try(queue)
	}
	t.Logf("%d queues", queues)
}

// A letter that comes first by its sequence passes the letters that were stored before it, also one of its shard that has no sequence.
func TestASequenceGoesBeforeTheNumbersOfAShard(t *testing.T) {
	got := inOrder([]place{
		{id: "second", n: 1, table: "x", sequence: 2},
		{id: "none", n: 2, shard: "1", number: "5"},
		{id: "first", n: 3, shard: "1", number: "6", table: "x", sequence: 1},
	})
	require.Equal(t, []string{"first", "second", "none"}, []string{got[0].id, got[1].id, got[2].id})
}

func TestLongQueuesAreInOrder(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 10))
		queue := make([]place, rng.IntN(40))
		sequences, shards := rng.IntN(3), rng.IntN(4) // a queue lacks some of them
		for i := range queue {
			p := place{id: fmt.Sprintf("%02d", i), n: int64(i + 1)}
			if rng.IntN(3) < sequences {
				p.table, p.sequence = []string{"x", "y"}[rng.IntN(2)], int64(1+rng.IntN(30))
			}
			if shards > 0 && rng.IntN(5) > 0 {
				p.shard, p.number = fmt.Sprint(rng.IntN(shards)), fmt.Sprint(1+rng.IntN(200))
			}
			queue[i] = p
		}
		checkOrder(t, queue)
	}
}

// checkOrder checks a queue, which is in the order of storing.
func checkOrder(t *testing.T, queue []place) {
	t.Helper()
	mixed := slices.Clone(queue)
	rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	got := inOrder(mixed)
	want := modelOrder(modelOrder(queue, laterInShard), laterInAggregate)
	if !slices.Equal(got, want) {
		t.Fatalf("a queue in the order of storing\n%+v\nis in the order\n%+v\nand should be\n%+v", queue, got, want)
	}
	sequenced := slices.ContainsFunc(queue, func(p place) bool { return p.sequence != 0 })
	for i := range got {
		for j := range i {
			before, l := &got[j], &got[i]
			require.Falsef(t, laterInAggregate(before, l), "%+v\n%+v", queue, got)
			require.Falsef(t, !sequenced && laterInShard(before, l), "%+v\n%+v", queue, got)
			if before.n < l.n { // in the order of storing
				continue
			}
			require.Truef(t, overtakes(queue, before), "%+v comes before %+v in\n%+v", *before, *l, got)
		}
	}
}

// overtakes reports whether a letter is known to be earlier than one that was stored before it, perhaps by way of others.
func overtakes(queue []place, l *place) bool {
	known := []*place{l}
	for i := 0; i < len(known); i++ {
		for j := range queue {
			p := &queue[j]
			if (laterInShard(p, known[i]) || laterInAggregate(p, known[i])) && !slices.Contains(known, p) {
				if p.n < l.n {
					return true
				}
				known = append(known, p)
			}
		}
	}
	return false
}
