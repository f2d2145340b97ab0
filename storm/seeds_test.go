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
	if part == 1 && count >= 70 {
		for _, what := range everythingToReach() {
			if reached[what] == 0 {
				t.Errorf("not reached in %d seeds: %s", count, what)
			}
		}
	}
	t.Logf("%s: %d seeds, %d runs of handlers; reached: %v", name, count, handled, reached)
}

// everythingToReach is what many seeds of the redrive storm must have met: a storm without it proves nothing about it.
func everythingToReach() []string {
	all := []string{"a Worker was killed", "an instance was killed", "a redrive was killed", "paused", "resharded", "discarded",
		"a redrive failed", "a redrive was busy"}
	for _, kind := range allFaults {
		all = append(all, string(kind))
	}
	return all
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
