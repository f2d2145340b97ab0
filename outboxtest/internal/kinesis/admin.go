package kinesis

import (
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"
)

// defaultShards is how many shards a new stream has in on-demand mode, or if neither a mode nor a number is asked for.
const defaultShards = 4

func (e *Engine) createStream(in shape.Values) (any, error) {
	name := in.String("StreamName")
	if e.streams[name] != nil {
		return nil, fail("ResourceInUseException", "Stream %s under account %s already exists.", name, e.config.Account)
	}
	mode := "PROVISIONED"
	if details := in.Struct("StreamModeDetails"); details != nil {
		mode = details.String("StreamMode")
	}
	count := in.Int("ShardCount", defaultShards)
	distribution := byPartitionKey
	if in.Has("RecordDistributionStrategy") {
		distribution = in.String("RecordDistributionStrategy")
	}
	switch {
	case mode == "PROVISIONED" && distribution == byTurns:
		return nil, notForProvisioned()
	case mode == "PROVISIONED" && in.Has("StreamModeDetails") && !in.Has("ShardCount"):
		return nil, fail("ValidationException", "ShardCount is a required parameter for PROVISIONED stream mode.")
	case mode == "ON_DEMAND" && in.Has("ShardCount"):
		return nil, fail("ValidationException", "ShardCount cannot be set for ON_DEMAND stream mode.")
	}
	tags := in.StringMap("Tags")
	if err := e.checkTags(name, "add tags to", tags, nil); err != nil {
		return nil, err
	}
	if err := e.roomFor(count); err != nil {
		return nil, err
	}
	e.created++
	s := &stream{
		name: name, arn: e.arn(name), incarnation: e.created, createdAt: e.now(), mode: mode, distribution: distribution,
		retentionHours: defaultRetentionHours, recordKiB: in.Int("MaxRecordSizeInKiB", defaultRecordKiB), tags: make(map[string]string),
	}
	for k, v := range tags {
		s.tags[k] = v
	}
	e.streams[name] = s
	e.begin(s, creating, func() {
		s.status = active
		step := new(big.Int).Div(hashSpace(), big.NewInt(int64(count)))
		created := s.createdAt.Truncate(time.Second).Add(-bornEarlier)
		if before, ok := e.buried[name]; ok && !created.After(before) { // no sequence number of a stream before comes again
			created = before.Add(time.Second)
		}
		for i := range count {
			low := new(big.Int).Mul(step, big.NewInt(int64(i)))
			high := plus(new(big.Int).Add(low, step), -1)
			if i == count-1 {
				high = plus(hashSpace(), -1)
			}
			s.addShard(s.createdAt, created, low, high, "", "")
		}
	})
	e.changed.Fire()
	return nil, nil
}

func (e *Engine) deleteStream(in shape.Values) (any, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	e.begin(s, deleting, func() {
		delete(e.streams, s.name)
		e.buried[s.name] = s.latest(e.buried[s.name])
	})
	e.changed.Fire()
	return nil, nil
}

func (e *Engine) increaseRetention(in shape.Values) (any, error) {
	s, hours, err := e.retention(in)
	if err != nil {
		return nil, err
	}
	if hours < s.retentionHours {
		return nil, invalid("Requested retention period (%d hours) for stream %s can not be shorter than existing retention period (%d hours). Use DecreaseRetentionPeriod API.",
			hours, s.name, s.retentionHours)
	}
	s.retentionHours = hours
	return nil, nil
}

func (e *Engine) decreaseRetention(in shape.Values) (any, error) {
	s, hours, err := e.retention(in)
	if err != nil {
		return nil, err
	}
	if hours > s.retentionHours {
		return nil, invalid("Requested retention period (%d hours) for stream %s can not be longer than existing retention period (%d hours). Use IncreaseRetentionPeriod API.",
			hours, s.name, s.retentionHours)
	}
	s.retentionHours = hours
	return nil, nil
}

func (e *Engine) retention(in shape.Values) (*stream, int, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, 0, err
	}
	hours := in.Int("RetentionPeriodHours", 0)
	switch {
	case hours < defaultRetentionHours:
		return nil, 0, invalid("Minimum allowed retention period is %d hours. Requested retention period (%d hours) is too short.", defaultRetentionHours, hours)
	case hours > maxRetentionHours:
		return nil, 0, invalid("Maximum allowed retention period is %d hours. Requested retention period (%d hours) is too long.", maxRetentionHours, hours)
	}
	return s, hours, nil
}

