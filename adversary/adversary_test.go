package adversary

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func number64(t *testing.T, variable string, otherwise uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, variable)
	return n
}

// TestAdversary runs ADVERSARY_SEEDS schedules from ADVERSARY_FIRST on, or the schedule of ADVERSARY_SEED alone. ADVERSARY_WITHOUT leaves steps
// out of them.
func TestAdversary(t *testing.T) {
	first, count := number64(t, "ADVERSARY_FIRST", 1), number64(t, "ADVERSARY_SEEDS", 10)
	if one := os.Getenv("ADVERSARY_SEED"); one != "" {
		first, count = number64(t, "ADVERSARY_SEED", 0), 1
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // most of the time would go into collecting
	reached := &coverage{}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := planOf(seed)
			p.without(os.Getenv("ADVERSARY_WITHOUT"))
			var w *world
			synctest.Test(t, func(t *testing.T) {
				w = newWorld(p, reached)
				w.play()
			})
			w.report(t, fmt.Sprintf("ADVERSARY_SEED=%d go test -count=1 -run '^TestAdversary$' ./adversary", seed))
		})
	}
	if count >= 2000 && !t.Failed() && os.Getenv("ADVERSARY_WITHOUT") == "" {
		for _, what := range everything() {
			require.NotZero(t, reached.of(what), "%d schedules have not reached: %s", count, what)
		}
	}
	t.Logf("%d schedules, %d faults and rare events of %d kinds", count, reached.all(), len(reached.times))
}

// play runs the whole plan.
func (w *world) play() {
	w.begin()
	w.suffer()
	w.recover()
	w.tell(w.progress())
	w.told()
	w.settle()
	w.end()
}

// report fails the test with what was seen.
func (w *world) report(t *testing.T, again string) {
	t.Helper()
	if found := w.history.found(); len(found) > 0 {
		t.Fatalf("%s\n\n%s\n\nthe last warnings and errors:\n%s\n\nTo run it again:\n\n\t%s", strings.Join(found, "\n"), w.plan, w.log, again)
	}
}

// everything is what the schedules must reach.
func everything() []string {
	all := []string{"lease gained", "lease lost", "lease released", "lease ended", "dead letter", "kill", "stop", "split", "merge", "all shards end together",
		"a handler hangs for ever", "a handler takes long", "a handler fails for ever", "a handler fails for a while",
		"a record expires unread", "a successor handles nothing again",
		"the shares of a settled fleet are looked at", "a clean schedule repeats nothing", "a member is dead for ever", "a member stays as it is beside a healthy core"}
	for _, what := range onAnswers {
		all = append(all, string(what))
	}
	for _, what := range sicknesses {
		all = append(all, string(what))
	}
	return all
}
