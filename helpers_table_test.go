package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// process is a process between its start and its death: its requests, and the effects of its handlers outside DynamoDB, are its points.
type process struct {
	next http.RoundTripper

	mu        sync.Mutex
	points    []string // the operations, in order
	killAt    int      // the point, from 1, at which it dies; 0 is never
	killAfter bool     // after what happens there, not before
	dead      bool
	fates     map[int]string // what becomes of a point's request
	arriving  []func()       // requests that are under way for long
}

// errDead is what a dead process gets for its requests.
var errDead = errors.New("the process is dead")

// point counts a point, and says whether what happens there happens, and whether the process lives on.
func (p *process) point(what string) (happens, lives bool, fate string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return false, false, ""
	}
	p.points = append(p.points, what)
	n := len(p.points)
	if n == p.killAt {
		p.dead = true
		return p.killAfter, false, ""
	}
	return true, true, p.fates[n]
}

// effect does something outside DynamoDB; it is a point as a request is.
func (p *process) effect(do func()) error {
	happens, lives, _ := p.point("effect")
	if happens {
		do()
	}
	if !lives {
		return errDead
	}
	return nil
}

func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	send := func() (*http.Response, error) {
		again := r.Clone(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(strings.NewReader(string(body)))
		return p.next.RoundTrip(again)
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	happens, lives, fate := p.point(operation)
	switch {
	case !happens:
		return nil, errDead
	case !lives:
		_, _ = send()
		return nil, errDead
	}
	switch fate {
	case "broken":
		return nil, syscall.ECONNRESET
	case "answer lost":
		_, _ = send()
		return nil, syscall.ECONNRESET
	case "twice":
		_, _ = send()
	case "late":
		p.mu.Lock()
		p.arriving = append(p.arriving, func() { _, _ = send() })
		p.mu.Unlock()
		return nil, syscall.ECONNRESET
	case "conflict":
		return &http.Response{StatusCode: 400, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(
			`{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"Transaction is ongoing for the item"}`))}, nil
	case "throttled":
		return &http.Response{StatusCode: 400, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(throttled.body))}, nil
	}
	return send()
}

// arrive lets what is under way arrive.
func (p *process) arrive() {
	p.mu.Lock()
	late := p.arriving
	p.arriving = nil
	p.mu.Unlock()
	for _, f := range late {
		f()
	}
}

// calls returns the points until now, in order.
func (p *process) calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.points...)
}

// inboxWorld is a world with an inbox table.
type inboxWorld struct{ *world }

// newInboxWorld makes a world with an empty inbox.
func newInboxWorld(t *testing.T, opts ...outboxtest.Option) *inboxWorld {
	w := &inboxWorld{newWorldWith(t, opts...)}
	require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
	return w
}

// inbox is an Inbox of the consumer "mails"; it remembers nothing yet.
func (w *inboxWorld) inbox(t testing.TB, client outbox.InboxClient, opts ...outbox.InboxOption) *outbox.Inbox {
	i, err := outbox.NewInbox(client, "inbox", "mails", opts...)
	require.NoError(t, err)
	return i
}

// client returns the client of a process.
func (w *inboxWorld) client(p *process, sdkRetries bool) *dynamodb.Client {
	p.next = w.HTTPClient().Transport
	options := dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://dynamodb.invalid"),
		HTTPClient: &http.Client{Transport: p}, Credentials: w.Config().Credentials}
	if !sdkRetries {
		options.Retryer = aws.NopRetryer{}
	}
	return dynamodb.New(options)
}

// mark returns the inbox's row of an event, or nil.
func (w *inboxWorld) mark(t testing.TB, id string) values {
	out, err := w.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("inbox"), ConsistentRead: aws.Bool(true),
		Key: values{"eventId": str(id), "consumer": str("mails#events")}})
	require.NoError(t, err)
	return out.Item
}

// all reads a table.
func (w *inboxWorld) all(t testing.TB, table string) (rows []values) {
	for pages := dynamodb.NewScanPaginator(w.DynamoDB, &dynamodb.ScanInput{TableName: &table}); pages.HasMorePages(); {
		out, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		rows = append(rows, out.Items...)
	}
	return rows
}

// createdRecord is the record of an event that is delivered.
func createdRecord(id string) outbox.Record {
	return outbox.Record{ID: id, Type: "ORDER_CREATED", AggregateID: "order-" + id, Table: "events", Payload: []byte(`{"orderId":"x"}`)}
}

