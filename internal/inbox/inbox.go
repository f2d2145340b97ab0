// Package inbox keeps in a DynamoDB table which events a consumer has handled, and which it is handling. It knows the table's form
// and the calls. It does not know handlers, nor when which call is made.
//
// # The table
//
// The partition key is eventId (S), the sort key is consumer (S): the consumer's name, or, if the event's table is known, "name#table". Ids
// are unique within a table only. Every row names its event by type (S) and aggregateId (S, absent
// when empty), and has a time to live, expiresAt (N, seconds). There are two kinds of them:
//
//	a mark     the event was handled:      handledAt (N, milliseconds), and owner (S) if it was a claim before
//	a claim    the event is being handled: owner (S), claimedUntil (N, milliseconds), and shard (S), fence (N) of a worker
//
// A mark stays as it is until it expires. Only its owner turns a claim into a mark, or deletes it. Others may replace a claim after
// its time has passed, and a worker that took the shard over may replace it at once.
//
// A position is the row of an aggregate whose events are handled by their sequence. Its partition key is the aggregate's id, its sort key
// "name#table#position". It has no time to live:
//
//	sequence (N): every number up to here is handled; absent before the first one. first (N): where the consumer began
//	at (N, milliseconds): the latest time of an event that has moved it. Of a claim on the next event: owner, claimedUntil, shard, fence
//
// Whoever moves a position does so under the condition that it is where it was seen, and that nobody has a claim.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Client is what a Table needs. *dynamodb.Client satisfies it.
type Client interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
}

// Names of the key's attributes.
const (
	KeyID       = "eventId"
	KeyConsumer = "consumer"
)

// Event identifies an event by its id and its table, which is empty if nobody has named it. Two events of one table with one id and
// different types or aggregates are somebody's mistake.
type Event struct{ ID, Type, AggregateID, Table string }

// Limits of DynamoDB's keys, and of this package.
const (
	maxID       = 2048
	maxConsumer = 255
	maxTable    = 255
)

// Check returns why an event cannot have a row, or nil. A text that is not UTF-8 would be stored as another text.
func (e Event) Check() error {
	switch {
	case e.ID == "":
		return errors.New("the event has no id")
	case len(e.ID) > maxID:
		return fmt.Errorf("the event's id has %d bytes: a DynamoDB key has at most %d", len(e.ID), maxID)
	case len(e.Table) > maxTable:
		return fmt.Errorf("the name of the event's table has %d bytes: want at most %d", len(e.Table), maxTable)
	case !utf8.ValidString(e.ID) || !utf8.ValidString(e.Type) || !utf8.ValidString(e.AggregateID) || !utf8.ValidString(e.Table):
		return errors.New("the event's id, type, aggregate id or table is not valid UTF-8")
	}
	return nil
}

// CheckConsumer returns what is wrong with the name of a consumer, or nil.
func CheckConsumer(name string) error {
	if name == "" || len(name) > maxConsumer || strings.Contains(name, "#") || !utf8.ValidString(name) {
		return fmt.Errorf("the name of an inbox's consumer must be UTF-8 of 1 to %d bytes without '#': %q", maxConsumer, name)
	}
	return nil
}

// Claim is the right to handle an event for a time.
type Claim struct {
	Owner string // new for every claim
	Until time.Time
	// Shard and Fence are of a worker's lease. With a Fence of 0 there is no worker.
	Shard string
	Fence int64
}

// OtherEventError says that the row with the event's id belongs to another event.
type OtherEventError struct{ Want, Have Event }

// Error names both events.
func (e *OtherEventError) Error() string {
	return fmt.Sprintf("the inbox knows the id %q as that of another event: that one has type %q and aggregate %q, this one has type %q and aggregate %q",
		shorten(e.Want.ID), shorten(e.Have.Type), shorten(e.Have.AggregateID), shorten(e.Want.Type), shorten(e.Want.AggregateID))
}

