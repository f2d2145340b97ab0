package storm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// read starts what reads the stream.
func (w *world) read() {
	switch {
	case w.plan.both:
		w.function(false)
		w.fleet(true)
	case w.plan.lambda:
		w.function(w.plan.streams)
	default:
		w.fleet(w.plan.streams)
	}
}

// fleet starts Workers. One that dies is replaced after a while.
func (w *world) fleet(streams bool) {
	for i := range w.plan.readers {
		w.spawn(func() {
			for life := 0; !w.ending.Load(); life++ {
				name := fmt.Sprintf("worker%d.%d", i, life)
				w.work(w.start(name, w.killAt(name, 500)), streams)
				w.sleep(time.Duration(share(w.plan.seed, name, "down", 0) * float64(10*time.Second)))
			}
		})
	}
}

// killAt is at which request a process dies; 0: never.
func (w *world) killAt(process string, most int) int {
	if !w.plan.kills || w.calm.Load() || share(w.plan.seed, process, "dies", 0) < 0.3 {
		return 0
	}
	return 1 + int(share(w.plan.seed, process, "dies at", 0)*float64(most))
}

// work runs a Worker until its process or the run ends.
func (w *world) work(p *process, streams bool) {
	leases := must(outbox.NewLeaseTable(p.db, "leases", "consumer"))
	options := []outbox.WorkerOption{
		outbox.WithBatchSize(w.plan.batch),
		outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 3, BaseDelay: 50 * time.Millisecond, MaxDelay: 500 * time.Millisecond}),
	}
	worker := must(outbox.NewWorker(p.kinesis, "changes", p.consumer, leases, options...))
	if streams {
		worker = must(outbox.NewStreamsWorker(p.streams, w.streamARN, p.consumer, leases, options...))
	}
	w.pauseLater(p, 20*time.Second, 30*time.Second)
	w.note("%s starts", p.name)
	err := worker.Run(p.ctx)
	switch {
	case p.dead():
		w.reach("a Worker was killed")
		w.note("%s was killed", p.name)
	case err != nil:
		w.problem("run: %s ended by itself: %v", p.name, err)
	}
	p.kill()
}

// pauseLater pauses a process within a while, for up to a time, if processes are paused in this run.
func (w *world) pauseLater(p *process, within, most time.Duration) {
	if !w.plan.pauses || w.calm.Load() {
		return
	}
	time.AfterFunc(time.Duration(share(w.plan.seed, p.name, "pause", 0)*float64(within)), func() {
		if p.ctx.Err() == nil {
			w.reach("paused")
			w.note("%s is paused", p.name)
			p.pause(time.Duration(share(w.plan.seed, p.name, "pause for", 0) * float64(most)))
		}
	})
}

// function maps the stream to instances of a Lambda function, which handle one invocation at a time.
func (w *world) function(streams bool) {
	idle := make(chan *process, w.plan.readers)
	for i := range w.plan.readers {
		name := fmt.Sprintf("lambda%d.0", i)
		idle <- w.start(name, w.killAt(name, 300))
	}
	lives := 0
	source := outboxtest.EventSource{Stream: "changes", ReportBatchItemFailures: true, BatchSize: w.plan.batch}
	if streams {
		source.Stream, source.Table = "", "events"
	}
	must(w.cloud.Map(source, func(ctx context.Context, payload []byte) ([]byte, error) {
		var p *process
		select {
		case p = <-idle:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		answer, err := w.invoke(ctx, p, payload)
		if p.dead() {
			w.mu.Lock()
			lives++
			name := fmt.Sprintf("lambda.%d", lives)
			w.mu.Unlock()
			p = w.start(name, w.killAt(name, 300))
		}
		idle <- p
		return answer, err
	}))
}

const invocationTimeout = 20 * time.Second

// invoke is one invocation: an answer that comes after the deadline, or from a dead process, is none.
func (w *world) invoke(ctx context.Context, p *process, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, invocation{}, true), invocationTimeout)
	type result struct {
		answer []byte
		err    error
	}
	answers := make(chan result, 1)
	w.spawn(func() {
		defer cancel()
		answer, err := p.consumer.Invoke(ctx, payload)
		answers <- result{answer, err}
	})
	select {
	case r := <-answers:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && !p.dead() {
			w.problem("deadline: %s answered after its deadline", p.name)
		}
		return r.answer, r.err
	case <-p.link.dead:
		w.reach("an instance was killed")
		return nil, errDead
	case <-time.After(invocationTimeout + time.Minute):
		w.problem("deadline: %s has not answered a minute after its deadline", p.name)
		p.kill()
		return nil, errors.New("timeout")
	}
}
