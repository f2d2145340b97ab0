package orderstorm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
)

// The events of an aggregate with a handler: one of HandleTx, and a guarded one. NOTED is a type that nobody wants.
type (
	posted struct{}
	mailed struct{}
)

func (posted) EventType() string { return "POSTED" }
func (mailed) EventType() string { return "MAILED" }

// version is what the process of a deployment knows.
type version int

const (
	ordered version = iota // WithOrder
	keeping                // WithOrder and KeepMarks
	marking                // marks alone
)

// process is one process of the consumer. Nothing of it is shared with another process but the services.
type process struct {
	world    *world
	version  version
	link     *link
	kinesis  *kinesis.Client
	private  *dynamodb.Client // for the effects of guarded handlers: without faults
	writer   *outbox.Writer
	leases   outbox.Leases
	consumer *outbox.Consumer
	ctx      context.Context // ends with the process
}

// start begins a process, which dies at its killAt-th request, unless that is 0.
func (w *world) start(name string, v version, killAt int) *process {
	p := &process{world: w, version: v}
	var kill context.CancelFunc
	p.ctx, kill = context.WithCancel(w.ctx)
	dead, once := make(chan struct{}), sync.Once{}
	link := func(calm bool) *link {
		return &link{world: w, process: name, calm: calm, dead: dead, counts: map[string]uint64{}, kill: func() {
			once.Do(func() { close(dead); kill() })
		}}
	}
	p.link = link(name == "calm")
	p.link.killAt, p.link.killAfter = killAt, killAt%2 == 1
	config := w.cloud.Config()
	config.Credentials = aws.AnonymousCredentials{} // a signature costs a third of a request
	config.HTTPClient = p.link
	db := dynamodb.NewFromConfig(config)
	p.kinesis = kinesis.NewFromConfig(config)
	config.HTTPClient = link(true)
	p.private = dynamodb.NewFromConfig(config)
	p.leases = must(outbox.NewLeaseTable(db, "leases", "consumer"))
	p.writer = must(outbox.NewWriter(db, "events"))
	inbox := must(outbox.NewInbox(db, "inbox", "consumer", outbox.WithInboxCache(w.plan.remembers), outbox.WithClaimDuration(20*time.Second)))
	opts := []outbox.ConsumerOption{outbox.WithInbox(inbox, "MAILED"), outbox.WithConsumerHooks(w.hooks(v)), outbox.WithLogger(slog.New(slog.DiscardHandler))}
	if v != marking {
		w.mu.Lock()
		from := w.from
		w.mu.Unlock()
		opts = append(opts, outbox.WithOrder(db, "events", from))
	}
	if v == keeping && !w.planted.noMarks {
		opts = append(opts, outbox.KeepMarks())
	}
	if w.plan.letters {
		opts = append(opts, outbox.WithDeadLetters(must(outbox.NewDeadLetterTable(db, "letters", "consumer")), outbox.WithInvokeAttempts(1)))
	}
	p.consumer = must(outbox.NewConsumer(append(opts, w.options...)...))
	outbox.HandleTx(p.consumer, p.writer, p.post)
	if w.plan.change != keeps {
		outbox.Handle(p.consumer, p.mail)
	}
	outbox.Ignore(p.consumer, "NOTED")
	return p
}

func (p *process) dead() bool {
	select {
	case <-p.link.dead:
		return true
	default:
		return false
	}
}

// post is a handler of HandleTx.
func (p *process) post(ctx context.Context, e outbox.Event[posted]) (outbox.Effects, error) {
	if err := p.runs(ctx, e.AggregateID, e.Sequence, e.Time); err != nil {
		return outbox.Effects{}, err
	}
	if p.world.plan.change == stops && p.version == ordered && p.world.has(e.AggregateID, e.Sequence) { // which a process with marks has handled
		return outbox.Effects{}, nil
	}
	return outbox.Effects{Writes: []types.TransactWriteItem{{Update: p.effect(e.AggregateID, e.Sequence)}}}, nil
}

// mail is a guarded handler. When its process dies before the claim is a position, it runs once more, and finds its effect.
func (p *process) mail(ctx context.Context, e outbox.Event[mailed]) error {
	if err := p.runs(ctx, e.AggregateID, e.Sequence, e.Time); err != nil {
		return err
	}
	u := p.effect(e.AggregateID, e.Sequence)
	_, err := p.private.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: u.TableName, Key: u.Key, UpdateExpression: u.UpdateExpression,
		ConditionExpression: u.ConditionExpression, ExpressionAttributeNames: u.ExpressionAttributeNames, ExpressionAttributeValues: u.ExpressionAttributeValues})
	if refused := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &refused) {
		w := p.world
		w.mu.Lock()
		defer w.mu.Unlock()
		if last := w.lastLocked(e.AggregateID); !w.committed[e.AggregateID][e.Sequence] || w.plan.change == stays && last != e.Sequence {
			w.brokeLocked(checkClaim, "%s: the claim allows a run of %d, and the last effect is that of %d", e.AggregateID, e.Sequence, last)
		}
		return nil
	}
	return err
}

