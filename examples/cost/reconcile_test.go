package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// meter is a client that counts what Reconcile reads.
type meter struct {
	*dynamodb.Client
	scan, batches reads
}

func (m *meter) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	asking := *in
	asking.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	out, err := m.Client.Scan(ctx, &asking, opts...)
	if err == nil {
		m.scan.requests++
		m.scan.units += aws.ToFloat64(out.ConsumedCapacity.CapacityUnits)
	}
	return out, err
}

func (m *meter) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	asking := *in
	asking.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	out, err := m.Client.BatchGetItem(ctx, &asking, opts...)
	if err == nil {
		m.batches.requests++
		for _, c := range out.ConsumedCapacity {
			m.batches.units += aws.ToFloat64(c.CapacityUnits)
		}
	}
	return out, err
}

type item = map[string]types.AttributeValue

// shop is a consumer with an inbox and dead letters, and an events table with copies of a few rows.
type shop struct {
	*meter
	events   *replay.Events
	consumer *outbox.Consumer
	handled  int
}

func newShop(t *testing.T, ordered bool) *shop {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "events", "eventId")
	s := &shop{meter: &meter{Client: cloud.DynamoDB}}
	inbox, err := outbox.NewInbox(s, "inbox", "mails")
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	letters, err := outbox.NewDeadLetterTable(s, "dead-letters", "mails")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	opts := []outbox.ConsumerOption{outbox.WithInbox(inbox), outbox.WithDeadLetters(letters), outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithConcurrency(1)}
	if ordered {
		opts = append(opts, outbox.WithOrder(s, "events", time.Time{}))
	}
	s.consumer, err = outbox.NewConsumer(opts...)
	require.NoError(t, err)
	outbox.HandleType(s.consumer, "ORDER_CREATED", func(context.Context, outbox.Event[json.RawMessage]) error { s.handled++; return nil })
	s.events, err = replay.New(s, "events")
	require.NoError(t, err)
	return s
}

// handle writes an event, lets it be handled, and returns its row and the inbox's.
func (s *shop) handle(t *testing.T, e outbox.Event[payload]) (row, kept item) {
	writer, err := outbox.NewWriter(s.Client, "events", outbox.WithTTL(30*24*time.Hour))
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, e))
	_, err = s.events.To(t.Context(), replay.Query{ID: e.ID}, s.consumer, replay.Options{})
	require.NoError(t, err)
	require.Equal(t, 1, s.handled)
	read := func(table string) item {
		out, err := s.Client.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
		require.NoError(t, err)
		require.Len(t, out.Items, 1)
		return out.Items[0]
	}
	s.handled = 0
	return read("events"), read("inbox")
}

// fill puts n rows into a table.
func (s *shop) fill(t *testing.T, table string, n int, row func(i int) item) {
	all := make([]types.WriteRequest, n)
	for i := range all {
		all[i].PutRequest = &types.PutRequest{Item: row(i)}
	}
	for some := range slices.Chunk(all, 25) {
		out, err := s.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: some}})
		require.NoError(t, err)
		require.Empty(t, out.UnprocessedItems)
	}
}

// with is a copy of a row with other texts and, where a value is an int, numbers.
func with(row item, changes map[string]any) item {
	row = maps.Clone(row)
	for name, value := range changes {
		if n, ok := value.(int); ok {
			row[name] = &types.AttributeValueMemberN{Value: strconv.Itoa(n)}
		} else {
			row[name] = &types.AttributeValueMemberS{Value: value.(string)}
		}
	}
	return row
}

const expiry = 1_769_817_611 // with as many digits as most times have

// Reconcile reads what the page says. COST_ROWS=100000 checks it with as many events as the page does.
func TestReconcileReadsWhatThePageSays(t *testing.T) {
	events := 3000
	if text := os.Getenv("COST_ROWS"); text != "" {
		var err error
		events, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	at := time.UnixMilli(1_767_225_600_123)
	size := rowBytes(300)
	for name, missing := range map[string]int{"all handled": 0, "1 % missing": events / 100} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(at.Add(time.Hour)))
				s := newShop(t, false)
				e := outbox.NewEvent("01J1A2B3C4D5E6F7G8H9JKMNPQ", payload(sample(300)))
				e.ID, e.Time = fmt.Sprintf("%026d", 0), at
				row, mark := s.handle(t, e)
				s.fill(t, "events", events, func(i int) item {
					return with(row, map[string]any{"eventId": fmt.Sprintf("%026d", i), "expiresAt": expiry})
				})
				s.fill(t, "inbox", events-missing, func(i int) item { // each hundredth is missing
					if missing > 0 {
						i += i / 99
					}
					return with(mark, map[string]any{"eventId": fmt.Sprintf("%026d", i)})
				})
				s.scan, s.batches = reads{}, reads{}
				result, err := s.events.Reconcile(t.Context(), s.consumer, replay.ReconcileOptions{})
				require.NoError(t, err)
				result.Oldest = time.Time{}
				require.Equal(t, replay.ReconcileResult{Segments: 1, Searched: events, Handled: events - missing, Undelivered: missing, Delivered: missing}, result)
				require.Equal(t, missing, s.handled)
				require.Equal(t, scanned(events, size), s.scan)
				more := reads{s.batches.requests - marked(events, size).requests, s.batches.units - marked(events, size).units}
				if missing == 0 {
					require.Equal(t, reads{}, more)
					return
				}
				require.Equal(t, missed(events, size, missing).units, more.units)
				require.InEpsilon(t, missed(events, size, missing).requests, more.requests, 0.2)
			})
		})
	}
	t.Run("in order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(at.Add(time.Hour)))
			s := newShop(t, true)
			aggregates := min(100, events/300)
			aggregate := func(i int) string { return fmt.Sprintf("01J1A2B3C4D5E6F7G8H%07d", i%aggregates) }
			e := outbox.NewSequenced(aggregate(0), 1, payload(sample(300)))
			e.Time = at
			row, position := s.handle(t, e)
			s.fill(t, "events", events, func(i int) item {
				n := 1 + i/aggregates
				return with(row, map[string]any{"eventId": outbox.SequencedID(aggregate(i), int64(n)), "aggregateId": aggregate(i), "sequence": n, "expiresAt": expiry})
			})
			s.fill(t, "inbox", aggregates, func(i int) item {
				return with(position, map[string]any{"eventId": aggregate(i), "sequence": events})
			})
			s.scan, s.batches = reads{}, reads{}
			result, err := s.events.Reconcile(t.Context(), s.consumer, replay.ReconcileOptions{})
			require.NoError(t, err)
			require.Equal(t, replay.ReconcileResult{Segments: 1, Searched: events, Handled: events}, result)
			want := positioned(events, size, aggregates)
			require.Equal(t, want.requests, s.batches.requests)
			require.InEpsilon(t, want.units, s.batches.units, 0.02, "the last page may lack an aggregate")
		})
	})
}
