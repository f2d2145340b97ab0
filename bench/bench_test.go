package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/bench/orderpb"
	"github.com/seed-1b628d3f/outbox/internal/lanes"
)

func TestOrdersHaveTheirSize(t *testing.T) {
	for _, size := range sizes {
		text, err := json.Marshal(newOrder(size.bytes))
		require.NoError(t, err)
		require.Len(t, text, size.bytes)
	}
}

// All ways from a change record to its event row lead to the same row.
func TestAllWaysGiveTheSameRow(t *testing.T) {
	for _, size := range sizes {
		data := insert(size.bytes)
		require.True(t, json.Valid(data))
		r, err := outbox.DecodeRecord(data)
		require.NoError(t, err)
		want := eventRow{ID: r.ID, Type: r.Type, AggregateID: r.AggregateID, Timestamp: r.Time.UnixMilli(), Sequence: r.Sequence, Payload: string(r.Payload)}
		require.Equal(t, "ORDER_CREATED", want.Type)
		require.EqualValues(t, 3, want.Sequence)
		for name, way := range map[string]func([]byte) (eventRow, error){"today": today, "UnmarshalMapJSON": mapJSON, "mirror": mirror} {
			got, err := way(data)
			require.NoError(t, err, name)
			require.Equal(t, want, got, name)
		}
	}
}

// A removal is none, to both sides.
func TestARemovalIsNoEvent(t *testing.T) {
	for _, size := range sizes {
		data := change("REMOVE", "1", must(json.Marshal(newOrder(size.bytes))))
		require.True(t, json.Valid(data))
		_, err := outbox.DecodeRecord(data)
		require.ErrorIs(t, err, outbox.ErrNotEvent)
		_, err = today(data)
		require.ErrorIs(t, err, errNotInsert)
	}
}

// Both Lambda functions hand the same orders to their handlers.
func TestBothFunctionsHandleTheSameOrders(t *testing.T) {
	payload := invocation(20, 300)
	require.True(t, json.Valid(payload))
	var want []order
	require.NoError(t, todayInvoke(payload, func(o order) error {
		want = append(want, o)
		return nil
	}))
	require.Len(t, want, 20)
	for name, opts := range map[string][]outbox.ConsumerOption{"default": nil, "sonic": {outbox.WithCodec(sonicCodec{})}} {
		c, err := outbox.NewConsumer(append(opts, outbox.WithConcurrency(1))...)
		require.NoError(t, err)
		var got []order
		outbox.Handle(c, func(_ context.Context, e outbox.Event[order]) error {
			got = append(got, e.Data)
			return nil
		})
		answer, err := c.Invoke(t.Context(), payload)
		require.NoError(t, err)
		require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
		require.Equal(t, want, got, name)
	}
}

// Every codec gives back what it was given, through a Consumer.
func TestCodecsGiveBackTheOrder(t *testing.T) {
	want := newOrder(4000)
	c, err := outbox.NewConsumer(outbox.WithConcurrency(1), outbox.WithCodec(sonicCodec{}, protoCodec{}))
	require.NoError(t, err)
	handled := 0
	outbox.Handle(c, func(_ context.Context, e outbox.Event[order]) error {
		require.Equal(t, want, e.Data)
		handled++
		return nil
	})
	outbox.HandleType(c, "ORDER_CREATED_PB", func(_ context.Context, e outbox.Event[*orderpb.Order]) error {
		require.True(t, proto.Equal(protoOrder(want), e.Data))
		handled++
		return nil
	})
	text, err := sonicCodec{}.Marshal(want)
	require.NoError(t, err)
	std, err := json.Marshal(want)
	require.NoError(t, err)
	require.Equal(t, string(std), string(text))
	binary, err := protoCodec{}.Marshal(protoOrder(want))
	require.NoError(t, err)
	require.NoError(t, c.Process(t.Context(), append(batch(1, "ORDER_CREATED", "application/json", text), batch(1, "ORDER_CREATED_PB", "application/x-protobuf", binary)...)...))
	require.Equal(t, 2, handled)

	_, err = protoCodec{}.Marshal(want)
	require.Error(t, err)
	require.Error(t, protoCodec{}.Unmarshal(binary, &want))
	var text2 *string
	require.Error(t, protoCodec{}.Unmarshal(binary, &text2))
	var broken *orderpb.Order
	require.Error(t, protoCodec{}.Unmarshal([]byte{0xff}, &broken))
}

