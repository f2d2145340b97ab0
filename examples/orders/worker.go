package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// newWorker returns a worker that shares the stream with all others of the group.
func newWorker(ctx context.Context, aws cloud, set settings, consumer *outbox.Consumer, hooks outbox.WorkerHooks) (*outbox.Worker, error) {
	leases, err := outbox.NewLeaseTable(aws.dynamodb, leasesTable, service.Group)
	if err != nil {
		return nil, err
	}
	if err := leases.Create(ctx); err != nil {
		return nil, err
	}
	return outbox.NewWorker(aws.kinesis, eventsStream, consumer, leases,
		outbox.WithLeaseDuration(set.lease), outbox.WithMaxUnfinished(set.unfinished), outbox.WithWorkerHooks(hooks))
}

// runWorker is a process that only confirms. It prints what it does in lines of JSON.
func runWorker(ctx context.Context, set settings, consumer *outbox.Consumer, mails *mailbox, out io.Writer) error {
	aws, err := configured(ctx)
	if err != nil {
		return err
	}
	j := &journal{out: json.NewEncoder(out)}
	mails.told = j.confirmed
	worker, err := newWorker(ctx, aws, set, consumer, outbox.WorkerHooks{Lease: j.lease})
	if err == nil {
		err = awaitStream(ctx, aws.kinesis, eventsStream)
	}
	if err == nil {
		err = worker.Run(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // it was stopped before it began
	}
	return err
}

// journal is what a worker did, one line of JSON each. It is safe for concurrent use.
type journal struct {
	mu  sync.Mutex
	out *json.Encoder
}

// entry is a line of the journal: a confirmation, or what happened to a lease.
type entry struct {
	At       time.Time `json:"at"`
	Did      string    `json:"did"` // "confirmed", or the kind of a lease event
	Shard    string    `json:"shard"`
	Fence    int64     `json:"fence"`
	Sequence string    `json:"sequence,omitempty"`
	EventID  string    `json:"eventId,omitempty"`
	OrderID  string    `json:"orderId,omitempty"`
}

func (j *journal) confirmed(ctx context.Context, m Mail) error {
	e := entry{Did: "confirmed", EventID: m.EventID, OrderID: m.OrderID}
	if r, ok := outbox.RecordFromContext(ctx); ok {
		e.Shard, e.Fence, e.Sequence = r.ShardID, r.Fence, r.SequenceNumber
	}
	return j.write(e)
}

func (j *journal) lease(e outbox.LeaseEvent) {
	_ = j.write(entry{Did: string(e.Kind), Shard: e.Shard, Fence: e.Fence}) // a confirmation that cannot be written is an error
}

func (j *journal) write(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.At = time.Now()
	return j.out.Encode(e)
}
