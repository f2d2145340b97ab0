package ordermodel

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// randomConfig is a larger world: a stream that drops, doubles and reorders, rows that are gone, handlers that fail, people, time.
func randomConfig(seed uint64) config {
	r := rand.New(rand.NewPCG(seed, 0))
	one := func(in int) bool { return r.IntN(in) == 0 }
	c := config{name: fmt.Sprint("seed ", seed), n: 5 + r.IntN(10), faults: r.IntN(8), ticks: r.IntN(12), attempts: 1 + r.IntN(3), from: one(2), mayBeLate: true, mayLack: true}
	isGuarded, drops := one(3), r.IntN(4)
	for range 2 + r.IntN(3) {
		c.processes = append(c.processes, process{guarded: isGuarded || one(8), looks: !one(3)})
	}
	to := func() *process { return &c.processes[r.IntN(len(c.processes))] }
	begins := 1
	if c.from {
		begins += r.IntN(4)
	}
	for n := 1; n <= c.n; n++ {
		switch {
		case n < begins:
			c.old = c.old.with(n)
			fallthrough
		default:
			c.rows = c.rows.with(n)
		case one(25):
			c.delivered = c.delivered.with(n)
		case c.from && one(30):
			c.rows, c.backdated = c.rows.with(n), c.backdated.with(n)
		}
		if one(12) {
			c.poison = c.poison.with(n)
		}
		if n < c.n && r.IntN(10) < drops {
			continue
		}
		for range 1 + r.IntN(10)/7 {
			p := to()
			p.queue = append(p.queue, n)
		}
	}
	if one(3) { // the writer writes while all else happens, now and then out of order
		for n := begins; n <= c.n; n++ {
			if c.rows.has(n) && !c.backdated.has(n) {
				c.rows = c.rows.without(n)
				c.writes = append(c.writes, []int{n})
			}
		}
		for i := 1; i < len(c.writes); i++ {
			if one(6) {
				c.writes[i-1], c.writes[i] = c.writes[i], c.writes[i-1]
			}
		}
	}
	for i := range c.processes {
		queue := c.processes[i].queue
		for j := range queue {
			if k := j + r.IntN(4); k < len(queue) && one(2) {
				queue[j], queue[k] = queue[k], queue[j]
			}
		}
		if one(8) {
			c.processes[i].has = upTo(c.n).without(1 + r.IntN(c.n))
		}
	}
	if one(3) {
		c.removed = []int{1 + r.IntN(c.n), 1 + r.IntN(c.n)}
	}
	if one(4) && c.from && !isGuarded && len(c.writes) == 0 {
		c.keep = true
		for n := begins; n <= c.n/2; n++ {
			if c.rows.has(n) && !one(3) {
				c.marked = c.marked.with(n)
			}
		}
		for i := range c.processes {
			c.processes[i].guarded = false
		}
		c.processes[0].marks = one(2)
	}
	c.people = []string{"cure;redrive"}
	if one(2) {
		c.people = append(c.people, "redrive;redrive")
	}
	if one(2) {
		c.people = append(c.people, fmt.Sprintf("discard %d", 1+r.IntN(c.n)))
	}
	return c
}

func runRandom(c config, seed uint64, tracing bool) *world {
	w := newWorld(c, anything{rand.New(rand.NewPCG(seed, 1))}, tracing)
	if w.run() && w.problem == "" {
		w.settle()
	}
	w.end()
	return w
}

// TestRandomWorlds runs ORDER_MODEL_SEEDS worlds, or the world of ORDER_MODEL_SEED alone.
func TestRandomWorlds(t *testing.T) {
	if one, err := strconv.ParseUint(os.Getenv("ORDER_MODEL_SEED"), 10, 64); err == nil {
		w := runRandom(randomConfig(one), one, true)
		require.Emptyf(t, w.problem, "%s", strings.Join(w.trace, "\n"))
		return
	}
	effects, late, lacking, passed := 0, 0, 0, 0
	for seed := range uint64(seeds(2000)) {
		c := randomConfig(seed)
		w := runRandom(c, seed, false)
		if w.problem != "" {
			require.Emptyf(t, w.problem, "ORDER_MODEL_SEED=%d go test -run '^TestRandomWorlds$' ./ordermodel\n%s", seed, strings.Join(runRandom(c, seed, true).trace, "\n"))
		}
		effects, late, lacking, passed = effects+len(w.effects), late+w.late.count(), lacking+w.lacking.count(), passed+w.passed.count()
	}
	t.Logf("%d effects, %d late, %d missing, %d discarded or passed", effects, late, lacking, passed)
	for what, n := range map[string]int{"effects": effects, "late events": late, "missing numbers": lacking, "discards": passed} {
		require.NotZero(t, n, what)
	}
}

// TestRandomWorldsShowPlantedBugs: what small worlds show, larger ones show as well, without having been made for it.
func TestRandomWorldsShowPlantedBugs(t *testing.T) {
	for name, b := range map[string]bugs{
		"a handler runs on a guess":            {guess: true},
		"nothing is healed":                    {noHealing: true},
		"a lost answer is a success":           {lostIsDone: true},
		"the memory is one ahead":              {memoryAhead: true},
		"a missing number is passed over":      {passOver: true},
		"what is below the first is finished":  {noFirst: true},
		"it begins at what comes first":        {beginHere: true},
		"the beginning is written in any case": {beginAnyway: true},
		"HandleTx ignores claims":              {ignoreClaim: true},
		"a claim that was lost is completed":   {completeAnyway: true},
		"a type without a handler is finished": {skipUnknown: true},
		"a discard removes the letter alone":   {discardOnly: true},
		"a discard moves to any number":        {discardAny: true},
		"followers of a letter are dropped":    {parkedIsFinished: true},
		"KeepMarks writes no marks":            {forgetMarks: true},
		"the position moves before the effect": {positionFirst: true},
		"a duplicate's failure counts":         {guess: true, believeFailure: true},
		"the commit's condition is weak":       {weakCondition: true, guess: true},
		"a discard does not heed a claim":      {discardInClaim: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20_000) {
				c := randomConfig(seed)
				c.bugs = b
				if w := runRandom(c, seed, false); w.problem != "" {
					t.Logf("seed %d: %s", seed, regexp.MustCompile(`\d+`).ReplaceAllString(w.problem, "N"))
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
