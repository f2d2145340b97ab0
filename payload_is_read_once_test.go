package outbox_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// countedReads is a client that counts reads, and those whose answers carry payloads.
type countedReads struct {
	*dynamodb.Client
	mu              sync.Mutex
	reads, payloads int
}

func (c *countedReads) count(rows ...map[string]types.AttributeValue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	for _, row := range rows {
		if row["payload"] != nil || row["raw"] != nil || row["data"] != nil {
			c.payloads++
			return
		}
	}
}

func (c *countedReads) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out, err := c.Client.Query(ctx, in, opts...)
	if err == nil {
		c.count(out.Items...)
	}
	return out, err
}

func (c *countedReads) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	out, err := c.Client.GetItem(ctx, in, opts...)
	if err == nil {
		c.count(out.Item)
	}
	return out, err
}

func (c *countedReads) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out, err := c.Client.BatchGetItem(ctx, in, opts...)
	if err == nil {
		c.count(out.Responses["letters"]...)
	}
	return out, err
}

// What is read of a letter's payload, a redrive needs: each row of it is read once, and nothing else reads it, however the letter is selected.
// A large letter has its payload in two rows of its own.
func TestARedriveReadsAPayloadOnce(t *testing.T) {
	type reads struct{ all, payloads int }
	for size, payloads := range map[int]int{100: 1, 390 << 10: 2} {
		for name, one := range map[string]struct {
			filter              outbox.DeadLetterFilter
			request, dry, whole int // reads; with the two of a large payload
		}{
			"all":              {outbox.DeadLetterFilter{}, 2, 3, 6},
			"of the aggregate": {outbox.DeadLetterFilter{AggregateID: "a"}, 1, 2, 5},
			"of the type":      {outbox.DeadLetterFilter{Type: "T"}, 1, 2, 5},
			"of both":          {outbox.DeadLetterFilter{Type: "T", AggregateID: "a"}, 1, 2, 5},
			"the letter":       {outbox.DeadLetterFilter{ID: "a#poison"}, 1, 2, 5},
		} {
			t.Run(fmt.Sprint(name, ", ", size, " bytes"), func(t *testing.T) {
				o := newOffice(t)
				r := rec("poison", "a")
				r.Payload = []byte(`{"x":"` + strings.Repeat("x", size) + `"}`)
				require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), r))
				o.repair()
				counted := &countedReads{Client: o.DynamoDB}
				letters := o.table(t, counted)
				take := func() reads {
					defer func() { counted.reads, counted.payloads = 0, 0 }()
					return reads{counted.reads, counted.payloads}
				}

				n, err := letters.RequestRedrive(t.Context(), one.filter)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Equal(t, reads{one.request, 0}, take(), "a request")
				result, err := letters.Redrive(t.Context(), o.consumer(t), one.filter, outbox.RedriveOptions{DryRun: true})
				require.NoError(t, err)
				require.Equal(t, outbox.RedriveResult{Redriven: 1}, result)
				require.Equal(t, reads{one.dry, 0}, take(), "a dry run")
				result, err = letters.Redrive(t.Context(), o.consumer(t), one.filter, outbox.RedriveOptions{})
				require.NoError(t, err)
				require.Equal(t, outbox.RedriveResult{Redriven: 1}, result)
				if payloads == 1 { // in the letter's own row
					one.whole -= 2
				}
				require.Equal(t, reads{one.whole, payloads}, take(), "a redrive")
			})
		}
	}
}

// Of letters that a filter leaves out, no row of a large payload is read.
func TestAListReadsNoPayloadInVain(t *testing.T) {
	o := newOffice(t)
	large := rec("poison", "a")
	large.Payload = []byte(`{"x":"` + strings.Repeat("x", 390<<10) + `"}`)
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), large, rec("poison2", "b")))
	counted := &countedReads{Client: o.DynamoDB}
	for aggregate, want := range map[string]struct{ listed, leftOut int }{"a": {2, 0}, "b": {1, 1}} { // a small letter has its payload in its row
		for l, err := range o.table(t, counted).List(t.Context(), outbox.DeadLetterFilter{AggregateID: aggregate, ErrorContains: "fire"}) {
			require.NoError(t, err)
			require.Equal(t, aggregate, l.Record.AggregateID)
		}
		require.Equal(t, want.listed, counted.payloads)
		counted.payloads = 0
		for l := range o.table(t, counted).List(t.Context(), outbox.DeadLetterFilter{AggregateID: aggregate, ErrorContains: "flood"}) {
			require.Fail(t, "listed", l.ID)
		}
		require.Equal(t, want.leftOut, counted.payloads)
		counted.payloads = 0
	}
}
