package storm

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
)

// process is one process of the service: its clients, its Consumer, its tables. Nothing of it is shared with another process but the services.
type process struct {
	name    string
	link    *link
	db      *dynamodb.Client
	private *dynamodb.Client // for what a handler reads by itself: slow, but without faults
	kinesis *kinesis.Client
	streams *dynamodbstreams.Client

	inbox    *outbox.Inbox
	letters  *outbox.DeadLetterTable
	writer   *outbox.Writer
	consumer *outbox.Consumer

	paused atomic.Bool     // at some time
	ctx    context.Context // ends with the process
	cancel context.CancelFunc
	once   sync.Once
}

// start begins a process. It dies at its killAt-th request, unless that is 0.
func (w *world) start(name string, killAt int) *process {
	p := &process{name: name}
	p.ctx, p.cancel = context.WithCancel(w.ctx)
	newLink := func(f *faults) *link {
		return &link{process: name, note: w.note, to: w.cloud.HTTPClient(), faults: f, dead: make(chan struct{}), counts: map[string]int{}, kill: p.kill}
	}
	p.link = newLink(w.faults)
	p.link.killAt, p.link.skew, p.link.tamper = killAt, w.skewOf(name), w.tamper
	quiet := newLink(&faults{off: true})
	quiet.dead = p.link.dead

	config := w.cloud.Config()
	config.HTTPClient = p.link
	p.db, p.kinesis, p.streams = dynamodb.NewFromConfig(config), kinesis.NewFromConfig(config), dynamodbstreams.NewFromConfig(config)
	config.HTTPClient = quiet
	p.private = dynamodb.NewFromConfig(config)

	p.inbox = must(outbox.NewInbox(p.db, "inbox", "consumer"))
	p.letters = must(outbox.NewDeadLetterTable(p.db, "letters", "consumer"))
	p.writer = must(outbox.NewWriter(p.db, "events"))
	p.consumer = must(outbox.NewConsumer(append([]outbox.ConsumerOption{
		outbox.WithTables("events"),
		outbox.WithInbox(p.inbox, guarded{}.EventType(), claimed{}.EventType()),
		outbox.WithDeadLetters(p.letters, outbox.WithInvokeAttempts(w.plan.attempts)),
		outbox.WithConsumerHooks(w.hooks(!w.faults.ambiguous() && !w.plan.pauses)),
		outbox.WithLogger(slog.New(slog.NewTextHandler(w.log, nil)).With("process", name)),
	}, w.consumerOptions...)...))
	w.register(p)
	return p
}

// kill ends the process at once: no request of it gets through any more, and no handler of it has an effect.
func (p *process) kill() {
	p.once.Do(func() {
		close(p.link.dead)
		p.cancel()
	})
}

func (p *process) dead() bool {
	select {
	case <-p.link.dead:
		return true
	default:
		return false
	}
}

// pause holds up every request and every handler of the process for d.
func (p *process) pause(d time.Duration) {
	p.paused.Store(true)
	end := make(chan struct{})
	p.link.mu.Lock()
	p.link.paused = end
	p.link.mu.Unlock()
	time.AfterFunc(d, func() {
		p.link.mu.Lock()
		defer p.link.mu.Unlock()
		p.link.paused = nil
		close(end)
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
