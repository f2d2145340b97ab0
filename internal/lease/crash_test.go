package lease

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// crash runs one short story in which the first worker dies at its nth call of one operation of the table. It starts alone, meets
// a split, gives half of its shards to a second worker, meets another split, and stops in good order.
func crash(t *testing.T, op string, at int, after bool) (s *sim, happened bool) {
	synctest.Test(t, func(t *testing.T) {
		s = newSim(uint64(at), "")
		publishing := make(chan struct{})
		s.wg.Go(func() {
			for {
				select {
				case <-publishing:
					return
				case <-time.After(s.random(100 * time.Millisecond)):
					s.publish()
				}
			}
		})
		s.victim = func(w *simWorker) {
			w.crashOp, w.crashAt, w.crashAfter = op, at, after
			w.onCrash = func() { happened = true; w.stop() }
		}
		victim := s.start(faults{})
		time.Sleep(800 * time.Millisecond)
		s.split()
		time.Sleep(700 * time.Millisecond)
		s.start(faults{})
		time.Sleep(2 * time.Second)
		s.split()
		time.Sleep(2 * time.Second)
		if !victim.crashed() {
			s.finish(victim)
		}
		time.Sleep(2 * time.Second)
		s.start(faults{})
		time.Sleep(12 * time.Second)
		close(publishing)
		time.Sleep(3 * time.Second)
		if wrong := s.balanced(2); wrong != "" {
			s.violation("I8: %s", wrong)
		}
		if rest := s.unfinished(); rest != "" {
			s.violation("I5: not handled: %s", rest)
		}
		// The reader of these tests saves after 8 records or 300 ms. So 8 records may be above the watermark of a shard,
		// and another record may be under way.
		if n := s.duplicates(); n > 9*len(s.shards) {
			s.violation("I6: %d duplicates in %d shards", n, len(s.shards))
		}
		for _, w := range s.workers {
			w.stop()
			<-w.ended
		}
		s.wg.Wait()
	})
	return s, happened
}

func TestACrashAtEveryCall(t *testing.T) {
	for _, after := range []bool{false, true} {
		name := "before the call"
		if after {
			name = "after the call"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := 0
			for _, op := range []string{"Register", "Beat", "View", "Ensure", "Acquire", "Save", "Release", "End", "Retire"} {
				// Chance has a small part in the schedule, and so in the number of calls.
				for at, unhurt := 1, 0; unhurt < 3; at++ {
					s, happened := crash(t, op, at, after)
					if len(s.violations) > 0 {
						require.Failf(t, "an invariant is broken", "crash at %s %d:\n%s", op, at, strings.Join(s.violations[:min(5, len(s.violations))], "\n"))
					}
					if !happened {
						require.Greaterf(t, at, 1, "no %s", op)
						unhurt++
						continue
					}
					total++
				}
			}
			t.Logf("%d crashes", total)
		})
	}
}
