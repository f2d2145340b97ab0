package outbox_test

import (
	"context"
	"strconv"
	"sync"
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

// orderWorld is an inbox, dead letters and an aggregate with sequenced events. The effect of an event is an entry in a row's list, which shows the
// order of the commits.
type orderWorld struct {
	*inboxWithLetters

	mu      sync.Mutex
	failing map[int64]error // what the handlers return
	told    []outbox.OrderInfo
	runs    []int64 // of handlers, in their order
}

func newOrderWorld(t *testing.T, opts ...outboxtest.Option) *orderWorld {
	w := &orderWorld{failing: map[int64]error{}}
	w.inboxWithLetters = &inboxWithLetters{inboxWorld: newInboxWorld(t, opts...)}
	w.letters = w.lettersOf(t, w.DynamoDB)
	require.NoError(t, w.letters.Create(t.Context()))
	return w
}

const aggregate = "account-1"

// sequencedRecord is the event n as the stream delivers it, long after it was written.
func sequencedRecord(n int64) outbox.Record {
	at := time.Now().Add(-time.Hour + time.Duration(n)*time.Second).Truncate(time.Second)
	return outbox.Record{ID: outbox.SequencedID(aggregate, n), Type: "ORDER_CREATED", AggregateID: aggregate, Sequence: n, Time: at, Payload: []byte(`{"orderId":"x"}`)}
}

func delivered(r outbox.Record) outbox.Record {
	r.Table, r.ChangedAt = "events", r.Time
	return r
}

// write writes events, and returns them as the stream delivers them.
func (w *orderWorld) write(t testing.TB, numbers ...int64) []outbox.Record {
	var records []outbox.Record
	for _, n := range numbers {
		r := sequencedRecord(n)
		require.NoError(t, w.writer.Transact(t.Context(), nil, r))
		records = append(records, delivered(r))
	}
	return records
}

func (w *orderWorld) handler(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs = append(w.runs, e.Sequence)
	if err := w.failing[e.Sequence]; err != nil {
		return outbox.Effects{}, err
	}
	return outbox.Effects{Writes: []types.TransactWriteItem{appendEffect(aggregate, e.Sequence)}}, nil
}

// hooks keep what the order tells.
func (w *orderWorld) hooks() outbox.ConsumerOption {
	return outbox.WithConsumerHooks(outbox.ConsumerHooks{Order: func(_ context.Context, o outbox.OrderInfo) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, o)
	}})
}

// process is a Consumer of another process each time: it remembers nothing.
func (w *orderWorld) process(t testing.TB, client *dynamodb.Client, from time.Time, opts ...outbox.ConsumerOption) *outbox.Consumer {
	c := newConsumer(t, append(opts, outbox.WithInbox(w.inbox(t, client)), outbox.WithOrder(client, "events", from), w.hooks())...)
	outbox.HandleTx(c, newWriter(t, client), w.handler)
	return c
}

// effects returns the events that have had their effects, in the order of the commits.
func (w *orderWorld) effects(t testing.TB) (numbers []int64) {
	out, err := w.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("orders"), Key: values{"orderId": str(aggregate)}, ConsistentRead: aws.Bool(true)})
	require.NoError(t, err)
	require.NoError(t, attributevalue.Unmarshal(out.Item["effects"], &numbers))
	return numbers
}

// requireEffects checks that the events from first to last have had their effects, each once and in their order, and no others.
func (w *orderWorld) requireEffects(t testing.TB, first, last int64) {
	t.Helper()
	var want []int64
	for n := first; n <= last; n++ {
		want = append(want, n)
	}
	require.Equal(t, want, w.effects(t), "runs %v", w.runs)
}

func (w *orderWorld) position(t testing.TB) int64 {
	n, err := w.inbox(t, w.DynamoDB).Position(t.Context(), "events", aggregate)
	require.NoError(t, err)
	return n
}

// deadLetters returns the letters in the order of a redrive.
func (w *orderWorld) deadLetters(t testing.TB) (letters []outbox.DeadLetter) {
	for l, err := range w.letters.List(t.Context(), outbox.DeadLetterFilter{AggregateID: aggregate}) {
		require.NoError(t, err)
		letters = append(letters, l)
	}
	return letters
}

func numbersOf(letters []outbox.DeadLetter) (numbers []int64) {
	for _, l := range letters {
		numbers = append(numbers, l.Record.Sequence)
	}
	return numbers
}

// appendEffect adds a number to the list in an aggregate's row.
func appendEffect(aggregate string, n int64) types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{TableName: aws.String("orders"), Key: values{"orderId": str(aggregate)},
		UpdateExpression: aws.String("SET effects = list_append(if_not_exists(effects, :none), :one)"),
		ExpressionAttributeValues: values{":none": &types.AttributeValueMemberL{Value: []types.AttributeValue{}},
			":one": &types.AttributeValueMemberL{Value: []types.AttributeValue{num(strconv.FormatInt(n, 10))}}}}}
}
