package storm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// An event is one of three types, for the three kinds of handlers.
type (
	stepTx  struct{ N int }
	plain   struct{ N int }
	guarded struct{ N int }
)

func (stepTx) EventType() string  { return "TX" }
func (plain) EventType() string   { return "PLAIN" }
func (guarded) EventType() string { return "GUARDED" }

var errPoison = errors.New("poison")

type invocation struct{}

// register gives a process its handlers.
func (w *world) register(p *process) {
	outbox.HandleTx(p.consumer, p.writer, func(ctx context.Context, e outbox.Event[stepTx]) (outbox.Effects, error) {
		s := w.plan.find(e.AggregateID, e.Data.N)
		leave, err := w.begin(ctx, p, s)
		if err != nil {
			return outbox.Effects{}, err
		}
		defer leave()
		have, err := w.have(ctx, p.private, s.aggregate.name)
		if err != nil {
			return outbox.Effects{}, err
		}
		if err := w.judge(s, have); err != nil {
			return outbox.Effects{}, err
		}
		return w.effects(s, have), nil
	})
	outbox.Handle(p.consumer, func(ctx context.Context, e outbox.Event[plain]) error {
		return w.handle(ctx, p, e.AggregateID, e.Data.N)
	})
	outbox.Handle(p.consumer, func(ctx context.Context, e outbox.Event[guarded]) error {
		return w.handle(ctx, p, e.AggregateID, e.Data.N)
	})
	outbox.HandleTx(p.consumer, p.writer, func(ctx context.Context, e outbox.Event[hot]) (outbox.Effects, error) { return w.add(ctx, p, e) })
	outbox.Handle(p.consumer, func(ctx context.Context, e outbox.Event[claimed]) error { return w.slow(ctx, p, e) })
	outbox.Handle(p.consumer, func(ctx context.Context, e outbox.Event[flaky]) error { return w.flaky(ctx, p, e) })
	outbox.Handle(p.consumer, func(_ context.Context, e outbox.Event[needy]) error { return w.need(p, e) })
}

// handle is a handler whose effect is elsewhere: in the history.
func (w *world) handle(ctx context.Context, p *process, aggregateID string, n int) error {
	s := w.plan.find(aggregateID, n)
	leave, err := w.begin(ctx, p, s)
	if err != nil {
		return err
	}
	defer leave()
	have := 0
	for w.successes(step{s.aggregate, have + 1}) > 0 || w.isDiscarded(step{s.aggregate, have + 1}) {
		have++
	}
	if err := w.judge(s, have); err != nil {
		return err
	}
	return w.success(p, s)
}

// begin takes the time that a handler takes.
func (w *world) begin(ctx context.Context, p *process, s step) (leave func(), err error) {
	if err := p.link.wait(ctx); err != nil {
		return nil, err
	}
	r, _ := outbox.RecordFromContext(ctx)
	redrive := r.Fence == 0 && ctx.Value(invocation{}) == nil
	leave = w.enter(p, s, redrive)
	took := time.Duration(share(w.plan.seed, p.name, s.String(), 0) * float64(400*time.Millisecond))
	if w.stuck != nil && w.stuck(p, s) {
		took = time.Hour
	}
	if err := p.link.sleep(ctx, took); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// judge says whether the event may be handled now, when all events up to have were handled.
func (w *world) judge(s step, have int) error {
	poison := s.aggregate.poison[s.n]
	ill := poison != nil && poison.stage > int(w.healed.Load())
	if w.plan.disorder && ill && w.healed.Load() == 0 {
		return poison.err() // it may come early
	}
	if have < w.plan.before(s.aggregate, s.n) {
		w.problem("order: %s reached its handler when %d was the last that was handled", s, have)
		return outbox.Permanent(fmt.Errorf("%s came before %d", s, s.n-1))
	}
	if d := w.plan.discard; d != nil && d.aggregate == s.aggregate && d.n < s.n && !w.discardBegun.Load() {
		w.problem("order: %s reached its handler before %s, which is still a letter", s, d)
	}
	if ill {
		return poison.err()
	}
	return nil
}

func (p *poison) err() error {
	if p.permanent {
		return outbox.Permanent(errPoison)
	}
	return errPoison
}

func (w *world) isDiscarded(s step) bool {
	return w.plan.discard != nil && *w.plan.discard == s && w.discardBegun.Load()
}

// effects count the run in any case, and move the aggregate on unless it was moved before.
func (w *world) effects(s step, have int) outbox.Effects {
	number := func(n int) types.AttributeValue { return &types.AttributeValueMemberN{Value: strconv.Itoa(n)} }
	key := func(id string) map[string]types.AttributeValue {
		return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}}
	}
	writes := []types.TransactWriteItem{{Update: &types.Update{
		TableName: aws.String("state"), Key: key("effect " + s.String()),
		UpdateExpression: aws.String("ADD runs :one"), ExpressionAttributeValues: map[string]types.AttributeValue{":one": number(1)},
	}}}
	if have < s.n {
		writes = append(writes, types.TransactWriteItem{Update: &types.Update{
			TableName: aws.String("state"), Key: key(s.aggregate.name),
			UpdateExpression:    aws.String("SET handled = :n"),
			ConditionExpression: aws.String("handled = :before OR (attribute_not_exists(handled) AND :before = :zero)"),
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":n": number(s.n), ":before": number(w.plan.before(s.aggregate, s.n)), ":zero": number(0),
			},
		}})
	}
	return outbox.Effects{Writes: writes}
}

// have reads up to which event an aggregate was handled.
func (w *world) have(ctx context.Context, client *dynamodb.Client, id string) (int, error) {
	return w.number(ctx, client, id, "handled")
}

func (w *world) number(ctx context.Context, client *dynamodb.Client, id, attribute string) (int, error) {
	answer, err := client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String("state"), ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}},
	})
	if err != nil {
		return 0, err
	}
	value, ok := answer.Item[attribute].(*types.AttributeValueMemberN)
	if !ok {
		return 0, nil
	}
	return strconv.Atoi(value.Value)
}

func (p *plan) find(name string, n int) step {
	for _, a := range p.aggregates {
		if a.name == name {
			return step{a, n}
		}
	}
	panic("no aggregate " + name)
}
