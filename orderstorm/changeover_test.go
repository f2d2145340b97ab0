package orderstorm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// change says how a consumer comes to WithOrder, as docs/ordering-and-duplicates.md has it.
type change int

const (
	stays change = iota // it has it from the beginning
	keeps               // processes with marks, then with both options beside them, then with the order alone
	stops               // all processes with marks end, before the first one with the order begins; there are guarded handlers
)

// mistakes are those of who changes over. They are planted.
type mistakes struct {
	noMarks  bool // KeepMarks is not given
	noReplay bool // replay.To is not called
	oldStays bool // a process with marks runs on
	hasty    bool // events that are not handled are before the time of WithOrder
}

// changeOf is what a seed makes of the world of a change-over.
func changeOf(seed uint64) plan {
	p := planOf(seed)
	r := rand.New(rand.NewPCG(seed, 3))
	p.change, p.mixed, p.events, p.from = keeps, r.IntN(2) == 0, 10, time.Time{}
	if r.IntN(4) == 0 {
		p.change, p.mixed = stops, true
	}
	if r.IntN(2) == 0 {
		p.from = bubbleBegins // otherwise as late as it may be
	}
	if p.letters {
		p.fails = 0.1 * r.Float64()
	}
	return p
}

// changeOver writes the events, and deploys one version after the other meanwhile.
func (w *world) changeOver(t *testing.T) {
	w.deploy(marking)
	w.write(t, 3)
	if w.plan.change == stops {
		w.cure()
		w.settle(t, marking)
		w.deploy()
		w.settle(t, marking)
		w.choose()
		if w.planted.oldStays {
			w.deploy(ordered, marking)
		} else {
			w.deploy(ordered)
		}
		w.write(t, w.plan.events)
		return
	}
	w.choose()
	w.deploy(marking, keeping)
	w.write(t, 5)
	if !w.planted.oldStays {
		w.deploy(keeping)
	}
	w.write(t, 6)
	w.cure()
	w.settle(t, keeping)
	if w.planted.oldStays {
		w.deploy(ordered, marking)
	} else {
		w.deploy(ordered, keeping)
	}
	w.write(t, 8)
	if !w.planted.oldStays {
		w.deploy(ordered)
	}
	w.write(t, w.plan.events)
}

// deploy says which versions run from now on, and waits for the end of the others.
func (w *world) deploy(versions ...version) {
	w.mu.Lock()
	w.end()
	w.deployed, w.end = context.WithCancel(w.ctx)
	w.versions = versions
	w.mu.Unlock()
	for w.othersRun() {
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *world) othersRun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	others := 0
	for v, n := range w.running {
		others += n
		for _, may := range w.versions {
			if v == may {
				others -= n
			}
		}
	}
	return others > 0
}

// choose chooses the time of WithOrder: every event that is not handled yet is later.
func (w *world) choose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := time.Now()
	for account, events := range w.written {
		for _, r := range events {
			if !w.ignored(r.Sequence) && !w.committed[account][r.Sequence] && r.Time.Before(from) && !w.planted.hasty {
				from = r.Time
			}
		}
	}
	if w.from = from.Truncate(time.Second); !w.plan.from.IsZero() && !w.planted.hasty {
		w.from = w.plan.from
	}
}

func (w *world) cure() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cured = true
}

// settle redrives the dead letters, and hands over all events again, for the version that keeps marks.
func (w *world) settle(t *testing.T, v version) {
	p := w.start("operator", v, 0)
	var held error
	letters := must(outbox.NewDeadLetterTable(p.private, "letters", "consumer"))
	none := func() bool {
		if !w.plan.letters {
			return true
		}
		for l, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			held = fmt.Errorf("dead letter %s: %s", l.ID, l.Error)
			return false
		}
		return true
	}
	for end := time.Now().Add(w.patience()); ; time.Sleep(5 * time.Second) {
		if w.found() {
			return
		}
		if time.Now().After(end) {
			w.broke(checkLiveness, "the redrives and the replay come to no end: %v", held)
			return
		}
		if !none() {
			_, err := letters.Redrive(t.Context(), p.consumer, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.NoError(t, err)
			continue
		}
		if v == marking || w.planted.noReplay {
			return
		}
		if _, held = must(replay.New(p.private, "events")).To(t.Context(), replay.Query{From: w.from}, p.consumer, replay.Options{}); held == nil && none() {
			return
		}
	}
}

// TestTheChangeOverWhateverTheStreamDoes runs a quarter of ORDER_SEEDS worlds from ORDER_FIRST on, or the world of ORDER_SEED alone.
func TestTheChangeOverWhateverTheStreamDoes(t *testing.T) {
	storm(t, "TestTheChangeOverWhateverTheStreamDoes", changeOf, max(number("ORDER_SEEDS", 60)/4, 1))
}
