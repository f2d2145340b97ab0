package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/oklog/ulid/v2"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// refuse answers with an error of AWS, or of nobody who knows more.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	slog.ErrorContext(r.Context(), "request of the page failed", "path", r.URL.Path, "error", err)
	service.Answer(w, http.StatusInternalServerError, service.Problem{Error: "it did not work; the service's log says why"})
}

// again puts the change record of an event into the stream once more, as DynamoDB does now and then.
func (p *Page) again(w http.ResponseWriter, r *http.Request) {
	shard, sequence, ok := p.lastDelivery(r.PathValue("id"))
	if !ok {
		service.Answer(w, http.StatusNotFound, service.Problem{Error: "no delivery of this event is known"})
		return
	}
	record, err := p.record(r.Context(), shard, sequence)
	if err == nil {
		_, err = p.kinesis.PutRecord(r.Context(), &kinesis.PutRecordInput{StreamName: &p.config.EventsStream, Data: record.Data, PartitionKey: record.PartitionKey})
	}
	if err != nil {
		refuse(w, r, err)
		return
	}
	service.Answer(w, http.StatusAccepted, struct{}{})
}

// lastDelivery returns where an event was last delivered from.
func (p *Page) lastDelivery(event string) (shard, sequence string, ok bool) {
	for _, line := range p.feed.kept() {
		var s Step
		if json.Unmarshal(line, &s) == nil && s.Stage == Delivered && s.Event == event {
			return s.Shard, s.Sequence, true
		}
	}
	return "", "", false
}

// record reads one record of the stream.
func (p *Page) record(ctx context.Context, shard, sequence string) (kinesistypes.Record, error) {
	iterator, err := p.kinesis.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamName: &p.config.EventsStream, ShardId: &shard, StartingSequenceNumber: &sequence,
		ShardIteratorType: kinesistypes.ShardIteratorTypeAtSequenceNumber,
	})
	if err != nil {
		return kinesistypes.Record{}, err
	}
	out, err := p.kinesis.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator.ShardIterator, Limit: aws.Int32(1)})
	if err != nil {
		return kinesistypes.Record{}, err
	}
	if len(out.Records) == 0 || aws.ToString(out.Records[0].SequenceNumber) != sequence {
		return kinesistypes.Record{}, fmt.Errorf("record %s of shard %s is not in the stream any more", sequence, shard)
	}
	return out.Records[0], nil
}

// change gives an order another description.
func (p *Page) change(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, err := ulid.ParseStrict(id); err != nil {
		service.Answer(w, http.StatusNotFound, service.Problem{Error: "there is no such order"})
		return
	}
	err := p.changeOrder(r.Context(), id, "changed at "+time.Now().Format(time.TimeOnly))
	switch {
	case errors.Is(err, outbox.ErrConditionFailed):
		service.Answer(w, http.StatusNotFound, service.Problem{Error: "there is no such order"})
	case err != nil:
		refuse(w, r, err)
	default:
		service.Answer(w, http.StatusCreated, map[string]string{"orderId": id})
	}
}

func (p *Page) changeOrder(ctx context.Context, id, description string) error {
	return p.writer.Transact(ctx, []types.TransactWriteItem{{Update: &types.Update{
		TableName:                 &p.config.OrdersTable,
		Key:                       map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: id}},
		UpdateExpression:          aws.String("SET description = :d"),
		ConditionExpression:       aws.String("attribute_exists(orderId)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":d": &types.AttributeValueMemberS{Value: description}},
	}}}, outbox.NewEvent(id, OrderChanged{OrderID: id, Description: description}))
}

// poison places an order whose mail is refused, and changes it twice.
func (p *Page) poison(w http.ResponseWriter, r *http.Request) {
	p.provider.repaired.Store(false)
	order := service.Order{ID: ulid.Make().String(), Description: "a poison order", Email: RefusedAddress}
	event := outbox.NewEvent(order.ID, service.OrderCreated{OrderID: order.ID, Description: order.Description, Email: order.Email})
	event.ID = "ORDER_CREATED#" + order.ID
	err := p.writer.Put(r.Context(), p.config.OrdersTable, order, event)
	for _, description := range []string{"a poison order, with milk", "a poison order, with milk and sugar"} {
		if err == nil {
			err = p.changeOrder(r.Context(), order.ID, description)
		}
	}
	if err != nil {
		refuse(w, r, err)
		return
	}
	service.Answer(w, http.StatusCreated, map[string]string{"orderId": order.ID})
}

// redriveTime is how long a redrive may take.
const redriveTime = 30 * time.Second

// redrive repairs the mail provider, and hands all dead letters to their handlers.
func (p *Page) redrive(w http.ResponseWriter, r *http.Request) {
	p.provider.repaired.Store(true)
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), redriveKey{}, true), redriveTime)
	defer cancel()
	result, err := p.letters.Redrive(ctx, p.consumer, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	if err != nil {
		refuse(w, r, err)
		return
	}
	p.watch.add(Step{Stage: Redriven, Text: summary(result)})
	service.Answer(w, http.StatusOK, map[string]int{"redriven": result.Redriven, "failed": result.Failed})
}

func summary(r outbox.RedriveResult) string {
	if r == (outbox.RedriveResult{}) {
		return "nothing was waiting"
	}
	text := fmt.Sprintf("%d handled", r.Redriven)
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d failed", r.Failed)
	}
	if r.Busy > 0 {
		text += fmt.Sprintf(", %d busy elsewhere", r.Busy)
	}
	return text
}
