package adversary

import (
	"fmt"
	"time"
)

// ordered says that nothing of before is left to disturb the end: each member is in the core or dead, no handler hangs, and no event waits.
func (w *world) ordered() bool {
	core := map[int]bool{}
	for _, i := range w.plan.core {
		core[i] = true
	}
	for i, m := range w.members {
		if !core[i] && !m.process().link.killed.Load() {
			return false
		}
		for _, p := range m.processes() {
			if w.hung(p) {
				return false
			}
		}
	}
	return len(w.plan.failing) == 0 && len(w.history.found()) == 0
}

// settle waits until every open shard has an owner in the core, and the shares differ by one at most: I4, I8. A member that was sick for minutes
// leaves its shards to the others for up to an hour, and its Health says so meanwhile.
func (w *world) settle() {
	if !w.ordered() {
		return
	}
	wrong := ""
	healed := time.Now()
	for well := healed; time.Since(well) < 2*time.Minute; {
		if w.complains() && time.Since(healed) < time.Hour {
			well = time.Now()
		}
		if wrong = w.unbalanced(); wrong == "" {
			w.reached.count("the shares of a settled fleet are looked at")
			return
		}
		time.Sleep(time.Second)
	}
	w.history.note("I4, I8: two minutes after everything is handled, %s", wrong)
}

// complains reports whether the Health of a member of the core has an error.
func (w *world) complains() bool {
	for _, i := range w.plan.core {
		if w.members[i].process().complains.Load() {
			return true
		}
	}
	return false
}

func (w *world) unbalanced() string {
	share := map[*process]int{}
	for _, i := range w.plan.core {
		share[w.members[i].process()] = 0
	}
	leases := w.watch.leases()
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	covered := map[string]bool{}
	for _, at := range leases {
		in := w.stream.byID[at.Shard]
		switch {
		case in == nil:
			continue
		case at.Ended && in.closed:
		case at.Ended:
			return at.Shard + " is open, and its lease has ended"
		case at.Forgotten:
			return at.Shard + " is marked as forgotten"
		case at.Owner == "":
			return at.Shard + " has no owner"
		default:
			p := w.history.holders[at.Shard][at.Fence]
			if _, ok := share[p]; !ok {
				return fmt.Sprintf("%s has an owner that is not alive: %s, fence %d", at.Shard, at.Owner, at.Fence)
			}
			share[p]++
		}
		covered[at.Shard] = true
	}
	for _, in := range w.stream.openShards() {
		if !covered[in.id] {
			return in.id + " has no lease"
		}
	}
	least, most := len(leases), 0
	for _, n := range share {
		least, most = min(least, n), max(most, n)
	}
	if most-least > 1 {
		return fmt.Sprintf("one worker has %d shards and another %d", most, least)
	}
	return ""
}

// succeeded starts a new process after all have stopped in good order. Nothing has an owner, and nothing is handled again: I6, I14.
func (w *world) succeeded() {
	for _, at := range w.watch.leases() {
		if at.Owner != "" && w.stream.byID[at.Shard] != nil {
			w.history.note("I14: every worker has stopped in good order, and %s still has the owner %s", at.Shard, at.Owner)
		}
	}
	before := w.repeated()
	m := w.members[w.plan.core[0]]
	m.mu.Lock()
	m.gone = false
	m.mu.Unlock()
	p := m.start()
	time.Sleep(15 * time.Second)
	if after := w.repeated(); after > before {
		w.history.note("I6, I14: every worker has stopped in good order, and the next one handles %d records again", after-before)
	}
	w.reached.count("a successor handles nothing again")
	m.mu.Lock()
	m.gone = true
	m.mu.Unlock()
	p.stop()
	<-p.done
}

func (w *world) repeated() (n int) {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	for _, one := range w.history.repeats {
		n += one
	}
	return n
}

// told checks DataLost. What has not expired is not told of. What expired unread behind a checkpoint is told of, but for a data stream: there a
// reader that is behind goes on with its iterator, which jumps over what has expired and does not say so.
func (w *world) told() {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	reported := map[string]bool{}
	for _, loss := range w.history.losses {
		reported[loss.Shard] = true
		if w.stream.byID[loss.Shard] != nil && !w.trimmed[loss.Shard] && !w.plan.listingsLie {
			w.history.violate("false alarm: DataLost is called for %s, of which nothing has expired: %+v", loss.Shard, loss)
		}
	}
	for _, r := range w.expired {
		if w.history.handled[r.event] == 0 && !reported[r.shard] {
			w.history.violate("I5: %s, record %d of %s, has expired unread behind a checkpoint, and DataLost was not called", r.event, r.at, r.shard)
		}
	}
	if w.plan.clean {
		w.reached.count("a clean schedule repeats nothing")
		for shard, n := range w.history.repeats {
			w.history.violate("I6: nothing has crashed and no answer was lost, and %d records of %s are handled twice", n, shard)
		}
	}
}

// expire makes what is older than a while expire in the nth shard.
func (w *world) expire(n int, age time.Duration) {
	w.stream.mu.Lock()
	in := w.stream.shards[n%len(w.stream.shards)]
	upTo := in.trimmed
	for upTo < len(in.records) && w.stream.now().Sub(in.records[upTo].arrived) > age {
		upTo++
	}
	w.stream.mu.Unlock()
	w.watch.look()
	w.expiring(in.id, upTo)
}

func (w *world) expiring(shard string, upTo int) {
	gone := w.stream.trim(shard, upTo)
	if len(gone) > 0 {
		w.trimmed[shard] = true
	}
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	for _, r := range gone {
		if w.history.settled(r.event) {
			continue
		}
		w.reached.count("a record expires unread")
		w.history.told[r.event] = expired
		if w.watch.passed[shard] > 0 && w.required(r) && w.plan.streams {
			w.expired = append(w.expired, r)
		}
	}
}
