package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// Index is what an index of the events table finds events by.
type Index string

// The indexes that CreateIndex makes.
const (
	ByAggregate Index = "aggregate" // finds events by Query.AggregateID
	ByType      Index = "type"      // finds events by Query.Type
)

// Name returns the name of the index in DynamoDB: outbox-by-aggregate or outbox-by-type.
func (by Index) Name() string { return "outbox-by-" + string(by) }

// partition returns the attribute that is the partition key of the index.
func (e *Events) partition(by Index) string {
	switch by {
	case ByAggregate:
		return e.names.AggregateID
	case ByType:
		return e.names.Type
	}
	return outbox.NoAttribute
}

// described is the part of the events table's description that matters here.
type described struct {
	provisioned *types.ProvisionedThroughputDescription // nil if the table is billed per request
	indexes     []types.GlobalSecondaryIndexDescription
	kinds       map[string]types.ScalarAttributeType
}

// describe describes the table. Its only key must be the event's id.
func (e *Events) describe(ctx context.Context) (*described, error) {
	out, err := awserr.Answered(e.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &e.table}))
	if err != nil {
		return nil, fmt.Errorf("describe table %s: %w", e.table, err)
	}
	t := out.Table
	if t == nil {
		return nil, fmt.Errorf("describe table %s: the answer does not describe it", e.table)
	}
	if len(t.KeySchema) != 1 || aws.ToString(t.KeySchema[0].AttributeName) != e.names.ID {
		return nil, fmt.Errorf("table %s is no events table: want %q as its partition key and no sort key (WithAttributes)", e.table, e.names.ID)
	}
	d := &described{indexes: t.GlobalSecondaryIndexes, kinds: map[string]types.ScalarAttributeType{}}
	for _, a := range t.AttributeDefinitions {
		d.kinds[aws.ToString(a.AttributeName)] = a.AttributeType
	}
	if p := t.ProvisionedThroughput; p != nil && aws.ToInt64(p.WriteCapacityUnits) > 0 {
		d.provisioned = p
	}
	return d, nil
}

// usable is an index that answers a query.
type usable struct {
	name, partition string
	by              Index
}

// indexFor returns an index for the query, whoever made it. An index that lacks an attribute which decides about the order does
// not serve.
func (e *Events) indexFor(q Query, d *described) (usable, bool) {
	for _, by := range []Index{ByAggregate, ByType} {
		if by == ByAggregate && q.AggregateID == "" || by == ByType && q.Type == "" {
			continue
		}
		for _, index := range d.indexes {
			if index.IndexStatus == types.IndexStatusActive && e.serves(index, by, d) {
				return usable{aws.ToString(index.IndexName), e.partition(by), by}, true
			}
		}
	}
	return usable{}, false
}

// serves reports whether the index has the right keys and attributes.
func (e *Events) serves(index types.GlobalSecondaryIndexDescription, by Index, d *described) bool {
	keys := map[types.KeyType]string{}
	for _, k := range index.KeySchema {
		if keys[k.KeyType] != "" {
			return false // a key of several attributes
		}
		keys[k.KeyType] = aws.ToString(k.AttributeName)
	}
	if keys[types.KeyTypeHash] != e.partition(by) || keys[types.KeyTypeRange] != e.names.Time ||
		d.kinds[e.partition(by)] != types.ScalarAttributeTypeS || d.kinds[e.names.Time] != types.ScalarAttributeTypeN {
		return false
	}
	if index.Projection == nil {
		return false
	}
	for _, name := range e.carried(by) {
		if index.Projection.ProjectionType != types.ProjectionTypeAll && !slices.Contains(index.Projection.NonKeyAttributes, name) {
			return false
		}
	}
	return true
}

// carried are the attributes that an index has besides its keys.
func (e *Events) carried(by Index) []string {
	var names []string
	for _, name := range []string{e.names.Type, e.names.AggregateID, e.names.Sequence} {
		if name != outbox.NoAttribute && name != e.partition(by) {
			names = append(names, name)
		}
	}
	return names
}

// IndexProgress says how far the creation of an index is.
type IndexProgress struct {
	// Status is CREATING until DynamoDB has filled the index, and then ACTIVE.
	Status string
	// Items is how many rows DynamoDB says the index has. DynamoDB counts only every six hours.
	Items int64
	// Waited is for how long CreateIndex has been waiting.
	Waited time.Duration
}

// CreateIndex looks again after pauses that grow from the first to the second.
const firstPause, longestPause = 250 * time.Millisecond, 5 * time.Second

// CreateIndex makes a global secondary index on the events table, unless the table has an index that serves, and waits until it
// is ACTIVE. For a large table this takes minutes to hours; after ctx has ended, another call goes on waiting. progress may be
// nil. To, Again and Records then use the index: a query by aggregate or type costs what it finds rather than the whole table.
//
// Think before making an index:
//
//   - It costs one more write unit for every event that is written, and another when its time to live ends.
//   - All events of one type are one partition of the index by type. If more are written than a partition takes (1,000 write
//     units a second), DynamoDB throttles the writes of the table itself, and so your transactions. The same holds for a hot
//     aggregate. See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/gsi-throttling.html.
//   - From then on DynamoDB refuses rows whose aggregate id or type is longer than 2,048 bytes or no string, or whose time is no
//     number. Of a Writer's rows it refuses only those that are too long.
//   - Reads of an index are eventually consistent: a query may miss what was written in the last moments.
//
// An index lacks rows of another form, for example an earlier writer's rows with times as text, and a query that uses it would
// miss them. So CreateIndex first reads the whole table, and refuses if there are such rows: convert them, or query without an
// index. CreateIndex does not check this for an index that exists already.
//
// The index holds the keys, the sequence, the aggregate id and the type, but no payloads. On a table with provisioned capacity it
// gets the capacity of the table. A table can create one index at a time. To get rid of the index, delete it (UpdateTable);
// nothing depends on it.
func (e *Events) CreateIndex(ctx context.Context, by Index, progress func(IndexProgress)) error {
	if err := e.createIndex(ctx, by, progress); err != nil {
		return fmt.Errorf("replay: index of table %s by %s: %w", e.table, by, err)
	}
	return nil
}

