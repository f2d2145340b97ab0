package outbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// cost is what some requests have cost, without what they write into the handlers' own table.
type cost struct {
	requests    int
	write, read float64 // units
}

// times is the cost of doing something n times.
func (c cost) times(n int) cost {
	return cost{n * c.requests, float64(n) * c.write, float64(n) * c.read}
}

// without is what is left of a cost beside another one.
func (c cost) without(other cost) cost {
	return cost{c.requests - other.requests, c.write - other.write, c.read - other.read}
}

// meter is the way of a process to DynamoDB. It asks with every request what it costs.
type meter struct {
	next http.RoundTripper

	mu  sync.Mutex
	sum cost
}

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	asking := append([]byte(`{"ReturnConsumedCapacity":"TOTAL",`), bytes.TrimPrefix(body, []byte("{"))...)
	again := r.Clone(r.Context())
	again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(asking)), int64(len(asking))
	res, err := m.next.RoundTrip(again)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(answer))
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if err := m.count(operation, answer); err != nil {
		return nil, err
	}
	return res, nil
}

func (m *meter) count(operation string, answer []byte) error {
	type capacity struct {
		TableName     string
		CapacityUnits float64
	}
	var out struct{ ConsumedCapacity json.RawMessage }
	if err := json.Unmarshal(answer, &out); err != nil {
		return err
	}
	all := []capacity{{}}
	into := any(&all[0])
	if bytes.HasPrefix(out.ConsumedCapacity, []byte("[")) {
		into = &all
	}
	if err := json.Unmarshal(out.ConsumedCapacity, into); err != nil {
		return fmt.Errorf("%s does not say what it costs: %w: %s", operation, err, answer)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum.requests++
	for _, c := range all {
		switch {
		case c.TableName == "orders": // the handlers' own
		case strings.HasSuffix(operation, "GetItem"):
			m.sum.read += c.CapacityUnits
		default:
			m.sum.write += c.CapacityUnits
		}
	}
	return nil
}

// of returns what do costs.
func (m *meter) of(do func()) cost {
	m.mu.Lock()
	m.sum = cost{}
	m.mu.Unlock()
	do()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sum
}

// version is what a process keeps of the events that it has handled.
type version int

const (
	marksAlone version = iota
	inOrder            // WithOrder
	bothKept           // WithOrder and KeepMarks
)

// metered is a new process whose costs are counted.
func (w *orderWorld) metered(t *testing.T, v version, register func(*outbox.Consumer, *outbox.Writer)) (*outbox.Consumer, *meter) {
	m := &meter{next: w.HTTPClient().Transport}
	client := dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://dynamodb.invalid"),
		HTTPClient: &http.Client{Transport: m}, Credentials: w.Config().Credentials})
	opts := []outbox.ConsumerOption{outbox.WithInbox(w.inbox(t, client))}
	switch v {
	case inOrder:
		opts = append(opts, outbox.WithOrder(client, "events", all))
	case bothKept:
		opts = append(opts, outbox.WithOrder(client, "events", time.Now().Add(-24*time.Hour).Truncate(time.Second)), outbox.KeepMarks())
	}
	c := newConsumer(t, opts...)
	register(c, newWriter(t, client))
	return c, m
}