func shorten(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// ClaimedError says that somebody else has claimed the event.
type ClaimedError struct {
	ID    string
	Until time.Time
}

// Error says when the claim ends.
func (e *ClaimedError) Error() string {
	return fmt.Sprintf("event %q is claimed until %s", shorten(e.ID), e.Until.UTC().Format(time.RFC3339Nano))
}

var (
	// ErrHandled says that the event was handled.
	ErrHandled = errors.New("the event was handled before")
	// ErrKeys says that the table has other keys than Create gives it.
	ErrKeys = errors.New(`the table has other keys: it needs the partition key "` + KeyID + `" and the sort key "` + KeyConsumer + `" (Create)`)
	// ErrLost says that the caller does not own the claim any more.
	ErrLost = errors.New("the claim has passed to another delivery, or its row is gone")
)

// Table is the part of a table that belongs to one consumer. It is safe for concurrent use.
type Table struct {
	Client   Client
	Name     string
	Consumer string
	TTL      time.Duration
}

// Item is a row.
type Item = rows.Item

// Create makes an inbox table. See owntable.
func Create(ctx context.Context, client owntable.Creator, table string) error {
	return owntable.Form{What: "inbox table", Partition: KeyID, Sort: KeyConsumer, TTL: "expiresAt"}.Create(ctx, client, table)
}

// MarkKey returns the key of an event's mark or claim.
func (t *Table) MarkKey(e Event) Item { return t.key(e) }

func (t *Table) key(e Event) Item {
	consumer := t.Consumer
	if e.Table != "" {
		consumer += "#" + e.Table // no consumer's name has a '#'
	}
	return Item{KeyID: rows.S(e.ID), KeyConsumer: rows.S(consumer)}
}

// Key returns the key of a row.
func Key(row Item) Item { return Item{KeyID: row[KeyID], KeyConsumer: row[KeyConsumer]} }

func (t *Table) row(e Event, now time.Time) Item {
	row := t.key(e)
	row["type"], row["expiresAt"] = rows.S(e.Type), rows.N(now.Add(t.TTL).Unix())
	if e.AggregateID != "" {
		row["aggregateId"] = rows.S(e.AggregateID)
	}
	return row
}

// Mark returns the write that marks an event as handled, as an operation of a transaction or as a write of its own. Its condition
// fails if the event is marked, or claimed at the time now, or if the row belongs to another event. Judge says which.
func (t *Table) Mark(e Event, now time.Time) *types.Put {
	row := t.row(e, now)
	row["handledAt"] = rows.Millis(now)
	return t.put(e, row, now, "")
}

// put writes a row, if the event has no row or one with a claim whose time has passed. orIf is another condition under which a claim
// is replaced.
func (t *Table) put(e Event, row Item, now time.Time, orIf string) *types.Put {
	names := map[string]string{"#id": KeyID, "#type": "type", "#aggregate": "aggregateId", "#handled": "handledAt", "#until": "claimedUntil"}
	values := Item{":type": row["type"], ":now": rows.Millis(now)}
	aggregate := "attribute_not_exists(#aggregate)"
	if e.AggregateID != "" {
		aggregate, values[":aggregate"] = "#aggregate = :aggregate", row["aggregateId"]
	}
	condition := "attribute_not_exists(#id) OR (#type = :type AND " + aggregate +
		" AND attribute_not_exists(#handled) AND (attribute_not_exists(#until) OR #until < :now" + orIf + "))"
	return &types.Put{
		TableName: &t.Name, Item: row, ConditionExpression: &condition, ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// Judge says what a row means for an event: ErrHandled, a *ClaimedError, an *OtherEventError, or nil if the event is free. It is free
// if there is no row, or a claim whose time has passed at now. A row of another consumer is ErrKeys: with the right keys it would be
// another row.
func (t *Table) Judge(row Item, e Event, now time.Time) error {
	if len(row) == 0 {
		return nil
	}
	if consumer := rows.Text(row, KeyConsumer); consumer != "" && consumer != rows.Text(t.key(e), KeyConsumer) {
		return t.explain(e, ErrKeys)
	}
	if have := (Event{e.ID, rows.Text(row, "type"), rows.Text(row, "aggregateId"), e.Table}); have != e {
		return &OtherEventError{Want: e, Have: have}
	}
	if row["handledAt"] != nil {
		return ErrHandled
	}
	if until := rows.Time(row, "claimedUntil"); !until.Before(now.Truncate(time.Millisecond)) {
		return &ClaimedError{e.ID, until}
	}
	return nil
}

// MarkAlone marks an event as handled with a write of its own. It returns errors of the client and of Judge. If the answer to its own
// write is lost and the SDK repeats the write, it returns ErrHandled.
func (t *Table) MarkAlone(ctx context.Context, e Event, now time.Time) error {
	refused, row, err := t.write(ctx, e, t.Mark(e, now))
	if !refused || err != nil {
		return err
	}
	return t.Blocked(row, e, now)
}

// Blocked is Judge for the row that made a write fail a moment ago. It never returns nil.
func (t *Table) Blocked(row Item, e Event, now time.Time) error {
	if err := t.Judge(row, e, now); err != nil {
		return err
	}
	return &ClaimedError{e.ID, now}
}

// write sends a Put. refused says that its condition does not hold; then row is the stored row.
func (t *Table) write(ctx context.Context, e Event, put *types.Put) (refused bool, row Item, err error) {
	err = t.repeat(ctx, func() error {
		_, err := awserr.Written(t.Client.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: put.TableName, Item: put.Item, ConditionExpression: put.ConditionExpression,
			ExpressionAttributeNames: put.ExpressionAttributeNames, ExpressionAttributeValues: put.ExpressionAttributeValues,
			ReturnValuesOnConditionCheckFailure: put.ReturnValuesOnConditionCheckFailure,
		}))
		return err
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		if len(failed.Item) > 0 {
			return true, failed.Item, nil
		}
		row, err = t.find(ctx, e) // the client or the service did not return the row
		return true, row, err
	}
	if err != nil {
		return false, nil, t.explain(e, err)
	}
	return false, nil, nil
}

// Claim claims an event. It returns errors of the client and of Judge. It succeeds if the stored claim has the same owner: then an
// earlier request wrote it, and the answer was lost.
func (t *Table) Claim(ctx context.Context, e Event, c Claim, now time.Time) error {
	row := t.row(e, now)
	row["owner"], row["claimedUntil"] = rows.S(c.Owner), rows.Millis(c.Until)
	orIf := ""
	if c.Fence > 0 {
		row["shard"], row["fence"] = rows.S(c.Shard), rows.N(c.Fence)
		orIf = " OR (#shard = :shard AND #fence < :fence)"
	}
	put := t.put(e, row, now, orIf)
	if c.Fence > 0 {
		put.ExpressionAttributeNames["#shard"], put.ExpressionAttributeNames["#fence"] = "shard", "fence"
		put.ExpressionAttributeValues[":shard"], put.ExpressionAttributeValues[":fence"] = row["shard"], row["fence"]
	}
	refused, there, err := t.write(ctx, e, put)
	if !refused || err != nil {
		return err
	}
	if rows.Text(there, "owner") == c.Owner && there["handledAt"] == nil {
		return nil
	}
	return t.Blocked(there, e, now)
}

// Complete turns a claim into a mark. It returns ErrLost if the owner has lost the claim.
func (t *Table) Complete(ctx context.Context, e Event, owner string, now time.Time) error {
	err := t.repeat(ctx, func() error {
		_, err := awserr.Written(t.Client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: &t.Name, Key: t.key(e),
			ConditionExpression:       aws.String("#owner = :owner"),
			UpdateExpression:          aws.String("SET #handled = :now, #expires = :expires REMOVE #until, #shard, #fence"),
			ExpressionAttributeNames:  map[string]string{"#owner": "owner", "#handled": "handledAt", "#expires": "expiresAt", "#until": "claimedUntil", "#shard": "shard", "#fence": "fence"},
			ExpressionAttributeValues: Item{":owner": rows.S(owner), ":now": rows.Millis(now), ":expires": rows.N(now.Add(t.TTL).Unix())},
		}))
		return err
	})
	return t.owned(e, err)
}

