package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// What a client of the user's own makes of the answers of one operation.
const (
	noAnswer    = "neither an answer nor an error"
	emptyAnswer = "an answer without any field"
	nilAsError  = "a nil pointer as the error"
)

// hollow is a client that carries every request out, and spoils the answers of one operation.
type hollow struct {
	*dynamodb.Client
	operation, answers string
	calls              int
}

func spoil[T any](h *hollow, operation string, out *T, err error) (*T, error) {
	if operation != h.operation || err != nil { // a refusal is passed on
		return out, err
	}
	h.calls++
	switch h.answers {
	case noAnswer:
		return nil, nil
	case emptyAnswer:
		return new(T), nil
	}
	return nil, (*types.TransactionCanceledException)(nil)
}

func (h *hollow) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out, err := h.Client.Query(ctx, in, opts...)
	return spoil(h, "Query", out, err)
}

func (h *hollow) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	out, err := h.Client.Scan(ctx, in, opts...)
	return spoil(h, "Scan", out, err)
}

func (h *hollow) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	out, err := h.Client.GetItem(ctx, in, opts...)
	return spoil(h, "GetItem", out, err)
}

func (h *hollow) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out, err := h.Client.BatchGetItem(ctx, in, opts...)
	return spoil(h, "BatchGetItem", out, err)
}

func (h *hollow) DescribeTable(ctx context.Context, in *dynamodb.DescribeTableInput, opts ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	out, err := h.Client.DescribeTable(ctx, in, opts...)
	return spoil(h, "DescribeTable", out, err)
}

func (h *hollow) DescribeTimeToLive(ctx context.Context, in *dynamodb.DescribeTimeToLiveInput, opts ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error) {
	out, err := h.Client.DescribeTimeToLive(ctx, in, opts...)
	return spoil(h, "DescribeTimeToLive", out, err)
}

func (h *hollow) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	out, err := h.Client.PutItem(ctx, in, opts...)
	return spoil(h, "PutItem", out, err)
}

func (h *hollow) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	out, err := h.Client.UpdateItem(ctx, in, opts...)
	return spoil(h, "UpdateItem", out, err)
}

func (h *hollow) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	out, err := h.Client.DeleteItem(ctx, in, opts...)
	return spoil(h, "DeleteItem", out, err)
}

func (h *hollow) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	out, err := h.Client.TransactWriteItems(ctx, in, opts...)
	return spoil(h, "TransactWriteItems", out, err)
}

func (h *hollow) CreateTable(ctx context.Context, in *dynamodb.CreateTableInput, opts ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error) {
	out, err := h.Client.CreateTable(ctx, in, opts...)
	return spoil(h, "CreateTable", out, err)
}

func (h *hollow) UpdateTimeToLive(ctx context.Context, in *dynamodb.UpdateTimeToLiveInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error) {
	out, err := h.Client.UpdateTimeToLive(ctx, in, opts...)
	return spoil(h, "UpdateTimeToLive", out, err)
}

func (h *hollow) UpdateTable(ctx context.Context, in *dynamodb.UpdateTableInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateTableOutput, error) {
	out, err := h.Client.UpdateTable(ctx, in, opts...)
	return spoil(h, "UpdateTable", out, err)
}

