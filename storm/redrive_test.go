package storm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox"
)

func TestRedriveStorm(t *testing.T) {
	runs(t, 1, func(t *testing.T, seed uint64) *history {
		w := newWorld(t, planOf(seed))
		w.redriveRun(t)
		return w.history
	})
}

// inBubble runs one world in a bubble of its own.
func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// redriveRun is a whole run: generations of events, the healing, redrives from everywhere, and a calm end.
func (w *world) redriveRun(t *testing.T) {
	defer w.close()
	w.read()
	for generation := 1; generation <= w.plan.generations; generation++ {
		if generation == w.plan.reshard {
			w.resharded(t)
		}
		if generation == 3 && w.plan.early {
			w.redrives(t, 1)
		}
		w.write(t, generation)
		if !w.settle(t.Context()) || w.wrong() {
			return
		}
		w.sleep(w.between(2*time.Second, 4*time.Second)) // a Worker knows within a second what is parked
	}
	// While letters are redriven, later events arrive.
	for stage := 1; stage <= 2; stage++ {
		w.healed.Store(int32(stage))
		w.note("stage %d is healed", stage)
		if stage == 2 && w.plan.discard != nil {
			w.spawn(func() { w.discard(*w.plan.discard) })
		}
		w.redrives(t, 2)
		w.write(t, w.plan.generations+stage)
		if !w.settle(t.Context()) || w.wrong() {
			return
		}
		w.sleep(w.between(2*time.Second, 4*time.Second))
	}
	w.finish(t)
}

// redrives are several at once: two processes of people, a request that others answer, and an answerer.
func (w *world) redrives(t *testing.T, rounds int) {
	for i := range 2 {
		w.spawn(func() {
			for round := range rounds {
				name := fmt.Sprintf("person%d.%d.%s", i, round, w.at())
				p := w.start(name, w.killAt(name, 60))
				w.pauseLater(p, 2*time.Second, 3*time.Minute)
				w.redrive(p, w.filter(name))
				p.kill()
			}
		})
	}
	if _, err := w.letters.RequestRedrive(t.Context(), w.filter("request"+w.at())); err != nil {
		w.problem("a redrive cannot be asked for: %v", err)
	}
	w.spawn(func() {
		name := "answerer." + w.at()
		p := w.start(name, w.killAt(name, 60))
		ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
		defer cancel()
		result, err := p.letters.AnswerRedriveRequests(ctx, p.consumer)
		w.note("%s answered requests: %+v, %v", name, result, err)
		p.kill()
	})
}

// filter selects everything, a type, or an aggregate.
func (w *world) filter(name string) outbox.DeadLetterFilter {
	a := w.plan.aggregates[int(share(w.plan.seed, name, "aggregate", 0)*float64(len(w.plan.aggregates)))]
	switch int(share(w.plan.seed, name, "filter", 0) * 4) {
	case 0:
		return outbox.DeadLetterFilter{AggregateID: a.name}
	case 1:
		return outbox.DeadLetterFilter{Type: a.typ}
	}
	return outbox.DeadLetterFilter{}
}

func (w *world) redrive(p *process, filter outbox.DeadLetterFilter) outbox.RedriveResult {
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Minute)
	defer cancel()
	w.note("%s redrives %+v", p.name, filter)
	result, err := p.letters.Redrive(ctx, p.consumer, filter, outbox.RedriveOptions{})
	w.note("%s has redriven: %+v, %v", p.name, result, err)
	if p.dead() {
		w.reach("a redrive was killed")
	}
	if result.Busy > 0 {
		w.reach("a redrive was busy")
	}
	if result.Failed > 0 {
		w.reach("a redrive failed")
	}
	return result
}

// discard removes one letter for good, however often it must be tried.
func (w *world) discard(s step) {
	letter, ok := w.kept(w.ctx)[s.String()]
	if !ok {
		return
	}
	w.discardBegun.Store(true)
	for try := range 200 {
		name := fmt.Sprintf("discarder.%s.%d", w.at(), try)
		p := w.start(name, w.killAt(name, 20))
		err := p.letters.Discard(p.ctx, letter.ID)
		w.note("%s discards %s: %v", name, s, err)
		p.kill()
		if err == nil || errors.Is(err, outbox.ErrNoDeadLetter) || w.ending.Load() {
			w.reach("discarded")
			if next, ok := w.kept(w.ctx)[step{s.aggregate, s.n + 1}.String()]; ok && w.discardsTwo {
				w.note("planted: %v", w.letters.Discard(w.ctx, next.ID))
			}
			return
		}
		w.sleep(time.Second)
	}
	w.problem("liveness: %s cannot be discarded", s)
}

