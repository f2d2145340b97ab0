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

// process is one process of the consumer. Nothing of it is shared with another process but the services.
type process struct {
	world    *world
	link     *link
	kinesis  *kinesis.Client
	private  *dynamodb.Client // for the effects of guarded handlers: without faults
	writer   *outbox.Writer
	leases   outbox.Leases
	consumer *outbox.Consumer
	ctx      context.Context // ends with the process
}

// start begins a process, which dies at its killAt-th request, unless that is 0.
func (w *world) start(name string, killAt int) *process {
	p := &process{world: w}
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
	opts := []outbox.ConsumerOption{outbox.WithInbox(inbox, "MAILED"), outbox.WithOrder(db, "events", w.plan.from), outbox.WithConsumerHooks(w.hooks()),
		outbox.WithLogger(slog.New(slog.DiscardHandler))}
	if w.plan.letters {
		opts = append(opts, outbox.WithDeadLetters(must(outbox.NewDeadLetterTable(db, "letters", "consumer")), outbox.WithInvokeAttempts(1)))
	}
	p.consumer = must(outbox.NewConsumer(append(opts, w.options...)...))
	outbox.HandleTx(p.consumer, p.writer, p.post)
	outbox.Handle(p.consumer, p.mail)
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
	if err := p.world.runs(ctx, e.AggregateID, e.Sequence); err != nil {
		return outbox.Effects{}, err
	}
	return outbox.Effects{Writes: []types.TransactWriteItem{{Update: p.world.effect(e.AggregateID, e.Sequence)}}}, nil
}

// mail is a guarded handler. When its process dies before the claim is a position, it runs once more, and finds its effect.
func (p *process) mail(ctx context.Context, e outbox.Event[mailed]) error {
	if err := p.world.runs(ctx, e.AggregateID, e.Sequence); err != nil {
		return err
	}
	u := p.world.effect(e.AggregateID, e.Sequence)
	_, err := p.private.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: u.TableName, Key: u.Key, UpdateExpression: u.UpdateExpression,
		ConditionExpression: u.ConditionExpression, ExpressionAttributeNames: u.ExpressionAttributeNames, ExpressionAttributeValues: u.ExpressionAttributeValues})
	if refused := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &refused) {
		p.world.mu.Lock()
		defer p.world.mu.Unlock()
		if have := p.world.committed[e.AggregateID]; have != e.Sequence {
			p.world.brokeLocked("table: %s: the claim allows a run of %d, and the last effect is that of %d", e.AggregateID, e.Sequence, have)
		}
		return nil
	}
	return err
}

// runs is what every handler does first: the events before must have had their effects.
func (w *world) runs(ctx context.Context, account string, n int64) error {
	w.mu.Lock()
	if have := w.committed[account]; have < w.before(n) {
		w.brokeLocked("predecessor: %s: a handler gets %d, and the last effect is that of %d", account, n, have)
	}
	fails := w.luck.Float64() < w.plan.fails && !w.quiet.Load()
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

// effect adds a number to the list in an account's row, if the number before it was the last one.
func (w *world) effect(account string, n int64) *types.Update {
	number := func(n int64) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
	}
	u := &types.Update{TableName: aws.String("accounts"), Key: map[string]types.AttributeValue{"accountId": &types.AttributeValueMemberS{Value: account}},
		UpdateExpression:         aws.String("SET #last = :n, effects = list_append(if_not_exists(effects, :none), :one)"),
		ConditionExpression:      aws.String("attribute_not_exists(#last)"),
		ExpressionAttributeNames: map[string]string{"#last": "last"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":n": number(n), ":none": &types.AttributeValueMemberL{Value: []types.AttributeValue{}},
			":one": &types.AttributeValueMemberL{Value: []types.AttributeValue{number(n)}}}}
	if before := w.before(n); before > 0 {
		u.ConditionExpression = aws.String("#last = :before")
		u.ExpressionAttributeValues[":before"] = number(before)
	}
	return u
}

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
		p = f.world.start(fmt.Sprintf("%s-%d", f.name, f.started), f.world.killAt())
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
	f.idle = append(f.idle, p)
	return answer, err
}

// work runs Workers, one after the other, until ctx ends.
func (w *world) work(ctx context.Context, name string) {
	for i := 1; ctx.Err() == nil; i++ {
		p := w.start(fmt.Sprintf("%s-%d", name, i), w.killAt())
		worker := must(outbox.NewWorker(p.kinesis, "events", p.consumer, p.leases))
		ctx, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(p.ctx, cancel)
		_ = worker.Run(ctx)
		stop()
		cancel()
	}
}
