package deadletter

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// query runs through the rows of a group whose ids begin with prefix, in the order of their ids. It reads the named attributes, or all
// attributes if none is named. limit bounds a page, and 0 means the most that DynamoDB returns.
func (s *Store) query(ctx context.Context, group, prefix string, limit int32, attributes ...string) iter.Seq2[rows.Item, error] {
	condition := "#group = :group"
	values := rows.Item{":group": rows.S(group)}
	if prefix != "" {
		condition += " AND begins_with(#id, :prefix)"
		values[":prefix"] = rows.S(prefix)
	}
	return func(yield func(rows.Item, error) bool) {
		in := &dynamodb.QueryInput{TableName: &s.table, ConsistentRead: aws.Bool(true), KeyConditionExpression: &condition,
			ExpressionAttributeNames: rows.Names(condition), ExpressionAttributeValues: values}
		if len(attributes) > 0 {
			projection := projectionOf(attributes)
			in.ProjectionExpression, in.ExpressionAttributeNames = &projection, rows.Names(condition, projection)
		}
		if limit > 0 {
			in.Limit = &limit
		}
		for {
			out, err := s.page(ctx, group, in)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, row := range out.Items {
				if !yield(row, nil) {
					return
				}
			}
			if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
				return
			}
		}
	}
}

// page reads a page of a group. An answer that lacks something is an error.
func (s *Store) page(ctx context.Context, group string, in *dynamodb.QueryInput) (*dynamodb.QueryOutput, error) {
	out, err := awserr.Answered(s.client.Query(ctx, in))
	switch {
	case err != nil:
	case awserr.CheckPage(out.Items, out.Count, out.LastEvaluatedKey) != nil:
		err = awserr.CheckPage(out.Items, out.Count, out.LastEvaluatedKey)
	case slices.ContainsFunc(out.Items, func(row rows.Item) bool { return rows.Text(row, "id") == "" }):
		err = errors.New("the answer has a row without its key")
	case len(out.LastEvaluatedKey) > 0 && rows.Text(out.LastEvaluatedKey, "id") == "":
		err = errors.New("the answer does not say where the next page begins")
	case len(out.LastEvaluatedKey) > 0 && reflect.DeepEqual(out.LastEvaluatedKey, in.ExclusiveStartKey):
		err = awserr.ErrSamePage
	}
	if err != nil {
		return nil, s.failed("read "+group, err)
	}
	return out, nil
}

func projectionOf(attributes []string) string { return "#" + strings.Join(attributes, ", #") }

// IDs returns the ids of a queue's letters, in their order.
func (s *Store) IDs(ctx context.Context, queue string) ([]string, error) {
	var all []place // without payloads: those of a long queue do not fit into memory
	for row, err := range s.query(ctx, s.letters(), queue+"#", 0, placeAttributes...) {
		if err != nil {
			return nil, err
		}
		all = append(all, placeOf(row))
	}
	ids := make([]string, 0, len(all))
	for _, p := range inOrder(all) {
		ids = append(ids, p.id)
	}
	return ids, nil
}

// head are the attributes of a letter's row without its body: without the payload, the event's headers, and an undecoded record.
var head = []string{"id", "error", "attempts", "parked", "storedAt", "triedAt", "token", "parts", "partsHash", "eventId", "type",
	"aggregateId", "sequence", "timestamp", "contentType", "table", "changedAt", "streamArn", "shardId", "sequenceNumber", "order", "inbox"}

// Heads runs through letters without their bodies, in the order of their ids: those of a queue, or, if queue is empty, those without a queue.
func (s *Store) Heads(ctx context.Context, queue string) iter.Seq2[Letter, error] {
	return s.heads(ctx, queue+"#")
}

// AllHeads runs through all letters without their bodies, in the order of their ids.
func (s *Store) AllHeads(ctx context.Context) iter.Seq2[Letter, error] { return s.heads(ctx, "") }

