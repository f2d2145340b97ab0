package main

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// mapping hands the records of a stream with one shard to a function, as Lambda would, but repeats at once what is unfinished.
type mapping struct {
	client   *kinesis.Client
	stream   string
	invoke   func(context.Context, []byte) ([]byte, error)
	iterator *string
	waiting  []events.KinesisEventRecord
}

// read takes in what is in the stream.
func (m *mapping) read(t *testing.T) {
	if m.iterator == nil {
		shard := "shardId-000000000000"
		out, err := m.client.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: &m.stream, ShardId: &shard,
			ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
		require.NoError(t, err)
		m.iterator = out.ShardIterator
	}
	for {
		out, err := m.client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: m.iterator})
		require.NoError(t, err)
		m.iterator = out.NextShardIterator
		for _, r := range out.Records {
			m.waiting = append(m.waiting, record(*r.SequenceNumber, r.Data))
		}
		if len(out.Records) == 0 {
			return
		}
	}
}

// drain has everything handled that was written before.
func (m *mapping) drain(t *testing.T, cloud *outboxtest.AWS) {
	require.NoError(t, cloud.Drain(t.Context())) // into the stream
	for m.read(t); len(m.waiting) > 0; m.read(t) {
		batch := m.waiting[:min(100, len(m.waiting))]
		payload, err := json.Marshal(events.KinesisEvent{Records: batch})
		require.NoError(t, err)
		answer, err := m.invoke(t.Context(), payload)
		require.NoError(t, err)
		var failures events.KinesisEventResponse
		require.NoError(t, json.Unmarshal(answer, &failures))
		done := len(batch)
		for _, f := range failures.BatchItemFailures {
			at := slices.IndexFunc(batch, func(r events.KinesisEventRecord) bool { return r.Kinesis.SequenceNumber == f.ItemIdentifier })
			require.NotEqual(t, -1, at, f)
			done = min(done, at)
		}
		m.waiting = m.waiting[done:]
	}
}
