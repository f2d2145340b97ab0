package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox"
)

// pollStream hands every record of the stream to the consumer, from the oldest on, until ctx ends. It keeps no checkpoint
// and follows no resharding: enough to try the service out, no more. In production let Lambda do this.
func pollStream(ctx context.Context, pollers *sync.WaitGroup, client *kinesis.Client, stream string, consumer *outbox.Consumer) error {
	shards, err := client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		return fmt.Errorf("shards of stream %s: %w", stream, err)
	}
	for _, shard := range shards.Shards {
		p := &poller{client: client, stream: stream, shard: aws.ToString(shard.ShardId), consumer: consumer}
		pollers.Go(func() { p.run(ctx) })
	}
	return nil
}

// pollPause is the time between two looks at a shard, which takes at most 5 reads a second.
const pollPause = 500 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// poller reads one shard.
type poller struct {
	client   *kinesis.Client
	stream   string
	shard    string
	consumer *outbox.Consumer
	last     *string // sequence number of the last record that is finished
}

// run reads the shard until it ends or ctx does. Whatever fails is tried again from the last finished record.
func (p *poller) run(ctx context.Context) {
	for ctx.Err() == nil {
		ended, err := p.read(ctx)
		if ended {
			return
		}
		if err != nil && ctx.Err() == nil {
			slog.Error("shard not read, trying again", "shard", p.shard, "error", err)
		}
		sleep(ctx, pollPause)
	}
}

// read follows one iterator until it fails, the shard ends, or a record is not handled.
func (p *poller) read(ctx context.Context) (ended bool, err error) {
	start := &kinesis.GetShardIteratorInput{StreamName: &p.stream, ShardId: &p.shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if p.last != nil {
		start.ShardIteratorType, start.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, p.last
	}
	iterator, err := p.client.GetShardIterator(ctx, start)
	if err != nil {
		return false, err
	}
	for next := iterator.ShardIterator; next != nil; {
		out, err := p.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: next})
		if err != nil {
			return false, err
		}
		for _, r := range out.Records {
			if err := p.handle(ctx, r); err != nil {
				return false, err
			}
			p.last = r.SequenceNumber
		}
		next = out.NextShardIterator
		sleep(ctx, pollPause)
	}
	return true, nil
}

func (p *poller) handle(ctx context.Context, r types.Record) error {
	record, err := outbox.DecodeRecord(r.Data)
	if errors.Is(err, outbox.ErrNotEvent) {
		return nil
	}
	if err != nil {
		return err
	}
	record.ShardID, record.SequenceNumber = p.shard, aws.ToString(r.SequenceNumber)
	return p.consumer.Process(ctx, record)
}
