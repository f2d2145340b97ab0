package kinesis

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type hashKeyRange struct{ EndingHashKey, StartingHashKey string }

type sequenceRange struct {
	EndingSequenceNumber   string `json:",omitempty"`
	StartingSequenceNumber string
}

type shardOut struct {
	AdjacentParentShardID string `json:"AdjacentParentShardId,omitempty"`
	HashKeyRange          hashKeyRange
	ParentShardID         string `json:"ParentShardId,omitempty"`
	SequenceNumberRange   sequenceRange
	ShardID               string `json:"ShardId"`
}

type modeDetails struct{ StreamMode string }

type monitoring struct{ ShardLevelMetrics []string }

func noMonitoring() []monitoring { return []monitoring{{ShardLevelMetrics: []string{}}} }

func (sh *shard) hashKeyRange() hashKeyRange {
	return hashKeyRange{StartingHashKey: sh.low.String(), EndingHashKey: sh.high.String()}
}

func (sh *shard) parents() []string {
	var out []string
	for _, p := range []string{sh.parent, sh.adjacent} {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

func (sh *shard) out() shardOut {
	return shardOut{
		ShardID: sh.id, ParentShardID: sh.parent, AdjacentParentShardID: sh.adjacent, HashKeyRange: sh.hashKeyRange(),
		SequenceNumberRange: sequenceRange{StartingSequenceNumber: sh.first, EndingSequenceNumber: sh.last},
	}
}

func (e *Engine) describeStream(in shape.Values) (any, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	page, more := pageOf(s.shards, in.String("ExclusiveStartShardId"), min(in.Int("Limit", 100), 100))
	type description struct {
		EncryptionType          string
		EnhancedMonitoring      []monitoring
		HasMoreShards           bool
		RetentionPeriodHours    int
		Shards                  []shardOut
		StreamARN               string
		StreamCreationTimestamp wire.Epoch
		StreamModeDetails       modeDetails
		StreamName              string
		StreamStatus            status
	}
	return struct{ StreamDescription description }{description{
		EncryptionType: "NONE", EnhancedMonitoring: noMonitoring(), HasMoreShards: more,
		RetentionPeriodHours: s.retentionHours, Shards: page, StreamARN: s.arn,
		StreamCreationTimestamp: wire.Epoch(s.createdAt.Truncate(time.Second)),
		StreamModeDetails:       modeDetails{s.mode}, StreamName: s.name, StreamStatus: s.status,
	}}, nil
}

func (e *Engine) describeStreamSummary(in shape.Values) (any, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	type summary struct {
		ConsumerCount              int
		EncryptionType             string
		EnhancedMonitoring         []monitoring
		MaxRecordSizeInKiB         int
		OpenShardCount             int
		RecordDistributionStrategy string
		RetentionPeriodHours       int
		StreamARN                  string
		StreamCreationTimestamp    wire.Epoch
		StreamModeDetails          modeDetails
		StreamName                 string
		StreamStatus               status
	}
	return struct{ StreamDescriptionSummary summary }{summary{
		EncryptionType: "NONE", EnhancedMonitoring: noMonitoring(), MaxRecordSizeInKiB: s.recordKiB,
		OpenShardCount: len(s.open()), RecordDistributionStrategy: s.distribution, RetentionPeriodHours: s.retentionHours, StreamARN: s.arn,
		StreamCreationTimestamp: wire.Epoch(s.createdAt.Truncate(time.Second)),
		StreamModeDetails:       modeDetails{s.mode}, StreamName: s.name, StreamStatus: s.status,
	}}, nil
}

// maxStreamsPage is all that an answer holds, although a request may ask for more.
const maxStreamsPage = 100

func (e *Engine) listStreams(in shape.Values) (any, error) {
	after := in.String("ExclusiveStartStreamName")
	if token := in.String("NextToken"); token != "" {
		name, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			return nil, invalid("Invalid NextToken.")
		}
		after = string(name)
	}
	var names []string
	for name := range e.streams {
		if name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	limit := min(in.Int("Limit", maxStreamsPage), maxStreamsPage)
	type summary struct {
		StreamARN               string
		StreamCreationTimestamp wire.Epoch
		StreamModeDetails       modeDetails
		StreamName              string
		StreamStatus            status
	}
	out := struct {
		HasMoreStreams  bool
		NextToken       string `json:",omitempty"`
		StreamNames     []string
		StreamSummaries []summary
	}{StreamNames: []string{}, StreamSummaries: []summary{}}
	if len(names) > limit {
		names, out.HasMoreStreams = names[:limit], true
		out.NextToken = base64.StdEncoding.EncodeToString([]byte(names[limit-1]))
	}
	for _, name := range names {
		s := e.streams[name]
		out.StreamNames = append(out.StreamNames, name)
		out.StreamSummaries = append(out.StreamSummaries, summary{StreamARN: s.arn, StreamCreationTimestamp: wire.Epoch(s.createdAt.Truncate(time.Second)),
			StreamModeDetails: modeDetails{s.mode}, StreamName: name, StreamStatus: s.status})
	}
	return out, nil
}

func pageOf(shards []*shard, after string, limit int) (page []shardOut, more bool) {
	page = []shardOut{}
	for _, sh := range shards {
		if sh.id <= after {
			continue
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, sh.out())
	}
	return page, false
}

const (
	maxShardsPage     = 1000
	nextTokenLifetime = 5 * time.Minute
)

func (e *Engine) listShards(in shape.Values) (any, error) {
	token := in.String("NextToken")
	named := in.Has("StreamName") || in.Has("StreamARN")
	switch {
	case token == "" && !named:
		return nil, invalid("Either NextToken or StreamName should be provided.")
	case token != "" && named:
		return nil, invalid("NextToken and StreamName cannot be provided together.")
	case token != "" && (in.Has("StreamCreationTimestamp") || in.Has("ExclusiveStartShardId") || in.Has("ShardFilter")):
		return nil, invalid("NextToken cannot be provided together with StreamCreationTimestamp, ExclusiveStartShardId or ShardFilter.")
	}
	cursor, err := e.shardCursor(in, token)
	if err != nil {
		return nil, err
	}
	s := e.streams[cursor.stream]
	if s == nil {
		return nil, e.noStream(cursor.stream)
	}
	shards, err := cursor.filter(s, e.now())
	if err != nil {
		return nil, err
	}
	out := struct {
		NextToken string `json:",omitempty"`
		Shards    []shardOut
	}{}
	var more bool
	out.Shards, more = pageOf(shards, cursor.after, min(in.Int("MaxResults", maxShardsPage), maxShardsPage))
	if more {
		cursor.after = out.Shards[len(out.Shards)-1].ShardID
		out.NextToken = cursor.token(e.now())
	}
	return out, nil
}

// shardCursor is where a listing of shards stands: what was asked and the last
// shard told.
type shardCursor struct {
	stream, after string
	kind, shardID string // the shard filter
	at            time.Time
}

func (e *Engine) shardCursor(in shape.Values, token string) (shardCursor, error) {
	if token != "" {
		return openShardToken(token, e.now())
	}
	name, err := e.target(in)
	if err != nil {
		return shardCursor{}, err
	}
	c := shardCursor{stream: name, after: in.String("ExclusiveStartShardId")}
	if filter := in.Struct("ShardFilter"); filter != nil {
		c.kind, c.shardID, c.at = filter.String("Type"), filter.String("ShardId"), filter.Time("Timestamp")
		needsTime := c.kind == "AT_TIMESTAMP" || c.kind == "FROM_TIMESTAMP"
		switch {
		case c.kind == "AFTER_SHARD_ID" && c.shardID == "":
			return c, invalid("ShardId must be supplied in a ShardFilter with a Type of AFTER_SHARD_ID")
		case needsTime && !filter.Has("Timestamp"):
			return c, invalid("Timestamp must be supplied in a ShardFilter with a Type of FROM_TIMESTAMP or AT_TIMESTAMP")
		case c.kind != "AFTER_SHARD_ID" && c.shardID != "":
			return c, invalid("ShardId can only be supplied in a ShardFilter with a Type of AFTER_SHARD_ID")
		case !needsTime && filter.Has("Timestamp"):
			return c, invalid("Timestamp can only be supplied in a ShardFilter with a Type of FROM_TIMESTAMP or AT_TIMESTAMP")
		}
	}
	return c, nil
}

func (c shardCursor) filter(s *stream, now time.Time) ([]*shard, error) {
	horizon := now.Add(-time.Duration(s.retentionHours) * time.Hour)
	keep := func(*shard) bool { return true } // FROM_TRIM_HORIZON: what is older was trimmed before
	switch c.kind {
	case "AFTER_SHARD_ID":
		keep = func(sh *shard) bool { return sh.id > c.shardID }
	case "AT_LATEST":
		keep = func(sh *shard) bool { return sh.last == "" }
	case "AT_TRIM_HORIZON":
		// What was open at the horizon; for a younger stream, when it began.
		if horizon.Before(s.createdAt) {
			horizon = s.createdAt
		}
		keep = func(sh *shard) bool { return !sh.opened.After(horizon) }
	case "AT_TIMESTAMP":
		keep = func(sh *shard) bool {
			return !sh.opened.After(c.at) && (sh.last == "" || !sh.closedAt.Before(c.at))
		}
	case "FROM_TIMESTAMP":
		keep = func(sh *shard) bool { return sh.last == "" || !sh.closedAt.Before(c.at) }
	}
	var out []*shard
	for _, sh := range s.shards {
		if keep(sh) {
			out = append(out, sh)
		}
	}
	return out, nil
}

func (c shardCursor) token(now time.Time) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join([]string{
		strconv.FormatInt(now.UnixMilli(), 10), c.stream, c.after, c.kind, c.shardID, strconv.FormatInt(c.at.UnixMilli(), 10),
	}, "/")))
}

func openShardToken(token string, now time.Time) (shardCursor, error) {
	raw, err := base64.StdEncoding.DecodeString(token)
	parts := strings.Split(string(raw), "/")
	if err != nil || len(parts) != 6 {
		return shardCursor{}, invalid("Invalid NextToken.")
	}
	issued, err1 := strconv.ParseInt(parts[0], 10, 64)
	at, err2 := strconv.ParseInt(parts[5], 10, 64)
	if err1 != nil || err2 != nil {
		return shardCursor{}, invalid("Invalid NextToken.")
	}
	if now.Sub(time.UnixMilli(issued)) > nextTokenLifetime {
		return shardCursor{}, fail("ExpiredNextTokenException", "The NextToken has expired. It is valid for %d seconds.",
			int(nextTokenLifetime.Seconds()))
	}
	return shardCursor{stream: parts[1], after: parts[2], kind: parts[3], shardID: parts[4], at: time.UnixMilli(at)}, nil
}
