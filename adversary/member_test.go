package adversary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	streams "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
)

// member is a machine. It runs a process after the other.
type member struct {
	name         string
	world        *world
	faults       *faults
	kinesisFirst first[kinesis.ListShardsOutput]
	streamsFirst first[streams.DescribeStreamOutput]
	mu           sync.Mutex
	current      *process
	all          []*process
	gone         bool // no process is started any more
	hangs        int  // so many of the next handlers hang
}

// first keeps the first answer of a kind.
type first[T any] struct{ answer atomic.Pointer[T] }

func (f *first[T]) get() *T        { return f.answer.Load() }
func (f *first[T]) keep(answer *T) { f.answer.CompareAndSwap(nil, answer) }

// process is a Worker from its start to its end.
type process struct {
	name   string
	member *member
	link   *link
	cancel context.CancelFunc
	done   chan struct{}
	asked  atomic.Bool // to stop

	complains atomic.Bool // its Health says that it cannot do its work

	err error
}

var errHandler = errors.New("the handler fails")

// works says that the process was not killed, not asked to stop, and has not ended.
func (p *process) works() bool {
	select {
	case <-p.done:
		return false
	default:
		return !p.asked.Load() && !p.link.killed.Load()
	}
}

// start runs a process unless one works, and another one after it whenever it ends by itself, as a supervisor does.
func (m *member) start() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone || m.current != nil && m.current.works() {
		return m.current
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{name: fmt.Sprintf("%s.%d", m.name, len(m.all)+1), member: m, link: &link{faults: m.faults}, cancel: cancel, done: make(chan struct{})}
	m.current, m.all = p, append(m.all, p)
	worker := m.world.worker(p)
	go func() {
		p.err = worker.Run(ctx)
		if p.err != nil {
			m.world.log.add(p.name, "Run: "+p.err.Error())
		}
		close(p.done)
		if ctx.Err() == nil && !p.link.killed.Load() {
			m.world.reached.count("Run ends by itself")
			select {
			case <-time.After(5 * time.Second):
				m.start()
			case <-m.world.over:
			}
		}
	}()
	return p
}

// processes returns those that have run until now.
func (m *member) processes() []*process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

func (m *member) process() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// kill ends the process at once: nothing of it reaches anything any more.
func (p *process) kill() {
	p.link.killed.Store(true)
	p.cancel()
}

// stop asks the process to end in good order.
func (p *process) stop() {
	p.asked.Store(true)
	p.cancel()
}

// depart kills the member for good.
func (m *member) depart() {
	m.mu.Lock()
	m.gone = true
	p := m.current
	m.mu.Unlock()
	p.kill()
}

// worker makes the Consumer and the Worker of a process.
func (w *world) worker(p *process) *outbox.Worker {
	through := tableLink{link: p.link, db: w.db}
	options := []outbox.ConsumerOption{outbox.WithLogger(slog.New(w.log.of(p.name))), outbox.WithConcurrency(w.plan.concurrency),
		outbox.WithConsumerHooks(outbox.ConsumerHooks{DeadLettered: func(_ context.Context, l outbox.DeadLetter) {
			if !p.link.killed.Load() {
				w.reached.count("dead letter")
				w.history.deadLettered(l.Record.ID)
			}
		}})}
	if w.plan.letters {
		table, err := outbox.NewDeadLetterTable(through, "dead", "consumer")
		must(err)
		options = append(options, outbox.WithDeadLetters(table))
	}
	consumer, err := outbox.NewConsumer(options...)
	must(err)
	outbox.HandleType(consumer, "HAPPENED", func(ctx context.Context, e outbox.Event[string]) error { return w.handle(ctx, p, e.ID) })
	leases, err := outbox.NewLeaseTable(through, "leases", "group")
	must(err)
	workerOptions := []outbox.WorkerOption{outbox.WithMaxUnfinished(w.plan.maxUnfinished), outbox.WithBatchSize(w.plan.batch), outbox.WithStockReader(),
		outbox.WithDrainTimeout(w.plan.drain), outbox.WithWorkerHooks(outbox.WorkerHooks{
			Health: func(err error) { p.complains.Store(err != nil) },
			DataLost: func(loss outbox.DataLoss) {
				w.log.add(p.name, fmt.Sprintf("DataLost %+v", loss))
				w.history.dataLost(loss)
			},
			Lease: func(e outbox.LeaseEvent) {
				w.reached.count("lease " + string(e.Kind))
				if !p.link.killed.Load() {
					w.history.lease(p, e)
				}
			}})}
	if w.plan.letters {
		workerOptions = append(workerOptions, outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 5, BaseDelay: 100 * time.Millisecond, MaxDelay: time.Second}))
	}
	if w.plan.latest {
		workerOptions = append(workerOptions, outbox.StartAtLatest())
	}
	var worker *outbox.Worker
	if w.plan.streams {
		worker, err = outbox.NewStreamsWorker(streamsLink{link: p.link, real: w.dynamo, foreign: w.foreignDynamo, first: &p.member.streamsFirst},
			streamARN, consumer, leases, workerOptions...)
	} else {
		worker, err = outbox.NewWorker(kinesisLink{link: p.link, real: w.kinesis, foreign: w.foreignKinesis, first: &p.member.kinesisFirst},
			"events", consumer, leases, workerOptions...)
	}
	must(err)
	return worker
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// handle is the handler of every event.
func (w *world) handle(ctx context.Context, p *process, event string) error {
	if p.link.killed.Load() {
		return errKilled
	}
	at, _ := outbox.RecordFromContext(ctx)
	w.stream.mu.Lock()
	r := w.stream.records[event]
	w.stream.mu.Unlock()
	if r == nil || r.shard != at.ShardID || r.sequence != at.SequenceNumber {
		w.history.note("%s of %s, %s is handed over, which the stream does not have there", event, at.ShardID, at.SequenceNumber)
		return nil
	}
	mine := w.history.start(ctx, p, r, at.Fence)
	err := w.effect(ctx, p, mine, event)
	if p.link.killed.Load() {
		err = errKilled
	}
	w.history.end(mine, r, err == nil)
	return err
}

// effect is what the handler does: nothing, or it takes long, fails, or never ends.
func (w *world) effect(ctx context.Context, p *process, mine *run, event string) error {
	p.member.mu.Lock()
	hangs := p.member.hangs > 0
	if hangs {
		p.member.hangs--
	}
	p.member.mu.Unlock()
	if hangs {
		w.reached.count("a handler hangs for ever")
		w.history.hang(mine)
		<-w.over
		return errHandler
	}
	took := w.plan.takes(event)
	if took > 10*time.Second {
		w.reached.count("a handler takes long")
	}
	if took > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(took):
		}
	}
	switch {
	case w.plan.failing[event]:
		w.reached.count("a handler fails for ever")
		return errHandler
	case w.faulty.Load() && p.link.intn(100) < w.plan.failsInHundred:
		w.reached.count("a handler fails for a while")
		return errHandler
	}
	return nil
}
