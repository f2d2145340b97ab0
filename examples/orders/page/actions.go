package page

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"

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

// lose has the next change record lost on its way into the stream, as DynamoDB loses one now and then.
func (p *Page) lose(w http.ResponseWriter, r *http.Request) {
	if err := p.loseNext(); err != nil {
		refuse(w, r, err)
		return
	}
	service.Answer(w, http.StatusAccepted, struct{}{})
}

// poison places an order whose mail is refused, and changes it twice.
func (p *Page) poison(api http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.provider.repaired.Store(false)
		said := ask(api, r, "/", map[string]string{"description": "a poison order", "email": RefusedAddress})
		placed := said
		for _, description := range []string{"a poison order, with milk", "a poison order, with milk and sugar"} {
			if said.status < http.StatusBadRequest {
				said = ask(api, r, "/orders/"+placed.content().OrderID+"/changes", map[string]string{"description": description})
			}
		}
		if said.status >= http.StatusBadRequest {
			service.Answer(w, said.status, service.Problem{Error: said.content().Error})
			return
		}
		service.Answer(w, http.StatusCreated, map[string]string{"orderId": placed.content().OrderID})
	}
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
