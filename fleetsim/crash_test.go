package fleetsim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// crashStories are short lives of a worker, the victim, with everything that a worker can be killed at. In the first story the
// victim runs alone, meets a split, gives half of its shards to a second worker, meets a merge, and is stopped while a shard is
// split. In the second story it joins a fleet, and finishes the work of a worker that dies. In the third story its handlers fail,
// and it is stopped when it is alone. In the fourth story events wait below the checkpoint: it inherits them, ends shards before them, reads
// the children, and hands all of it over.
var crashStories = []struct {
	name string
	play func(s *workerSim, rng *rand.Rand, start func() *simWorker)
}{
	{"first", func(s *workerSim, rng *rand.Rand, start func() *simWorker) {
		victim := start()
		s.send(8, rng)
		time.Sleep(1200 * time.Millisecond)
		s.split(0)
		s.send(5, rng)
		time.Sleep(1500 * time.Millisecond)
		s.join(0)
		s.send(5, rng)
		time.Sleep(1500 * time.Millisecond)
		s.merge(1)
		s.send(5, rng)
		time.Sleep(2 * time.Second)
		s.send(5, rng)
		s.others.Go(func() { s.stop(victim) })
		time.Sleep(50 * time.Millisecond)
		s.split(1)
		s.send(5, rng)
		time.Sleep(2 * time.Second)
		s.join(0)
	}},
	{"second", func(s *workerSim, rng *rand.Rand, start func() *simWorker) {
		other := s.join(0)
		s.send(5, rng)
		time.Sleep(time.Second)
		victim := start()
		time.Sleep(1500 * time.Millisecond)
		s.split(0)
		s.send(5, rng)
		time.Sleep(1500 * time.Millisecond)
		other.die()
		s.send(5, rng)
		time.Sleep(10 * time.Second)
		s.merge(0)
		s.send(5, rng)
		s.join(0)
		time.Sleep(2 * time.Second)
		s.send(5, rng)
		s.others.Go(func() { s.stop(victim) })
		time.Sleep(time.Second)
		s.join(0)
	}},
	{"failing", func(s *workerSim, rng *rand.Rand, start func() *simWorker) {
		s.slow, s.failing = 300*time.Millisecond, 0.2
		victim := start()
		s.send(10, rng)
		time.Sleep(2 * time.Second)
		s.merge(0)
		s.send(10, rng)
		time.Sleep(2 * time.Second)
		s.others.Go(func() { s.stop(victim) })
		time.Sleep(time.Second)
		s.join(0)
		s.join(0)
	}},
	{"waiting", func(s *workerSim, rng *rand.Rand, start func() *simWorker) {
		s.stuck, s.retry = true, outbox.Retry{BaseDelay: 500 * time.Millisecond, MaxDelay: time.Second}
		other := s.join(0)
		s.send(16, rng)
		time.Sleep(2 * time.Second)
		s.others.Go(func() { s.stop(other) })
		victim := start()
		time.Sleep(2 * time.Second)
		s.split(0)
		s.send(12, rng)
		time.Sleep(3 * time.Second)
		s.heal() // the holes are finished, and the children go on
		time.Sleep(2 * time.Second)
		s.send(6, rng)
		s.others.Go(func() { s.stop(victim) })
		time.Sleep(time.Second)
		s.join(0)
	}},
}

// crashAt plays a story in which the victim dies at a point, and other workers take over. Another process joins a moment later.
func crashAt(t *testing.T, story int, at simPoint) (violations []string, happened bool, points map[string]int) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkerSim(t, uint64(story), false)
		defer s.close()
		var victim *simWorker
		crashStories[story].play(s, rand.New(rand.NewPCG(uint64(story), 5)), func() *simWorker {
			victim = s.join(0, at)
			return victim
		})
		happened = victim.killed()
		stopping := map[*simWorker]bool{victim: true}
		s.settle(crashStories[story].name == "first" && !happened, stopping)
		violations, points = s.violations, victim.points
	})
	return violations, happened, points
}

// A Worker can be killed before and after each call of the lease table, each effect of a handler and each read of the stream.
// Their number depends a little on chance, so the test looks for the next place until three in a row did not come.
// WORKER_CRASH_STEP is for runs that cannot afford all places: it takes every nth.
func TestACrashOfAWorkerAtEveryBoundary(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	step, patience := simNumber("WORKER_CRASH_STEP", 1), 3
	if step > 1 {
		patience = 1
	}
	for story := range crashStories {
		t.Run(crashStories[story].name, func(t *testing.T) {
			violations, _, points := crashAt(t, story, simPoint{})
			require.Empty(t, violations)
			ran, total := map[string]int{}, 0
			for _, operation := range slices.Sorted(maps.Keys(points)) {
				for _, after := range []bool{false, true} {
					for n, missed := 1, 0; missed < patience; n += step {
						at := simPoint{operation, n, after}
						violations, happened, _ := crashAt(t, story, at)
						require.Emptyf(t, violations, "killed at %+v:\n%s", at, strings.Join(violations, "\n"))
						if !happened {
							missed++
							continue
						}
						ran[operation]++
						total++
					}
				}
			}
			var list []string
			for _, operation := range slices.Sorted(maps.Keys(ran)) {
				list = append(list, fmt.Sprint(operation, " ", ran[operation]))
			}
			t.Logf("%s: killed at %d boundaries: %s", crashStories[story].name, total, strings.Join(list, ", "))
		})
	}
}
