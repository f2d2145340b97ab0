package outbox_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// reluctantTable answers as DynamoDB may: some keys stay unread, all of them at first.
type reluctantTable struct {
	*dynamodb.Client
	unread func(call int, keys []map[string]types.AttributeValue) int // how many of the first keys
	answer func(*dynamodb.BatchGetItemOutput)
	calls  int
}

func (r *reluctantTable) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	r.calls++
	asked := in.RequestItems["events"]
	left, n := asked, 0
	if r.unread != nil {
		n = r.unread(r.calls, asked.Keys)
		left.Keys, asked.Keys = asked.Keys[:n], asked.Keys[n:]
		if n > 0 && len(asked.Keys) == 0 {
			return &dynamodb.BatchGetItemOutput{UnprocessedKeys: map[string]types.KeysAndAttributes{"events": left}}, nil
		}
	}
	out, err := r.Client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{"events": asked}}, opts...)
	if err == nil && n > 0 {
		out.UnprocessedKeys = map[string]types.KeysAndAttributes{"events": left}
	}
	if r.answer != nil {
		r.answer(out)
	}
	return out, err
}

func (r *reluctantTable) process(t *testing.T, w *orderWorld) *outbox.Consumer {
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(r, "events", all), outbox.WithDeadLetters(w.letters))
	outbox.HandleTx(c, w.writer, w.handler)
	return c
}

func TestUnprocessedKeysAreNoGap(t *testing.T) {
	for name, unread := range map[string]func(call int, keys []map[string]types.AttributeValue) int{
		"none at first": func(call int, keys []map[string]types.AttributeValue) int {
			if call < 3 {
				return len(keys)
			}
			return 0
		},
		"the first one": func(call int, _ []map[string]types.AttributeValue) int { return max(0, 2-call) },
		"the first two": func(call int, _ []map[string]types.AttributeValue) int { return max(0, 3-call) },
	} {
		bubble(t, func(t *testing.T) {
			w := newOrderWorld(t)
			defer w.Close()
			events := w.write(t, 1, 2, 3, 4, 5)
			r := &reluctantTable{Client: w.DynamoDB, unread: unread}
			require.NoError(t, r.process(t, w).Process(t.Context(), events[4]), name)
			w.requireEffects(t, 1, 5)
		})
	}
}

// An answer that is not DynamoDB's says nothing about rows, and a row that is another event's is no event.
func TestAnswersAboutRowsThatAreNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*dynamodb.BatchGetItemOutput)
		want   string
	}{
		"nothing":         {func(out *dynamodb.BatchGetItemOutput) { *out = dynamodb.BatchGetItemOutput{} }, "no list of rows"},
		"another row":     {func(out *dynamodb.BatchGetItemOutput) { out.Responses["events"][0]["eventId"] = str("x") }, "a row that was not asked for"},
		"another event":   {func(out *dynamodb.BatchGetItemOutput) { out.Responses["events"][0]["sequence"] = num("9") }, "it is of aggregate \"account-1\" and sequence 9"},
		"no sequence":     {func(out *dynamodb.BatchGetItemOutput) { delete(out.Responses["events"][0], "sequence") }, "sequence 0"},
		"no payload type": {func(out *dynamodb.BatchGetItemOutput) { out.Responses["events"][0]["payload"] = num("9") }, "cannot be used"},
	} {
		w := newOrderWorld(t)
		events := w.write(t, 1, 2)
		r := &reluctantTable{Client: w.DynamoDB, answer: c.answer}
		err := r.process(t, w).Process(t.Context(), events[1])
		if err == nil { // a permanent failure of the row
			letters := w.deadLetters(t)
			require.Equal(t, []int64{2}, numbersOf(letters), name)
			require.Contains(t, letters[0].Error, c.want, name)
		} else {
			require.ErrorContains(t, err, c.want, name)
			require.Empty(t, w.deadLetters(t), "%s is no attempt", name)
		}
		require.Empty(t, w.runs, name)
	}
}