// resharded splits the first open shard of the Kinesis stream, and lets the DynamoDB stream go on in a new shard.
func (w *world) resharded(t *testing.T) {
	ctx := t.Context()
	if err := w.cloud.RollStreamShard("events"); err != nil {
		t.Fatal(err)
	}
	shards, err := w.cloud.Kinesis.ListShards(ctx, &kinesis.ListShardsInput{StreamName: aws.String("changes")})
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range shards.Shards {
		if shard.SequenceNumberRange.EndingSequenceNumber != nil {
			continue
		}
		if _, err := w.cloud.Kinesis.SplitShard(ctx, &kinesis.SplitShardInput{
			StreamName: aws.String("changes"), ShardToSplit: shard.ShardId, NewStartingHashKey: aws.String(middle(shard)),
		}); err != nil {
			t.Fatal(err)
		}
		w.reach("resharded")
		return
	}
}

func middle(shard types.Shard) string {
	return half(*shard.HashKeyRange.StartingHashKey, *shard.HashKeyRange.EndingHashKey)
}

// finish ends all faults: then everything must be handled after a few redrives, and nothing may stay parked.
func (w *world) finish(t *testing.T) {
	ctx := t.Context()
	w.calm.Store(true)
	w.faults.stop()
	w.note("calm")
	w.sleep(30 * time.Second)
	if w.plan.pauses || w.faults.shares[isLate] > 0 {
		w.sleep(latest)
	}
	for round := 0; ; round++ {
		letters := w.kept(ctx)
		if d := w.plan.discard; d != nil {
			if _, kept := letters[d.String()]; kept {
				w.discard(*d)
			}
		}
		if len(letters) == 0 && w.allHandled(ctx) {
			break
		}
		if round == 20 {
			w.problem("liveness: letters left after all is healed and redriven: %v", keys(letters))
			for _, s := range w.written {
				if !w.handled(ctx, s) && !w.isDiscarded(s) {
					w.problem("lost: %s was not handled", s)
				}
			}
			return
		}
		if w.wrong() {
			return
		}
		p := w.start(fmt.Sprintf("last%d", round), 0)
		w.redrive(p, outbox.DeadLetterFilter{})
		p.kill()
		w.sleep(30 * time.Second)
	}
	w.last(t)
	w.counts(ctx)
}

// last shows that nothing is parked any more: one more event of each aggregate reaches its handler by itself.
func (w *world) last(t *testing.T) {
	w.write(t, w.plan.generations+3)
	if !w.settle(t.Context()) {
		return
	}
	if letters := w.kept(t.Context()); len(letters) > 0 {
		w.problem("parked: without a poison these became letters: %v", keys(letters))
	}
}

func (w *world) allHandled(ctx context.Context) bool {
	for _, s := range w.written {
		if !w.handled(ctx, s) && !w.isDiscarded(s) {
			return false
		}
	}
	return true
}

// counts requires that the effects of HandleTx were committed once.
func (w *world) counts(ctx context.Context) {
	for _, s := range w.written {
		if s.aggregate.typ != (stepTx{}).EventType() || w.isDiscarded(s) {
			continue
		}
		if runs := must(w.number(ctx, w.db, "effect "+s.String(), "runs")); runs != 1 {
			w.problem("effects: those of %s were committed %d times", s, runs)
		}
	}
	if w.plan.lambda && !w.plan.both {
		return
	}
	// Workers look for requests every two seconds. One that has just been killed leaves them to the next.
	for begun := time.Now(); ; w.sleep(10 * time.Second) {
		pending, err := w.letters.PendingRedrives(ctx)
		if err == nil && pending == 0 {
			return
		}
		if time.Since(begun) > 2*time.Minute {
			w.problem("liveness: %d requests are not answered after two minutes, %v", pending, err)
			return
		}
	}
}
