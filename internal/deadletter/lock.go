package deadletter

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// A holder beats, and stops what it does if it could not for lockStop. Who takes a lock over has seen no beat for lockWatch. Both measure by
// their own clocks from a time that both have passed: the holder from before the beat, the other from after it. So clocks need not agree.
const (
	lockBeat  = 5 * time.Second
	lockStop  = 15 * time.Second
	lockWatch = 20 * time.Second
)

// ErrLockLost is why the context of Hold ends if somebody else may have the lock.
var ErrLockLost = errors.New("the lock on dead letters is lost")

// Lock is the right to redrive a queue, or a letter without a queue. It has one holder at a time.
type Lock struct {
	s      *Store
	key    rows.Item
	token  string    // the holder's
	beaten time.Time // before the last beat
}

// sight is what a Store saw of somebody else's lock.
type sight struct {
	holder string
	beats  int64
	since  time.Time
}

// sights is how many locks a Store remembers.
const sights = 1000

// Lock locks a target's queue, or its letter if it has no queue. The result is nil if somebody else holds the lock. If its holder seems to be
// dead, Lock takes the lock over as soon as this Store has seen no beat for lockWatch, in this call and those before it. It waits for that if
// ctx leaves the time. token is new for each holder. The error matches ErrMissing if the queue or the letter is gone.
func (s *Store) Lock(ctx context.Context, t Target, token string) (*Lock, error) {
	l := &Lock{s: s, token: token, key: key(s.letters(), t.Letter)}
	if t.Queue != "" {
		l.key = key(s.queues(), t.Queue)
	}
	have, err := l.beat(ctx, "attribute_exists(#id) AND (attribute_not_exists(#lock) OR #lock = :me)", rows.Item{})
	if err != nil {
		return nil, err
	}
	if have == nil {
		return l, nil
	}
	seen := l.see(have)
	wait := time.Until(seen.since.Add(lockWatch))
	lasts := time.Until(rows.Time(have, "lockUntil")) // a clock that is wrong only delays; one that is far ahead is not believed
	if wait > 0 && (lasts > 0 && lasts <= lockWatch || backoff.Wait(ctx, wait) != nil) {
		return nil, nil
	}
	unchanged := "(#lock = :them AND attribute_not_exists(#beats)) OR #lock = :me" // me: the answer was lost, and the SDK asks again
	values := rows.Item{":them": rows.S(seen.holder)}
	if have["beats"] != nil {
		unchanged = "(#lock = :them AND #beats = :beats) OR #lock = :me"
		values[":beats"] = rows.N(seen.beats)
	}
	if have, err = l.beat(ctx, unchanged, values); err != nil {
		return nil, err
	}
	if have != nil {
		l.see(have)
		return nil, nil
	}
	return l, nil
}

// see remembers somebody else's lock, and returns since when it has been as it is now.
func (l *Lock) see(have rows.Item) sight {
	name := rows.Text(l.key, "group") + "/" + rows.Text(l.key, "id")
	now := sight{rows.Text(have, "lock"), rows.Int(have, "beats"), time.Now()}
	if before, ok := l.s.sights.Get(name); ok && before.holder == now.holder && before.beats == now.beats {
		return before
	}
	l.s.sights.Add(name, now)
	return now
}

// Hold beats until release is called, and release ends the lock unless it is lost. The context ends with ctx, and before somebody else can have
// the lock. release waits until nothing beats any more. Its error means that the lock ends by itself.
func (l *Lock) Hold(ctx context.Context) (held context.Context, release func(context.Context) error) {
	held, lose := context.WithCancelCause(ctx)
	beating, stop := context.WithCancel(context.WithoutCancel(ctx)) // also while what was begun ends after ctx
	late := time.AfterFunc(time.Until(l.beaten.Add(lockStop)), func() { lose(ErrLockLost) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause := lockBeat; backoff.Sleep(beating, pause) == nil; {
			asking, cancel := context.WithTimeout(beating, lockBeat)
			have, err := l.beat(asking, "#lock = :me", rows.Item{})
			cancel()
			switch {
			case have != nil, errors.Is(err, ErrMissing): // somebody else has it, or what it locked is gone
				lose(ErrLockLost)
				return
			case err != nil:
				pause = time.Second
			case !late.Reset(time.Until(l.beaten.Add(lockStop))): // too late
				return
			default:
				pause = lockBeat
			}
		}
	}()
	return held, func(ctx context.Context) error {
		stop()
		<-done
		late.Stop()
		lose(nil)
		return l.release(ctx)
	}
}

// Close removes the locked queue if it has no letters, and the lock with it. It returns false if the queue has letters. Then an error that matches
// ErrLockLost says that the lock is not held any more: Close may have removed the queue and got no answer, and a letter began another one.
func (l *Lock) Close(ctx context.Context) (bool, error) {
	queue := rows.Text(l.key, "id")
	closed, err := l.s.close(ctx, queue, "attribute_not_exists(#lock) OR #lock = :me", rows.Item{":me": rows.S(l.token)})
	if closed || err != nil {
		return closed, err
	}
	row, err := l.s.row(ctx, l.s.queues(), queue, "id", "lock")
	switch {
	case err != nil && !errors.Is(err, ErrMissing):
		return false, err
	case rows.Text(row, "lock") != l.token:
		return false, l.s.failed("close "+queue, ErrLockLost)
	}
	return false, nil
}

// beat makes the lock last, under a condition. If the condition fails, it returns the row.
func (l *Lock) beat(ctx context.Context, condition string, values rows.Item) (have rows.Item, err error) {
	began := time.Now()
	values[":until"], values[":one"] = rows.Millis(began.Add(lockWatch)), rows.N(1)
	have, err = l.update(ctx, condition, "SET #lock = :me, #lockUntil = :until ADD #beats :one", values)
	if errors.Is(err, ErrMissing) { // or the client or the service does not return the row
		have, err = l.s.row(ctx, rows.Text(l.key, "group"), rows.Text(l.key, "id"), "id", "lock", "lockUntil", "beats")
	}
	if have == nil && err == nil {
		l.beaten = began
	}
	return have, err
}

// release does nothing if the lock is lost, or the queue gone.
func (l *Lock) release(ctx context.Context) error {
	_, err := l.update(ctx, "#lock = :me", "REMOVE #lock, #lockUntil, #beats", rows.Item{})
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}

// update returns the row if the condition failed. The error matches ErrMissing if there is no row.
func (l *Lock) update(ctx context.Context, condition, expression string, values rows.Item) (have rows.Item, err error) {
	values[":me"] = rows.S(l.token)
	err = repeat(ctx, func() error {
		_, err := awserr.Written(l.s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: aws.String(l.s.table), Key: l.key,
			ConditionExpression: &condition, UpdateExpression: &expression,
			ExpressionAttributeNames: rows.Names(condition, expression), ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}))
		return err
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		if len(failed.Item) == 0 {
			return nil, l.s.failed("lock "+rows.Text(l.key, "id"), ErrMissing)
		}
		return failed.Item, nil
	}
	if err != nil {
		return nil, l.s.failed("lock "+rows.Text(l.key, "id"), err)
	}
	return nil, nil
}
