package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/itemsize"
	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/recordsize"
)

// maxOperations is DynamoDB's limit for one transaction.
const maxOperations = 100

// transaction is one logical write. newTransaction reads the clock, the headers and the time to live once, so that every attempt is
// the same request.
type transaction struct {
	items      []types.TransactWriteItem // the caller's writes, then the Put of each event row, then the extra operations
	targets    []target                  // what each item acts on
	firstEvent int                       // the index of the first event row
	events     []meant
	table      string // of the events
	condition  string // on their rows
	attributes *Attributes
	extras     []*extra
}

// extra is one more operation, whose condition decides whether the transaction is still needed. Who adds it knows its table and
// its meaning; the Writer does not.
type extra struct {
	write types.TransactWriteItem         // a Put or an Update with a condition that returns the old item when it fails
	key   map[string]types.AttributeValue // of its item
	name  string                          // what errors call it
	row   string                          // what errors call the item that is stored already
	form  string                          // what its table needs, for the error of a table with other keys
	// judge says what the stored item means after the condition has failed: nil if the transaction is not needed any more,
	// otherwise why it cannot be committed. The TransactionError matches this error.
	judge func(old map[string]types.AttributeValue) error
}

// meant is an event as it is to be stored.
type meant struct {
	record     Record
	ownHeaders map[string]string // of the event itself, without those of WithHeaders
	row        map[string]types.AttributeValue
}

// newTransaction builds a transaction. It refuses what DynamoDB would refuse, and an event that DynamoDB would store and the
// stream would skip: here the error can name the operation.
func (w *Writer) newTransaction(ctx context.Context, writes []types.TransactWriteItem, events []AnyEvent, extras []*extra) (*transaction, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("outbox: nothing was sent: %w", err)
	}
	n, more := len(writes)+len(events)+len(extras), ""
	for _, x := range extras {
		more += " and " + x.name
	}
	if n > maxOperations {
		return nil, refuse(ErrInvalidWrite, FailedOperation{Index: maxOperations,
			Message: fmt.Sprintf("%d operations (%d writes and %d events%s): DynamoDB takes at most %d", n, len(writes), len(events), more, maxOperations)})
	}
	tx := &transaction{
		items:      append(make([]types.TransactWriteItem, 0, n), writes...),
		targets:    make([]target, 0, n),
		firstEvent: len(writes),
		events:     make([]meant, 0, len(events)),
		table:      w.table,
		condition:  "attribute_not_exists(#id)",
		attributes: &w.attributes,
	}
	for i := range writes {
		t, problem := targetOf(&writes[i])
		tx.targets = append(tx.targets, t)
		if problem != "" {
			return nil, tx.refuse(ErrInvalidWrite, i, problem)
		}
	}
	now, codec := time.Now(), w.codec()
	added := w.contextHeaders(ctx)
	for i, event := range events {
		e, err := w.prepare(event, codec, added, now)
		if err != nil {
			return nil, refuse(ErrInvalidEvent, FailedOperation{Index: tx.firstEvent + i, Kind: "Put", Table: w.table, EventID: e.record.ID, Message: err.Error()})
		}
		tx.add(e)
	}
	tx.extras = extras
	for _, x := range extras {
		t, _ := targetOf(&x.write)
		tx.targets, tx.items = append(tx.targets, t), append(tx.items, x.write)
	}
	if err := tx.checkSizes(w.region, w.maxRecordBytes); err != nil {
		return nil, err
	}
	if i, before := tx.duplicateTarget(); i >= 0 {
		kind := ErrInvalidWrite
		if tx.isEvent(i) {
			kind = ErrInvalidEvent
		}
		return nil, tx.refuse(kind, i, fmt.Sprintf("it is on the same item as operation %d: a transaction takes one operation for each item", before))
	}
	if i, before := tx.sequenceGap(); i >= 0 {
		return nil, tx.refuse(ErrInvalidEvent, tx.firstEvent+i, fmt.Sprintf(
			"its sequence is %d, and that of the aggregate's event before it in this transaction is %d: sequenced events follow each other, each with one more",
			tx.events[i].record.Sequence, before))
	}
	return tx, nil
}

// isEvent reports whether operation i is the Put of an event row.
func (tx *transaction) isEvent(i int) bool {
	return i >= tx.firstEvent && i < tx.firstEvent+len(tx.events)
}

// extraOf returns the extra operation that operation i is, or nil.
func (tx *transaction) extraOf(i int) *extra {
	if i -= tx.firstEvent + len(tx.events); i < 0 {
		return nil
	}
	return tx.extras[i]
}