func (e *Engine) updateMode(in shape.Values) (any, error) {
	s, err := e.findActive(in)
	if err != nil {
		return nil, err
	}
	mode := in.Struct("StreamModeDetails").String("StreamMode")
	e.begin(s, updating, func() {
		s.mode, s.status = mode, active
		if mode == "PROVISIONED" {
			s.distribution = byPartitionKey
		}
	})
	return nil, nil
}

func notForProvisioned() error {
	return invalid("The record distribution strategy AUTO is only supported for streams in ON_DEMAND mode.")
}

func (e *Engine) updateDistribution(in shape.Values) (any, error) {
	s, err := e.findActive(in)
	if err != nil {
		return nil, err
	}
	distribution := in.String("RecordDistributionStrategy")
	if s.mode == "PROVISIONED" && distribution == byTurns {
		return nil, notForProvisioned()
	}
	s.distribution = distribution
	return nil, nil
}

func (e *Engine) updateRecordSize(in shape.Values) (any, error) {
	s, err := e.findActive(in)
	if err != nil {
		return nil, err
	}
	size := in.Int("MaxRecordSizeInKiB", defaultRecordKiB)
	e.begin(s, updating, func() { s.recordKiB, s.status = size, active })
	return nil, nil
}

const maxTags = 50

// checkTags judges tags to be added to those a stream has.
func (e *Engine) checkTags(name, doing string, tags, have map[string]string) error {
	total := len(have)
	pattern := tagPattern()
	for k, v := range tags {
		if _, ok := have[k]; !ok {
			total++
		}
		if !pattern.MatchString(k) || !pattern.MatchString(v) {
			return invalid("Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		}
		if strings.Contains(k+v, "%") {
			return invalid("Failed to %s stream %s under account %s because some tags contained illegal characters. "+
				"The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.", doing, name, e.config.Account)
		}
	}
	if total > maxTags {
		return invalid("Failed to %s stream %s under account %s because a given stream cannot have more than %d tags associated with it.",
			doing, name, e.config.Account, maxTags)
	}
	return nil
}

func (e *Engine) addTags(in shape.Values) (any, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	tags := in.StringMap("Tags")
	if err := e.checkTags(s.name, "add tags to", tags, s.tags); err != nil {
		return nil, err
	}
	for k, v := range tags {
		s.tags[k] = v
	}
	return nil, nil
}

func (e *Engine) removeTags(in shape.Values) (any, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]string)
	for _, k := range in.Strings("TagKeys") {
		keys[k] = ""
	}
	if err := e.checkTags(s.name, "remove tags from", keys, nil); err != nil {
		return nil, err
	}
	for k := range keys {
		delete(s.tags, k)
	}
	return nil, nil
}

func (e *Engine) listTags(in shape.Values) (any, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	type tag struct{ Key, Value string }
	out := struct {
		HasMoreTags bool
		Tags        []tag
	}{Tags: []tag{}}
	var keys []string
	for k := range s.tags {
		if k > in.String("ExclusiveStartTagKey") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if limit := in.Int("Limit", maxTags); len(keys) > limit {
		keys, out.HasMoreTags = keys[:limit], true
	}
	for _, k := range keys {
		out.Tags = append(out.Tags, tag{k, s.tags[k]})
	}
	return out, nil
}

// shardLimit is the account's quota of open shards in the large regions.
const shardLimit = 20000

func (e *Engine) openShards() (open int) {
	for _, s := range e.streams {
		open += len(s.open())
	}
	return open
}

// roomFor refuses what would exceed the account's quota of shards.
func (e *Engine) roomFor(more int) error {
	open := e.openShards()
	if more <= 0 || open+more <= shardLimit {
		return nil
	}
	return fail("LimitExceededException", "This request would exceed the shard limit for the account %s in %s. "+
		"Current shard count for the account: %d. Limit: %d. Number of additional shards that would have resulted from this request: %d. "+
		"Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) "+
		"for current limits and how to request higher limits.", e.config.Account, e.config.Region, open, shardLimit, more)
}

func (e *Engine) describeLimits(shape.Values) (any, error) {
	onDemand := 0
	for _, s := range e.streams {
		if s.mode == "ON_DEMAND" {
			onDemand++
		}
	}
	return struct{ OnDemandStreamCount, OnDemandStreamCountLimit, OpenShardCount, ShardLimit int }{onDemand, 50, e.openShards(), shardLimit}, nil
}
