package streams

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const (
	iteratorLifetime = 15 * time.Minute
	maxRecords       = 1000
	maxAnswerBytes   = 1 << 20
	iteratorMark     = "|1|"
)

// Do runs one operation of the API on a JSON request. An error is a
// *wire.Error.
func (e *Engine) Do(ctx context.Context, operation string, body []byte) (any, error) {
	switch operation {
	case "ListStreams":
		e.refresh(ctx)
		return run(e, body, (*Engine).listStreams)
	case "DescribeStream":
		e.refresh(ctx)
		return run(e, body, (*Engine).describeStream)
	case "GetShardIterator":
		e.refresh(ctx)
		return run(e, body, (*Engine).getShardIterator)
	case "GetRecords":
		e.refresh(ctx) // a stream that has been disabled has ended
		return run(e, body, (*Engine).getRecords)
	}
	return nil, wire.UnknownOperation(operation + " of DynamoDB Streams")
}

func run[In any](e *Engine, body []byte, operation func(*Engine, In) (any, error)) (any, error) {
	var in In
	if err := wire.DynamoDBStreams().Bind(body, &in); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trim()
	return operation(e, in)
}

// streamOf returns the stream of an ARN. What has not the form of a stream's ARN is a ValidationException, unlike a stream that is not there.
func (e *Engine) streamOf(arn string) (*stream, error) {
	if err := checkARN(arn); err != nil {
		return nil, err
	}
	if s := e.streams[arn]; s != nil {
		return s, nil
	}
	return nil, notFound("Stream: %s not found", arn)
}

func checkARN(arn string) error {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 && parts[0] == "arn" && parts[2] == "dynamodb" {
		table, label, found := strings.Cut(strings.TrimPrefix(parts[5], "table/"), "/stream/")
		if found && strings.HasPrefix(parts[5], "table/") && table != "" && label != "" {
			return nil
		}
	}
	return wire.Validation("Invalid StreamArn: " + arn)
}

type listStreamsIn struct {
	ExclusiveStartStreamArn *string `wire:"min=37,max=1024"`
	Limit                   *int32  `wire:"min=1,max=100"`
	TableName               *string `wire:"min=1,max=1024"`
}

func (e *Engine) listStreams(in listStreamsIn) (any, error) {
	if start := in.ExclusiveStartStreamArn; start != nil {
		if err := checkARN(*start); err != nil {
			return nil, err
		}
	}
	type entry struct{ StreamArn, StreamLabel, TableName string }
	out := struct {
		LastEvaluatedStreamArn string `json:",omitempty"`
		Streams                []entry
	}{Streams: []entry{}}
	var arns []string
	for arn, s := range e.streams {
		if in.TableName == nil || *in.TableName == s.table {
			arns = append(arns, arn)
		}
	}
	slices.Sort(arns)
	limit := 100
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	for _, arn := range arns {
		if in.ExclusiveStartStreamArn != nil && arn <= *in.ExclusiveStartStreamArn {
			continue
		}
		if len(out.Streams) == limit {
			out.LastEvaluatedStreamArn = out.Streams[limit-1].StreamArn
			break
		}
		out.Streams = append(out.Streams, entry{arn, label(arn), e.streams[arn].table})
	}
	return out, nil
}

type describeStreamIn struct {
	StreamArn             *string `wire:"required,min=37,max=1024"`
	Limit                 *int32  `wire:"min=1,max=100"`
	ExclusiveStartShardId *string `wire:"min=28,max=65"` //nolint:revive // the wire's name
	ShardFilter           *shardFilterIn
}

type shardFilterIn struct {
	Type    *string `wire:"enum=CHILD_SHARDS"`
	ShardId *string `wire:"min=28,max=65"` //nolint:revive // the wire's name
}

// check refuses a filter that lacks a member. The model requires neither, and the service both.
func (f *shardFilterIn) check() error {
	switch {
	case f == nil:
		return nil
	case f.Type == nil:
		return wire.Validation("Type must be provided in a ShardFilter")
	case f.ShardId == nil:
		return wire.Validation("ShardId must be provided in a ShardFilter of Type " + *f.Type)
	}
	return nil
}

