package lease

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// seeds returns the seeds that each kind of schedule runs with: LEASE_SEEDS of them, or 100, from 0; or only LEASE_SEED.
func seeds() (all []uint64) {
	if one, err := strconv.ParseUint(os.Getenv("LEASE_SEED"), 10, 64); err == nil {
		return []uint64{one}
	}
	n := uint64(100)
	if given, err := strconv.ParseUint(os.Getenv("LEASE_SEEDS"), 10, 32); err == nil && given > 0 {
		n = given
	}
	for seed := range n {
		all = append(all, seed)
	}
	return all
}

// kind says what goes wrong in a schedule.
type kind struct {
	name   string
	faults faults
	events []string
}

var (
	steady = []string{"split", "merge", "split", "merge", "add", "stop"}
	// calm: nothing goes wrong. So nothing may come twice, and no worker may be taken for dead.
	calm = kind{"calm", faults{}, steady}
	// lossy: answers get lost, and writes come twice and late. This costs no lease.
	lossy = kind{"lossy", faults{loseRequest: 0.08, loseAnswer: 0.12, duplicate: 0.2, throttle: 0.05, slow: 0.03, keepBeats: true}, steady}
	// stormy: everything goes wrong.
	stormy = kind{"stormy", faults{loseRequest: 0.05, loseAnswer: 0.08, duplicate: 0.2, throttle: 0.05, slow: 0.05},
		append([]string{"crash", "crash", "pause", "pause", "cut", "cut"}, steady...)}
)

// slow is for one bug only: calls arrive when the world has changed.
var slow = kind{"slow", faults{slow: 0.5}, append([]string{"cut", "cut", "pause"}, steady...)}

// play runs one schedule: from one worker to five and down to two, with events all the time, then without faults.
func (k kind) play(t *testing.T, seed uint64, bug string) (s *sim) {
	synctest.Test(t, func(t *testing.T) {
		s = newSim(seed, bug)
		rng := rand.New(rand.NewPCG(seed, 3))
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
		s.start(k.faults)
		for range 12 + rng.IntN(10) {
			time.Sleep(s.random(4 * time.Second))
			running := s.running()
			event := k.events[rng.IntN(len(k.events))]
			if len(running) == 0 || len(running) < 5 && rng.IntN(3) == 0 {
				event = "add"
			}
			s.event("%s", event)
			var w *simWorker
			if len(running) > 0 {
				w = running[rng.IntN(len(running))]
			}
			switch event {
			case "split":
				s.split()
			case "merge":
				s.merge()
			case "add":
				if len(running) < 5 {
					s.start(k.faults)
				}
			case "stop":
				if len(running) > 1 {
					s.finish(w)
				}
			case "crash":
				w.crash()
				w.stop()
				if rng.IntN(2) == 0 {
					s.start(k.faults)
				}
			case "pause":
				w.pause(s.random(20 * time.Second))
			case "cut":
				w.partition(s.random(20 * time.Second))
			}
		}
		for _, w := range s.workers {
			w.heal()
		}
		for n := len(s.running()); n != 2; n = len(s.running()) {
			if n < 2 {
				s.start(faults{})
			} else {
				s.finish(s.running()[0])
			}
		}
		s.event("healed")
		time.Sleep(simDuration + 10*time.Second) // by then the dead are found and late copies have arrived
		close(publishing)
		time.Sleep(15 * time.Second)
		for range 100 { // until one slow reader has handled what has piled up
			if s.unfinished() == "" {
				break
			}
			time.Sleep(time.Second)
		}
		patience := time.Duration(0)
		if k.name == "stormy" { // who was cut off for long takes part again five minutes later
			patience = 10 * time.Minute
		}
		if wrong := s.balancedWithin(patience, 2); wrong != "" {
			s.violation("I8: %s", wrong)
		}
		s.split() // only the owner sees this change, unless it tells the other
		time.Sleep(3 * time.Second)
		if wrong := s.balancedWithin(patience, 2); wrong != "" {
			s.violation("I8: after a split: %s", wrong)
		}
		if rest := s.unfinished(); rest != "" {
			s.violation("I5: not handled: %s", rest)
		}
		for _, w := range s.running() {
			s.finish(w)
		}
		for _, w := range s.workers {
			<-w.ended
			if w.err != nil {
				s.violation("Run of %s returned %v", w.name, w.err)
			}
			if took := w.goneAt.Sub(w.stopAt); !w.crashed() && took > simDrain && !w.wasPaused() {
				s.violation("I14: Run of %s took %v to return", w.name, took)
			}
		}
		for _, l := range s.table.rows().leases {
			if l.Owner != "" {
				s.violation("I14: a clean stop has left %+v", l)
			}
		}
		s.wg.Wait()
	})
	if k.name == "calm" || k.name == "lossy" {
		taken := s.table.seized
		if k.name == "lossy" {
			taken = 0 // a stopping worker may fail to give a lease back and to retire, if all its requests are lost
		}
		if taken+s.fenced+s.lost > 0 {
			s.violation("I12: %d workers were fenced, %d leases lost, %d taken", s.fenced, s.lost, s.table.seized)
		}
	}
	if k.name == "calm" {
		if n := s.duplicates(); n > 0 {
			s.violation("I6: %d duplicates though nothing went wrong", n)
		}
		if len(s.handovers) > 0 {
			// At most a tick, even if several workers stop at once and leases go to a worker that is leaving, too.
			if worst := slices.Max(s.handovers); worst > 1500*time.Millisecond {
				s.violation("a planned handover took %v", worst)
			}
		}
	}
	return s
}

