package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

type item = map[string]types.AttributeValue

// key is what a search keeps of a row.
type key struct {
	id, aggregate string
	at            time.Time // zero if the row does not say
	sequence      int64
}

// find returns the keys of all events that match, in order. progress may be nil.
func (e *Events) find(ctx context.Context, q Query, progress func(searched, found int)) ([]key, error) {
	if err := e.check(q); err != nil {
		return nil, err
	}
	if q.ID != "" {
		return []key{{id: q.ID}}, nil
	}
	if !q.From.IsZero() && !q.To.IsZero() && ceilMillis(q.From) == ceilMillis(q.To) {
		return nil, nil // the range holds no millisecond, and DynamoDB refuses a range whose end is before its start
	}
	indexes, err := e.describe(ctx)
	if err != nil {
		return nil, err
	}
	next := e.scan(q)
	if index, ok := e.indexFor(q, indexes); ok {
		next = e.query(q, index)
	}
	var found []key
	searched := 0
	for more := true; more; {
		var p page
		if p, more, err = next(ctx); err != nil {
			return nil, fmt.Errorf("search table %s: %w", e.table, err)
		}
		searched += p.searched
		for _, row := range p.items {
			if k, ok := e.keyOf(row, q); ok {
				found = append(found, k)
			}
		}
		if len(found) > e.max {
			return nil, fmt.Errorf("more than %d events match: %w", e.max, ErrTooMany)
		}
		if progress != nil {
			progress(searched, len(found))
		}
	}
	placeCopies(found)
	inOrder(found)
	return found, nil
}

// keyOf reads what a search returned of a row. ok is false if the row is no event, or does not match. A row that cannot be read
// is kept: the error is reported when the row is fetched.
func (e *Events) keyOf(row item, q Query) (k key, ok bool) {
	r, err := outbox.DecodeItem(row, e.keys)
	if errors.Is(err, outbox.ErrNotEvent) {
		return key{}, false
	}
	if err != nil {
		id, ok := rows.As[*types.AttributeValueMemberS](row[e.names.ID])
		if !ok {
			return key{}, false // cannot happen: the id is the table's key, so its type is always right
		}
		return key{id: id.Value}, true
	}
	if !r.Time.IsZero() && (!q.From.IsZero() && r.Time.Before(q.From) || !q.To.IsZero() && !r.Time.Before(q.To)) {
		return key{}, false // DynamoDB does not compare times that are not numbers
	}
	return keyOfRecord(r), true
}

func keyOfRecord(r outbox.Record) key {
	return key{id: r.ID, aggregate: r.AggregateID, at: r.Time, sequence: r.Sequence}
}

// inOrder sorts by time and id. Then it sorts, within the places of each aggregate, the events that have a sequence.
func inOrder(keys []key) {
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(a.at.Compare(b.at), strings.Compare(a.id, b.id))
	})
	places := map[string][]int{}
	for i, k := range keys {
		if k.aggregate != "" && k.sequence != 0 {
			places[k.aggregate] = append(places[k.aggregate], i)
		}
	}
	for _, at := range places {
		events := make([]key, len(at))
		for i, place := range at {
			events[i] = keys[place]
		}
		slices.SortStableFunc(events, func(a, b key) int { return cmp.Compare(a.sequence, b.sequence) })
		for i, place := range at {
			keys[place] = events[i]
		}
	}
}

// page is one answer of a search.
type page struct {
	items    []item
	searched int       // how many rows were looked at
	date     time.Time // by the service's clock; zero if the answer does not say
}

// pages returns the next page, and whether more pages follow.
type pages func(context.Context) (p page, more bool, err error)

// scan reads the whole table.
func (e *Events) scan(q Query) pages {
	x := e.expressions()
	conditions := []string{"attribute_exists(" + x.name(e.names.Type) + ")"}
	if q.AggregateID != "" {
		conditions = append(conditions, x.aggregate(q.AggregateID))
	}
	if q.Type != "" {
		conditions = append(conditions, x.name(e.names.Type)+" = "+x.value(&types.AttributeValueMemberS{Value: q.Type}))
	}
	if between := x.between(q); between != "" {
		// DynamoDB cannot compare a time that is no number, so the filter lets the row pass. keyOf compares the time, or the
		// fetch reports the row.
		number := x.value(&types.AttributeValueMemberS{Value: "N"})
		conditions = append(conditions, "(NOT attribute_type("+x.name(e.names.Time)+", "+number+") OR "+between+")")
	}
	in := &dynamodb.ScanInput{
		TableName: &e.table, ConsistentRead: aws.Bool(true), ProjectionExpression: aws.String(x.projection()),
		FilterExpression: aws.String(strings.Join(conditions, " AND ")), ExpressionAttributeNames: x.names, ExpressionAttributeValues: x.valuesOrNil(),
	}
	return func(ctx context.Context) (page, bool, error) {
		return e.scanned(ctx, in)
	}
}

