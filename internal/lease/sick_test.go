package lease

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// listFor is a process's listing.
func (s *sim) listFor(ctx context.Context, k *link) ([]Shard, error) {
	switch k.sickness() {
	case "list":
		return nil, errDenied
	case "find":
		return []Shard{{ID: "elsewhere", HashLo: "0", HashHi: "0"}}, nil
	}
	return s.list(ctx)
}

// playSick runs one schedule in which a worker is sick for ever in one dependency, beside one to three healthy ones. At the end it stays
// as sick as it was, and everything that is published is to be handled all the same (I16).
func playSick(t *testing.T, seed uint64, bug string) (s *sim, sickness string) {
	synctest.Test(t, func(t *testing.T) {
		s = newSim(seed, bug)
		rng := rand.New(rand.NewPCG(seed, 4))
		sickness = []string{"list", "find", "read"}[seed%3]
		healthy := faults{loseRequest: 0.03, loseAnswer: 0.05, duplicate: 0.1, keepBeats: true, lacking: 0.1}
		publishing := make(chan struct{})
		s.wg.Go(func() {
			for {
				select {
				case <-publishing:
					return
				case <-time.After(s.random(500 * time.Millisecond)):
					s.publish()
				}
			}
		})
		s.start(healthy)
		time.Sleep(s.random(20 * time.Second))
		ill := s.start(faults{sick: sickness})
		s.event("%s cannot %s", ill.name, sickness)
		well := func() (well []*simWorker) {
			for _, w := range s.running() {
				if w != ill {
					well = append(well, w)
				}
			}
			return well
		}
		for range 8 {
			time.Sleep(s.random(20 * time.Second))
			event := []string{"split", "merge", "split", "add", "stop", "crash"}[rng.IntN(6)]
			s.event("%s", event)
			switch all := well(); {
			case event == "split":
				s.split()
			case event == "merge":
				s.merge()
			case event == "add" && len(all) < 3:
				s.start(healthy)
			case event == "stop" && len(all) > 1:
				s.finish(all[0])
			case event == "crash" && len(all) > 1:
				all[0].crash()
				all[0].stop()
			}
		}
		for _, w := range s.workers {
			w.heal()
		}
		s.event("healed")
		time.Sleep(2 * time.Minute)
		close(publishing)
		for range 200 {
			if s.unfinished() == "" {
				break
			}
			time.Sleep(time.Second)
		}
		if rest := s.unfinished(); rest != "" {
			s.violation("I16: not handled, though only %s is sick (%s): %s", ill.name, sickness, rest)
		}
		for _, l := range s.table.rows().leases {
			if l.Gone {
				s.violation("I17: marked gone on one worker's word: %+v", l)
			}
		}
		for _, w := range s.running() {
			s.finish(w)
		}
		for _, w := range s.workers {
			<-w.ended
		}
		s.wg.Wait()
	})
	return s, sickness
}

func TestSimulationWithASickMember(t *testing.T) {
	met := map[string]int{}
	for _, seed := range seeds() {
		s, sickness := playSick(t, seed, "")
		if len(s.violations) > 0 {
			require.Failf(t, "an invariant is broken", "%s\nevents:\n%s\nto run it again: LEASE_SEED=%d go test -count=1 -run '^%s$' ./internal/lease",
				strings.Join(s.violations[:min(8, len(s.violations))], "\n"), strings.Join(s.events, "\n"), seed, t.Name())
		}
		met[sickness]++
	}
	t.Log(met)
}

// The checker would have found a worker that keeps what it cannot read.
func TestTheCheckerCatchesASickMember(t *testing.T) {
	for seed := range uint64(50) {
		s, _ := playSick(t, seed, "nobody is unable")
		for _, v := range s.violations {
			if strings.Contains(v, "I16:") {
				t.Logf("caught with seed %d: %s", seed, v)
				return
			}
		}
	}
	require.Fail(t, "not caught with 50 seeds")
}
