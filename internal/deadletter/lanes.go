package deadletter

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Parked returns the aggregates that are parked, at most limit. If there are more, complete is false.
func (s *Store) Parked(ctx context.Context, limit int) (aggregates []string, complete bool, err error) {
	for row, err := range s.query(ctx, s.lanes(), "", int32(limit)+1) {
		if err != nil {
			return nil, false, err
		}
		if len(aggregates) == limit {
			return aggregates, false, nil
		}
		aggregates = append(aggregates, rows.Text(row, "aggregateId"))
	}
	return aggregates, true, nil
}

// Lanes returns the keys of all lanes.
func (s *Store) Lanes(ctx context.Context) ([]string, error) {
	var lanes []string
	for row, err := range s.query(ctx, s.lanes(), "", 0) {
		if err != nil {
			return nil, err
		}
		lanes = append(lanes, rows.Text(row, "id"))
	}
	return lanes, nil
}

// AreParked returns which of the aggregates are parked.
func (s *Store) AreParked(ctx context.Context, aggregates []string) ([]string, error) {
	var parked []string
	for some := range slices.Chunk(aggregates, 100) { // DynamoDB's limit
		lanes := make([]string, 0, len(some))
		for _, id := range some {
			lanes = append(lanes, Lane(id))
		}
		found, err := s.batch(ctx, s.lanes(), lanes)
		if err != nil {
			return nil, err
		}
		for _, row := range found {
			parked = append(parked, rows.Text(row, "aggregateId"))
		}
	}
	return parked, nil
}

// batch reads rows of a group, at most 100, and returns those that are there by their ids.
func (s *Store) batch(ctx context.Context, group string, ids []string) (map[string]rows.Item, error) {
	retry := backoff.FullJitter{Base: 50 * time.Millisecond, Max: time.Second}
	found := make(map[string]rows.Item, len(ids))
	ask := make([]rows.Item, 0, len(ids))
	for _, id := range ids {
		ask = append(ask, key(group, id))
	}
	for attempt := 1; len(ask) > 0; attempt++ {
		out, err := s.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			s.table: {Keys: ask, ConsistentRead: aws.Bool(true)},
		}})
		if err != nil {
			return nil, s.failed("read "+group, err)
		}
		for _, answered := range out.Responses { // of the one table, under its name or its ARN
			for _, row := range answered {
				found[rows.Text(row, "id")] = row
			}
		}
		ask = nil
		for _, left := range out.UnprocessedKeys {
			ask = left.Keys
		}
		if len(ask) > 0 {
			if err := backoff.Wait(ctx, retry.Delay(attempt)); err != nil {
				return nil, s.failed("read "+group, err)
			}
		}
	}
	return found, nil
}

// Claim is the right to redrive a lane, or a letter without one, until a time. Two holders at once are possible only if a clock
// is wrong or the first one does not heed the time.
type Claim struct {
	s     *Store
	key   rows.Item
	Token string
	Until time.Time
}

// Claim claims the lane of a letter, or the letter if it has none. The result is nil if somebody else has it, and the error
// ErrMissing if it is gone.
func (s *Store) Claim(ctx context.Context, letterID, token string, until time.Time) (*Claim, error) {
	c := &Claim{s: s, Token: token, key: key(s.letters(), letterID)}
	if lane := LaneOf(letterID); lane != "" {
		c.key = key(s.lanes(), lane)
	}
	const free = "attribute_exists(#id) AND (attribute_not_exists(#claim) OR #claim = :me OR #claimUntil < :now)"
	ok, err := c.take(ctx, free, rows.Item{":now": rows.Millis(time.Now())}, until)
	if !ok {
		return nil, err
	}
	return c, nil
}

// Extend makes the claim last longer. False means that it is lost: it had ended, and somebody else has or had it.
func (c *Claim) Extend(ctx context.Context, until time.Time) (bool, error) {
	return c.take(ctx, "#claim = :me", rows.Item{}, until)
}

func (c *Claim) take(ctx context.Context, condition string, values rows.Item, until time.Time) (bool, error) {
	values[":until"] = rows.Millis(until)
	ok, err := c.update(ctx, condition, "SET #claim = :me, #claimUntil = :until", values)
	if ok {
		c.Until = until
	}
	return ok, err
}

// Release gives the claim back.
func (c *Claim) Release(ctx context.Context) error {
	_, err := c.update(ctx, "#claim = :me", "REMOVE #claim, #claimUntil", rows.Item{})
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}

func (c *Claim) update(ctx context.Context, condition, expression string, values rows.Item) (bool, error) {
	values[":me"] = rows.S(c.Token)
	err := repeat(ctx, func() error {
		_, err := c.s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: &c.s.table, Key: c.key,
			ConditionExpression: &condition, UpdateExpression: &expression,
			ExpressionAttributeNames: rows.Names(condition, expression), ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld})
		return err
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		if len(failed.Item) == 0 {
			return false, c.s.failed("claim "+rows.Text(c.key, "id"), ErrMissing)
		}
		return false, nil
	}
	if err != nil {
		return false, c.s.failed("claim "+rows.Text(c.key, "id"), err)
	}
	return true, nil
}

// Close removes a lane that has no letters, and says whether it is gone. Its aggregate is not parked any more.
func (s *Store) Close(ctx context.Context, lane string) (bool, error) {
	const empty = "attribute_not_exists(#letters) OR #letters <= :zero"
	err := repeat(ctx, func() error {
		_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.lanes(), lane),
			ConditionExpression: aws.String(empty), ExpressionAttributeNames: rows.Names(empty), ExpressionAttributeValues: rows.Item{":zero": rows.N(0)}})
		return err
	})
	if conditionFailed(err) {
		return false, nil
	}
	if err != nil {
		return false, s.failed("close "+lane, err)
	}
	return true, nil
}

// Ask asks for a redrive of a letter and of those before it in its lane, or, with the id "<lane>#", of the whole lane.
func (s *Store) Ask(ctx context.Context, letterID string) error {
	_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: rows.Item{
		"group": rows.S(s.requests()), "id": rows.S(letterID), "requestedAt": rows.Millis(time.Now()),
		"expiresAt": rows.N(time.Now().Add(requestTTL).Unix()),
	}})
	if err != nil {
		return s.failed("request a redrive", err)
	}
	return nil
}

// Request is a redrive that somebody asked for.
type Request struct {
	LetterID string
	at       int64
}

// Requests returns what was asked for, at most limit.
func (s *Store) Requests(ctx context.Context, limit int) ([]Request, error) {
	var requests []Request
	for row, err := range s.query(ctx, s.requests(), "", int32(limit)) {
		if err != nil {
			return nil, err
		}
		if requests = append(requests, Request{rows.Text(row, "id"), rows.Int(row, "requestedAt")}); len(requests) == limit {
			break
		}
	}
	return requests, nil
}

// Answered removes a request, unless it was made again meanwhile.
func (s *Store) Answered(ctx context.Context, r Request) error {
	const same = "#requestedAt = :at"
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.requests(), r.LetterID),
		ConditionExpression: aws.String(same), ExpressionAttributeNames: rows.Names(same), ExpressionAttributeValues: rows.Item{":at": rows.N(r.at)}})
	if err != nil && !conditionFailed(err) {
		return s.failed("remove a request", err)
	}
	return nil
}