type sequenceRange struct {
	EndingSequenceNumber   string `json:",omitempty"`
	StartingSequenceNumber string
}

type shardOut struct {
	ParentShardID       string `json:"ParentShardId,omitempty"`
	SequenceNumberRange sequenceRange
	ShardID             string `json:"ShardId"`
}

func (e *Engine) describeStream(in describeStreamIn) (any, error) {
	s, err := e.streamOf(*in.StreamArn)
	if err != nil {
		return nil, err
	}
	if err := in.ShardFilter.check(); err != nil {
		return nil, err
	}
	type description struct {
		CreationRequestDateTime wire.Epoch
		KeySchema               []KeySchemaElement
		LastEvaluatedShardID    string `json:"LastEvaluatedShardId,omitempty"`
		Shards                  []shardOut
		StreamArn, StreamLabel  string
		StreamStatus            string
		StreamViewType          string
		TableName               string
	}
	d := description{CreationRequestDateTime: wire.Epoch(s.created), KeySchema: s.keys, Shards: []shardOut{},
		StreamArn: s.arn, StreamLabel: label(s.arn), StreamStatus: "ENABLED", StreamViewType: s.view, TableName: s.table}
	if !s.enabled {
		d.StreamStatus = "DISABLED"
	}
	limit := 100
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	for _, sh := range s.shards {
		if in.ExclusiveStartShardId != nil && sh.id <= *in.ExclusiveStartShardId {
			continue
		}
		if f := in.ShardFilter; f != nil && sh.parent != *f.ShardId {
			continue
		}
		if len(d.Shards) == limit {
			d.LastEvaluatedShardID = d.Shards[limit-1].ShardID
			break
		}
		d.Shards = append(d.Shards, shardOut{ParentShardID: sh.parent, ShardID: sh.id,
			SequenceNumberRange: sequenceRange{StartingSequenceNumber: sh.first, EndingSequenceNumber: sh.last}})
	}
	return struct{ StreamDescription description }{d}, nil
}

type getShardIteratorIn struct {
	StreamArn         *string `wire:"required,min=37,max=1024"`
	ShardId           *string `wire:"required,min=28,max=65"` //nolint:revive // the wire's name
	ShardIteratorType *string `wire:"required,enum=TRIM_HORIZON|LATEST|AT_SEQUENCE_NUMBER|AFTER_SEQUENCE_NUMBER|AT_TIMESTAMP"`
	SequenceNumber    *string `wire:"min=21,max=40"`
	Timestamp         *float64
}

func (e *Engine) getShardIterator(in getShardIteratorIn) (any, error) {
	s, err := e.streamOf(*in.StreamArn)
	if err != nil {
		return nil, err
	}
	sh := s.shard(*in.ShardId)
	if sh == nil {
		return nil, notFound("Shard: %s in Stream: %s not found", *in.ShardId, *in.StreamArn)
	}
	var position int64
	switch {
	case *in.ShardIteratorType == "AT_TIMESTAMP":
		position, err = sh.positionAt(in.Timestamp, in.SequenceNumber, e.config.Now())
	case in.Timestamp != nil:
		err = wire.Validation("Timestamp must not be provided for ShardIteratorType " + *in.ShardIteratorType)
	default:
		position, err = sh.position(*in.ShardIteratorType, in.SequenceNumber)
	}
	if err != nil {
		return nil, err
	}
	return struct{ ShardIterator string }{e.iterator(s, sh, position)}, nil
}

func (sh *shard) position(kind string, sequence *string) (int64, error) {
	switch kind {
	case "TRIM_HORIZON", "LATEST":
		if sequence != nil {
			return 0, wire.Validation("SequenceNumber must not be provided for ShardIteratorType " + kind)
		}
		if kind == "LATEST" {
			return sh.end(), nil
		}
		return sh.trimmed, nil
	}
	if sequence == nil {
		return 0, wire.Validation("SequenceNumber must be provided for ShardIteratorType " + kind)
	}
	at := *sequence
	if strings.Trim(at, "0123456789") != "" || less(at, sh.first) || sh.last != "" && less(sh.last, at) {
		return 0, wire.Validation("Invalid SequenceNumber " + at + " for shard " + sh.id)
	}
	if sh.trimmed > 0 && (len(sh.records) == 0 || less(at, sh.records[0].sequence)) {
		return 0, trimmedAccess()
	}
	for i, r := range sh.records {
		if less(at, r.sequence) || r.sequence == at && kind == "AT_SEQUENCE_NUMBER" {
			return sh.trimmed + int64(i), nil
		}
	}
	return sh.end(), nil
}

