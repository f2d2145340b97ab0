package fleetsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// history is what happened, step by step, in one order.
type history struct {
	mu         sync.Mutex
	step       int
	began      time.Time
	starts     []simStart
	acks       map[simRecord][]simAck
	saves      []simSave
	running    map[string]simRecord // by process and aggregate
	fences     map[string]int64     // the newest fence, by shard
	violations []string
}

// simRecord is a record by its place in the stream.
type simRecord struct{ shard, sequence string }

type simStart struct {
	step      int
	record    simRecord
	aggregate string
	fence     int64
}

type simAck struct {
	step  int
	fence int64
}

type simSave struct {
	step              int
	shard, checkpoint string
	owner             string
	fence             int64 // -1 at the end of a shard
	holes             map[string]bool
}

// truth is the stream as it really was.
type truth struct {
	order     map[string][]simRecord // by shard
	aggregate map[simRecord]string
	parents   map[string][]string
}

func (t truth) add(shard, sequence string, data []byte) {
	at := simRecord{shard, sequence}
	t.order[shard] = append(t.order[shard], at)
	_, aggregate, _ := strings.Cut(string(data), `"aggregateId":{"S":"`)
	t.aggregate[at], _, _ = strings.Cut(aggregate, `"`)
}

// lineage returns all the shards that each shard continues.
func (t truth) lineage() map[string][]string {
	all := map[string][]string{}
	for shard := range t.order {
		seen := map[string]bool{}
		for next := slices.Clone(t.parents[shard]); len(next) > 0; next = next[1:] {
			if !seen[next[0]] {
				seen[next[0]] = true
				all[shard] = append(all[shard], next[0])
				next = append(next, t.parents[next[0]]...)
			}
		}
	}
	return all
}

func newHistory() *history {
	return &history{began: time.Now(), acks: map[simRecord][]simAck{}, running: map[string]simRecord{}, fences: map[string]int64{}}
}

func (h *history) violate(format string, args ...any) {
	h.violations = append(h.violations, fmt.Sprintf("%v: ", time.Since(h.began))+fmt.Sprintf(format, args...))
}

func (h *history) start(process, aggregate string, r simRecord, fence int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step++
	key := process + "/" + aggregate
	if other, busy := h.running[key]; busy {
		h.violate("I7: %v starts while %v of its aggregate %s is running in %s", r, other, aggregate, process)
	}
	h.running[key] = r
	h.starts = append(h.starts, simStart{h.step, r, aggregate, fence})
}

func (h *history) end(process, aggregate string, r simRecord, fence int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step++
	delete(h.running, process+"/"+aggregate)
	if ok {
		h.acks[r] = append(h.acks[r], simAck{h.step, fence})
	}
}

func (h *history) stored(shard, checkpoint, owner string, fence int64, holes map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step++
	h.saves = append(h.saves, simSave{h.step, shard, checkpoint, owner, fence, holes})
	h.fences[shard] = max(h.fences[shard], fence)
}

// check compares the history with the stream. clean says that nothing may be handled twice. bound is WithMaxUnfinished.
func (h *history) check(t truth, clean bool, bound int) (duplicates int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checkSaves(t)
	h.checkOrder(t)
	for shard, records := range t.order {
		twice := map[int64]int{}
		for _, r := range records {
			acks := h.acks[r]
			if len(acks) == 0 {
				h.violate("I5: %v is lost", r)
				continue
			}
			duplicates += len(acks) - 1
			fences := map[int64]bool{}
			lowest := acks[0].fence
			for _, a := range acks {
				fences[a.fence] = true
				lowest = min(lowest, a.fence)
			}
			delete(fences, lowest)
			for fence := range fences {
				twice[fence]++
			}
		}
		for fence, n := range twice {
			if n > bound {
				h.violate("I6: %d duplicates in shard %s with fence %d, more than %d", n, shard, fence, bound)
			}
		}
	}
	if clean && duplicates > 0 {
		h.violate("I6: %d duplicates though every stop was clean", duplicates)
	}
	return duplicates
}

