package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/lease"
)

// verdict says what is wrong with a group, and what is not known of it.
type verdict struct {
	*groupStatus
	statusFlags
	before lease.View // the table when status began to look
}

// judge fills in OK, Late, Reasons and the lag of the group.
func (v *verdict) judge() {
	if v.Ended != "" {
		v.wrong("the stream has ended: %s", v.Ended)
	}
	if len(v.Shards) == 0 {
		v.wrong("the stream lists no shard")
	}
	v.judgeWorkers()
	lag, known := seconds(0), true
	for _, s := range v.Shards {
		v.judgeOwner(s)
		if reason, late := v.lagOf(s); reason != "" {
			v.wrong("%s", reason)
			v.Late = v.Late || late
		}
		known = known && s.Lag != nil
		if s.Lag != nil && s.Waiting != nil && *s.Waiting > 0 && (v.Oldest == "" || *s.Lag > lag) {
			lag, v.Oldest = *s.Lag, s.Shard
		}
	}
	if known {
		v.Lag = &lag
	}
	v.OK = len(v.Reasons) == 0
}

func (v *verdict) wrong(format string, args ...any) {
	v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...))
}

// mostKnown is how many groups a reason names.
const mostKnown = 10

// known says what the lease table has in the place of the group.
func (v *verdict) known(ctx context.Context, a *app, client dynamodb.ScanAPIClient) {
	v.wrong("no worker of group %s has begun stream %s: lease table %s has no shard of them", v.Group, v.Stream, v.leases)
	groups, all, err := knownGroups(ctx, client, v.leases)
	groups = slices.DeleteFunc(groups, func(k knownGroup) bool { return k.Group == v.Group && k.Stream == v.Stream })
	v.Known = groups
	switch {
	case err != nil:
		v.wrong("which groups lease table %s knows cannot be read: %s", v.leases, a.explain(err))
	case len(groups) == 0 && all:
		v.wrong("lease table %s knows no other group and no other stream", v.leases)
	case !all:
		v.wrong("lease table %s has more rows than were read: there may be other groups", v.leases)
	}
	for i, k := range groups {
		if i == mostKnown {
			v.wrong("lease table %s knows %d more", v.leases, len(groups)-mostKnown)
			return
		}
		v.wrong("lease table %s knows %s", v.leases, k)
	}
}

func (v *verdict) judgeWorkers() {
	there := false
	for _, w := range v.Workers {
		there = there || w.State != workerDead
		lease := time.Duration(w.Lease)
		switch w.State {
		case workerSilent:
			text := fmt.Sprintf("worker %s is silent: no heartbeat in %s, and one is due every %s", w.Worker, age(time.Duration(w.Watched)), age(lease/4))
			if w.Shards > 0 {
				text += "; nobody reads its " + count(w.Shards, "shard")
			}
			v.wrong("%s", text)
		case workerUnknown:
			v.wrong("whether worker %s lives is unknown: no heartbeat in %s, and one is due every %s; give a longer --wait", w.Worker, age(time.Duration(w.Watched)), age(lease/4))
		case workerDead:
			continue
		}
		if w.Unable {
			v.wrong("worker %s says that it cannot do the work; its log and Worker.Health say why", w.Worker)
		}
		for _, shard := range w.Refuses {
			v.wrong("worker %s could not read shard %s, and leaves it to others; its log says why", w.Worker, shard)
		}
	}
	if !there && !v.none() {
		v.wrong("no worker of group %s is there: nobody reads its shards", v.Group)
	}
}

// none reports whether the lease table has no shard of the group and the stream.
func (v *verdict) none() bool {
	return !slices.ContainsFunc(v.Shards, func(s *shardStatus) bool { return s.State != shardNotBegun && s.State != shardWaits })
}

// judgeOwner says whether somebody reads a shard. A worker that is silent was told of already.
func (v *verdict) judgeOwner(s *shardStatus) {
	switch s.State {
	case shardNotBegun:
		if !v.none() {
			v.wrong("no worker has begun shard %s: the lease table does not know it", s.Shard)
		}
	case shardDeadOwner:
		v.wrong("shard %s: its owner %s is dead, and nobody has taken it", s.Shard, s.Owner)
	case shardUnowned:
		owned := slices.ContainsFunc(v.before.Leases, func(l lease.Lease) bool { return l.ID == s.Shard && l.Owner != "" })
		there := slices.ContainsFunc(v.Workers, func(w *workerStatus) bool { return w.State != workerDead })
		if there && !owned { // a handover takes less time than status has looked
			v.wrong("shard %s has no owner: nobody reads it", s.Shard)
		}
	}
}

// lagOf says why a shard is not known to be well: what it lacks is lost, unknown, about to expire, or above --max-lag. late says that it
// is not known to hold --max-lag.
func (v *verdict) lagOf(s *shardStatus) (reason string, late bool) {
	limited := v.maxLag > 0
	if s.State == shardLost {
		return fmt.Sprintf("shard %s is lost: the stream has forgotten it, and it was not finished", s.Shard), limited
	}
	if s.State == shardEndedEarly {
		return fmt.Sprintf("shard %s is stored as finished, and the stream lists it as open: unless the listing is behind, nobody reads it", s.Shard), limited
	}
	if s.Error != "" {
		return fmt.Sprintf("shard %s cannot be read: %s", s.Shard, s.Error), limited
	}
	if s.Lag == nil && len(s.Unfinished) > 0 {
		text := fmt.Sprintf("shard %s: %s below its checkpoint, and the age is unknown", s.Shard, waiting(len(s.Unfinished), false))
		if s.Expired {
			text += ": the first is not in the stream any more"
		}
		return text, limited
	}
	if s.Expired && (!v.silentShards || !s.acceptable()) {
		return fmt.Sprintf("shard %s: its checkpoint is older than what the stream keeps: records behind it may have expired before they were read", s.Shard), limited
	}
	if s.Lag == nil {
		text := fmt.Sprintf("shard %s: its lag is unknown", s.Shard)
		if s.LagAtMost == nil {
			return text, limited
		}
		most := time.Duration(*s.LagAtMost)
		switch {
		case !limited:
			return fmt.Sprintf("%s, %s at most", text, age(most)), false
		case most > v.maxLag:
			return fmt.Sprintf("%s, %s at most, which is more than --max-lag", text, age(most)), true
		}
		return "", false // whatever it is, it is no more than --max-lag
	}
	lag, keeps := time.Duration(*s.Lag), time.Duration(v.Keeps)
	late = limited && lag > v.maxLag
	if lag > keeps-keeps/10 {
		return fmt.Sprintf("shard %s lags %s, and the stream keeps records for %s: they are about to expire", s.Shard, age(lag), age(keeps)), late
	}
	if late {
		return fmt.Sprintf("shard %s lags %s, more than --max-lag", s.Shard, age(lag)), true
	}
	return "", false
}

// waiting says how many records are not finished.
func waiting(n int, more bool) string {
	text := fmt.Sprintf("%d records wait", n)
	if n == 1 {
		text = "1 record waits"
	}
	if more {
		return "at least " + text
	}
	return text
}