// countCommit is the effect of a handler in DynamoDB: it counts in the row how often it was committed.
func countCommit(id string) types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{TableName: aws.String("orders"), Key: values{"orderId": str(id)},
		UpdateExpression: aws.String("ADD commits :one"), ExpressionAttributeValues: values{":one": num("1")}}}
}

// textOf returns a string or number attribute as text, or "".
func textOf(row values, name string) string {
	switch v := row[name].(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	}
	return ""
}

// deliver hands a record to a consumer until no other delivery has it claimed.
func deliver(t testing.TB, c *outbox.Consumer, r outbox.Record) error {
	for range 1000 {
		err := c.Process(t.Context(), r)
		if !errors.Is(err, outbox.ErrClaimed) {
			return err
		}
		time.Sleep(25 * time.Second)
	}
	t.Fatalf("%s is claimed for ever", r.ID)
	return nil
}

// requestFates are what every request of a delivery meets in turn.
var requestFates = []string{"broken", "answer lost", "twice", "late", "conflict", "throttled"}

// guard is a Consumer of one process whose guarded handler is h.
func (w *inboxWorld) guard(t testing.TB, p *process, h func(context.Context, outbox.Event[orderCreated]) error, opts ...outbox.InboxOption) *outbox.Consumer {
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.client(p, true), opts...)))
	outbox.Handle(c, h)
	return c
}

// ignoreOrder is a handler that does nothing and succeeds.
func ignoreOrder(context.Context, outbox.Event[orderCreated]) error { return nil }

// tx is a Consumer of one process whose HandleTx handler is h.
func (w *inboxWorld) tx(t testing.TB, p *process, h func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error), opts ...outbox.InboxOption) *outbox.Consumer {
	client := w.client(p, true)
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, client, opts...)))
	outbox.HandleTx(c, newWriter(t, client), h)
	return c
}

// returnEffects is a handler of HandleTx that always returns these effects.
func returnEffects(effects outbox.Effects) func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
	return func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) { return effects, nil }
}

// inTheInbox writes a row for an event with the id 1.
func (w *inboxWorld) inTheInbox(t *testing.T, aggregate string, row values) {
	row["eventId"], row["consumer"], row["type"], row["aggregateId"] = str("1"), str("mails#events"), str("ORDER_CREATED"), str(aggregate)
	_, err := w.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("inbox"), Item: row})
	require.NoError(t, err)
}

// millis is a time as DynamoDB has it, in Unix milliseconds.
func millis(at time.Time) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(at.UnixMilli(), 10)}
}

// claimedByOthers leaves a claim on event 1, as a process that died does.
func (w *inboxWorld) claimedByOthers(t *testing.T) {
	w.inTheInbox(t, "order-1", values{"owner": str("somebody"), "claimedUntil": millis(time.Now().Add(time.Minute))})
}

// inboxWithLetters is an inboxWorld with a dead letter table. Its handlers refuse all events for good until it is repaired.
type inboxWithLetters struct {
	*inboxWorld
	letters  *outbox.DeadLetterTable
	repaired bool
	runs     int // of handlers
}

// newInboxWithLetters makes an empty inbox and an empty dead letter table.
func newInboxWithLetters(t *testing.T) *inboxWithLetters {
	a := &inboxWithLetters{inboxWorld: newInboxWorld(t)}
	a.letters = a.lettersOf(t, a.DynamoDB)
	require.NoError(t, a.letters.Create(t.Context()))
	return a
}

// lettersOf is the dead letter table through another client.
func (a *inboxWithLetters) lettersOf(t *testing.T, client outbox.DeadLetterClient) *outbox.DeadLetterTable {
	letters, err := outbox.NewDeadLetterTable(client, "letters", "mails")
	require.NoError(t, err)
	return letters
}

// run is what every handler does.
func (a *inboxWithLetters) run() error {
	if a.runs++; a.repaired {
		return nil
	}
	return outbox.Permanent(errNoStock)
}

// consumer is that of another process each time: its Inbox remembers nothing.
func (a *inboxWithLetters) consumer(t *testing.T, tx bool, opts ...outbox.ConsumerOption) *outbox.Consumer {
	c := newConsumer(t, append(opts, outbox.WithInbox(a.inbox(t, a.DynamoDB)), outbox.WithDeadLetters(a.letters))...)
	if tx {
		outbox.HandleTx(c, a.writer, func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(e.ID)}, Events: []outbox.AnyEvent{outbox.NewEvent(e.ID, orderCreated{OrderID: e.ID})}}, a.run()
		})
	} else {
		outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return a.run() })
	}
	return c
}

