package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// orderStorm is one world: a stream of several shards that drops, doubles, delays and reorders, requests that fail, up to two functions and two
// Workers beside them, handlers that fail now and then. It returns what broke, or "", and how many events the stream has not brought.
func orderStorm(t *testing.T, seed uint64) (broken string, healed int64) {
	r := rand.New(rand.NewPCG(seed, 0))
	rule := func(kind outboxtest.FaultKind, operation string, most float64) outboxtest.Fault {
		return outboxtest.Fault{Kind: kind, Service: "DynamoDB", Operation: operation, Probability: most * r.Float64()}
	}
	of := func(kind outboxtest.FaultKind, most float64, d time.Duration) outboxtest.Fault {
		return outboxtest.Fault{Kind: kind, Table: "events", Probability: most * r.Float64(), Duration: d}
	}
	faults := []outboxtest.Fault{
		of(outboxtest.DropRecord, 0.4, 0), of(outboxtest.DuplicateRecord, 0.4, 0), of(outboxtest.DelayRecord, 0.5, time.Duration(1+r.IntN(15))*time.Second),
		of(outboxtest.ReorderRecord, 0.6, time.Duration(1+r.IntN(10))*time.Second),
		rule(outboxtest.LoseAnswer, "TransactWriteItems", 0.2), rule(outboxtest.ServerError, "TransactWriteItems", 0.4), rule(outboxtest.TransactionConflict, "", 0.2),
		rule(outboxtest.ServerError, "GetItem", 0.1), rule(outboxtest.Throttle, "BatchGetItem", 0.1), rule(outboxtest.LoseAnswer, "UpdateItem", 0.1),
	}
	f := newFleet(t, outboxtest.WithFaults(seed))
	defer f.Close()
	w := &inboxWorld{f.world}
	require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
	const aggregates, events = 3, 8
	var mu sync.Mutex
	var stops []func() error
	var read int64
	defer func() { healed = atomic.LoadInt64(&read) }()
	luck, fails := rand.New(rand.NewPCG(seed, 1)), r.Float64()*0.2
	finished := map[string]int64{} // the highest event of an aggregate of which somebody was told that it is handled
	handled := func(r outbox.Record) {
		mu.Lock()
		defer mu.Unlock()
		finished[r.AggregateID] = max(finished[r.AggregateID], r.Sequence)
	}
	chance := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return luck.Float64() < fails
	}
	consumer := func() *outbox.Consumer {
		opts := []outbox.ConsumerOption{quiet(), outbox.WithInbox(w.inbox(t, w.DynamoDB, outbox.WithInboxCache([]int{0, 2, 100}[r.IntN(3)]))), outbox.WithOrder(w.DynamoDB, "events", all),
			outbox.WithConsumerHooks(outbox.ConsumerHooks{Handled: func(_ context.Context, r outbox.Record, _ time.Duration, err error) {
				if err == nil {
					handled(r)
				}
			}, Duplicate: func(_ context.Context, r outbox.Record) { handled(r) }, Order: func(_ context.Context, o outbox.OrderInfo) {
				atomic.AddInt64(&read, 1)
			}})}
		c := newConsumer(t, opts...)
		outbox.HandleTx(c, newWriter(t, w.DynamoDB), func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			time.Sleep(10 * time.Millisecond)
			if chance() {
				return outbox.Effects{}, errors.New("now and then")
			}
			return outbox.Effects{Writes: []types.TransactWriteItem{appendEffect(e.AggregateID, e.Sequence)}}, nil
		})
		return c
	}
	require.NoError(t, f.SetFaults(faults...))
	functions := r.IntN(3)
	for range functions {
		c := consumer()
		_, err := w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, c.Invoke)
		require.NoError(t, err)
	}
	for range max(r.IntN(3), 1-functions) { // what one reader gets wrong, another one may put right
		worker, err := outbox.NewWorker(f.Kinesis, "events", consumer(), f.leases)
		require.NoError(t, err)
		stops = append(stops, runWorker(t, worker).stop)
	}

	for n := range int64(events) {
		for a := range aggregates {
			e := outbox.NewSequenced(fmt.Sprint("account-", a), n+1, orderCreated{})
			for {
				err := f.writer.Transact(t.Context(), nil, e)
				if err == nil {
					break
				}
				require.NotErrorIs(t, err, outbox.ErrEventConflict)
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
	}
	f.StopFaults()
	time.Sleep(40 * time.Second) // what was delayed, and what waits for its next attempt
	for _, stop := range stops {
		require.NoError(t, stop())
	}
	effects := func(id string) (have []int64) {
		require.NoError(t, attributevalue.Unmarshal(w.row(t, "orders", "orderId", id)["effects"], &have))
		return have
	}
	mu.Lock()
	told := maps.Clone(finished)
	fails = 0
	mu.Unlock()
	for id, n := range told {
		if have := effects(id); int64(len(have)) < n {
			return fmt.Sprintf("%s: event %d is told as handled, and the effects are %v", id, n, have), 0
		}
	}
	last := consumer() // the last event of an aggregate may have been dropped
	for a := range aggregates {
		id := fmt.Sprint("account-", a)
		if err := last.Process(t.Context(), outbox.Record{ID: outbox.SequencedID(id, events), Type: "ORDER_CREATED", AggregateID: id, Sequence: events, Time: time.Now(),
			Table: "events", Payload: []byte(`{}`)}); err != nil && !errors.Is(err, outbox.ErrLate) { // its time is made up
			return fmt.Sprintf("%s: %v", id, err), 0
		}
		if have := effects(id); !slices.Equal(have, []int64{1, 2, 3, 4, 5, 6, 7, 8}) {
			return fmt.Sprintf("%s: the effects are %v", id, have), 0
		}
	}
	return "", 0
}

// appendEffect adds a number to the list in an aggregate's row.
func appendEffect(aggregate string, n int64) types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{TableName: aws.String("orders"), Key: values{"orderId": str(aggregate)},
		UpdateExpression: aws.String("SET effects = list_append(if_not_exists(effects, :none), :one)"),
		ExpressionAttributeValues: values{":none": &types.AttributeValueMemberL{Value: []types.AttributeValue{}},
			":one": &types.AttributeValueMemberL{Value: []types.AttributeValue{num(strconv.FormatInt(n, 10))}}}}}
}

// TestOrderWhateverTheStreamDoes runs ORDER_SEEDS worlds, or the world of ORDER_SEED alone.
func TestOrderWhateverTheStreamDoes(t *testing.T) {
	first, count := uint64(1), uint64(20)
	if n, err := strconv.ParseUint(os.Getenv("ORDER_SEEDS"), 10, 64); err == nil {
		count = n
	}
	if n, err := strconv.ParseUint(os.Getenv("ORDER_SEED"), 10, 64); err == nil {
		first, count = n, 1
	}
	total := int64(0)
	for seed := first; seed < first+count; seed++ {
		broken, healed := "", int64(0)
		bubble(t, func(t *testing.T) { broken, healed = orderStorm(t, seed) })
		require.Emptyf(t, broken, "ORDER_SEED=%d go test -count=1 -run '^TestOrderWhateverTheStreamDoes$' .", seed)
		total += healed
	}
	t.Logf("%d worlds, %d events were healed", count, total)
	require.NotZero(t, total)
}
