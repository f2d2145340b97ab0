package outbox_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
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

// effect is one outside DynamoDB.
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

func (p *process) calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.points...)
}

// inboxWorld is a world with an inbox table.
type inboxWorld struct{ *world }

func newInboxWorld(t *testing.T, opts ...outboxtest.Option) *inboxWorld {
	w := &inboxWorld{newWorldWith(t, opts...)}
	require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
	return w
}

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
		Key: values{"eventId": str(id), "consumer": str("mails")}})
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

// created is the record of an event that is delivered.
func created(id string) outbox.Record {
	return outbox.Record{ID: id, Type: "ORDER_CREATED", AggregateID: "order-" + id, Payload: []byte(`{"orderId":"x"}`)}
}

// count is the effect of a handler in DynamoDB: it counts in the row how often it was committed.
func count(id string) types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{TableName: aws.String("orders"), Key: values{"orderId": str(id)},
		UpdateExpression: aws.String("ADD commits :one"), ExpressionAttributeValues: values{":one": num("1")}}}
}

func text(row values, name string) string {
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

// cancelling cancels a context while a request is under way.
type cancelling struct {
	next   http.RoundTripper
	cancel func()
}

func (c cancelling) RoundTrip(r *http.Request) (*http.Response, error) {
	c.cancel()
	return c.next.RoundTrip(r)
}