// everyCall makes all kinds of calls of the library with a client, and returns their errors.
func everyCall(t *testing.T, cloud *outboxtest.AWS, client *hollow) (errs []error) {
	ctx := t.Context()
	add := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateTable(t, "events", "eventId")
	writer, err := outbox.NewWriter(client, "events")
	require.NoError(t, err)
	leases, err := outbox.NewLeaseTable(client, "leases", "mails")
	require.NoError(t, err)
	inbox, err := outbox.NewInbox(client, "inbox", "mails")
	require.NoError(t, err)
	dead, err := outbox.NewDeadLetterTable(client, "dead", "mails")
	require.NoError(t, err)
	events, err := replay.New(client, "events")
	require.NoError(t, err)
	add("LeaseTable.Create", leases.Create(ctx))
	add("Inbox.Create", inbox.Create(ctx))
	add("DeadLetterTable.Create", dead.Create(ctx))
	add("Put", writer.Put(ctx, "orders", order{"1"}, event("e-1")))

	broken := true
	c := newConsumer(t, quiet(), outbox.WithInbox(inbox, "ORDER_CREATED"), outbox.WithDeadLetters(dead, outbox.WithInvokeAttempts(2)))
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error {
		if broken {
			return errors.New("broken")
		}
		return nil
	})
	outbox.HandleTxType(c, writer, "TX", func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
		return outbox.Effects{Writes: []types.TransactWriteItem{countCommit("1")}}, nil
	})
	for range 3 {
		for _, id := range []string{"e-1", "e-2"} {
			r := createdRecord(id)
			r.AggregateID = "order-1"
			add("Process", c.Process(ctx, r))
		}
	}
	for range 2 {
		tx := createdRecord("e-3")
		tx.Type = "TX"
		add("Process with HandleTx", c.Process(ctx, tx))
	}
	for _, filter := range []outbox.DeadLetterFilter{{}, {AggregateID: "order-1"}} {
		for _, err := range dead.List(ctx, filter) {
			add("List", err)
		}
	}
	broken = false
	_, err = dead.RequestRedrive(ctx, outbox.DeadLetterFilter{AggregateID: "order-1"})
	add("RequestRedrive", err)
	_, err = dead.PendingRedrives(ctx)
	add("PendingRedrives", err)
	_, err = dead.AnswerRedriveRequests(ctx, c)
	add("AnswerRedriveRequests", err)
	_, err = dead.Redrive(ctx, c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	add("Redrive", err)
	if err := dead.Discard(ctx, "order-1#e-1"); !errors.Is(err, outbox.ErrNoDeadLetter) {
		add("Discard", err)
	}
	for _, q := range []replay.Query{{ID: "e-1"}, {Type: "ORDER_CREATED"}} {
		for r, err := range events.Records(ctx, q) {
			add("Records", err)
			require.True(t, err != nil || r.ID == "e-1")
		}
	}
	add("CreateIndex", events.CreateIndex(ctx, replay.ByType, nil))
	for _, err := range events.Records(ctx, replay.Query{Type: "ORDER_CREATED"}) {
		add("Records by an index", err)
	}
	return errs
}

// A client of the user's own (a wrapper, a mock) may return what the SDK's never does. Nothing panics, nothing hangs, and no field that is
// missing is taken for an answer: "nothing is parked", "no such row", "no failed attempt".
func TestClientsThatAnswerWithNothing(t *testing.T) {
	// On what of an answer the verdict depends. In an answer of GetItem, the absence of an item is what it says.
	const onNothing, onAnswer, onFields = 0, 1, 2
	depend := map[string][]string{ // the calls whose results depend on it
		"Query":              {"Process", "Process with HandleTx", "List", "PendingRedrives", "AnswerRedriveRequests", "Redrive", "Records by an index"},
		"Scan":               {"Records", "CreateIndex"},
		"GetItem":            {"Process", "Redrive"},
		"BatchGetItem":       {"List", "Records"},
		"DescribeTable":      {"LeaseTable.Create", "Inbox.Create", "DeadLetterTable.Create", "Records", "CreateIndex"},
		"DescribeTimeToLive": {"LeaseTable.Create", "Inbox.Create", "DeadLetterTable.Create"},
	}
	for operation, depends := range map[string]int{
		"Query":              onFields,
		"Scan":               onFields,
		"GetItem":            onAnswer,
		"BatchGetItem":       onFields,
		"DescribeTable":      onFields,
		"DescribeTimeToLive": onAnswer,
		"PutItem":            onNothing,
		"UpdateItem":         onNothing,
		"DeleteItem":         onNothing,
		"TransactWriteItems": onNothing,
		"CreateTable":        onNothing,
		"UpdateTimeToLive":   onNothing,
		"UpdateTable":        onNothing,
	} {
		for _, answers := range []string{noAnswer, emptyAnswer, nilAsError} {
			t.Run(operation+" gives "+answers, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					cloud := outboxtest.Start(t)
					defer cloud.Close()
					client := &hollow{Client: cloud.DynamoDB, operation: operation, answers: answers}
					errs := everyCall(t, cloud, client)
					require.NotZero(t, client.calls, "the operation was not called")
					said := slices.DeleteFunc(errs, func(err error) bool { return strings.HasSuffix(err.Error(), ": broken") })
					switch {
					case answers == nilAsError && (operation == "UpdateTimeToLive" || operation == "UpdateItem"):
						// The table is looked at again; an attempt that cannot be counted leaves the event unfinished.
					case answers == nilAsError:
						require.NotEmpty(t, said)
					case answers == noAnswer && depends != onNothing, answers == emptyAnswer && depends == onFields:
						for _, call := range depend[operation] {
							require.True(t, slices.ContainsFunc(said, func(err error) bool { return strings.HasPrefix(err.Error(), call+": ") }), "%s has believed what is missing: %v", call, said)
						}
					case depends == onNothing:
						require.Empty(t, said, "no error says that the write was carried out")
					}
				})
			})
		}
	}
}