// positionAt finds the first record whose ApproximateCreationDateTime, which is a full second, is not before a time in seconds.
func (sh *shard) positionAt(seconds *float64, sequence *string, now time.Time) (int64, error) {
	switch {
	case sequence != nil:
		return 0, wire.Validation("SequenceNumber must not be provided for ShardIteratorType AT_TIMESTAMP")
	case seconds == nil:
		return 0, wire.Validation("Timestamp must be provided for ShardIteratorType AT_TIMESTAMP")
	case *seconds > float64(now.UnixMilli())/1000:
		return 0, wire.Validation("Timestamp must not be in the future")
	}
	for i, r := range sh.records {
		if float64(r.change.At.Unix()) >= *seconds {
			return sh.trimmed + int64(i), nil
		}
	}
	return sh.end(), nil
}

// less orders sequence numbers, which have no fixed length, as numbers.
func less(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

func trimmedAccess() error {
	return wire.Errorf("TrimmedDataAccessException", "The data you are trying to access has been trimmed")
}

func (e *Engine) iterator(s *stream, sh *shard, position int64) string {
	inner := strings.Join([]string{strconv.FormatInt(e.config.Now().UnixMilli(), 10), sh.id, strconv.FormatInt(position, 10)}, "/")
	return s.arn + iteratorMark + base64.StdEncoding.EncodeToString([]byte(inner))
}

func (e *Engine) openIterator(token string) (*stream, *shard, int64, error) {
	invalid := wire.Validation("Invalid ShardIterator")
	arn, inner, found := strings.Cut(token, iteratorMark)
	raw, err := base64.StdEncoding.DecodeString(inner)
	parts := strings.Split(string(raw), "/")
	if !found || err != nil || len(parts) != 3 {
		return nil, nil, 0, invalid
	}
	issued, err1 := strconv.ParseInt(parts[0], 10, 64)
	position, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err1 != nil || err2 != nil {
		return nil, nil, 0, invalid
	}
	if e.config.Now().Sub(time.UnixMilli(issued)) > iteratorLifetime {
		return nil, nil, 0, wire.Errorf("ExpiredIteratorException", "The shard iterator has expired. It was valid for %d minutes.",
			int(iteratorLifetime.Minutes()))
	}
	s := e.streams[arn]
	if s == nil {
		return nil, nil, 0, notFound("Stream: %s not found", arn)
	}
	sh := s.shard(parts[1])
	if sh == nil || position < sh.trimmed {
		return nil, nil, 0, trimmedAccess()
	}
	return s, sh, position, nil
}

type getRecordsIn struct {
	ShardIterator *string `wire:"required,min=1,max=2048"`
	Limit         *int32  `wire:"min=1,max=1000"`
}

func (e *Engine) getRecords(in getRecordsIn) (any, error) {
	s, sh, position, err := e.openIterator(*in.ShardIterator)
	if err != nil {
		return nil, err
	}
	limit := maxRecords
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	out := struct {
		NextShardIterator string `json:",omitempty"`
		Records           []recordOut
	}{Records: []recordOut{}}
	rest := sh.from(position)
	size := 0
	for _, r := range rest {
		size += r.change.SizeBytes
		if len(out.Records) == limit || len(out.Records) > 0 && size > maxAnswerBytes {
			break
		}
		out.Records = append(out.Records, r.out(e.config.Region))
	}
	if len(rest) > 0 || sh.last == "" {
		out.NextShardIterator = e.iterator(s, sh, position+int64(len(out.Records)))
	}
	return out, nil
}