// runs is what every handler does first. With an order the events before must have had their effects.
func (p *process) runs(ctx context.Context, account string, n int64, at time.Time) error {
	w := p.world
	w.mu.Lock()
	if before := w.before(n); p.version != marking && before > 0 && !w.committed[account][before] {
		w.brokeLocked(checkPredecessor, "%s: a handler gets %d, and the last effect is that of %d", account, n, w.lastLocked(account))
	}
	if p.version != marking && at.Before(w.from) {
		w.brokeLocked(checkBegan, "%s: a handler gets %d, which is older than what is wanted", account, n)
	}
	fails := w.luck.Float64() < w.plan.fails && !w.quiet.Load() && !w.cured
	w.mu.Unlock()
	select {
	case <-time.After(10 * time.Millisecond): // in which others commit
	case <-ctx.Done():
		return ctx.Err()
	}
	if fails {
		return errors.New("now and then")
	}
	return nil
}

// effect adds a number to the list in an account's row, if the number before it was the last one. In a change-over it must not be there, and, with an
// order, the number before it must be.
func (p *process) effect(account string, n int64) *types.Update {
	number := func(n int64) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
	}
	u := &types.Update{TableName: aws.String("accounts"), Key: map[string]types.AttributeValue{"accountId": &types.AttributeValueMemberS{Value: account}},
		UpdateExpression:         aws.String("SET #last = :n, effects = list_append(if_not_exists(effects, :none), :one)"),
		ConditionExpression:      aws.String("attribute_not_exists(#last)"),
		ExpressionAttributeNames: map[string]string{"#last": "last"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":n": number(n), ":none": &types.AttributeValueMemberL{Value: []types.AttributeValue{}},
			":one": &types.AttributeValueMemberL{Value: []types.AttributeValue{number(n)}}}}
	before := p.world.before(n)
	if p.world.plan.change != stays {
		u.ExpressionAttributeNames["#last"] = fmt.Sprint("effect-", n)
		if p.version != marking && before > 0 {
			u.ConditionExpression = aws.String("attribute_not_exists(#last) AND attribute_exists(#before)")
			u.ExpressionAttributeNames["#before"] = fmt.Sprint("effect-", before)
		}
	} else if before > 0 {
		u.ConditionExpression = aws.String("#last = :before")
		u.ExpressionAttributeValues[":before"] = number(before)
	}
	return u
}

func (w *world) has(account string, n int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.committed[account][n]
}

// function is a Lambda function: each invocation takes an idle instance, or starts one.
type function struct {
	world *world
	name  string

	mu      sync.Mutex
	idle    map[version][]*process
	started int
}

func (f *function) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	v, _, ok := f.world.enter()
	if !ok {
		return nil, errStopped
	}
	defer f.world.leave(v)
	f.mu.Lock()
	var p *process
	if last := len(f.idle[v]) - 1; last >= 0 {
		p, f.idle[v] = f.idle[v][last], f.idle[v][:last]
	} else {
		f.started++
		p = f.world.start(fmt.Sprintf("%s-%d", f.name, f.started), v, f.world.killAt())
	}
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	answer, err := p.consumer.Invoke(ctx, payload)
	if p.dead() {
		return nil, errDead
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle[v] = append(f.idle[v], p)
	return answer, err
}

// work runs Workers, one after the other, until ctx ends.
func (w *world) work(ctx context.Context, name string) {
	for i := 1; ctx.Err() == nil; i++ {
		v, deployed, ok := w.enter()
		if !ok {
			time.Sleep(time.Second)
			continue
		}
		p := w.start(fmt.Sprintf("%s-%d", name, i), v, w.killAt())
		worker := must(outbox.NewWorker(p.kinesis, "events", p.consumer, p.leases))
		ctx, cancel := context.WithCancel(ctx)
		died, replaced := context.AfterFunc(p.ctx, cancel), context.AfterFunc(deployed, cancel)
		_ = worker.Run(ctx)
		died()
		replaced()
		cancel()
		w.leave(v)
	}
}

// enter begins a run of a version that is deployed. ok is false if there is none. deployed ends with the deployment.
func (w *world) enter() (v version, deployed context.Context, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch len(w.versions) {
	case 0:
		return 0, nil, false
	case 1:
		v = w.versions[0]
	default:
		v = w.versions[w.luck.IntN(len(w.versions))]
	}
	w.running[v]++
	return v, w.deployed, true
}

func (w *world) leave(v version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[v]--
}
