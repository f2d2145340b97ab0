package replay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// An event whose Time is still to come is young until then, and after it as any other event.
func TestAnEventOfTheFutureIsYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		future := s.now("future", "")
		future.Time = future.Time.Add(24 * time.Hour)
		s.put(t, future)
		for _, want := range []struct {
			after            time.Duration
			young, delivered int
		}{{time.Hour, 1, 0}, {23 * time.Hour, 1, 0}, {time.Hour, 0, 1}, {time.Hour, 0, 0}} {
			time.Sleep(want.after)
			r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
			require.NoError(t, err)
			require.Equal(t, []int{want.young, want.delivered}, []int{r.Young, r.Delivered}, "%+v", r)
		}
		s.requireOnce(t, "future")
	})
}

// An event that was handled by a change record without its table's name has another mark than the event in the table.
func TestWhatWasHandledWithoutItsTableIsHandledOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		r := s.now("nameless", "")
		s.put(t, r)
		inbox, err := outbox.NewInbox(s.DynamoDB, "inbox", "mails")
		require.NoError(t, err)
		c, err := outbox.NewConsumer(outbox.WithInbox(inbox))
		require.NoError(t, err)
		outbox.Handle(c, s.handle)
		require.NoError(t, c.Process(t.Context(), r))
		time.Sleep(time.Hour)
		for range 2 {
			_, err = s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
			require.NoError(t, err)
		}
		require.Equal(t, map[string]int{"first": 1, "nameless": 2}, s.runs)
	})
}

// With a Since of two cycles and the Grace ago, each event is judged twice, whenever it was written.
func TestSinceTwoCyclesAgoJudgesEachEventTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		o := replay.ReconcileOptions{Every: time.Minute, Cycle: 6 * time.Minute, Grace: 2 * time.Minute, ReportOnly: true}
		told := map[string]int{}
		o.Found = func(r outbox.Record, _ error) { told[r.ID]++ }
		time.Sleep(30 * time.Second) // between two slots
		var written []string
		for i := range 60 {
			if i < 30 {
				id := fmt.Sprint("e", i)
				written = append(written, id)
				s.put(t, s.now(id, ""))
			}
			o.Since = time.Now().Add(-2*o.Cycle - o.Grace)
			_, err := s.reconcile(t, s.consumer(t), o)
			require.NoError(t, err)
			time.Sleep(time.Minute)
		}
		for _, id := range written {
			require.GreaterOrEqual(t, told[id], 2, id)
			require.LessOrEqual(t, told[id], 3, id)
		}
	})
}

// requests are what a client asks for.
type requests struct {
	next http.RoundTripper

	mu   sync.Mutex
	seen map[string]bool // "Scan of events"
}

func (n *requests) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var in struct {
		TableName    string
		RequestItems map[string]json.RawMessage
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	tables := slices.Collect(maps.Keys(in.RequestItems))
	if in.TableName != "" {
		tables = append(tables, in.TableName)
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	n.mu.Lock()
	for _, table := range tables {
		n.seen[operation+" of "+table] = true
	}
	n.mu.Unlock()
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	return n.next.RoundTrip(again)
}

// Beside what the Consumer needs, Reconcile needs what docs/aws.md says. A report writes nothing.
func TestReconcileNeedsThesePermissions(t *testing.T) {
	s := newShop(t)
	lost := s.now("lost", "")
	lost.Time = lost.Time.Add(-time.Hour)
	s.put(t, lost)
	n := &requests{next: s.HTTPClient().Transport, seen: map[string]bool{}}
	client := dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://dynamodb.invalid"),
		HTTPClient: &http.Client{Transport: n}, Credentials: s.Config().Credentials})
	inbox, err := outbox.NewInbox(client, "inbox", "mails")
	require.NoError(t, err)
	letters, err := outbox.NewDeadLetterTable(client, "letters", "mails")
	require.NoError(t, err)
	events, err := replay.New(client, "events")
	require.NoError(t, err)
	c := newConsumer(t, s.handle, outbox.WithInbox(inbox), outbox.WithDeadLetters(letters))
	reads := []string{"BatchGetItem of inbox", "BatchGetItem of letters", "Scan of events"}

	r, err := events.Reconcile(t.Context(), c, replay.ReconcileOptions{ReportOnly: true})
	require.NoError(t, err)
	require.Equal(t, 1, r.Undelivered)
	require.Equal(t, reads, slices.Sorted(maps.Keys(n.seen)))

	r, err = events.Reconcile(t.Context(), c, replay.ReconcileOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, r.Delivered)
	n.mu.Lock()
	defer n.mu.Unlock()
	require.True(t, n.seen["BatchGetItem of events"])
	for request := range n.seen {
		if strings.HasSuffix(request, " of events") {
			require.Contains(t, []string{"BatchGetItem of events", "Scan of events"}, request)
		}
	}
	page, err := os.ReadFile("../docs/aws.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "| `replay.Reconcile` | `dynamodb:Scan`, `BatchGetItem` | the events table |\n"+
		"| | what the Consumer needs, and `dynamodb:BatchGetItem` | the inbox table |\n")
}

// The runbook names errors as they are.
func TestTheRunbookNamesErrorsOfReconcile(t *testing.T) {
	page, err := os.ReadFile("../docs/operating.md")
	require.NoError(t, err)
	_, runbook, found := strings.Cut(string(page), "\n### Reconcile reports something\n")
	require.True(t, found)
	runbook, _, _ = strings.Cut(runbook, "\n### ")
	var code strings.Builder
	for _, file := range []string{"reconcile.go", "deliver.go", "segment.go", "../internal/batchget/batchget.go", "../inbox.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		code.Write(text)
	}
	names := 0
	for line := range strings.Lines(runbook) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			for i, quoted := range strings.Split(cells[1], `"`) {
				if i%2 == 1 && quoted != "context deadline exceeded" {
					names++
					for part := range strings.SplitSeq(quoted, " ... ") {
						require.Truef(t, strings.Contains(code.String(), part), "no error says %q", quoted)
					}
				}
			}
		}
	}
	require.Equal(t, 8, names)
}
