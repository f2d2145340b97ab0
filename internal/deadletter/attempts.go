package deadletter

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// attemptsAt returns the key under which attempts at an event are counted. A record of a stream has a count of its own, and so
// has a replay, and an event with the same id in another table.
func (s *Store) attemptsAt(e *event.Event) rows.Item {
	id := keyPart(e.ID)
	if e.SequenceNumber != "" || e.Table != "" {
		id += "#" + recordKey(e, e.Table+"\x00"+e.StreamARN)
	}
	return key(s.attempts(), id)
}

// Attempts is what has come of the attempts at an event that is not handled.
type Attempts struct {
	Failed int
	Lost   int // races, against other transactions
}

// Sum returns how many there are.
func (a Attempts) Sum() int { return a.Failed + a.Lost }

// Attempt counts further attempts at an event, at least one, and returns all so far. A request that the SDK repeats, because its answer was
// lost, counts once.
func (s *Store) Attempt(ctx context.Context, e *event.Event, more Attempts) (Attempts, error) {
	const expression, once = "SET #expiresAt = :expires, #last = :token ADD #n :n, #lost :lost", "attribute_not_exists(#last) OR #last <> :token"
	out, err := awserr.Written(s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: s.attemptsAt(e), UpdateExpression: aws.String(expression), ConditionExpression: aws.String(once),
		ExpressionAttributeNames: rows.Names(expression, once),
		ExpressionAttributeValues: rows.Item{":n": rows.N(int64(more.Failed)), ":lost": rows.N(int64(more.Lost)),
			":expires": rows.N(time.Now().Add(attemptsTTL).Unix()), ":token": rows.S(rand.Text())},
		ReturnValues:                        types.ReturnValueUpdatedNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}))
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		return s.attemptsIn(ctx, e, failed.Item)
	}
	if err != nil {
		return Attempts{}, s.failed("count an attempt", err)
	}
	return s.attemptsIn(ctx, e, out.Attributes)
}

// attemptsIn reads the count after an attempt. An answer may lack it. A count of 0 would never reach its limit.
func (s *Store) attemptsIn(ctx context.Context, e *event.Event, row rows.Item) (Attempts, error) {
	n := attemptsOf(row)
	if n.Sum() < 1 {
		var err error
		if n, err = s.Attempts(ctx, e); err != nil {
			return n, err
		}
	}
	if n.Sum() < 1 {
		return n, s.failed("count an attempt", errors.New("the table does not say how many there were"))
	}
	return n, nil
}

func attemptsOf(row rows.Item) Attempts {
	return Attempts{Failed: int(rows.Int(row, "n")), Lost: int(rows.Int(row, "lost"))}
}

// Attempts returns what has come of the attempts at an event so far.
func (s *Store) Attempts(ctx context.Context, e *event.Event) (Attempts, error) {
	out, err := awserr.Answered(s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: s.attemptsAt(e), ConsistentRead: aws.Bool(true)}))
	if err != nil {
		return Attempts{}, s.failed("read the attempts", err)
	}
	return attemptsOf(out.Item), nil
}

// ForgetAttempts removes the count of an event's attempts.
func (s *Store) ForgetAttempts(ctx context.Context, e *event.Event) error {
	_, err := awserr.Written(s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: s.attemptsAt(e)}))
	if err != nil {
		return s.failed("forget attempts", err)
	}
	return nil
}
