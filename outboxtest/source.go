package outboxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/kinesis"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/lambda"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/streams"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// source finds the stream of an event source and its ARN.
func (s *Server) source(src EventSource) (lambda.Source, string, error) {
	if src.Table != "" {
		arn, ok := s.streams.Resolve(context.Background(), src.Table)
		if !ok {
			return nil, "", fmt.Errorf("table %q does not exist or has no DynamoDB stream", src.Table)
		}
		return &tableSource{engine: s.streams, arn: arn}, arn, nil
	}
	arn, ok := s.kinesis.Resolve(src.Stream)
	if !ok {
		return nil, "", fmt.Errorf("there is no Kinesis stream %q", src.Stream)
	}
	return &kinesisSource{engine: s.kinesis, arn: arn, region: s.settings.region, account: s.settings.account,
		names: len(src.Filter) > 0}, arn, nil
}

// kinesisSource reads a Kinesis stream as a mapping does.
type kinesisSource struct {
	engine               *kinesis.Engine
	arn, region, account string
	names                bool // the filter looks into the data
}

func (k *kinesisSource) Changed() <-chan struct{} { return k.engine.Changed() }

func (k *kinesisSource) Shards() []lambda.Shard {
	var out []lambda.Shard
	for _, sh := range k.engine.Shards(k.arn) {
		out = append(out, lambda.Shard{ID: sh.ID, Parents: sh.Parents})
	}
	return out
}

func (k *kinesisSource) Position(shardID, start string, at time.Time) (int64, bool) {
	return k.engine.Position(k.arn, shardID, start, at)
}

func (k *kinesisSource) Read(shardID string, position int64, limit int) ([]lambda.Record, int64, bool, bool) {
	records, next, ended, ok := k.engine.Read(k.arn, shardID, position, limit)
	out := make([]lambda.Record, 0, len(records))
	for _, r := range records {
		out = append(out, k.record(shardID, r))
	}
	return out, next, ended, ok
}

// kinesisEvent is one element of Records in a Lambda event. Its fields have the
// order of captured events.
type kinesisEvent struct {
	Kinesis struct {
		SchemaVersion  string     `json:"kinesisSchemaVersion"`
		PartitionKey   string     `json:"partitionKey"`
		SequenceNumber string     `json:"sequenceNumber"`
		Data           []byte     `json:"data"`
		Arrived        wire.Epoch `json:"approximateArrivalTimestamp"`
	} `json:"kinesis"`
	EventSource       string `json:"eventSource"`
	EventVersion      string `json:"eventVersion"`
	EventID           string `json:"eventID"`
	EventName         string `json:"eventName"`
	InvokeIdentityARN string `json:"invokeIdentityArn"`
	AWSRegion         string `json:"awsRegion"`
	EventSourceARN    string `json:"eventSourceARN"`
}

func (k *kinesisSource) record(shardID string, r kinesis.Record) lambda.Record {
	e := kinesisEvent{
		EventSource: "aws:kinesis", EventVersion: "1.0", EventID: shardID + ":" + r.SequenceNumber,
		EventName: "aws:kinesis:record", InvokeIdentityARN: "arn:aws:iam::" + k.account + ":role/lambda-role",
		AWSRegion: k.region, EventSourceARN: k.arn,
	}
	e.Kinesis.SchemaVersion, e.Kinesis.PartitionKey, e.Kinesis.SequenceNumber = "1.0", r.PartitionKey, r.SequenceNumber
	e.Kinesis.Data, e.Kinesis.Arrived = r.Data, wire.Epoch(r.Arrived)
	body, _ := wire.Marshal(e) // strings, bytes and a number always encode
	out := lambda.Record{ID: r.SequenceNumber, Group: r.PartitionKey, Arrived: r.Arrived, JSON: body}
	if k.names {
		var change struct {
			EventName string `json:"eventName"`
		}
		_ = json.Unmarshal(r.Data, &change) // data that is not JSON has no event name, and the filter skips it
		out.EventName = change.EventName
	}
	return out
}

// tableSource reads a DynamoDB stream as a mapping does.
type tableSource struct {
	engine *streams.Engine
	arn    string
}

func (t *tableSource) Changed() <-chan struct{} { return t.engine.Changed() }

func (t *tableSource) Shards() []lambda.Shard {
	var out []lambda.Shard
	for _, sh := range t.engine.Shards(t.arn) {
		shard := lambda.Shard{ID: sh.ID}
		if sh.Parent != "" {
			shard.Parents = []string{sh.Parent}
		}
		out = append(out, shard)
	}
	return out
}

func (t *tableSource) Position(shardID, start string, _ time.Time) (int64, bool) {
	return t.engine.Position(t.arn, shardID, start)
}

func (t *tableSource) Read(shardID string, position int64, limit int) ([]lambda.Record, int64, bool, bool) {
	records, next, ended, ok := t.engine.Read(t.arn, shardID, position, limit)
	out := make([]lambda.Record, 0, len(records))
	for _, r := range records {
		out = append(out, lambda.Record{ID: r.SequenceNumber, Group: r.Group, EventName: r.EventName, Arrived: r.At, JSON: r.JSON})
	}
	return out, next, ended, ok
}
