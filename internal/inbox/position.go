package inbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Aggregate identifies an aggregate by its id and the events table of its events.
type Aggregate struct{ ID, Table string }

// Place is the row of an aggregate's position.
type Place struct {
	order.Position
	Owner string // of a claim; empty: nobody
	Until time.Time
	Shard string // of a claim by a Worker, with its fence
	Fence int64
}

// Claimed reports whether somebody handles the next event.
func (p Place) Claimed(now time.Time) bool {
	return p.Owner != "" && !p.Until.Before(now.Truncate(time.Millisecond))
}

// Against reports whether a claim is in the way of another one: it is not if it is of an earlier owner of the shard.
func (p Place) Against(c Claim, now time.Time) bool {
	return p.Claimed(now) && (c.Fence == 0 || p.Shard != c.Shard || p.Fence >= c.Fence)
}

// PositionKey returns the key of a position. No mark has it, since the names of consumers and of tables have no '#'.
func (t *Table) PositionKey(a Aggregate) Item {
	return Item{KeyID: rows.S(a.ID), KeyConsumer: rows.S(t.Consumer + "#" + a.Table + "#position")}
}

// Position reads a position with a consistent read. An aggregate without a row has the zero Place.
func (t *Table) Position(ctx context.Context, a Aggregate) (Place, error) {
	out, err := awserr.Answered(t.Client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.Name, Key: t.PositionKey(a), ConsistentRead: aws.Bool(true)}))
	if err != nil {
		return Place{}, t.explainPosition(a, err)
	}
	return t.PlaceOf(a, out.Item)
}

// PlaceOf reads a position's row.
func (t *Table) PlaceOf(a Aggregate, row Item) (Place, error) {
	key := t.PositionKey(a)
	if len(row) > 0 && (rows.Text(row, KeyID) != a.ID || rows.Text(row, KeyConsumer) != rows.Text(key, KeyConsumer)) {
		return Place{}, t.explainPosition(a, ErrKeys)
	}
	p := Place{Owner: rows.Text(row, "owner"), Until: rows.Time(row, "claimedUntil"), Shard: rows.Text(row, "shard"), Fence: rows.Int(row, "fence")}
	p.Began = row["sequence"] != nil
	for name, to := range map[string]*int64{"sequence": &p.Sequence, "first": &p.First} {
		n, ok := rows.As[*types.AttributeValueMemberN](row[name])
		if !ok && row[name] == nil {
			continue
		}
		err := strconv.ErrSyntax
		if ok {
			*to, err = strconv.ParseInt(n.Value, 10, 64)
		}
		if err != nil || *to < 0 {
			return Place{}, t.explainPosition(a, fmt.Errorf("its row has no number from 0 on as %q", name))
		}
	}
	if row["at"] != nil {
		p.At = rows.Time(row, "at")
	}
	return p, nil
}

// Move returns the write that moves a position over an event, as an operation of a transaction or as a write of its own. The condition is that
// the position is as it is known, and that nobody has claimed the event at the time now.
func (t *Table) Move(a Aggregate, known order.Position, e order.Event, now time.Time) *types.Update {
	return t.move(a, known, known.Over(e), now)
}

// move returns a write of a position that nobody has claimed. Whoever writes it ends a claim.
func (t *Table) move(a Aggregate, known, to order.Position, now time.Time) *types.Update {
	values := Item{":now": rows.Millis(now)}
	return t.update(a, asKnown(known, values)+" AND ("+unclaimed+")", setPosition(to, values), values)
}

