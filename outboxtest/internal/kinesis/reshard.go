package kinesis

import (
	"math/big"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"
)

func (e *Engine) splitShard(in shape.Values) (any, error) {
	s, splitting, err := e.reshardable(in, in.String("ShardToSplit"))
	if err != nil {
		return nil, err
	}
	sh := splitting[0]
	at, _ := new(big.Int).SetString(in.String("NewStartingHashKey"), 10) // the model admits digits only
	if at.Cmp(plus(sh.low, 1)) <= 0 || at.Cmp(sh.high) >= 0 {
		return nil, invalid("NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus "+
			"the shard's StartingHashKey %s and less than the shard's EndingHashKey %s.",
			at, sh.id, s.name, e.config.Account, sh.low, sh.high)
	}
	if err := e.roomFor(1); err != nil {
		return nil, err
	}
	e.begin(s, updating, func() {
		s.split(sh, at, e.now())
		s.status = active
	})
	e.changed.Fire()
	return nil, nil
}

func (e *Engine) mergeShards(in shape.Values) (any, error) {
	s, merging, err := e.reshardable(in, in.String("ShardToMerge"), in.String("AdjacentShardToMerge"))
	if err != nil {
		return nil, err
	}
	first, second := merging[0], merging[1]
	// The service insists on the order: the lower range comes first.
	if plus(first.high, 1).Cmp(second.low) != 0 {
		return nil, invalid("Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging",
			first.id, second.id, s.name, e.config.Account)
	}
	e.begin(s, updating, func() {
		s.merge(first, second, e.now())
		s.status = active
	})
	e.changed.Fire()
	return nil, nil
}

// reshardable finds open shards of an ACTIVE stream. It looks at the form of
// all ids before it looks for the stream.
func (e *Engine) reshardable(in shape.Values, given ...string) (*stream, []*shard, error) {
	name, err := e.target(in)
	if err != nil {
		return nil, nil, err
	}
	ids := make([]string, len(given))
	for i, g := range given {
		id, ok := canonicalShardID(g)
		if !ok {
			return nil, nil, e.noShard(g, name)
		}
		ids[i] = id
	}
	s, err := e.findActive(in)
	if err != nil {
		return nil, nil, err
	}
	if err := e.refuseOnDemand(s); err != nil {
		return nil, nil, err
	}
	var out []*shard
	for _, id := range ids {
		sh := s.shard(id)
		if sh == nil {
			return nil, nil, e.noShard(id, name)
		}
		if sh.last != "" {
			return nil, nil, invalid("Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.",
				id, name, e.config.Account)
		}
		out = append(out, sh)
	}
	return s, out, nil
}

// refuseOnDemand refuses to change the shards of a stream that AWS scales.
func (e *Engine) refuseOnDemand(s *stream) error {
	if s.mode != "ON_DEMAND" {
		return nil
	}
	return fail("ValidationException", "Request is invalid. Stream %s under account %s is in On-Demand mode.", s.name, e.config.Account)
}

func (s *stream) split(sh *shard, at *big.Int, now time.Time) {
	s.splitAt(sh, at, now, s.shardCreated(now))
}

func (s *stream) splitAt(sh *shard, at *big.Int, now, created time.Time) {
	sh.close(now)
	s.addShard(now, created, sh.low, plus(at, -1), sh.id, "")
	s.addShard(now, created, at, sh.high, sh.id, "")
}

func (s *stream) merge(first, second *shard, now time.Time) {
	s.mergePair(first, second, now, s.shardCreated(now))
}

func (s *stream) mergePair(first, second *shard, now, created time.Time) {
	first.close(now)
	second.close(now)
	low, high := first.low, second.high
	if second.low.Cmp(first.low) < 0 {
		low, high = second.low, first.high
	}
	s.addShard(now, created, low, high, first.id, second.id)
}

func (sh *shard) close(now time.Time) {
	at := now
	if at.Before(sh.created) {
		at = sh.created
	}
	sh.last = sequenceNumber(sh.created, sh.index, lastIndex, at)
	sh.closedAt = now
}

func (e *Engine) updateShardCount(in shape.Values) (any, error) {
	s, err := e.findActive(in)
	if err != nil {
		return nil, err
	}
	if err := e.refuseOnDemand(s); err != nil {
		return nil, err
	}
	open, target := s.open(), in.Int("TargetShardCount", 0)
	switch {
	case target > 2*len(open):
		return nil, invalid("UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: %d Target shard count: %d", len(open), target)
	case 2*target < len(open):
		return nil, invalid("UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: %d Target shard count: %d", len(open), target)
	}
	if err := e.roomFor(target - len(open)); err != nil {
		return nil, err
	}
	if target != len(open) {
		e.begin(s, updating, func() {
			s.scale(target, e.now())
			s.status = active
		})
		e.changed.Fire()
	}
	return struct {
		CurrentShardCount int
		StreamARN         string
		StreamName        string
		TargetShardCount  int
	}{len(open), s.arn, s.name, target}, nil
}

// scale comes to a number of open shards as the service was seen to: to grow,
// it splits every shard and merges neighbours again until the number is right.
// The short-lived shards between stay visible, as closed ones.
func (s *stream) scale(target int, now time.Time) {
	if open := s.open(); target > len(open) {
		created := s.shardCreated(now)
		for _, sh := range open {
			half := new(big.Int).Rsh(width(sh.low, sh.high), 1)
			s.splitAt(sh, half.Add(half, sh.low), now, created)
		}
	}
	open, created := s.open(), s.shardCreated(now)
	for _, pair := range neighbours(open, len(open)-target) {
		s.mergePair(pair[0], pair[1], now, created)
	}
}

// neighbours chooses n pairs of adjacent shards, no shard twice: the narrowest,
// unless they leave too many shards alone. n is at most half of the shards.
func neighbours(open []*shard, n int) [][2]*shard {
	slices.SortFunc(open, func(a, b *shard) int { return a.low.Cmp(b.low) })
	var all, chosen [][2]*shard
	for i := range len(open) - 1 {
		all = append(all, [2]*shard{open[i], open[i+1]})
	}
	slices.SortStableFunc(all, func(a, b [2]*shard) int { return width(a[0].low, a[1].high).Cmp(width(b[0].low, b[1].high)) })
	taken := make(map[*shard]bool)
	for _, p := range all {
		if len(chosen) < n && !taken[p[0]] && !taken[p[1]] {
			taken[p[0]], taken[p[1]] = true, true
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == n {
		return chosen
	}
	chosen = nil
	for i := 0; len(chosen) < n; i += 2 {
		chosen = append(chosen, [2]*shard{open[i], open[i+1]})
	}
	return chosen
}

func width(low, high *big.Int) *big.Int {
	w := new(big.Int).Sub(high, low)
	return w.Add(w, big.NewInt(1))
}
