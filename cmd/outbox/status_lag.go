package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

const (
	mostCounted = 100 // records of a shard that are read and counted
	// Kinesis passes over an empty stretch of a shard in several answers.
	mostReads = 20
	fewReads  = 4 // once the next record is found
	// clockTolerance is by how much AWS's clocks may differ among each other. The Date of an answer has full seconds.
	clockTolerance = time.Minute
	// leastRetention is for how long each stream keeps records.
	leastRetention = 24 * time.Hour
)

// keeps returns for how long the stream keeps records. If this cannot be read, it is told, and the least that a stream can have counts.
func (a *app) keeps(ctx context.Context, c *clients, stream string) time.Duration {
	in := &kinesis.DescribeStreamSummaryInput{}
	in.StreamName, in.StreamARN = streamName(stream)
	out, err := c.kinesis.DescribeStreamSummary(ctx, in)
	if err == nil && (out.StreamDescriptionSummary == nil || out.StreamDescriptionSummary.RetentionPeriodHours == nil) {
		err = errors.New("the answer does not say")
	}
	if err != nil {
		if ctx.Err() == nil {
			a.note("for how long stream %s keeps records is unknown, and taken to be %s: %s", stream, age(leastRetention), a.explain(err))
		}
		return leastRetention
	}
	return max(leastRetention, time.Duration(*out.StreamDescriptionSummary.RetentionPeriodHours)*time.Hour)
}

// measure looks for the next records of every shard, a few shards at a time.
func (a *app) measure(ctx context.Context, c *clients, g *groupStatus, clock *shardreader.Clock) error {
	bar := a.bar("reading", len(g.Shards))
	defer bar.done()
	var (
		mu    sync.Mutex
		done  int
		wg    sync.WaitGroup
		slots = make(chan struct{}, 8)
	)
	for _, s := range g.Shards {
		if !s.readable() {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			m := &measurement{app: a, c: c, stream: g.Stream, clock: clock, shardStatus: s, keeps: time.Duration(g.Keeps)}
			if err := m.take(ctx); err != nil {
				s.Lag, s.LagAtMost, s.Waiting, s.MoreWaiting = nil, nil, nil, false
				s.Error = a.explain(err)
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			bar.set(done)
		})
	}
	wg.Wait()
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return nil // after --timeout, what is known of the others is worth to be told
}

// measurement finds out what of a shard is not finished.
type measurement struct {
	*app
	c      *clients
	stream string
	clock  *shardreader.Clock
	keeps  time.Duration
	*shardStatus

	read, waiting int
	found         bool // the next record that is not finished
	first         bool // a record was read that comes before it, or is it: nothing between has expired
}

// take reads from the place on up to which everything is finished, until the end of the shard or until enough is read.
func (m *measurement) take(ctx context.Context) error {
	in := m.start
	in.StreamName, in.StreamARN = streamName(m.stream)
	iterator, err := m.c.kinesis.GetShardIterator(ctx, &in)
	if err != nil {
		return err
	}
	next := iterator.ShardIterator
	for n := 1; ; n++ {
		get := &kinesis.GetRecordsInput{ShardIterator: next, Limit: aws.Int32(int32(mostCounted - m.read))}
		_, get.StreamARN = streamName(m.stream)
		sent := time.Now()
		out, err := m.c.kinesis.GetRecords(ctx, get)
		if err != nil {
			return err
		}
		m.clock.Saw(out.ResultMetadata, sent)
		if err := m.answer(out); err != nil {
			return err
		}
		behind := int64(-1)
		if out.MillisBehindLatest != nil {
			behind = *out.MillisBehindLatest
		}
		tip := behind == 0 || out.NextShardIterator == nil
		if tip || m.read >= mostCounted || n >= mostReads || m.found && n >= fewReads {
			m.conclude(tip, behind)
			return nil
		}
		next = out.NextShardIterator
		if err := backoff.Sleep(ctx, m.pace); err != nil {
			return err
		}
	}
}

// answer takes in the records of an answer.
func (m *measurement) answer(out *kinesis.GetRecordsOutput) error {
	last := out.NextShardIterator == nil && len(out.ChildShards) == 0
	switch behind := out.MillisBehindLatest; {
	case out.Records == nil && len(out.ChildShards) == 0:
		return errors.New("GetRecords has no list of records")
	case len(out.Records) == 0 && behind == nil:
		return errors.New("GetRecords says neither what is in the shard nor how far behind its end that is")
	case last && m.open:
		return errors.New("GetRecords gives no next iterator, as at the end of a shard, and the stream lists the shard as open")
	case last && (behind == nil || *behind > 0):
		return errors.New("GetRecords gives no next iterator, as at the end of a shard, and does not say that this is the end")
	}
	for i := range out.Records {
		r := &out.Records[i]
		m.read++
		sequence := aws.ToString(r.SequenceNumber)
		if sequence == "" {
			return errors.New("GetRecords does not say which record a record is")
		}
		if from := m.start.StartingSequenceNumber; from != nil {
			order := shardreader.CompareSequence(sequence, *from)
			m.first = m.first || order == 0
			if order < 0 || order == 0 && len(m.Unfinished) == 0 {
				continue // finished
			}
		}
		if !m.ended && (m.Checkpoint == "" || shardreader.CompareSequence(sequence, m.Checkpoint) > 0) {
			m.waiting++
		}
		if m.found || len(m.Unfinished) > 0 && !m.first { // the first unfinished record has expired: this one is perhaps finished
			continue
		}
		if r.ApproximateArrivalTimestamp == nil {
			return errors.New("GetRecords does not say when a record arrived")
		}
		m.found = true
		m.NextSequenceNumber = sequence
		m.Lag = new(seconds)
		lag := m.clock.Now().Sub(*r.ApproximateArrivalTimestamp)
		if lag < -clockTolerance {
			return fmt.Errorf("a record has arrived %s after the time that AWS's answers say: the clock is wrong", -lag.Round(time.Second))
		}
		*m.Lag = seconds(max(0, lag))
		if event, err := outbox.DecodeRecord(r.Data); err == nil {
			e := asJSON(event, false)
			e.SequenceNumber = sequence
			m.Next = &e
		}
	}
	return nil
}

// conclude says what the answers mean. tip says that the last one came to the end of what there is.
func (m *measurement) conclude(tip bool, behind int64) {
	switch {
	case m.start.StartingSequenceNumber != nil:
		m.Expired = !m.first && (tip || m.read > 0)
	case m.start.ShardIteratorType == kinesistypes.ShardIteratorTypeAtTimestamp:
		m.Expired = m.clock.Now().Sub(*m.start.Timestamp) > m.keeps
	}
	m.silent = tip && m.read == 0
	m.waiting += len(m.Unfinished)
	if tip || m.waiting > 0 {
		m.Waiting, m.MoreWaiting = &m.waiting, !tip
	}
	switch {
	case m.found:
	case tip && m.waiting == 0:
		m.Lag = new(seconds)
	case behind > 0 && len(m.Unfinished) == 0:
		most := seconds(time.Duration(behind) * time.Millisecond)
		m.LagAtMost = &most
	}
}

// streamName is a stream's name, or its ARN.
func streamName(stream string) (name, arn *string) {
	if len(stream) > 4 && stream[:4] == "arn:" {
		return nil, &stream
	}
	return &stream, nil
}
