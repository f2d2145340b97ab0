package lease

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
)

// snapshot is what a worker knows when it plans.
type snapshot struct {
	View
	suspect map[string]bool // workers whose beat or whose row has been missing too long, by this worker's own clock
	lately  map[string]bool // workers that have not been dead for long
	listed  map[string]bool // shards of the last listing
	gone    map[string]bool // shards that have a lease and have been missing in several listings
	long    map[string]bool // those of them that have been missing for long
	// Two kinds of rows that the last listings contradict: marked gone, or missed by somebody, and listed; ended, and listed as open.
	returned, open map[string]bool
}

type verb int

const (
	markDead     verb = iota // the worker's beat has stopped
	forgetWorker             // the worker has been dead for a while and owns nothing
	missShard                // this worker does not find the shard in its source
	forgetShard              // nor does another worker: the source has forgotten the shard
	reviveShard              // the source has not forgotten the shard
	reopenShard              // the shard has not ended
	adopt                    // the table says that the lease is mine
	acquire                  // no living worker has the lease, and it falls to me
	want                     // another worker has the lease, and it falls to me
	yield                    // I have the lease, and a living worker wants it
)

// action is one thing to do: to worker, or to lease as it was seen.
type action struct {
	verb   verb
	worker Worker
	lease  Lease
}

// plan returns what me has to do. moving says that leases are on their way to or from me, so that looking again soon is worth it.
//
// It is a pure function of its arguments. Workers that see the same table come to the same assignment, and each does its own
// part. If they see different tables, the conditions of the writes decide. After a markDead is done, there may be more to do.
func plan(s snapshot, me string) (todo []action, moving bool) {
	owned := map[string]bool{}
	for _, l := range s.Leases {
		owned[l.Owner] = true
	}
	// The leases of a dead worker may be acquired. A worker that is alive may have leases. A worker that is taking may get more.
	present, dead, alive, candidates := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]Worker{}
	for _, w := range s.Workers {
		present[w.ID] = true
		switch {
		case w.Dead:
			dead[w.ID] = true
			// Its row tells at once that a lease which is still handed over to it is free. Without the row that takes a lease's duration.
			if !owned[w.ID] && !s.lately[w.ID] {
				todo = append(todo, action{verb: forgetWorker, worker: w})
			}
		case s.suspect[w.ID] && w.ID != me:
			todo = append(todo, action{verb: markDead, worker: w})
		default:
			alive[w.ID] = true
			if !w.Draining && w.Beat > 0 { // a row without a beat may be the trace of a registration that failed
				candidates[w.ID] = w
			}
		}
	}
	taking := takers(candidates)
	for id := range s.suspect {
		// The row is missing: the worker was forgotten after its death, and then a late copy of its acquisition arrived.
		if !present[id] {
			dead[id] = true
		}
	}

	targets := assign(s, taking, refusals(s.Workers, taking))
	for _, l := range s.Leases {
		target := targets[l.ID]
		free := l.Owner == "" || dead[l.Owner]
		switch {
		case (l.Gone || l.Missing != "") && s.returned[l.ID]:
			todo = append(todo, action{verb: reviveShard, lease: l})
		case l.Gone:
		case s.gone[l.ID]:
			// This worker refuses the shard, so another one may ask for it.
			if verb, ok := missing(l, s, me, free, alive, taking); ok {
				todo = append(todo, action{verb: verb, lease: l})
			} else if l.Owner == me && target != me && l.Want != me && taking[l.Want] && !l.finished() {
				todo, moving = append(todo, action{verb: yield, lease: l}), true
			}
		case l.ended() && l.Owner == "" && s.open[l.ID] && !hasChild(l.ID, s.Leases):
			todo = append(todo, action{verb: reopenShard, lease: l})
		case l.finished():
		case l.Owner == me:
			todo = append(todo, action{verb: adopt, lease: l})
			if target != me {
				moving = true
				if l.Want != me && taking[l.Want] {
					todo = append(todo, action{verb: yield, lease: l})
				}
			}
		case target != me:
		case free:
			todo, moving = append(todo, action{verb: acquire, lease: l}), true
		default:
			moving = true
			if l.Want != me && alive[l.Owner] {
				todo = append(todo, action{verb: want, lease: l})
			}
		}
	}
	return todo, moving
}

// missing says what me does about a shard that it does not find any more. Two workers must miss a shard before it is marked gone. The
// owner is asked last, since it may still read the shard. A worker that is alone needs more listings.
func missing(l Lease, s snapshot, me string, free bool, alive, taking map[string]bool) (verb, bool) {
	others := maps.Clone(taking)
	delete(others, me)
	alone := len(others) == 0
	voter := l.Missing
	if !alive[voter] {
		voter = ""
	}
	switch {
	case voter == "", voter == l.Owner && voter != me: // an owner's word is not the other one's that the owner waits for
		return missShard, l.Owner != me || alone
	case voter == me:
		return forgetShard, alone && s.long[l.ID] && (free || l.Owner == me)
	case free:
		delete(others, voter)
		if taking[me] {
			others[me] = true
		}
		return forgetShard, chosen(others, l.ID) == me
	}
	return forgetShard, l.Owner == me
}

