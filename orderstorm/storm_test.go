package orderstorm

import (
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOrderWhateverTheStreamDoes runs ORDER_SEEDS worlds from ORDER_FIRST on, or the world of ORDER_SEED alone.
func TestOrderWhateverTheStreamDoes(t *testing.T) {
	storm(t, "TestOrderWhateverTheStreamDoes", planOf, number("ORDER_SEEDS", 60))
}

// storm runs worlds, two at once.
func storm(t *testing.T, test string, planOf func(seed uint64) plan, count uint64) {
	first := number("ORDER_FIRST", 1)
	if seed := number("ORDER_SEED", 0); seed > 0 {
		first, count = seed, 1
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // most of what a world allocates lives for one request
	var healed, deaths, lively, guarded, workers, letters, worlds atomic.Int64
	t.Run("worlds", func(t *testing.T) {
		for lane := range uint64(2) {
			t.Run(strconv.FormatUint(lane, 10), func(t *testing.T) {
				t.Parallel()
				for seed := first + lane; seed < first+count; seed += 2 {
					var w *world
					inBubble(t, func(t *testing.T) {
						w = newWorld(t, seed, planOf(seed))
						w.run(t)
					})
					require.Emptyf(t, w.problems, "ORDER_SEED=%d go test -count=1 -run '^%s$' ./orderstorm\n%+v", seed, test, w.plan)
					healed.Add(int64(w.healed))
					deaths.Add(int64(w.deaths))
					for counted, is := range map[*atomic.Int64]bool{&lively: w.lively, &guarded: w.plan.mixed, &workers: w.plan.workers > 0, &letters: w.plan.letters} {
						if is {
							counted.Add(1)
						}
					}
					worlds.Add(1)
				}
			})
		}
	})
	t.Logf("%d worlds from seed %d on: %d events were healed, %d processes died; every record came in %d", worlds.Load(), first, healed.Load(), deaths.Load(), lively.Load())
	if count > 20 {
		for name, n := range map[string]*atomic.Int64{"healed": &healed, "deaths": &deaths, "every record came": &lively, "guarded": &guarded, "workers": &workers, "letters": &letters} {
			require.NotZero(t, n.Load(), name)
		}
	}
}

func number(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}