func (s *Store) heads(ctx context.Context, prefix string) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		for row, err := range s.query(ctx, s.letters(), prefix, 0, head...) {
			if !yield(read(row), err) {
				return
			}
		}
	}
}

// Head returns a letter without its body. The error matches ErrMissing if it is not there.
func (s *Store) Head(ctx context.Context, id string) (Letter, error) {
	row, err := s.row(ctx, s.letters(), id, head...)
	return read(row), err
}

// Letters runs through the letters of a queue that match, in their order. If queue is empty, it runs through all letters that match, in the
// order of their ids. match gets a letter whose body may be missing. Letters holds one page of rows in memory.
func (s *Store) Letters(ctx context.Context, queue string, match func(*Letter) bool) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if queue == "" {
			for row, err := range s.query(ctx, s.letters(), "", 0) {
				if !s.yield(ctx, row, err, match, yield) {
					return
				}
			}
			return
		}
		ids, err := s.IDs(ctx, queue)
		if err != nil {
			yield(Letter{}, err)
			return
		}
		for page := range slices.Chunk(ids, lettersAtOnce) {
			found, err := s.batch(ctx, s.letters(), page)
			if err != nil {
				yield(Letter{}, err)
				return
			}
			for _, id := range page {
				if row, there := found[id]; there && !s.yield(ctx, row, nil, match, yield) {
					return
				}
			}
		}
	}
}

// lettersAtOnce is how many letters of a queue are read at once. A row has 350 KB at most.
const lettersAtOnce = 25

func (s *Store) yield(ctx context.Context, row rows.Item, err error, match func(*Letter) bool, yield func(Letter, error) bool) bool {
	if err != nil {
		return yield(Letter{}, err)
	}
	l := read(row)
	if !match(&l) {
		return true
	}
	err = s.complete(ctx, &l)
	if errors.Is(err, ErrMissing) { // removed meanwhile
		return true
	}
	return yield(l, err)
}

// complete reads the parts of a letter's body, if it has any.
func (s *Store) complete(ctx context.Context, l *Letter) error {
	if l.parts == 0 {
		return nil
	}
	parts := make([][]byte, 0, l.parts)
	for i := range l.parts {
		out, err := awserr.Answered(s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.parts(), l.partID(i)), ConsistentRead: aws.Bool(true)}))
		switch {
		case err != nil:
			return s.failed("read a part of "+l.ID, err)
		case out.Item == nil: // the letter was removed meanwhile, or its row has come back without parts
			_, err := s.row(ctx, s.letters(), l.ID, "id")
			l.Incomplete = true
			return err
		}
		parts = append(parts, rows.Bytes(out.Item, "data"))
	}
	if err := l.join(parts); err != nil {
		return s.failed("read "+l.ID, err)
	}
	return nil
}

// Get returns a letter. The error matches ErrMissing if it is not there.
func (s *Store) Get(ctx context.Context, id string) (Letter, error) {
	row, err := s.row(ctx, s.letters(), id)
	if err != nil {
		return Letter{}, err
	}
	l := read(row)
	return l, s.complete(ctx, &l)
}

// row reads a row: the named attributes, or all attributes if none is named. The error matches ErrMissing if it is not there.
func (s *Store) row(ctx context.Context, group, id string, attributes ...string) (rows.Item, error) {
	in := &dynamodb.GetItemInput{TableName: &s.table, Key: key(group, id), ConsistentRead: aws.Bool(true)}
	if len(attributes) > 0 {
		projection := projectionOf(attributes)
		in.ProjectionExpression, in.ExpressionAttributeNames = &projection, rows.Names(projection)
	}
	out, err := awserr.Answered(s.client.GetItem(ctx, in))
	switch {
	case err != nil:
		return nil, s.failed("read "+id, err)
	case out.Item == nil:
		return nil, s.failed("read "+id, ErrMissing)
	}
	return out.Item, nil
}