// hasChild reports whether a lease names the shard as a parent: whoever made it had seen the shard end.
func hasChild(shard string, leases []Lease) bool {
	return slices.ContainsFunc(leases, func(l Lease) bool { return slices.Contains(l.Parents, shard) })
}

// refusals returns who could not read which shard, among the workers that take leases. A shard that all of them refuse is refused
// by none.
func refusals(workers []Worker, taking map[string]bool) map[string]map[string]bool {
	refuse := map[string]map[string]bool{}
	for _, w := range workers {
		for _, shard := range w.Refuses {
			if !taking[w.ID] {
				continue
			}
			if refuse[shard] == nil {
				refuse[shard] = map[string]bool{}
			}
			refuse[shard][w.ID] = true
		}
	}
	maps.DeleteFunc(refuse, func(_ string, by map[string]bool) bool { return len(by) == len(taking) })
	return refuse
}

// assign returns who is to have which of the leases that can be read now. Each share is the floor or the ceiling of the average,
// and as few leases as possible move. A shard goes to none of the workers that refuse it, and then a share may be larger.
func assign(s snapshot, taking map[string]bool, refuse map[string]map[string]bool) map[string]string {
	workers := slices.Collect(maps.Keys(taking))
	targets := map[string]string{}
	if len(workers) == 0 {
		return targets
	}
	share := make(map[string][]string, len(workers))
	for _, id := range workers {
		share[id] = nil
	}
	rows := make(map[string]*Lease, len(s.Leases))
	for i := range s.Leases {
		rows[s.Leases[i].ID] = &s.Leases[i]
	}
	var pool []string
	n := 0
	for i := range s.Leases {
		l := &s.Leases[i]
		if !readable(l, rows, s) {
			continue
		}
		n++
		// A lease on its way counts for the worker that gets it. Otherwise all workers would ask for it again and again.
		if _, ok := share[l.Want]; ok && !refuse[l.ID][l.Want] {
			share[l.Want] = append(share[l.Want], l.ID)
		} else if _, ok := share[l.Owner]; ok && !refuse[l.ID][l.Owner] {
			share[l.Owner] = append(share[l.Owner], l.ID)
		} else {
			pool = append(pool, l.ID)
		}
	}

	// Workers that have most keep the larger shares, so that no lease moves only to make another worker's share the larger one.
	slices.SortFunc(workers, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(share[b]), len(share[a])), cmp.Compare(weight("", a), weight("", b)), cmp.Compare(a, b))
	})
	room := make(map[string]int, len(workers))
	for i, id := range workers {
		quota := n / len(workers)
		if i < n%len(workers) {
			quota++
		}
		mine := share[id]
		if len(mine) > quota {
			// What others refuse stays, because it has nowhere to go.
			slices.SortFunc(mine, func(a, b string) int {
				return cmp.Or(cmp.Compare(len(refuse[b]), len(refuse[a])), byWeight(a, b, id))
			})
			pool, mine = append(pool, mine[quota:]...), mine[:quota]
		}
		for _, shard := range mine {
			targets[shard] = id
		}
		if quota > len(mine) {
			room[id] = quota - len(mine)
		}
	}
	slices.SortFunc(pool, func(a, b string) int { return cmp.Or(cmp.Compare(len(refuse[b]), len(refuse[a])), cmp.Compare(a, b)) })
	for _, shard := range pool {
		id := chosen(without(room, refuse[shard]), shard)
		if id == "" { // all that have room refuse it
			targets[shard] = chosen(without(taking, refuse[shard]), shard)
			continue
		}
		targets[shard] = id
		if room[id]--; room[id] == 0 {
			delete(room, id)
		}
	}
	return targets
}

// without returns the workers that are not among some.
func without[V any](workers map[string]V, some map[string]bool) map[string]V {
	if len(some) == 0 {
		return workers
	}
	rest := maps.Clone(workers)
	maps.DeleteFunc(rest, func(id string, _ V) bool { return some[id] })
	return rest
}

// readable reports whether a shard may be read: each parent has ended, or is forgotten by both the table and the source. A listing
// without the shard itself is older than the shard, and proves nothing about its parents. Nor does it make a shard unreadable for one
// worker alone: the others would leave the shard to that worker.
func readable(l *Lease, rows map[string]*Lease, s snapshot) bool {
	if l.Gone || l.finished() {
		return false
	}
	if l.ended() {
		return true // its holes are; the parents ended before it did
	}
	for _, p := range l.Parents {
		parent := rows[p]
		switch {
		case parent == nil && (!s.listed[l.ID] || s.listed[p]):
			return false
		case parent != nil && !parent.ended() && !parent.Gone:
			return false
		}
	}
	return true
}

// chosen returns the worker to whom rendezvous hashing gives the shard.
func chosen[V any](workers map[string]V, shard string) string {
	var best string
	var most uint64
	for id := range workers {
		if w := weight(shard, id); best == "" || w > most || w == most && id < best {
			best, most = id, w
		}
	}
	return best
}

func byWeight(a, b, worker string) int {
	return cmp.Or(cmp.Compare(weight(b, worker), weight(a, worker)), cmp.Compare(a, b))
}

func weight(shard, worker string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(shard))
	h.Write([]byte{0})
	h.Write([]byte(worker))
	// FNV's high bits hardly depend on the last bytes, so the finalizer of MurmurHash3 mixes them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
