package outbox_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// permissions notes for each table the actions that requests need in IAM.
type permissions struct {
	next http.RoundTripper

	mu      sync.Mutex
	actions map[string]map[string]bool
}

func (p *permissions) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	type operation struct{ TableName string }
	var in struct {
		TableName     string
		RequestItems  map[string]json.RawMessage
		TransactItems []map[string]operation
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	_, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if in.TableName != "" {
		p.add(in.TableName, name)
	}
	for table := range in.RequestItems {
		p.add(table, name)
	}
	for _, item := range in.TransactItems {
		for kind, o := range item { // a transaction needs the actions of its operations
			p.add(o.TableName, kind+"Item")
		}
	}
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	return p.next.RoundTrip(again)
}

func (p *permissions) add(table, action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.actions[table] == nil {
		p.actions[table] = map[string]bool{}
	}
	p.actions[table][action] = true
}

func (p *permissions) of(table string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.actions[table]))
}

// A Consumer with an order, and the people behind it, need what docs/aws.md says, no more and no less.
func TestOrderNeedsThesePermissions(t *testing.T) {
	w := newOrderWorld(t)
	p := &permissions{next: w.HTTPClient().Transport, actions: map[string]map[string]bool{}}
	client := dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://dynamodb.invalid"),
		HTTPClient: &http.Client{Transport: p}, Credentials: w.Config().Credentials})
	events := w.write(t, 1, 2, 3, 5)
	process := func(from time.Time, register func(*outbox.Consumer)) *outbox.Consumer {
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)), outbox.WithOrder(client, "events", from))
		register(c)
		return c
	}
	tx := func(c *outbox.Consumer) { outbox.HandleTx(c, newWriter(t, client), w.handler) }
	guarded := func(c *outbox.Consumer) { outbox.Handle(c, ignoreOrder) }
	ignoring := func(c *outbox.Consumer) { outbox.Ignore(c, "ORDER_CREATED") }
	begin := events[0].Time
	require.NoError(t, process(begin, ignoring).Process(t.Context(), events[0]))
	require.NoError(t, process(begin, tx).Process(t.Context(), events[2]))
	inbox := w.inbox(t, client)
	require.ErrorIs(t, process(begin, tx).Process(t.Context(), events[3]), outbox.ErrSequenceMissing)
	_, err := inbox.Pass(t.Context(), "events", aggregate, 4)
	require.NoError(t, err)
	require.NoError(t, process(begin, guarded).Process(t.Context(), events[3]))
	require.Equal(t, []string{"GetItem", "UpdateItem"}, p.of("inbox"), "without Forget")
	_, err = inbox.Position(t.Context(), "events", aggregate)
	require.NoError(t, err)
	require.NoError(t, inbox.Forget(t.Context(), "events", aggregate))
	require.NoError(t, process(begin, tx).Process(t.Context(), events[2]), "it begins anew")

	page, err := os.ReadFile("docs/aws.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| a Consumer with `WithOrder` \\| (.*) \\| the inbox table \\|\n\\| \\| (.*) \\| the events table \\|$").FindStringSubmatch(string(page))
	require.NotNil(t, rows, "docs/aws.md has no two rows of a Consumer with WithOrder")
	for i, table := range []string{"inbox", "events"} {
		var told []string
		for _, action := range regexp.MustCompile("`(?:dynamodb:)?([A-Za-z]+Item)`").FindAllStringSubmatch(rows[i+1], -1) {
			told = append(told, action[1])
		}
		slices.Sort(told)
		require.Equal(t, told, p.of(table), table)
	}
}