// checkSaves checks that a checkpoint goes forward, and never past a record that is neither acknowledged nor a hole. A hole is there until it
// is acknowledged, and never comes back. Fences must go up, each with one owner.
func (h *history) checkSaves(t truth) {
	last, next := map[string]simSave{}, map[string]int{}
	owners := map[string]string{}
	for _, s := range h.saves {
		before := last[s.shard]
		if s.fence < 0 {
			s.fence, s.owner = before.fence, ""
		}
		if s.fence < before.fence {
			h.violate("I1: shard %s goes from fence %d to %d", s.shard, before.fence, s.fence)
		}
		key := fmt.Sprint(s.shard, "/", s.fence)
		if owner := owners[key]; s.owner != "" && owner != "" && owner != s.owner {
			h.violate("I1: shard %s has two owners with fence %d: %s and %s", s.shard, s.fence, owner, s.owner)
		}
		if s.owner != "" {
			owners[key] = s.owner
		}
		last[s.shard] = s
		records, upTo := t.order[s.shard], 0
		switch {
		case s.checkpoint == "SHARD_END":
			upTo = len(records)
		case strings.Trim(s.checkpoint, "0123456789") == "" && s.checkpoint != "":
			upTo, _ = slices.BinarySearchFunc(records, s.checkpoint, func(r simRecord, c string) int { return shardreader.CompareSequence(r.sequence, c) })
			upTo++
		}
		if upTo < next[s.shard] {
			h.violate("I2: the checkpoint of %s goes back to %s", s.shard, s.checkpoint)
		}
		passed := records[min(next[s.shard], len(records)):max(min(next[s.shard], len(records)), min(upTo, len(records)))]
		open := maps.Clone(before.holes)
		for _, r := range passed {
			if open == nil {
				open = map[string]bool{}
			}
			open[r.sequence] = true
		}
		for hole := range s.holes {
			if !open[hole] {
				h.violate("I2: %s of %s becomes a hole, with the checkpoint %s, though it was finished or is not passed", hole, s.shard, s.checkpoint)
			}
			delete(open, hole)
		}
		for sequence := range open {
			r := simRecord{s.shard, sequence}
			if acks := h.acks[r]; len(acks) == 0 || acks[0].step > s.step {
				h.violate("I2: the checkpoint %s of %s is past %v, which is not acknowledged", s.checkpoint, s.shard, r)
			}
		}
		next[s.shard] = max(next[s.shard], upTo)
	}
}

// checkOrder checks that an aggregate's records start in the order of their shard, each after the record before is acknowledged.
// The records of a child must start after its parents have ended, and after all of their aggregate in the shards that the child continues.
func (h *history) checkOrder(t truth) {
	ended := map[string]int{}
	for _, s := range h.saves {
		if s.checkpoint == "SHARD_END" && ended[s.shard] == 0 {
			ended[s.shard] = s.step
		}
	}
	before := map[simRecord]simRecord{}
	for _, records := range t.order {
		last := map[string]simRecord{}
		for _, r := range records {
			if p, ok := last[t.aggregate[r]]; ok {
				before[r] = p
			}
			last[t.aggregate[r]] = r
		}
	}
	lineage := t.lineage()
	for _, s := range h.starts {
		for _, ancestor := range lineage[s.record.shard] {
			for _, p := range t.order[ancestor] {
				if t.aggregate[p] != s.aggregate {
					continue
				}
				if acks := h.acks[p]; len(acks) == 0 || acks[0].step > s.step {
					h.violate("I17: %v of %s starts before %v of its ancestor is acknowledged", s.record, s.aggregate, p)
				}
			}
		}
		if p, ok := before[s.record]; ok {
			if acks := h.acks[p]; len(acks) == 0 || acks[0].step > s.step {
				h.violate("I7: %v of %s starts before %v is acknowledged", s.record, s.aggregate, p)
			}
		}
		for _, parent := range t.parents[s.record.shard] {
			if ended[parent] == 0 || ended[parent] > s.step {
				h.violate("I3: %v starts before its shard's parent %s has ended", s.record, parent)
			}
		}
	}
}