// prepare makes the row of an event.
func (w *Writer) prepare(event AnyEvent, codec namedCodec, added map[string]string, now time.Time) (meant, error) {
	if isNil(event) {
		return meant{}, errors.New("the event is nil")
	}
	r, err := event.record(codec)
	e := meant{record: r, ownHeaders: r.Headers}
	if err != nil {
		return e, err
	}
	untimed := r.Time.IsZero()
	if untimed {
		r.Time = now
	}
	r.Table = w.table
	if len(added) > 0 {
		merged := maps.Clone(added)
		maps.Copy(merged, r.Headers)
		r.Headers = merged
	}
	e.record = r
	if err := checkEvent(&r); err != nil {
		return e, err
	}
	if untimed && sequenced(&r) { // two writers would be told that the event is theirs
		return e, errors.New("it is a sequenced event without a time: use NewSequenced, or set Time")
	}
	if what := w.attributes.unstorable(&r); what != "" {
		return e, fmt.Errorf("its %s cannot be stored: the table has no attribute for it (WithAttributes)", what)
	}
	var expiresAt time.Time
	if w.ttl > 0 {
		// Rounded to the hour: a repeat that is built anew a moment later is mostly the same request, with the same token.
		expiresAt = now.Add(w.ttl + time.Hour - 1).Truncate(time.Hour)
	}
	e.row = w.attributes.item(&r, expiresAt)
	return e, nil
}

// add appends the Put of an event row.
func (tx *transaction) add(e meant) {
	tx.events = append(tx.events, e)
	tx.targets = append(tx.targets, target{kind: "Put", table: tx.table, item: e.row})
	tx.items = append(tx.items, types.TransactWriteItem{Put: &types.Put{
		TableName:                           &tx.table,
		Item:                                e.row,
		ConditionExpression:                 &tx.condition,
		ExpressionAttributeNames:            map[string]string{"#id": tx.attributes.ID}, // the caller of Items may change it
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}})
}

func (tx *transaction) records() []Record {
	records := make([]Record, len(tx.events))
	for i := range tx.events {
		records[i] = tx.events[i].record
		records[i].Headers = maps.Clone(records[i].Headers) // a hook may keep it, and the caller may change it
	}
	return records
}

func (tx *transaction) checkSizes(region string, maxRecord int) error {
	total := 0
	for i, t := range tx.targets {
		size, err := itemsize.Of(t.item)
		if err != nil {
			return tx.refuse(ErrInvalidWrite, i, err.Error())
		}
		if _, err := itemsize.Of(t.values); err != nil {
			return tx.refuse(ErrInvalidWrite, i, "expression value: "+err.Error())
		}
		if !tx.isEvent(i) {
			if size > itemsize.MaxItem {
				return tx.refuse(ErrTooLarge, i, fmt.Sprintf("the item has %d bytes: DynamoDB takes at most %d", size, itemsize.MaxItem))
			}
		} else {
			e := &tx.events[i-tx.firstEvent]
			record := recordsize.PartitionKey + recordsize.Of(recordsize.Insert{Region: region, Table: tx.table, Item: t.item,
				Key: tx.attributes.ID, Bytes: size + len(tx.attributes.ID) + len(e.record.ID)})
			if size > itemsize.MaxItem || record > maxRecord {
				return tx.refuse(ErrTooLarge, i, fmt.Sprintf(
					"the item has %d bytes: DynamoDB takes at most %d; its change record will have %d bytes with the partition key: the stream takes at most %d (WithMaxRecordBytes)",
					size, itemsize.MaxItem, record, maxRecord))
			}
		}
		if total += size; total > itemsize.MaxTransaction {
			return tx.refuse(ErrTooLarge, i, fmt.Sprintf("the transaction has %d bytes up to here: DynamoDB takes at most %d", total, itemsize.MaxTransaction))
		}
	}
	return nil
}

// duplicateTarget returns the first operation whose item an earlier operation is on, and this earlier one, or -1. It compares as far
// as keys are known: those of event rows and of the extra operations, and those of tables for which an operation has a Key. It leaves
// two Puts into another table to DynamoDB, which refuses them too.
func (tx *transaction) duplicateTarget() (i, before int) {
	for i := range tx.targets {
		for before := range i {
			if tx.sameItem(i, before) {
				return i, before
			}
		}
	}
	return -1, -1
}

func (tx *transaction) sameItem(i, j int) bool {
	a, b := &tx.targets[i], &tx.targets[j]
	if a.table != b.table {
		return false
	}
	if a.table == tx.table {
		return sameKey(a.item[tx.attributes.ID], b.item[tx.attributes.ID])
	}
	key := tx.keyOf(a.table)
	if x := tx.extraOf(max(i, j)); x != nil {
		key = x.key
	}
	for name := range key {
		if !sameKey(a.item[name], b.item[name]) {
			return false
		}
	}
	return len(key) > 0
}

// keyOf returns a key of the table, from an operation that has a Key, or nil.
func (tx *transaction) keyOf(table string) map[string]types.AttributeValue {
	for k := range tx.targets {
		if t := &tx.targets[k]; t.isKey && t.table == table {
			return t.item
		}
	}
	return nil
}