type counter struct{ n atomic.Int64 }

func (c *counter) Do(int) lanes.Next { c.n.Add(1); return lanes.GoOn }

// Both ways to dispatch run every record.
func TestBothDispatchersRunEveryRecord(t *testing.T) {
	keys := keysOf(1000, 8)
	var a, b counter
	dispatch(lanes.New(8), keys, &a)
	perRecord(8, keys, &b)
	require.EqualValues(t, 1000, a.n.Load())
	require.EqualValues(t, 1000, b.n.Load())
}

// The table has every row, says which targets are reached, and names what it cannot find.
func TestTheTable(t *testing.T) {
	var out, progress bytes.Buffer
	nothing := []side{{"a", 1, func() {}}, {"b", 10, func() {}}}
	say := func(reached bool) func(results) (string, bool) {
		return func(r results) (string, bool) {
			require.Len(t, r.get("a").cpu, 3)
			require.NotPanics(t, func() { r.ratio("a", "b"); r.wallRatio("b", "a"); r.ns("a") })
			return "µ", reached
		}
	}
	run(&out, &progress, []row{
		{"one", "first", "t", nothing, 0, say(true)}, {"one", "second", "t", nothing, 0, say(false)}, {"two", "third", "", nothing, 200 * time.Microsecond, say(false)},
	}, meter{rounds: 3, slice: 100 * time.Microsecond})
	want := []string{
		"|         | target | measured | reached |", "|---------|--------|----------|---------|", "| **one** |        |          |         |",
		"| first   | t      | µ        | yes     |", "| second  | t      | µ        | NO      |", "| **two** |        |          |         |", "| third   |        | µ        |         |", "",
	}
	require.Equal(t, want, strings.Split(out.String(), "\n"))
	require.Contains(t, progress.String(), "2 of 3: one, second")
	require.Panics(t, func() { results{}.get("c") })
}

// Every row can be measured: no side fails.
func TestEveryRowCanBeMeasured(t *testing.T) {
	for _, r := range rows() {
		measured, _ := r.judge(meter{rounds: 1, slice: time.Microsecond}.compare(r.sides))
		require.NotEmpty(t, measured, r.name)
	}
}

func TestNumbers(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, []string{"999 ns", "1.5 µs", "150 µs"}, []string{duration(999), duration(1500), duration(150_000)})
	require.Equal(t, 2.0, ratio([]float64{2, 4, 6}, []float64{1, 2, 3}))
}

var kept *[]byte

func TestAllocsAreCounted(t *testing.T) {
	require.InDelta(t, 2, allocs(func() {
		b := make([]byte, 10)
		kept = &b
	}, 1000), 0.5)
}

// docs/performance.md shows code that is here, tests that exist, and rows that are measured.
func TestThePageIsTrue(t *testing.T) {
	text, err := os.ReadFile("../docs/performance.md")
	require.NoError(t, err)
	page := string(text)
	code, err := os.ReadFile("codecs.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(page, -1)
	require.Len(t, blocks, 2)
	for _, block := range blocks {
		require.Contains(t, string(code), block[1])
	}
	var tests string
	for _, file := range []string{"../hostile_input_is_bounded_test.go", "../replay/reconcile_in_little_memory_test.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		tests += string(text)
	}
	for _, name := range regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(page, -1) {
		require.True(t, strings.Contains(tests, "func "+name[1]+"("), "no %s", name[1])
	}
	for _, r := range rows() {
		require.Contains(t, page, "| "+r.name+" ", "the run in docs/performance.md is of another table: run bench again")
	}
}

// recorder keeps what it is sent.
type recorder struct {
	in *dynamodb.TransactWriteItemsInput
}

func (r *recorder) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	r.in = in
	return &dynamodb.TransactWriteItemsOutput{}, nil
}

// Put and the bare call send the same but for the token and the time of the event, which Put sets.
func TestBothWaysSendTheSameTransaction(t *testing.T) {
	var r recorder
	w, err := outbox.NewWriter(&r, "events")
	require.NoError(t, err)
	require.NoError(t, w.Put(t.Context(), "orders", somePlaced, someEvent))
	want := prebuilt(w)
	want.ClientRequestToken = r.in.ClientRequestToken
	want.TransactItems[1].Put.Item["timestamp"] = r.in.TransactItems[1].Put.Item["timestamp"]
	require.Equal(t, want, r.in)
}