// scanned reads a page of a scan. The request becomes that of the next one.
func (e *Events) scanned(ctx context.Context, in *dynamodb.ScanInput) (page, bool, error) {
	out, err := awserr.Answered(e.client.Scan(ctx, in))
	if err != nil {
		return page{}, false, err
	}
	if err := awserr.CheckPage(out.Items, out.Count, out.LastEvaluatedKey); err != nil {
		return page{}, false, err
	}
	if in.ExclusiveStartKey, err = nextPage(in.ExclusiveStartKey, out.LastEvaluatedKey); err != nil {
		return page{}, false, err
	}
	date, _ := awsmiddleware.GetServerTime(out.ResultMetadata)
	return page{out.Items, int(out.ScannedCount), date}, len(out.LastEvaluatedKey) > 0, nil
}

// nextPage returns the key of the next page, unless it is the page that was just read: that would go on for ever.
func nextPage(this, next item) (item, error) {
	if len(next) > 0 && reflect.DeepEqual(this, next) {
		return nil, awserr.ErrSamePage
	}
	return next, nil
}

// query reads an index whose partition key is the query's AggregateID or Type, and whose sort key is the time.
func (e *Events) query(q Query, index usable) pages {
	x := e.expressions()
	condition := x.name(index.partition) + " = "
	filter := ""
	if index.by == ByAggregate {
		condition += x.value(&types.AttributeValueMemberS{Value: q.AggregateID})
		if q.Type != "" {
			filter = x.name(e.names.Type) + " = " + x.value(&types.AttributeValueMemberS{Value: q.Type})
		}
	} else {
		condition += x.value(&types.AttributeValueMemberS{Value: q.Type})
		if q.AggregateID != "" {
			filter = x.aggregate(q.AggregateID)
		}
	}
	if between := x.between(q); between != "" {
		condition += " AND " + between
	}
	in := &dynamodb.QueryInput{
		TableName: &e.table, IndexName: &index.name, KeyConditionExpression: &condition, ProjectionExpression: aws.String(x.projection()),
		ExpressionAttributeNames: x.names, ExpressionAttributeValues: x.values,
	}
	if filter != "" {
		in.FilterExpression = &filter
	}
	return func(ctx context.Context) (page, bool, error) {
		out, err := awserr.Answered(e.client.Query(ctx, in))
		if err != nil {
			return page{}, false, err
		}
		if err := awserr.CheckPage(out.Items, out.Count, out.LastEvaluatedKey); err != nil {
			return page{}, false, err
		}
		if in.ExclusiveStartKey, err = nextPage(in.ExclusiveStartKey, out.LastEvaluatedKey); err != nil {
			return page{}, false, err
		}
		return page{items: out.Items, searched: int(out.ScannedCount)}, len(out.LastEvaluatedKey) > 0, nil
	}
}

// expressions collects the names and values of a request's expressions.
type expressions struct {
	e      *Events
	names  map[string]string
	values item
}

func (e *Events) expressions() *expressions {
	return &expressions{e: e, names: map[string]string{}, values: item{}}
}

// name returns an alias, because some attributes have reserved words as names.
func (x *expressions) name(attribute string) string {
	for alias, name := range x.names {
		if name == attribute {
			return alias
		}
	}
	alias := "#n" + strconv.Itoa(len(x.names))
	x.names[alias] = attribute
	return alias
}

func (x *expressions) value(v types.AttributeValue) string {
	alias := ":v" + strconv.Itoa(len(x.values))
	x.values[alias] = v
	return alias
}

func (x *expressions) valuesOrNil() item {
	if len(x.values) == 0 {
		return nil
	}
	return x.values
}

// aggregate compares an aggregate's id, which may be stored as a number.
func (x *expressions) aggregate(id string) string {
	name := x.name(x.e.names.AggregateID)
	condition := name + " = " + x.value(&types.AttributeValueMemberS{Value: id})
	if n, err := strconv.ParseInt(id, 10, 64); err == nil && strconv.FormatInt(n, 10) == id {
		condition = "(" + condition + " OR " + name + " = " + x.value(&types.AttributeValueMemberN{Value: id}) + ")"
	}
	return condition
}

// between compares the time. It is empty if the query has no bounds.
func (x *expressions) between(q Query) string {
	if q.From.IsZero() && q.To.IsZero() {
		return ""
	}
	name := x.name(x.e.names.Time)
	bound := func(t time.Time, less int64) string {
		return x.value(&types.AttributeValueMemberN{Value: strconv.FormatInt(ceilMillis(t)-less, 10)})
	}
	switch {
	case q.To.IsZero():
		return name + " >= " + bound(q.From, 0)
	case q.From.IsZero():
		return name + " < " + bound(q.To, 0)
	}
	return name + " BETWEEN " + bound(q.From, 0) + " AND " + bound(q.To, 1)
}

// ceilMillis is the first full millisecond at or after t.
func ceilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	return ms
}

// projection asks for what keyOf reads.
func (x *expressions) projection() string {
	var names []string
	for _, name := range []string{x.e.names.ID, x.e.names.Type, x.e.names.Time, x.e.names.AggregateID, x.e.names.Sequence} {
		if name != outbox.NoAttribute {
			names = append(names, x.name(name))
		}
	}
	return strings.Join(names, ", ")
}
