package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// walk is the client through which a reconciliation reads the events table: no faster than --rate, and from --after on. It keeps how far it is,
// and what there is of each type.
type walk struct {
	*dynamodb.Client
	f        *reconcileFlags
	keys     outbox.Option // the layout of what is read of a row
	now      time.Time
	memory   time.Duration // within which an event without a position is judged
	progress func(read int)

	after   string // the events up to this one are judged
	started time.Time
	read    int
	page    []rows.Item // is being judged
	types   map[string]*typeCount
}

// typeCount counts the events of a type.
type typeCount struct {
	Type        string `json:"type"`
	Undelivered int    `json:"undelivered"`
	// Judged are those that were looked for: neither younger than --grace, nor older than --since or the memory of the inbox.
	Judged int `json:"judged"`

	latest, latestUndelivered time.Time
}

func newWalk(client *dynamodb.Client, f *reconcileFlags, now time.Time) *walk {
	keys := f.names
	keys.Payload, keys.ContentType, keys.Headers, keys.ExpiresAt = absent, absent, absent, absent
	return &walk{Client: client, f: f, keys: outbox.WithAttributes(keys), now: now, after: f.after, progress: func(int) {}, types: map[string]*typeCount{}}
}

// Scan reads a page, which is judged when the next one is asked for.
func (w *walk) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	page := *in
	if in.ExclusiveStartKey != nil {
		w.judged()
		w.after = rows.Text(in.ExclusiveStartKey, w.f.names.ID)
	} else if w.after != "" {
		page.ExclusiveStartKey = rows.Item{w.f.names.ID: rows.S(w.after)}
	}
	if w.f.rate > 0 {
		if w.started.IsZero() {
			w.started = time.Now()
		}
		page.Limit = aws.Int32(int32(min(max(1, w.f.rate), 10_000))) // a second's worth at most
		due := w.started.Add(time.Duration(float64(w.read) / w.f.rate * float64(time.Second)))
		if err := backoff.Wait(ctx, time.Until(due)); err != nil {
			return nil, err
		}
	}
	out, err := w.Client.Scan(ctx, &page, opts...)
	if err == nil && out != nil {
		w.page = out.Items
		w.read += int(out.ScannedCount)
		w.progress(w.read)
	}
	return out, err
}

// judged counts the events of the page that was read last.
func (w *walk) judged() {
	for _, row := range w.page {
		if r, err := outbox.DecodeItem(row, w.keys); err == nil && w.judges(&r) {
			t := w.typeOf(r.Type)
			t.Judged++
			if r.Time.After(t.latest) {
				t.latest = r.Time
			}
		}
	}
	w.page = nil
}

func (w *walk) judges(r *outbox.Record) bool {
	ordered := w.f.order && r.Sequence > 0 && order.Sequenced(r.ID, r.AggregateID, r.Sequence)
	switch {
	case r.Time.After(w.now.Add(-w.f.grace)), r.Time.Before(w.f.oldest):
		return false
	case ordered:
		return true
	}
	return !r.Time.Before(w.now.Add(-w.memory)) && (len(w.f.types) == 0 || slices.Contains(w.f.types, r.Type))
}

// undelivered counts an event that was judged to be.
func (w *walk) undelivered(r outbox.Record) {
	t := w.typeOf(r.Type)
	t.Undelivered++
	if r.Time.After(t.latestUndelivered) {
		t.latestUndelivered = r.Time
	}
}

// Bounds of what is kept of types.
const (
	mostTypes   = 1000
	longestType = 200
)

func (w *walk) typeOf(name string) *typeCount {
	name = firstOf(name, longestType)
	if w.types[name] == nil && len(w.types) >= mostTypes {
		name = "(others)"
	}
	if w.types[name] == nil {
		w.types[name] = &typeCount{Type: name}
	}
	return w.types[name]
}

// missed are the types of which something is undelivered, sorted.
func (w *walk) missed() []typeCount {
	types := []typeCount{}
	for _, name := range slices.Sorted(maps.Keys(w.types)) {
		if t := w.types[name]; t.Undelivered > 0 {
			types = append(types, *t)
		}
	}
	return types
}

// usualMemory is how long an inbox remembers by default.
const usualMemory = 30 * 24 * time.Hour

// inboxKnown is what the rows of an inbox say.
type inboxKnown struct {
	consumers map[string]bool // by name and table
	has       bool            // rows of the consumer and the table
	memory    time.Duration   // the shortest time that a mark of them is kept; the default if no mark was read
	marks     bool            // marks of them were read
	all       bool            // rows were read
}

// knownOfInbox reads an inbox, as far as scanKeys does. It is an error if all is read, and nothing is of the consumer.
func knownOfInbox(ctx context.Context, client *dynamodb.Client, f *reconcileFlags) (*inboxKnown, error) {
	k := &inboxKnown{consumers: map[string]bool{}}
	var err error
	k.all, err = scanKeys(ctx, client, f.inbox, []string{"consumer", "handledAt", "expiresAt"}, func(row rows.Item) {
		consumer, rest, _ := strings.Cut(rows.Text(row, "consumer"), "#")
		table, _, _ := strings.Cut(rest, "#")
		if len(k.consumers) < mostTypes && table != "" {
			k.consumers[consumer+" (table "+table+")"] = true
		}
		if consumer != f.consumer || table != names.OfTable(f.table) {
			return
		}
		k.has = true
		if seconds, wrong := expiry(row["expiresAt"]); wrong == "" && rows.Int(row, "handledAt") > 0 {
			// expiresAt is in whole seconds, cut off
			kept := (time.Unix(seconds, 0).Sub(rows.Time(row, "handledAt")) + time.Second - 1).Truncate(time.Second)
			if !k.marks || kept < k.memory {
				k.memory, k.marks = kept, true
			}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case k.all && !k.has:
		return nil, fmt.Errorf("%s: it has handled nothing yet, or a name is not the one that the service gives NewInbox and NewWriter. %s", k.nothingOf(f), k)
	case !k.marks:
		k.memory = usualMemory
	case k.memory < 24*time.Hour:
		return nil, fmt.Errorf("inbox table %s keeps marks of consumer %s for %s: too short for any event to be judged (WithInboxTTL)", f.inbox, f.consumer, age(k.memory))
	}
	return k, nil
}

func (k *inboxKnown) nothingOf(f *reconcileFlags) string {
	return fmt.Sprintf("inbox table %s has nothing of consumer %s and events table %s", f.inbox, f.consumer, names.OfTable(f.table))
}

// String lists the names.
func (k *inboxKnown) String() string {
	if len(k.consumers) == 0 {
		return "It knows no consumer"
	}
	list := slices.Sorted(maps.Keys(k.consumers))
	more := ""
	if len(list) > mostTold {
		list, more = list[:mostTold], ", and more"
	}
	for i := range list {
		list[i] = printable(firstOf(list[i], longestType))
	}
	return "It knows " + strings.Join(list, ", ") + more
}