// Release deletes a claim. It returns ErrLost if the owner has no claim.
func (t *Table) Release(ctx context.Context, e Event, owner string) error {
	err := t.repeat(ctx, func() error {
		_, err := awserr.Written(t.Client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: &t.Name, Key: t.key(e),
			ConditionExpression:       aws.String("#owner = :owner AND attribute_not_exists(#handled)"),
			ExpressionAttributeNames:  map[string]string{"#owner": "owner", "#handled": "handledAt"},
			ExpressionAttributeValues: Item{":owner": rows.S(owner)},
		}))
		return err
	})
	return t.owned(e, err)
}

func (t *Table) owned(e Event, err error) error {
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		return t.explain(e, ErrLost)
	}
	if err != nil {
		return t.explain(e, err)
	}
	return nil
}

// Look reads the row of an event, with a consistent read. It returns errors of the client and of Judge.
func (t *Table) Look(ctx context.Context, e Event, now time.Time) error {
	row, err := t.find(ctx, e)
	if err != nil {
		return err
	}
	return t.Judge(row, e, now)
}

// find reads a row. It is nil if the event has no row.
func (t *Table) find(ctx context.Context, e Event) (Item, error) {
	out, err := awserr.Answered(t.Client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.Name, Key: t.key(e), ConsistentRead: aws.Bool(true)}))
	if err != nil {
		return nil, t.explain(e, err)
	}
	return out.Item, nil
}

// conflictAttempts bounds the attempts at a write that meets a transaction on its row. The SDK does not repeat such a write.
const conflictAttempts = 5

var conflictDelay = backoff.FullJitter{Base: 50 * time.Millisecond, Max: time.Second}

func (t *Table) repeat(ctx context.Context, call func() error) error {
	for n := 1; ; n++ {
		err := call()
		if conflict := (*types.TransactionConflictException)(nil); !errors.As(err, &conflict) || n >= conflictAttempts {
			return err
		}
		if backoff.Wait(ctx, conflictDelay.Delay(n)) != nil {
			return err
		}
	}
}

func (t *Table) explain(e Event, err error) error {
	of := ""
	if e.Table != "" {
		of = fmt.Sprintf(" of table %q", e.Table)
	}
	return fmt.Errorf("inbox table %s, consumer %s, event %q%s: %w", t.Name, t.Consumer, shorten(e.ID), of, err)
}
