package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// deadlinePlan has an event for each thing that can happen to an event in an invocation.
func deadlinePlan() *plan {
	permanent, transient := &poison{permanent: true, stage: 9}, &poison{stage: 9}
	return &plan{seed: 1, shards: 1, attempts: 3, batch: 100, aggregates: []*aggregate{
		{name: "TX-0", typ: "TX"},
		{name: "GUARDED-1", typ: "GUARDED"},
		{name: "PLAIN-2", typ: "PLAIN", poison: map[int]*poison{1: permanent}}, // a letter, and an event behind it
		{name: "TX-3", typ: "TX", poison: map[int]*poison{2: transient}},       // attempts, then a letter
		{name: "PLAIN-4", typ: "PLAIN"},
	}}
}

// hang is what hangs in an invocation.
type hang struct {
	name     string
	deadline time.Duration
	request  func(n int) bool
	handler  string // the aggregate whose handler does not return before its context ends
}

func TestInvokeAnswersBeforeItsDeadlineWhateverHangs(t *testing.T) {
	requests := 0
	inBubble(t, func(t *testing.T) {
		w, p := invokeAll(t, hang{name: "nothing", deadline: time.Minute})
		requests = p.link.all
		require.Empty(t, w.problems)
	})
	require.Greater(t, requests, 10)

	var hangs []hang
	for _, deadline := range []time.Duration{time.Second, 2 * time.Second, time.Minute} {
		for k := 1; k <= requests; k++ {
			hangs = append(hangs,
				hang{fmt.Sprintf("request %d of %s", k, deadline), deadline, func(n int) bool { return n == k }, ""},
				hang{fmt.Sprintf("requests from %d on of %s", k, deadline), deadline, func(n int) bool { return n >= k }, ""})
		}
		for _, a := range deadlinePlan().aggregates {
			hangs = append(hangs, hang{fmt.Sprintf("handler of %s of %s", a.name, deadline), deadline, nil, a.name},
				hang{fmt.Sprintf("handler of %s of %s and all requests from 5 on", a.name, deadline), deadline, func(n int) bool { return n >= 5 }, a.name})
		}
	}
	for _, h := range hangs {
		t.Run(h.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w, _ := invokeAll(t, h)
				for _, problem := range w.problems {
					t.Error(problem)
				}
				if t.Failed() {
					for _, line := range w.lines {
						t.Log(line)
					}
				}
			})
		})
	}
	t.Logf("%d requests in an invocation, %d ways to hang", requests, len(hangs))
}

// invokeAll invokes a function until everything in a batch is finished. Something hangs in one of the invocations, until its end; what is
// unfinished is delivered again, as Lambda does.
func invokeAll(t *testing.T, h hang) (*world, *process) {
	w := newWorld(t, deadlinePlan())
	defer w.close()
	w.write(t, 1)
	w.write(t, 2)
	payload := w.batch(t)

	p := w.start("instance", 0)
	p.link.hangs = h.request
	first := true
	w.stuck = func(_ *process, s step) bool { return first && s.aggregate.name == h.handler }
	for rest, round := 0, 0; rest < len(payload.records); round++ {
		if round == 200 {
			w.problem("liveness: record %d is not finished after %d invocations", rest, round)
			return w, p
		}
		rest += w.invokeBy(t, p, payload.from(rest), h.deadline)
		first = false
		p.link.heal()
		w.sleep(time.Second)
	}
	w.afterwards(t)
	return w, p
}

// afterwards requires that everything is finished as it should be.
func (w *world) afterwards(t *testing.T) {
	w.settle(t.Context())
	letters := w.kept(t.Context())
	poisoned := []string{"PLAIN-2/1", "PLAIN-2/2", "TX-3/2"}
	for _, want := range poisoned {
		require.Contains(t, letters, want)
	}
	for _, s := range w.written {
		if letter, kept := letters[s.String()]; kept && !slices.Contains(poisoned, s.String()) {
			w.problem("letters: %s became one: %s", s, letter.Error)
		}
		if s.aggregate.typ != "TX" || s.String() == "TX-3/2" {
			continue
		}
		if n := must(w.number(t.Context(), w.db, "effect "+s.String(), "runs")); n != 1 {
			w.problem("effects: those of %s were committed %d times", s, n)
		}
	}
}

// invokeBy invokes a function once. It returns the position of the first unfinished record, and requires that all before it are finished.
func (w *world) invokeBy(t *testing.T, p *process, payload *batch, deadline time.Duration) int {
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), invocation{}, true), deadline)
	defer cancel()
	begun := time.Now()
	answer, err := p.consumer.Invoke(ctx, payload.json(t))
	took := time.Since(begun)
	w.note("%s answered %s after %s", p.name, answer, took)
	if took >= deadline {
		w.problem("deadline: an answer after %s, the deadline was at %s", took, deadline)
	}
	require.NoError(t, err)
	var failures struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	require.NoError(t, json.Unmarshal(answer, &failures), "%s", answer)
	first := len(payload.records)
	for _, failure := range failures.BatchItemFailures {
		first = min(first, payload.position(t, failure.ItemIdentifier))
	}
	letters := w.kept(t.Context())
	for _, s := range payload.steps[:first] {
		if _, kept := letters[s.String()]; !kept && !w.handled(t.Context(), s) {
			w.problem("lost: %s counts as finished, and is neither handled nor a letter", s)
		}
	}
	return first
}

// batch is what Lambda hands to a function.
type batch struct {
	records []json.RawMessage
	steps   []step
}

// batch takes what was written out of the stream.
func (w *world) batch(t *testing.T) *batch {
	payloads := make(chan []byte, 1)
	mapping, err := w.cloud.Map(outboxtest.EventSource{Stream: "changes", BatchSize: len(w.written), BatchWindow: time.Minute},
		func(_ context.Context, payload []byte) ([]byte, error) {
			payloads <- payload
			return nil, nil
		})
	require.NoError(t, err)
	var event struct{ Records []json.RawMessage }
	require.NoError(t, json.Unmarshal(<-payloads, &event))
	mapping.Stop()
	require.Len(t, event.Records, len(w.written))
	return &batch{event.Records, w.written}
}

func (b *batch) from(i int) *batch { return &batch{b.records[i:], b.steps[i:]} }

func (b *batch) json(t *testing.T) []byte {
	text, err := json.Marshal(map[string]any{"Records": b.records})
	require.NoError(t, err)
	return text
}

func (b *batch) position(t *testing.T, identifier string) int {
	for i, record := range b.records {
		var r struct {
			Kinesis struct{ SequenceNumber string }
		}
		require.NoError(t, json.Unmarshal(record, &r))
		if r.Kinesis.SequenceNumber == identifier {
			return i
		}
	}
	t.Fatalf("the answer names %q, which is no record of the batch", identifier)
	return 0
}
