package deadletter

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Lock is the right to redrive a queue, or a letter without a queue, until a time. It has one holder at a time, as long as clocks agree and
// each holder stops in time.
type Lock struct {
	s     *Store
	key   rows.Item
	Token string // the holder's
	Until time.Time
}

// Lock locks a target's queue, or its letter if it has no queue. The result is nil if somebody else holds the lock. The error matches
// ErrMissing if the queue or the letter is gone. A holder that locks again, with the same token, keeps the lock.
func (s *Store) Lock(ctx context.Context, t Target, token string, until time.Time) (*Lock, error) {
	l := &Lock{s: s, Token: token, key: key(s.letters(), t.Letter)}
	if t.Queue != "" {
		l.key = key(s.queues(), t.Queue)
	}
	const free = "attribute_exists(#id) AND (attribute_not_exists(#claim) OR #claim = :me OR #claimUntil < :now)"
	ok, err := l.take(ctx, free, rows.Item{":now": rows.Millis(time.Now())}, until)
	if !ok {
		return nil, err
	}
	return l, nil
}

// Extend makes the lock last until another time. False means that the lock is lost: it had run out, and somebody else took it.
func (l *Lock) Extend(ctx context.Context, until time.Time) (bool, error) {
	return l.take(ctx, "#claim = :me", rows.Item{}, until)
}

func (l *Lock) take(ctx context.Context, condition string, values rows.Item, until time.Time) (bool, error) {
	values[":until"] = rows.Millis(until)
	ok, err := l.update(ctx, condition, "SET #claim = :me, #claimUntil = :until", values)
	if errors.Is(err, ErrMissing) { // or the client or the service did not return the row
		_, err = l.s.row(ctx, rows.Text(l.key, "group"), rows.Text(l.key, "id"), "id")
	}
	if ok {
		l.Until = until
	}
	return ok, err
}

// Release ends the lock. It does nothing if the lock is lost, or the queue gone.
func (l *Lock) Release(ctx context.Context) error {
	_, err := l.update(ctx, "#claim = :me", "REMOVE #claim, #claimUntil", rows.Item{})
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}

func (l *Lock) update(ctx context.Context, condition, expression string, values rows.Item) (bool, error) {
	values[":me"] = rows.S(l.Token)
	err := repeat(ctx, func() error {
		_, err := awserr.Written(l.s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: &l.s.table, Key: l.key,
			ConditionExpression: &condition, UpdateExpression: &expression,
			ExpressionAttributeNames: rows.Names(condition, expression), ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}))
		return err
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		if len(failed.Item) == 0 {
			return false, l.s.failed("lock "+rows.Text(l.key, "id"), ErrMissing)
		}
		return false, nil
	}
	if err != nil {
		return false, l.s.failed("lock "+rows.Text(l.key, "id"), err)
	}
	return true, nil
}
