package fleetsim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// cheapCloud is a table and a stream behind the SDK's interfaces. It checks each write of the table against the invariants.
type cheapCloud struct {
	sim    *workerSim
	table  *simTable
	stream *simStream

	// Guarded by the table's lock.
	process map[string]*simLink  // by worker
	dead    map[string]bool      // workers that were marked dead or retired, or whose row is gone
	beat    map[string]time.Time // when a worker's last beat was applied
	covered bool                 // all hash keys have been covered once
}

func newCheapCloud(s *workerSim, seed uint64) *cheapCloud {
	c := &cheapCloud{sim: s, table: newSimTable(), stream: newSimStream(seed), process: map[string]*simLink{}, dead: map[string]bool{}, beat: map[string]time.Time{}}
	c.table.wrote = c.wrote
	reads := rand.New(rand.NewPCG(seed, 5))
	c.table.stale = func() bool { return reads.IntN(4) == 0 }
	return c
}

func (c *cheapCloud) connect(l *simLink) (outbox.KinesisClient, outbox.LeaseClient) {
	return simReads{l, c.stream}, simLeases{l: l, t: c.table}
}

func (c *cheapCloud) publish(id, aggregate string) { c.stream.publish(id, aggregate) }
func (c *cheapCloud) split(pick int)               { c.stream.split(pick) }
func (c *cheapCloud) merge(pick int)               { c.stream.merge(pick) }
func (c *cheapCloud) truth() truth                 { return c.stream.truth() }
func (c *cheapCloud) arrived()                     {}
func (c *cheapCloud) close()                       {}

// expire deletes the row of a worker, as DynamoDB does if the worker's clock is days behind.
func (c *cheapCloud) expire(rng *rand.Rand) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	var workers []string
	for id := range c.table.rows {
		if strings.Contains(id, "#W#") {
			workers = append(workers, id)
		}
	}
	if len(workers) > 0 {
		slices.Sort(workers)
		id := workers[rng.IntN(len(workers))]
		_, worker, _ := strings.Cut(id, "#W#")
		c.dead[worker] = true
		delete(c.table.rows, id)
	}
}

// wrote checks one write. The caller holds the table's lock.
func (c *cheapCloud) wrote(actor *simLink, operation, id string, before, after values) {
	was, now := readRow(before), readRow(after)
	if _, worker, ok := strings.Cut(id, "#W#"); ok {
		c.wroteWorker(actor, operation, worker, was, now)
		return
	}
	if operation == "Begin" {
		return
	}
	shard := shardOf(id)
	if was.was {
		c.wroteLease(actor, operation, shard, was, now)
	}
	c.sim.stored(shard, now.checkpoint, now.owner, now.fence, now.holes)
	c.coverage()
}

func (c *cheapCloud) bad(format string, args ...any) {
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	c.sim.violate(format, args...)
}

func (c *cheapCloud) wroteWorker(actor *simLink, operation, worker string, was, now simRow) {
	if operation == "Register" {
		c.process[worker] = actor
	}
	if now.was && now.beat != was.beat || operation == "Register" {
		if was.isDead || now.beat < was.beat {
			c.bad("I15: a beat of %s was accepted: %+v -> %+v", worker, was, now)
		}
		c.beat[worker] = time.Now()
	}
	// A late copy of a registration may bring back the row of a worker that was dead and forgotten.
	if silent := time.Since(c.beat[worker]); operation == "MarkDead" && now.isDead && !was.isDead && silent < simLease && !c.dead[worker] {
		c.bad("I15: %s was marked dead %v after its last beat: %+v", worker, silent, was)
	}
	if now.isDead || !now.was {
		c.dead[worker] = true
	}
}

func (c *cheapCloud) wroteLease(actor *simLink, operation, shard string, was, now simRow) {
	say := func(invariant, why string) {
		c.bad("%s: %s: %s of %s by %s: %+v -> %+v", invariant, why, operation, shard, actor.name, was, now)
	}
	changed, owner := now.owner != was.owner, c.process[was.owner]
	switch {
	case changed && now.owner != "" && now.fence != was.fence+1, (!changed || now.owner == "") && now.fence != was.fence:
		say("I1", "owner and fence do not change together")
	case changed && was.owner != "" && !c.dead[was.owner] && actor != owner:
		say("I15", "taken from a living owner")
	case changed && was.owner != "" && !c.dead[was.owner] && !slices.Contains([]string{"Release", "HandOver", "End", "Finish", "Gone"}, operation):
		say("I15", "changed hands neither released nor handed over")
	}
	if now.checkpoint != was.checkpoint && (was.owner == "" || actor != owner) {
		say("I1", "a checkpoint of one who is not the owner")
	}
}

// coverage checks that every hash key belongs to a shard that is not finished.
func (c *cheapCloud) coverage() {
	var lows [][2]int
	for id, row := range c.table.rows {
		if shardOf(id) != "" && readRow(row).checkpoint != "SHARD_END" && row["ttl"] == nil {
			lo, _ := strconv.Atoi(row["hashLo"].(*types.AttributeValueMemberS).Value)
			hi, _ := strconv.Atoi(row["hashHi"].(*types.AttributeValueMemberS).Value)
			lows = append(lows, [2]int{lo, hi})
		}
	}
	slices.SortFunc(lows, func(a, b [2]int) int { return a[0] - b[0] })
	next := 0
	for _, r := range lows {
		if r[0] > next {
			break
		}
		next = max(next, r[1]+1)
	}
	if next == simKeys {
		c.covered = true
	} else if c.covered {
		c.bad("I4: hash key %d belongs to no unfinished shard", next)
	}
}

// unbalanced says what is wrong with the leases when everything is calm and these workers run.
func (c *cheapCloud) unbalanced(running []*simWorker) string {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	has, lives, n := map[string]int{}, map[*simLink]bool{}, 0
	for id, row := range c.table.rows {
		if _, worker, ok := strings.Cut(id, "#W#"); ok && !readRow(row).isDead {
			if silent := time.Since(c.beat[worker]); silent > simLease/2 {
				return fmt.Sprintf("%s has been silent for %v", worker, silent)
			}
			has[worker] = 0
			lives[c.process[worker]] = true
		}
	}
	workers := len(running)
	if len(has) != workers {
		return fmt.Sprintf("%d workers are registered as living, not %d", len(has), workers)
	}
	for _, w := range running {
		if !lives[w.simLink] {
			return w.name + " is not registered"
		}
	}
	for id, row := range c.table.rows {
		if r := readRow(row); shardOf(id) != "" && (r.checkpoint != "SHARD_END" || len(r.holes) > 0) {
			if _, lives := has[r.owner]; !lives {
				return fmt.Sprintf("nobody living has %s: %+v", id, r)
			}
			has[r.owner]++
			n++
		}
	}
	for id, count := range has {
		if count < n/workers || count > (n+workers-1)/workers {
			return fmt.Sprintf("%s has %d of %d leases: %v", id, count, n, has)
		}
	}
	return ""
}

// unable reports whether a living worker says that it leaves all shards to others.
func (c *cheapCloud) unable() bool {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	for id, row := range c.table.rows {
		if r := readRow(row); strings.Contains(id, "#W#") && !r.isDead && r.unable {
			return true
		}
	}
	return false
}

// owned returns the leases whose owner is not known to be dead. Other workers would have to wait for them.
func (c *cheapCloud) owned() (owned []string) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	for id, row := range c.table.rows {
		if r := readRow(row); r.owner != "" && !c.dead[r.owner] {
			owned = append(owned, fmt.Sprintf("%s: %+v", id, r))
		}
	}
	return owned
}