// An event in order costs the writes that its mark costs, and no read, once its process remembers the aggregate. An event that the stream has not
// brought is read, at no more writes. docs/cost.md has what is measured here; UPDATE_DOCS=1 writes it anew.
func TestOrderCostsNoExtraWrite(t *testing.T) {
	var w *orderWorld
	var events []outbox.Record
	anew := func() {
		w = newOrderWorld(t)
		events = w.write(t, numbersTo(102)...)
	}
	tx := func(c *outbox.Consumer, writer *outbox.Writer) { outbox.HandleTx(c, writer, w.handler) }
	guarded := func(c *outbox.Consumer, _ *outbox.Writer) { outbox.Handle(c, ignoreOrder) }
	ignoring := func(c *outbox.Consumer, _ *outbox.Writer) { outbox.Ignore(c, "ORDER_CREATED") }

	usual := func(v version, register func(*outbox.Consumer, *outbox.Writer)) cost {
		anew()
		c, m := w.metered(t, v, register)
		require.NoError(t, c.Process(t.Context(), events[0]))
		one := m.of(func() { require.NoError(t, c.Process(t.Context(), events[1])) })
		three := m.of(func() { require.NoError(t, c.Process(t.Context(), events[2:5]...)) })
		require.Equal(t, one.times(3), three)
		require.Equal(t, cost{}, m.of(func() { require.NoError(t, c.Process(t.Context(), events[:5]...)) }), "duplicates")
		return one
	}
	mark, ordered, both := usual(marksAlone, tx), usual(inOrder, tx), usual(bothKept, tx)
	require.Equal(t, mark, ordered)
	require.Zero(t, ordered.read)
	guardedMark, guardedOrdered := usual(marksAlone, guarded), usual(inOrder, guarded)
	require.Equal(t, guardedMark, guardedOrdered)
	ignored, bothIgnored := usual(inOrder, ignoring), usual(bothKept, ignoring)

	// more is what a delivery costs beside the events that are handled by it, behind the first one. Another process has handled this one, or
	// the same.
	more := func(same bool, delivered, handled int) cost {
		anew()
		c, m := w.metered(t, inOrder, tx)
		first := c
		if !same {
			first = w.process(t, w.DynamoDB, all)
		}
		require.NoError(t, first.Process(t.Context(), events[0]))
		whole := m.of(func() { require.NoError(t, c.Process(t.Context(), events[delivered-1])) })
		require.Len(t, w.runs, 1+handled)
		return whole.without(ordered.times(handled))
	}
	// marked is what the position's way over an event costs that a process with marks has handled.
	marked := func() cost {
		anew()
		c, m := w.metered(t, bothKept, tx)
		require.NoError(t, c.Process(t.Context(), events[0]))
		require.NoError(t, w.marking(t, w.DynamoDB).Process(t.Context(), events[1]))
		return m.of(func() { require.NoError(t, c.Process(t.Context(), events[1])) })
	}
	var table strings.Builder
	table.WriteString("| the inbox's part of an event | requests | write units | read units |\n|---|--:|--:|--:|\n")
	row := func(what string, c cost) {
		fmt.Fprintf(&table, "| %s | %d | %g | %g |\n", what, c.requests, c.write, c.read)
	}
	row("`HandleTx`, with a mark", mark)
	row("`HandleTx`, in order", ordered)
	row("`HandleTx`, in order, with `KeepMarks`", both)
	row("a guarded handler, with a mark", guardedMark)
	row("a guarded handler, in order", guardedOrdered)
	row("`Ignore`, in order", ignored)
	row("`Ignore`, in order, with `KeepMarks`", bothIgnored)
	row("an event with `KeepMarks` that a process with marks has handled", marked())
	row("more in order, if the process does not remember the aggregate", more(false, 2, 1))
	row("more in order, if 1 event before is read from the table", more(true, 3, 2))
	row("more in order, if 100 events before are read from the table", more(true, 102, 101))
	row("a duplicate in order, if the process does not remember the aggregate", more(false, 1, 0))
	page, err := os.ReadFile("docs/cost.md")
	require.NoError(t, err)
	title, _, _ := strings.Cut(table.String(), "\n")
	before, rest, found := strings.Cut(string(page), title)
	require.True(t, found, "docs/cost.md has no table %q", title)
	_, after, _ := strings.Cut(rest, "\n\n")
	want := before + table.String() + "\n" + after
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile("docs/cost.md", []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(page), "what is measured differs: UPDATE_DOCS=1 go test -run TestOrderCostsNoExtraWrite .")
}

// numbersTo returns the numbers from 1 to n.
func numbersTo(n int64) (numbers []int64) {
	for i := range n {
		numbers = append(numbers, i+1)
	}
	return numbers
}