func sameKey(a, b types.AttributeValue) bool {
	switch a := a.(type) {
	case *types.AttributeValueMemberS:
		b, ok := b.(*types.AttributeValueMemberS)
		return ok && a.Value == b.Value
	case *types.AttributeValueMemberN:
		b, ok := b.(*types.AttributeValueMemberN)
		return ok && a.Value == b.Value
	case *types.AttributeValueMemberB:
		b, ok := b.(*types.AttributeValueMemberB)
		return ok && string(a.Value) == string(b.Value)
	}
	return false // not the type of a key, which DynamoDB refuses
}

// target is what one operation acts on.
type target struct {
	kind   string
	table  string
	item   map[string]types.AttributeValue
	isKey  bool                            // item is only the key
	values map[string]types.AttributeValue // of the expressions
}

// targetOf returns the target of an operation, and what is wrong with the operation, or "".
func targetOf(item *types.TransactWriteItem) (target, string) {
	var t target
	kinds := 0
	if p := item.Put; p != nil {
		kinds++
		t = target{"Put", aws.ToString(p.TableName), p.Item, false, p.ExpressionAttributeValues}
	}
	if u := item.Update; u != nil {
		kinds++
		t = target{"Update", aws.ToString(u.TableName), u.Key, true, u.ExpressionAttributeValues}
	}
	if d := item.Delete; d != nil {
		kinds++
		t = target{"Delete", aws.ToString(d.TableName), d.Key, true, d.ExpressionAttributeValues}
	}
	if c := item.ConditionCheck; c != nil {
		kinds++
		t = target{"ConditionCheck", aws.ToString(c.TableName), c.Key, true, c.ExpressionAttributeValues}
	}
	switch {
	case kinds != 1:
		return target{}, fmt.Sprintf("it has %d of Put, Update, Delete and ConditionCheck: want exactly one", kinds)
	case t.table == "":
		return t, "it names no table"
	case len(t.item) == 0:
		return t, "it has no item and no key"
	}
	return t, ""
}

// operation describes operation i for an error.
func (tx *transaction) operation(i int) FailedOperation {
	t := &tx.targets[i]
	op := FailedOperation{Index: i, Kind: t.kind, Table: t.table}
	switch {
	case tx.extraOf(i) != nil:
		op.Key = tx.extraOf(i).key
	case tx.isEvent(i):
		op.EventID = tx.events[i-tx.firstEvent].record.ID
		op.Key = map[string]types.AttributeValue{tx.attributes.ID: t.item[tx.attributes.ID]}
	case t.isKey:
		op.Key = t.item
	}
	return op
}

func (tx *transaction) refuse(kind error, i int, message string) *TransactionError {
	op := tx.operation(i)
	op.Message = message
	return refuse(kind, op)
}

// checkEvent returns what is wrong with an event.
func checkEvent(r *Record) error {
	switch {
	case r.ID == "":
		return errors.New("it has no id: use NewEvent, or set ID")
	case r.Type == "":
		return errors.New("it has no type: use NewEvent with data that is not nil, set Type, or give its data a method EventType")
	case len(r.ID) > 2048:
		return fmt.Errorf("its id has %d bytes: a DynamoDB key has at most 2048", len(r.ID))
	case !utf8.ValidString(r.ID):
		return errors.New("its id is not valid UTF-8")
	case !utf8.ValidString(r.Type):
		return errors.New("its type is not valid UTF-8")
	case !utf8.ValidString(r.AggregateID):
		return errors.New("its aggregate id is not valid UTF-8")
	case !utf8.ValidString(r.ContentType):
		return errors.New("its content type is not valid UTF-8")
	case r.ContentType == "" && !utf8.Valid(r.Payload):
		return errors.New("its encoded data is not valid UTF-8")
	case changerec.WrongMillis(r.Time.UnixMilli()) != "":
		return fmt.Errorf("its time is %s: want 1973-03-04 to 5138-11-15; perhaps it was made from another unit", r.Time.UTC().Format(time.DateOnly))
	}
	if sequenced(r) {
		if err := checkSequenced(r); err != nil {
			return err
		}
	} else if n, ok := order.Number(r.ID, r.AggregateID); ok && r.Sequence != 0 {
		return fmt.Errorf("its id is that of sequence %d, and its sequence is %d: make it with NewSequenced", n, r.Sequence)
	}
	for name, value := range r.Headers {
		if !utf8.ValidString(name) {
			return fmt.Errorf("its header name %s is not valid UTF-8", strconv.Quote(name))
		}
		if !utf8.ValidString(value) {
			return fmt.Errorf("its header %s is not valid UTF-8", strconv.Quote(name))
		}
	}
	return nil
}
