package deadletter

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

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
			projection := "#" + strings.Join(attributes, ", #")
			in.ProjectionExpression, in.ExpressionAttributeNames = &projection, rows.Names(condition, projection)
		}
		if limit > 0 {
			in.Limit = &limit
		}
		for {
			out, err := s.client.Query(ctx, in)
			if err != nil {
				yield(nil, s.failed("read "+group, err))
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

// IDs returns the ids of a queue's letters, in their order.
func (s *Store) IDs(ctx context.Context, queue string) ([]string, error) {
	var all []rows.Item // without payloads: those of a long queue do not fit into memory
	for row, err := range s.query(ctx, s.letters(), queue+"#", 0, "id", "order", "storedAt", "sequenceNumber") {
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	ids := make([]string, 0, len(all))
	for _, row := range inOrder(all) {
		ids = append(ids, rows.Text(row, "id"))
	}
	return ids, nil
}

// Letters runs through the letters of a queue, in their order. If queue is empty, it runs through all letters, in the order of their ids. It
// holds one page of letters in memory.
func (s *Store) Letters(ctx context.Context, queue string) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if queue == "" {
			for row, err := range s.query(ctx, s.letters(), "", 0) {
				if !s.yield(ctx, row, err, yield) {
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
				if row, there := found[id]; there && !s.yield(ctx, row, nil, yield) {
					return
				}
			}
		}
	}
}

// lettersAtOnce is how many letters of a queue are read at once. A row has 350 KB at most.
const lettersAtOnce = 25

func (s *Store) yield(ctx context.Context, row rows.Item, err error, yield func(Letter, error) bool) bool {
	if err != nil {
		return yield(Letter{}, err)
	}
	l, err := s.complete(ctx, row)
	if errors.Is(err, ErrMissing) { // removed meanwhile
		return true
	}
	return yield(l, err)
}

// complete returns the letter of a row, with the parts of its body.
func (s *Store) complete(ctx context.Context, row rows.Item) (Letter, error) {
	l := read(row)
	if l.parts == 0 {
		return l, nil
	}
	parts := make([][]byte, 0, l.parts)
	for i := range l.parts {
		out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.parts(), l.partID(i)), ConsistentRead: aws.Bool(true)})
		switch {
		case err != nil:
			return l, s.failed("read a part of "+l.ID, err)
		case out.Item == nil: // the letter was removed meanwhile, or its row has come back without parts
			_, err := s.row(ctx, l.ID)
			l.Incomplete = true
			return l, err
		}
		parts = append(parts, rows.Bytes(out.Item, "data"))
	}
	if err := l.join(parts); err != nil {
		return l, s.failed("read "+l.ID, err)
	}
	return l, nil
}

// Get returns a letter. The error matches ErrMissing if it is not there.
func (s *Store) Get(ctx context.Context, id string) (Letter, error) {
	row, err := s.row(ctx, id)
	if err != nil {
		return Letter{}, err
	}
	return s.complete(ctx, row)
}

// Peek is Get without the parts of the body.
func (s *Store) Peek(ctx context.Context, id string) (Letter, error) {
	row, err := s.row(ctx, id)
	if err != nil {
		return Letter{}, err
	}
	return read(row), nil
}

func (s *Store) row(ctx context.Context, id string) (rows.Item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.letters(), id), ConsistentRead: aws.Bool(true)})
	switch {
	case err != nil:
		return nil, s.failed("read "+id, err)
	case out.Item == nil:
		return nil, s.failed("read "+id, ErrMissing)
	}
	return out.Item, nil
}
