package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// TestLettersAreListedAndRedrivenInTheOrderOfArrival shows without a storm that a list of an aggregate has the order of a redrive, and that a
// redrive of one letter handles what is before the letter, the letter, and nothing behind it.
func TestLettersAreListedAndRedrivenInTheOrderOfArrival(t *testing.T) {
	runs(t, 5, func(t *testing.T, seed uint64) *history {
		p := planOf(seed)
		p.faultShare, p.kills, p.pauses, p.skews, p.discard = 0, false, false, false, nil
		p.aggregates = p.aggregates[:1]
		p.aggregates[0].poison = map[int]*poison{1: {permanent: true, stage: 1}}
		p.aggregates[0].arrivals = nil
		if p.disorder {
			p.aggregates[0].disorder(rand.New(rand.NewPCG(seed, 5)), p.generations)
		}
		w := newWorld(t, p)
		w.listRun(t)
		return w.history
	})
}

func (w *world) listRun(t *testing.T) {
	defer w.close()
	w.read()
	for generation := 1; generation <= w.plan.generations; generation++ {
		if generation == w.plan.reshard {
			w.resharded(t)
		}
		w.write(t, generation)
		require.True(t, w.settle(t.Context()))
		w.sleep(3 * time.Second)
	}
	w.healed.Store(1)
	name := w.plan.aggregates[0].name
	ids := w.listed(t.Context(), name, 1)
	if w.wrong() {
		return
	}
	last := 1 + w.rng.IntN(len(ids))
	p := w.start("person", 0)
	result := w.redrive(p, outbox.DeadLetterFilter{ID: ids[last-1]})
	if result.Redriven != last || result.Failed != 0 || result.Busy != 0 {
		w.problem("redrive: of %d letters up to number %d were redriven: %+v", len(ids), last, result)
	}
	w.listed(t.Context(), name, last+1)
}

// listed lists the letters of an aggregate, and requires that these are its events from one on, in their order.
func (w *world) listed(ctx context.Context, aggregate string, from int) (ids []string) {
	for letter, err := range w.letters.List(ctx, outbox.DeadLetterFilter{AggregateID: aggregate}) {
		if err != nil {
			w.problem("the letters cannot be listed: %v", err)
			return nil
		}
		ids = append(ids, letter.ID)
		if want := fmt.Sprintf(`{"N":%d}`, from+len(ids)-1); string(letter.Record.Payload) != want {
			w.problem("list: the letter at %d is %s, want %s", len(ids), letter.Record.Payload, want)
		}
	}
	if len(ids) != w.plan.generations-from+1 {
		w.problem("list: %d letters, want those from %d to %d", len(ids), from, w.plan.generations)
	}
	return ids
}