func TestSimulation(t *testing.T) {
	for _, k := range []kind{calm, lossy, stormy} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			var duplicates, dead, fenced int
			var handovers []time.Duration
			for _, seed := range seeds() {
				s := k.play(t, seed, "")
				if len(s.violations) > 0 {
					require.Failf(t, "an invariant is broken", "%s\nevents:\n%s\nto run it again: LEASE_SEED=%d go test -count=1 -run '^%s$' ./internal/lease",
						strings.Join(s.violations[:min(8, len(s.violations))], "\n"), strings.Join(s.events, "\n"), seed, t.Name())
				}
				duplicates, dead, fenced, handovers = duplicates+s.duplicates(), dead+s.dead, fenced+s.fenced, append(handovers, s.handovers...)
			}
			if len(handovers) == 0 { // one seed may have no handover
				handovers = []time.Duration{0}
			}
			slices.Sort(handovers)
			t.Logf("%s: %d seeds, %d duplicates, %d marks of death, %d fenced; %d handovers, median %v, worst %v",
				k.name, len(seeds()), duplicates, dead, fenced, len(handovers), handovers[len(handovers)/2], handovers[len(handovers)-1])
		})
	}
}

// A simulation that finds nothing proves something only if it would have found these bugs.
func TestTheCheckerCatchesBugs(t *testing.T) {
	for _, test := range []struct {
		bug  string
		kind kind
		says string
	}{
		{"unfenced save", stormy, "I1"},
		{"save ignores the owner", stormy, "I1"},
		{"n is not checked", stormy, "I2"},
		{"acquire ignores the fence", stormy, "I15"},
		{"takeover without the mark", stormy, "I15"},
		{"mark ignores the beat", slow, "I15"},
		{"beat of the dead", stormy, "I15"},
		{"beat goes back", lossy, "I15"},
		{"unfenced release", stormy, "I15"},
		{"child before parent", calm, "I3"},
		{"released without drain", calm, "I2"},
		{"fenced too late", stormy, "I13"},
		{"want is ignored", calm, "I8"},
		{"nobody is told of changes", calm, "I8"},
		{"end is not one transaction", calm, "I4"},
		{"children start at the end", calm, "I5"},
	} {
		t.Run(test.bug, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(600) {
				s := test.kind.play(t, seed, test.bug)
				for _, v := range s.violations {
					if strings.Contains(v, test.says+":") {
						t.Logf("caught with seed %d: %s", seed, v)
						return
					}
				}
			}
			require.Fail(t, "not caught", fmt.Sprintf("%s with 600 seeds", test.bug))
		})
	}
}