// errNoStock is the permanent failure of the handlers.
var errNoStock = errors.New("out of stock")

// office is a consumer's handlers with a dead letter table: events whose id begins with "poison" fail while broken.
type office struct {
	*outboxtest.AWS
	letters *outbox.DeadLetterTable

	mu      sync.Mutex
	broken  bool
	handled []string // in the order in which handlers ended
	calls   map[string]int
}

// newOffice makes an office with an empty table, whose handlers are broken.
func newOffice(t *testing.T) *office {
	o := &office{AWS: outboxtest.Start(t), broken: true, calls: map[string]int{}}
	o.letters = o.table(t, o.DynamoDB)
	require.NoError(t, o.letters.Create(t.Context()))
	require.NoError(t, o.letters.Create(t.Context()))
	return o
}

// table is the dead letter table through another client.
func (o *office) table(t *testing.T, client outbox.DeadLetterClient) *outbox.DeadLetterTable {
	table, err := outbox.NewDeadLetterTable(client, "letters", "mails")
	require.NoError(t, err)
	return table
}

// handle is the handler: it counts calls and keeps the order.
func (o *office) handle(_ context.Context, e outbox.Event[struct{}]) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[e.ID]++
	if o.broken && strings.HasPrefix(e.ID, "poison") {
		return errors.New("the printer is on fire")
	}
	o.handled = append(o.handled, e.ID)
	return nil
}

// consumer is that of another process each time.
func (o *office) consumer(t *testing.T, opts ...outbox.DeadLetterOption) *outbox.Consumer {
	return o.consumerOf(t, o.letters, opts...)
}

// consumerOf is a consumer with this dead letter table.
func (o *office) consumerOf(t *testing.T, table *outbox.DeadLetterTable, opts ...outbox.DeadLetterOption) *outbox.Consumer {
	c := newConsumer(t, outbox.WithDeadLetters(table, opts...))
	outbox.HandleType(c, "T", o.handle)
	return c
}

// retrying is a consumer that retries in place in this way.
func (o *office) retrying(t *testing.T, r outbox.Retry, opts ...outbox.DeadLetterOption) *outbox.Consumer {
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, opts...), outbox.WithInvokeRetry(r))
	outbox.HandleType(c, "T", o.handle)
	return c
}

// repair makes every event succeed from now on.
func (o *office) repair() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = false
}

// list reads the letters that a filter selects.
func (o *office) list(t *testing.T, filter outbox.DeadLetterFilter) []outbox.DeadLetter {
	var all []outbox.DeadLetter
	for l, err := range o.letters.List(t.Context(), filter) {
		require.NoError(t, err)
		all = append(all, l)
	}
	return all
}

// ids returns the ids of all letters.
func (o *office) ids(t *testing.T) []string {
	var ids []string
	for _, l := range o.list(t, outbox.DeadLetterFilter{}) {
		ids = append(ids, l.ID)
	}
	return ids
}

// pending returns how many requests wait.
func (o *office) pending(t *testing.T) int {
	n, err := o.letters.PendingRedrives(t.Context())
	require.NoError(t, err)
	return n
}

// invoke delivers records in one invocation and returns the answer.
func (o *office) invoke(t *testing.T, c *outbox.Consumer, records ...string) string {
	got, err := c.Invoke(t.Context(), kinesisEvent(records...))
	require.NoError(t, err)
	return string(got)
}

// bury makes dead letters: for each aggregate a poison and n - 1 events behind it.
func (o *office) bury(t *testing.T, aggregates, n int) {
	var records []outbox.Record
	for i := range n {
		for a := range aggregates {
			id := fmt.Sprintf("%d-%d", a, i)
			if i == 0 {
				id = "poison" + id
			}
			records = append(records, rec(id, fmt.Sprintf("agg%d", a)))
		}
	}
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), records...))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handled, o.calls = nil, map[string]int{}
}

// rowsOf returns the keys of all rows of a table, but not those which say for good that an event was discarded.
func rowsOf(t *testing.T, o *office, table string) []string {
	out, err := o.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	require.NoError(t, err)
	var ids []string
	for _, row := range out.Items {
		var key struct{ Group, ID string }
		require.NoError(t, attributevalue.UnmarshalMap(row, &key))
		if !strings.HasSuffix(key.Group, "#discarded") {
			ids = append(ids, key.Group+"/"+key.ID)
		}
	}
	return ids
}
