package reconcilestorm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// posted is the event N of its account.
type posted struct{ N int64 }

func (posted) EventType() string { return "POSTED" }

// process is one process of the consumer. Nothing of it is shared with another process but the services.
type process struct {
	world    *world
	kinesis  *kinesis.Client
	writer   *outbox.Writer
	leases   *outbox.LeaseTable
	inbox    *outbox.Inbox
	letters  *outbox.DeadLetterTable
	consumer *outbox.Consumer
	events   *replay.Events
	ctx      context.Context // ends with the process
}

// start begins a process, which dies at its killAt-th request, unless that is 0. A calm one has no faults.
func (w *world) start(name string, calm bool, killAt int) *process {
	p := &process{world: w}
	var kill context.CancelFunc
	p.ctx, kill = context.WithCancel(w.ctx)
	config := w.cloud.Config()
	config.Credentials = aws.AnonymousCredentials{} // a signature costs a third of a request
	config.HTTPClient = &link{world: w, process: name, calm: calm, kill: kill, dead: p.ctx.Done(), counts: map[string]uint64{}, killAt: killAt, killAfter: killAt%2 == 1}
	db := dynamodb.NewFromConfig(config)
	p.kinesis = kinesis.NewFromConfig(config)
	p.leases = must(outbox.NewLeaseTable(db, "leases", "consumer"))
	p.writer = must(outbox.NewWriter(db, "events"))
	p.inbox = must(outbox.NewInbox(db, "inbox", "consumer"))
	p.letters = must(outbox.NewDeadLetterTable(db, "letters", "consumer"))
	p.events = must(replay.New(db, "events"))
	opts := []outbox.ConsumerOption{outbox.WithInbox(p.inbox), outbox.WithLogger(slog.New(slog.DiscardHandler))}
	if w.plan.ordered {
		opts = append(opts, outbox.WithOrder(db, "events", time.Time{}))
	}
	if w.plan.letters {
		opts = append(opts, outbox.WithDeadLetters(p.letters))
	}
	p.consumer = must(outbox.NewConsumer(opts...))
	outbox.HandleTx(p.consumer, p.writer, p.post)
	return p
}

func (p *process) dead() bool { return p.ctx.Err() != nil }

// post adds the number of the event to the list of its account: an event that is handled twice is in it twice.
func (p *process) post(ctx context.Context, e outbox.Event[posted]) (outbox.Effects, error) {
	select {
	case <-time.After(10 * time.Millisecond): // in which others commit
	case <-ctx.Done():
		return outbox.Effects{}, ctx.Err()
	}
	if p.world.plan.letters && poison(e.Data.N) && !p.world.cured.Load() {
		return outbox.Effects{}, outbox.Permanent(errors.New("poison"))
	}
	number := &types.AttributeValueMemberN{Value: strconv.FormatInt(e.Data.N, 10)}
	return outbox.Effects{Writes: []types.TransactWriteItem{{Update: &types.Update{TableName: aws.String("accounts"),
		Key:              map[string]types.AttributeValue{"accountId": &types.AttributeValueMemberS{Value: e.AggregateID}},
		UpdateExpression: aws.String("SET effects = list_append(if_not_exists(effects, :none), :one)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":none": &types.AttributeValueMemberL{Value: []types.AttributeValue{}},
			":one": &types.AttributeValueMemberL{Value: []types.AttributeValue{number}}}}}}}, nil
}

func poison(n int64) bool { return n%6 == 3 }

// function is a Lambda function: each invocation takes an idle instance, or starts one.
type function struct {
	world *world
	name  string

	mu      sync.Mutex
	idle    []*process
	started int
}

func (f *function) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	f.mu.Lock()
	var p *process
	if last := len(f.idle) - 1; last >= 0 {
		p, f.idle = f.idle[last], f.idle[:last]
	} else {
		f.started++
		p = f.world.start(fmt.Sprintf("%s-%d", f.name, f.started), false, f.world.killAt())
	}
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	if f.world.loses != nil {
		if payload = f.world.without(payload); payload == nil {
			return nil, nil
		}
	}
	answer, err := p.consumer.Invoke(ctx, payload)
	if p.dead() {
		return nil, errDead
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = append(f.idle, p)
	return answer, err
}

// without leaves out the records that the world loses; it returns nil if none is left.
func (w *world) without(payload []byte) []byte {
	var in struct{ Records []json.RawMessage }
	must(0, json.Unmarshal(payload, &in))
	in.Records = slices.DeleteFunc(in.Records, func(record json.RawMessage) bool {
		var r struct{ Kinesis struct{ Data []byte } }
		must(0, json.Unmarshal(record, &r))
		return w.loses(r.Kinesis.Data)
	})
	if len(in.Records) == 0 {
		return nil
	}
	return must(json.Marshal(in))
}

// work runs Workers, one after the other, until ctx ends.
func (w *world) work(ctx context.Context, name string) {
	for i := 1; ctx.Err() == nil; i++ {
		p := w.start(fmt.Sprintf("%s-%d", name, i), false, w.killAt())
		worker := must(outbox.NewWorker(p.kinesis, "events", p.consumer, p.leases))
		ctx, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(p.ctx, cancel)
		_ = worker.Run(ctx)
		stop()
		cancel()
	}
}

// reconcile calls Reconcile in the middle of each second, in one process after the other, until ctx ends.
func (w *world) reconcile(ctx context.Context, name string) {
	for i := 1; ctx.Err() == nil; i++ {
		p := w.start(fmt.Sprintf("%s-%d", name, i), false, w.killAt())
		ctx, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(p.ctx, cancel)
		for ctx.Err() == nil {
			r, err := p.events.Reconcile(ctx, p.consumer, replay.ReconcileOptions{Every: time.Second, Cycle: time.Duration(w.plan.segments) * time.Second, Grace: 2 * time.Second})
			w.delivered.Add(int64(r.Delivered))
			if errors.Is(err, replay.ErrBehind) {
				w.broke(checkBehind, "%v", err)
			}
			select {
			case <-time.After(time.Until(time.Now().Truncate(time.Second).Add(1500 * time.Millisecond))):
			case <-ctx.Done():
			}
		}
		stop()
		cancel()
	}
}
