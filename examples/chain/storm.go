package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// faults is everything that may go wrong in outboxtest without anything being lost: all but DropRecord.
func faults() (all []outboxtest.Fault) {
	for _, service := range []string{"DynamoDB", "Kinesis"} {
		all = append(all,
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: service, Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.Throttle, Service: service, Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.ServerError, Service: service, Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.CutNetwork, Service: service, Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.Latency, Service: service, Probability: 0.1, Duration: 30 * time.Millisecond})
	}
	return append(all,
		outboxtest.Fault{Kind: outboxtest.TransactionConflict, Probability: 0.05},
		outboxtest.Fault{Kind: outboxtest.TransactionInProgress, Probability: 0.02},
		outboxtest.Fault{Kind: outboxtest.DuplicateRecord, Probability: 0.3},
		outboxtest.Fault{Kind: outboxtest.DelayRecord, Probability: 0.2, Duration: 500 * time.Millisecond},
		outboxtest.Fault{Kind: outboxtest.ReorderRecord, Probability: 0.2})
}

// dice is a source of random numbers for many goroutines.
type dice struct {
	mu     sync.Mutex
	random *mathrand.Rand
}

func newDice(seed uint64) *dice { return &dice{random: mathrand.New(mathrand.NewPCG(seed, 0))} }

// n returns a number below n.
func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(n)
}

// life returns one of so many requests as a worker makes in a few seconds.
func (d *dice) life(end func()) *life {
	return &life{left: 1 + d.n(200), arrives: d.n(2) == 0, end: end}
}

// An AWS that is no outboxtest does not lose answers on request, nor deliver records twice. Then a rough client does the one, and
// couriers the other.

// rough is an HTTP client that loses requests and answers while on.
type rough struct {
	next aws.HTTPClient
	dice *dice
	on   *atomic.Bool
	lost *atomic.Int64
}

var errLost = errors.New("the connection was lost")

func (c rough) Do(r *http.Request) (*http.Response, error) {
	luck := 100
	if c.on.Load() {
		luck = c.dice.n(100)
	}
	if luck < 5 {
		c.lost.Add(1)
		return nil, errLost
	}
	res, err := c.next.Do(r)
	if luck < 10 && err == nil {
		c.lost.Add(1)
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return nil, errLost
	}
	return res, err
}

// courier carries the records of a stream to another one as badly as DynamoDB may: every record at least once, some twice, late, and
// in any order.
type courier struct {
	from    *tape
	to      string
	dice    *dice
	on      *atomic.Bool
	twice   *atomic.Int64
	carried atomic.Int64 // records whose copies have all arrived
}

// run ends with ctx.
func (c *courier) run(ctx context.Context) {
	var carrying sync.WaitGroup
	defer carrying.Wait()
	for ; ctx.Err() == nil; sleep(ctx, 250*time.Millisecond) {
		records, _ := c.from.read(ctx) // what fails is read the next time
		for _, r := range records {
			copies := 1
			if c.on.Load() && c.dice.n(10) < 3 {
				copies = 2
				c.twice.Add(1)
			}
			carrying.Go(func() {
				for range copies {
					sleep(ctx, time.Duration(c.dice.n(500))*time.Millisecond)
					c.carry(ctx, r.data)
				}
				c.carried.Add(1)
			})
		}
	}
}

func (c *courier) carry(ctx context.Context, data []byte) {
	for ctx.Err() == nil {
		_, err := c.from.streams.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: &c.to, PartitionKey: aws.String(rand.Text()), Data: data})
		if err == nil {
			return
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// tape is a stream that is read from its beginning.
type tape struct {
	streams *kinesis.Client
	stream  string
	next    map[string]*string // by shard, where it goes on
}

type taped struct {
	place // in the stream
	data  []byte
}

// read returns what has arrived since the last time, in all shards.
func (t *tape) read(ctx context.Context) ([]taped, error) {
	if t.next == nil {
		listed, err := t.streams.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &t.stream})
		if err != nil {
			return nil, err
		}
		next := make(map[string]*string)
		for _, s := range listed.Shards {
			it, err := t.streams.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: &t.stream, ShardId: s.ShardId,
				ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
			if err != nil {
				return nil, err
			}
			next[*s.ShardId] = it.ShardIterator
		}
		t.next = next
	}
	var all []taped
	for shard, next := range t.next {
		for more := true; more; {
			got, err := t.streams.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				return all, err
			}
			for _, r := range got.Records {
				all = append(all, taped{place{t.stream, shard, *r.SequenceNumber}, r.Data})
			}
			next = got.NextShardIterator
			t.next[shard] = next
			more = len(got.Records) > 0
		}
	}
	return all, nil
}