func (t *Table) update(a Aggregate, condition, update string, values Item) *types.Update {
	return &types.Update{
		TableName: &t.Name, Key: t.PositionKey(a), ConditionExpression: &condition, UpdateExpression: &update,
		ExpressionAttributeNames: rows.Names(condition, update), ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

const (
	unclaimed   = "attribute_not_exists(#claimedUntil) OR #claimedUntil < :now"
	removeClaim = " REMOVE #owner, #claimedUntil, #shard, #fence"
)

// asKnown is the condition that a position is as it is known.
func asKnown(known order.Position, values Item) string {
	if !known.Began {
		return "attribute_not_exists(#sequence)"
	}
	values[":was"] = rows.N(known.Sequence)
	return "#sequence = :was"
}

// setPosition is the expression that writes a position.
func setPosition(to order.Position, values Item) string {
	values[":sequence"], values[":first"] = rows.N(to.Sequence), rows.N(max(to.First, 1))
	set := "SET #sequence = :sequence, #first = :first"
	if to.At.IsZero() {
		return set + removeClaim
	}
	values[":at"] = rows.Millis(to.At)
	return set + ", #at = :at" + removeClaim
}

// MoveAlone moves a position over an event with a write of its own. refused says that the condition does not hold; then place is what is stored.
func (t *Table) MoveAlone(ctx context.Context, a Aggregate, known order.Position, e order.Event, now time.Time) (place Place, refused bool, err error) {
	return t.writePosition(ctx, a, t.Move(a, known, e, now))
}

// Begin stores where an aggregate begins, unless its position is stored, or its first event is claimed.
func (t *Table) Begin(ctx context.Context, a Aggregate, first int64, now time.Time) (place Place, refused bool, err error) {
	return t.writePosition(ctx, a, t.move(a, order.Position{}, order.Position{Sequence: first - 1, First: first}, now))
}

func (t *Table) writePosition(ctx context.Context, a Aggregate, u *types.Update) (place Place, refused bool, err error) {
	err = t.repeat(ctx, func() error {
		_, err := awserr.Written(t.Client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: u.TableName, Key: u.Key, ConditionExpression: u.ConditionExpression, UpdateExpression: u.UpdateExpression,
			ExpressionAttributeNames: u.ExpressionAttributeNames, ExpressionAttributeValues: u.ExpressionAttributeValues,
			ReturnValuesOnConditionCheckFailure: u.ReturnValuesOnConditionCheckFailure,
		}))
		return err
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		if len(failed.Item) > 0 {
			place, err = t.PlaceOf(a, failed.Item)
		} else {
			place, err = t.Position(ctx, a) // the client or the service did not return the row
		}
		return place, true, err
	}
	if err != nil {
		return Place{}, false, t.explainPosition(a, err)
	}
	return Place{}, false, nil
}

// ClaimNext claims the event behind a position. It succeeds if the stored claim has the same owner: then an earlier request wrote it.
func (t *Table) ClaimNext(ctx context.Context, a Aggregate, known order.Position, c Claim, now time.Time) (place Place, refused bool, err error) {
	values := Item{":now": rows.Millis(now), ":owner": rows.S(c.Owner), ":until": rows.Millis(c.Until)}
	free, update := unclaimed, "SET #owner = :owner, #claimedUntil = :until REMOVE #shard, #fence"
	if c.Fence > 0 {
		values[":shard"], values[":fence"] = rows.S(c.Shard), rows.N(c.Fence)
		free += " OR (#shard = :shard AND #fence < :fence)"
		update = "SET #owner = :owner, #claimedUntil = :until, #shard = :shard, #fence = :fence"
	}
	place, refused, err = t.writePosition(ctx, a, t.update(a, asKnown(known, values)+" AND ("+free+")", update, values))
	if refused && err == nil && place.Owner == c.Owner {
		return place, false, nil
	}
	return place, refused, err
}

// CompleteNext moves a position over an event that its owner has handled. It returns ErrLost if the owner has lost the claim. If the position is
// at or behind the event already, an earlier request has moved it, whose answer was lost, or somebody who took the claim over: the row does not
// tell them apart.
func (t *Table) CompleteNext(ctx context.Context, a Aggregate, known order.Position, e order.Event, owner string) error {
	values := Item{}
	place, err := t.asOwner(ctx, a, setPosition(known.Over(e), values), owner, values)
	if errors.Is(err, ErrLost) && place.Sequence >= e.Sequence {
		return nil
	}
	return err
}

// ReleaseNext gives a claim back. It returns ErrLost if the owner has no claim.
func (t *Table) ReleaseNext(ctx context.Context, a Aggregate, owner string) error {
	_, err := t.asOwner(ctx, a, strings.TrimSpace(removeClaim), owner, Item{})
	return err
}

func (t *Table) asOwner(ctx context.Context, a Aggregate, update, owner string, values Item) (Place, error) {
	values[":owner"] = rows.S(owner)
	place, refused, err := t.writePosition(ctx, a, t.update(a, "#owner = :owner", update, values))
	if refused && err == nil {
		err = t.explainPosition(a, ErrLost)
	}
	return place, err
}

// Forget removes a position, unless the next event is claimed. Then claimed says until when, and is not zero.
func (t *Table) Forget(ctx context.Context, a Aggregate, now time.Time) (claimed time.Time, err error) {
	err = t.repeat(ctx, func() error {
		_, err := awserr.Written(t.Client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: &t.Name, Key: t.PositionKey(a),
			ConditionExpression:                 aws.String(unclaimed),
			ExpressionAttributeNames:            rows.Names(unclaimed),
			ExpressionAttributeValues:           Item{":now": rows.Millis(now)},
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}))
		return err
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		if failed.Item["claimedUntil"] == nil {
			return now, nil // the client or the service did not return the row
		}
		return rows.Time(failed.Item, "claimedUntil"), nil
	}
	if err != nil {
		return time.Time{}, t.explainPosition(a, err)
	}
	return time.Time{}, nil
}

func (t *Table) explainPosition(a Aggregate, err error) error {
	return fmt.Errorf("inbox table %s, consumer %s, position of aggregate %q of table %q: %w", t.Name, t.Consumer, shorten(a.ID), a.Table, err)
}