func (e *Events) createIndex(ctx context.Context, by Index, progress func(IndexProgress)) error {
	if err := e.made(); err != nil {
		return err
	}
	if by != ByAggregate && by != ByType {
		return fmt.Errorf("want %s or %s", ByAggregate, ByType)
	}
	if e.partition(by) == outbox.NoAttribute || e.names.Time == outbox.NoAttribute {
		return errors.New("the table lacks the attribute, or the one for the time (WithAttributes)")
	}
	started, asked := time.Now(), false
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		d, err := e.describe(ctx)
		if err != nil {
			return err
		}
		p := IndexProgress{Waited: time.Since(started)}
		for _, index := range d.indexes {
			if aws.ToString(index.IndexName) == by.Name() && !e.serves(index, by, d) {
				return fmt.Errorf("there is an index %s with other keys or attributes: delete it first", by.Name())
			}
			if e.serves(index, by, d) {
				p.Status, p.Items = string(index.IndexStatus), aws.ToInt64(index.ItemCount)
			}
		}
		if p.Status == "" {
			if asked {
				return errors.New("it is gone again: somebody has deleted it")
			}
			if err := e.fits(ctx, by); err != nil {
				return err
			}
			if err := e.askForIndex(ctx, by, d); err != nil {
				return err
			}
			asked, p.Status = true, string(types.IndexStatusCreating)
		}
		if progress != nil {
			progress(p)
		}
		if p.Status == string(types.IndexStatusActive) {
			return nil
		}
		if err := backoff.Wait(ctx, pause); err != nil {
			return fmt.Errorf("it is %s, and DynamoDB goes on with it: %w", p.Status, err)
		}
	}
}

// fits returns an error if an event's row has the index's attribute, but would not be in the index because of its form.
func (e *Events) fits(ctx context.Context, by Index) error {
	const filter = "attribute_exists(#id) AND attribute_exists(#type) AND attribute_exists(#key) AND " +
		"(NOT attribute_type(#key, :string) OR NOT attribute_type(#time, :number))"
	in := &dynamodb.ScanInput{TableName: &e.table, ConsistentRead: aws.Bool(true), FilterExpression: aws.String(filter), ProjectionExpression: aws.String("#id"),
		ExpressionAttributeNames: map[string]string{"#id": e.names.ID, "#type": e.names.Type, "#key": e.partition(by), "#time": e.names.Time},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":string": &types.AttributeValueMemberS{Value: "S"}, ":number": &types.AttributeValueMemberS{Value: "N"},
		}}
	for {
		out, err := awserr.Answered(e.client.Scan(ctx, in))
		if err != nil {
			return fmt.Errorf("look for rows of another form: %w", err)
		}
		if err := awserr.CheckPage(out.Items, out.Count, out.LastEvaluatedKey); err != nil {
			return fmt.Errorf("look for rows of another form: %w", err)
		}
		if len(out.Items) > 0 {
			var id string
			if err := attributevalue.Unmarshal(out.Items[0][e.names.ID], &id); err != nil {
				return fmt.Errorf("look for rows of another form: %w", err)
			}
			return fmt.Errorf("the row %q is of another form, and the index would not have it: want %s as a string, and %s as a number",
				id, e.partition(by), e.names.Time)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return nil
		}
		if in.ExclusiveStartKey, err = nextPage(in.ExclusiveStartKey, out.LastEvaluatedKey); err != nil {
			return fmt.Errorf("look for rows of another form: %w", err)
		}
	}
}

func (e *Events) askForIndex(ctx context.Context, by Index, d *described) error {
	create := &types.CreateGlobalSecondaryIndexAction{
		IndexName: aws.String(by.Name()),
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(e.partition(by)), KeyType: types.KeyTypeHash},
			{AttributeName: &e.names.Time, KeyType: types.KeyTypeRange},
		},
		Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
	}
	if carried := e.carried(by); len(carried) > 0 {
		create.Projection = &types.Projection{ProjectionType: types.ProjectionTypeInclude, NonKeyAttributes: carried}
	}
	if d.provisioned != nil {
		create.ProvisionedThroughput = &types.ProvisionedThroughput{
			ReadCapacityUnits: d.provisioned.ReadCapacityUnits, WriteCapacityUnits: d.provisioned.WriteCapacityUnits,
		}
	}
	_, err := awserr.Written(e.client.UpdateTable(ctx, &dynamodb.UpdateTableInput{
		TableName: &e.table,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: &e.names.ID, AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(e.partition(by)), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: &e.names.Time, AttributeType: types.ScalarAttributeTypeN},
		},
		GlobalSecondaryIndexUpdates: []types.GlobalSecondaryIndexUpdate{{Create: create}},
	}))
	if err != nil {
		return fmt.Errorf("UpdateTable: %w", err)
	}
	return nil
}
