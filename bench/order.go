package main

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// txConsumer handles events by HandleTx with one write each.
func txConsumer(client *dynamodb.Client, opts ...outbox.ConsumerOption) *outbox.Consumer {
	inbox := must(outbox.NewInbox(client, "inbox", "bench"))
	c := must(outbox.NewConsumer(append(opts, outbox.WithInbox(inbox))...))
	outbox.HandleTx(c, must(outbox.NewWriter(client, "events")), func(_ context.Context, e outbox.Event[orderPlaced]) (outbox.Effects, error) {
		return outbox.Effects{Writes: []types.TransactWriteItem{{Put: &types.Put{TableName: aws.String("orders"),
			Item: map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: e.AggregateID}}}}}}, nil
	})
	return c
}

// numbered are sequenced events of some aggregates. Each call of next gives the following ones, as no event is handled twice.
type numbered struct {
	aggregates []string
	records    []outbox.Record
	sequence   int64
}

// newNumbered has n events in a call, shared out evenly between the aggregates.
func newNumbered(n, aggregates int) *numbered {
	e := &numbered{records: make([]outbox.Record, n)}
	for i := range aggregates {
		e.aggregates = append(e.aggregates, fmt.Sprint("order-", i))
	}
	return e
}

func (e *numbered) next() []outbox.Record {
	for i := range e.records {
		if i%len(e.aggregates) == 0 {
			e.sequence++
		}
		aggregate := e.aggregates[i%len(e.aggregates)]
		e.records[i] = outbox.Record{ID: outbox.SequencedID(aggregate, e.sequence), Type: "ORDER_PLACED", AggregateID: aggregate, Sequence: e.sequence,
			Time: time.UnixMilli(1719347890250), Table: "events", Payload: []byte(`{"orderId":"01J9Z3","description":"two coffees"}`)}
	}
	return e.records
}

// orderRows is about what WithOrder takes beside marks, with a server that answers at once.
func orderRows() []row {
	client := idleDynamoDB()
	var rows []row
	for _, c := range []struct {
		name          string
		n, aggregates int
	}{{"one hot aggregate, batches of 100", 100, 1}, {"a thousand cool aggregates, batches of 1,000", 1000, 1000}} {
		of := func(name string, opts ...outbox.ConsumerOption) side {
			consumer, events := txConsumer(client, opts...), newNumbered(c.n, c.aggregates)
			return side{name, c.n, func() {
				if err := consumer.Process(context.Background(), events.next()...); err != nil {
					panic(err)
				}
			}}
		}
		rows = append(rows, row{
			group: "HandleTx in order over HandleTx with marks, on loopback", name: c.name, slice: loopback,
			sides: []side{of("marks"), of("order", outbox.WithOrder(client, "events", time.Time{}))},
			judge: func(r results) (string, bool) {
				wall := median(r.get("order").wall)
				return fmt.Sprintf("%.2f × the events a second (%.0f), %.2f × the CPU time (%s), %+.1f allocs", r.wallRatio("marks", "order"), 1e9/wall,
					r.ratio("order", "marks"), duration(r.ns("order")), r.get("order").allocs-r.get("marks").allocs), true
			},
		})
	}
	return rows
}
