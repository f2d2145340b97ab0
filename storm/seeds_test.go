package storm

import (
	"fmt"
	"maps"
	"math/big"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// runs takes STORM_SEED, or one of part of STORM_SEEDS seeds, and fails with what was wrong and how to see it again.
func runs(t *testing.T, part uint64, run func(t *testing.T, seed uint64) *history) {
	first, count := number(t, "STORM_FIRST", 1), (number(t, "STORM_SEEDS", 10)+part-1)/part
	name := t.Name()
	only := os.Getenv("STORM_SEED") != ""
	if only {
		first, count = number(t, "STORM_SEED", 1), 1
	}
	reached, handled := map[string]int{}, 0
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				h := run(t, seed)
				for what, n := range h.reached {
					reached[what] += n
				}
				handled += h.runs
				if len(h.problems) == 0 {
					return
				}
				if only {
					for _, line := range h.lines {
						t.Log(line)
					}
				}
				for _, problem := range h.problems {
					t.Error(problem)
				}
				t.Errorf("again: STORM_SEED=%d go test -count=1 -run '^%s$' ./storm", seed, name)
			})
		})
	}
	t.Logf("%s: %d seeds, %d runs of handlers; reached: %v", name, count, handled, reached)
}

func number(t *testing.T, variable string, unless uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return unless
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, variable)
	return n
}

func keys(letters map[string]outbox.DeadLetter) []string { return slices.Sorted(maps.Keys(letters)) }

// half returns the middle of two decimal numbers.
func half(low, high string) string {
	a, _ := new(big.Int).SetString(low, 10)
	b, _ := new(big.Int).SetString(high, 10)
	return a.Add(a, b).Rsh(a, 1).String()
}
