package page

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// Stage says what happened in a Step.
type Stage string

// The stages. An event is committed, delivered (or healed), started, mailed and finished, if all goes well.
const (
	Committed Stage = "committed" // the order and its event are in their tables, by one transaction
	Delivered Stage = "delivered" // the event's change record came out of the stream
	Healed    Stage = "healed"    // the stream had not brought it when a later event of its order came, so it was read from the events table
	Started   Stage = "started"   // its handler runs
	Mailed    Stage = "mailed"    // the mail was sent
	Finished  Stage = "finished"  // its handler has succeeded
	Failed    Stage = "failed"    // its handler has failed
	Duplicate Stage = "duplicate" // the inbox knows it, and no handler runs
	Dead      Stage = "dead"      // it became a dead letter
	Parked    Stage = "parked"    // it waits behind a dead letter of its order
	Redriven  Stage = "redriven"  // a redrive has ended
)

// Step is something that happened to an event.
type Step struct {
	Stage     Stage     `json:"stage"`
	At        time.Time `json:"at"`
	Order     string    `json:"order,omitempty"`
	Event     string    `json:"event,omitempty"` // its id
	Type      string    `json:"type,omitempty"`
	Shard     string    `json:"shard,omitempty"`
	Sequence  string    `json:"sequence,omitempty"`
	ChangedAt time.Time `json:"changedAt,omitzero"` // when DynamoDB made the change that the change record tells
	Redrive   bool      `json:"redrive,omitempty"`  // the handler was called by a redrive
	Text      string    `json:"text,omitempty"`     // the description, the mail, the error
	Counts    Counts    `json:"counts"`             // with this step
}

// Counts says what has happened since the service was started.
type Counts struct {
	Orders     int `json:"orders"`
	Mails      int `json:"mails"`
	Duplicates int `json:"duplicates"` // that were suppressed
	Waiting    int `json:"waiting"`    // dead letters, and what is parked behind them
}

// maxText bounds the text of a step, in bytes.
const maxText = 300

// watch turns what the hooks see into steps. It is safe for concurrent use.
type watch struct {
	feed *feed

	mu      sync.Mutex
	counts  Counts
	waiting map[string]bool // events
}

func newWatch(f *feed) *watch { return &watch{feed: f, waiting: make(map[string]bool)} }

// count counts a step. The lock is held.
func (w *watch) count(s *Step) Counts {
	switch s.Stage {
	case Committed:
		if s.Type == (service.OrderCreated{}).EventType() {
			w.counts.Orders++
		}
	case Mailed:
		w.counts.Mails++
	case Duplicate:
		if !s.Redrive {
			w.counts.Duplicates++
		}
		delete(w.waiting, s.Event)
	case Finished:
		delete(w.waiting, s.Event)
	case Dead, Parked:
		w.waiting[s.Event] = true
	}
	w.counts.Waiting = len(w.waiting)
	return w.counts
}

func (w *watch) add(s Step) {
	w.mu.Lock()
	defer w.mu.Unlock() // until it is in the feed, whose order is that of the counts
	s.At = time.Now()
	s.Counts = w.count(&s)
	if len(s.Text) > maxText {
		s.Text = strings.ToValidUTF8(s.Text[:maxText], "") + "…"
	}
	line, err := json.Marshal(s)
	if err != nil {
		slog.Error("step not shown", "stage", s.Stage, "event", s.Event, "error", err)
		return
	}
	w.feed.add(line)
}

func stepOf(stage Stage, r *outbox.Record) Step {
	return Step{Stage: stage, Order: r.AggregateID, Event: r.ID, Type: r.Type, Shard: r.ShardID, Sequence: r.SequenceNumber}
}

// written is a hook of the Writer.
func (w *watch) written(_ context.Context, info outbox.WriteInfo) {
	if info.Duplicate {
		return
	}
	for _, r := range info.Events {
		s := stepOf(Committed, &r)
		s.Text = description(&r)
		w.add(s)
	}
}

// description is what both events of an order say about it.
func description(r *outbox.Record) string {
	var data struct{ Description string }
	if json.Unmarshal(r.Payload, &data) != nil {
		return ""
	}
	return data.Description
}

// delivered tells that a change record came out of the stream. An event without a place in the stream is one that the Consumer has read from the
// events table.
func (w *watch) delivered(r *outbox.Record) {
	s := stepOf(Delivered, r)
	if r.SequenceNumber == "" {
		s.Stage = Healed
	}
	s.ChangedAt, s.Text = r.ChangedAt, description(r)
	w.add(s)
}

// deadLettered is a hook of the Consumer.
func (w *watch) deadLettered(_ context.Context, l outbox.DeadLetter) {
	stage := Dead
	if l.Parked { // then no handler was called, and so not the middleware
		stage = Parked
		w.delivered(&l.Record)
	}
	s := stepOf(stage, &l.Record)
	s.Text = l.Error
	w.add(s)
}

type attemptKey struct{}
type redriveKey struct{}

// attempt is one call of a handler, or a delivery that the inbox finishes without one.
type attempt struct {
	record  outbox.Record
	redrive bool
	started bool
}

// middleware sees every delivery that is not parked. The inbox is inside of it.
func (w *watch) middleware(next outbox.Handler) outbox.Handler {
	return func(ctx context.Context, r outbox.Record) error {
		a := &attempt{record: r, redrive: ctx.Value(redriveKey{}) != nil}
		if !a.redrive {
			w.delivered(&r)
		}
		err := next(context.WithValue(ctx, attemptKey{}, a), r)
		switch {
		case errors.Is(err, outbox.ErrClaimed): // another delivery is at it; this one comes again
		case err != nil:
			w.add(a.step(Failed, err.Error()))
		case a.started:
			w.add(a.step(Finished, ""))
		default:
			w.add(a.step(Duplicate, ""))
		}
		return err
	}
}

func (a *attempt) step(stage Stage, text string) Step {
	s := stepOf(stage, &a.record)
	s.Redrive, s.Text = a.redrive, text
	return s
}

// inHandler adds a step of the handler whose context this is.
func (w *watch) inHandler(ctx context.Context, stage Stage, text string) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return
	}
	if stage == Started {
		a.started = true
	}
	w.add(a.step(stage, text))
}
