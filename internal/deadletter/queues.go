package deadletter

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Parked returns the aggregates that some queues park, in the order of their keys: at most limit queues, from the one behind the key after on. next
// is the key of the last one, or empty if there are no more.
func (s *Store) Parked(ctx context.Context, after string, limit int) (aggregates []string, queues int, next string, err error) {
	const condition, projection = "#group = :group", "#id, #aggregateId, #letters"
	in := &dynamodb.QueryInput{TableName: &s.table, ConsistentRead: aws.Bool(true), Limit: aws.Int32(int32(limit)),
		KeyConditionExpression: aws.String(condition), ProjectionExpression: aws.String(projection),
		ExpressionAttributeNames: rows.Names(condition, projection), ExpressionAttributeValues: rows.Item{":group": rows.S(s.queues())}}
	if after != "" {
		in.ExclusiveStartKey = key(s.queues(), after)
	}
	out, err := s.page(ctx, s.queues(), in)
	if err != nil {
		return nil, 0, "", err
	}
	for _, row := range out.Items {
		aggregate, parked, err := s.parks(row)
		if err != nil {
			return nil, 0, "", err
		}
		if parked {
			aggregates = append(aggregates, aggregate)
		}
	}
	return aggregates, len(out.Items), rows.Text(out.LastEvaluatedKey, "id"), nil
}

// parks returns the aggregate that a queue's row is about, and whether it is parked: a queue without letters, which nobody has closed, parks
// nothing. If the row does not say so, nobody would know whose events to hold back.
func (s *Store) parks(row rows.Item) (aggregate string, parked bool, err error) {
	if aggregate = rows.Text(row, "aggregateId"); aggregate == "" || row["letters"] == nil {
		return "", false, s.failed("read the queue "+rows.Text(row, "id"), errors.New("its row has no aggregateId or no letters"))
	}
	return aggregate, rows.Int(row, "letters") > 0, nil
}

// Queue is the letters of an aggregate.
type Queue struct {
	Key     string
	Letters int // how many; 0 until the queue is closed
}

// Queues runs through all queues.
func (s *Store) Queues(ctx context.Context) iter.Seq2[Queue, error] {
	return func(yield func(Queue, error) bool) {
		for row, err := range s.query(ctx, s.queues(), "", 0) {
			if !yield(queueIn(row), err) {
				return
			}
		}
	}
}

// Queue returns the queue of an aggregate. The error matches ErrMissing if there is none.
func (s *Store) Queue(ctx context.Context, aggregateID string) (Queue, error) {
	row, err := s.row(ctx, s.queues(), QueueKey(aggregateID))
	return queueIn(row), err
}

func queueIn(row rows.Item) Queue {
	return Queue{rows.Text(row, "id"), int(rows.Int(row, "letters"))}
}

// AreParked returns those of the aggregates that are parked.
func (s *Store) AreParked(ctx context.Context, aggregates []string) ([]string, error) {
	var parked []string
	for some := range slices.Chunk(aggregates, batchget.Most) {
		queues := make([]string, 0, len(some))
		for _, id := range some {
			queues = append(queues, QueueKey(id))
		}
		found, err := s.batch(ctx, s.queues(), queues)
		if err != nil {
			return nil, err
		}
		for _, row := range found {
			aggregate, is, err := s.parks(row)
			if err != nil {
				return nil, err
			}
			if is {
				parked = append(parked, aggregate)
			}
		}
	}
	return parked, nil
}

// batch reads up to 100 rows of a group. It returns the rows that exist, by their ids.
func (s *Store) batch(ctx context.Context, group string, ids []string) (map[string]rows.Item, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	q := batchget.Query{Table: s.table, Text: func(row rows.Item) string {
		if rows.Text(row, "group") != group {
			return "" // no row of ours has this id
		}
		return rows.Text(row, "id")
	}}
	for _, id := range ids {
		q.Keys = append(q.Keys, key(group, id))
	}
	found, _, err := q.Read(ctx, s.client)
	if err != nil {
		return nil, s.failed("read "+group, err)
	}
	return found, nil
}

// Close removes a queue without letters, and so ends the parking of its aggregate. It returns false if the queue has letters, or if somebody
// holds its lock: the lock is in the row, and its holder closes the queue.
func (s *Store) Close(ctx context.Context, queue string) (bool, error) {
	return s.close(ctx, queue, "attribute_not_exists(#lock)", rows.Item{})
}

func (s *Store) close(ctx context.Context, queue, condition string, values rows.Item) (bool, error) {
	condition = "(attribute_not_exists(#letters) OR #letters <= :zero) AND (" + condition + ")"
	values[":zero"] = rows.N(0)
	err := repeat(ctx, func() error {
		_, err := awserr.Written(s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.queues(), queue),
			ConditionExpression: &condition, ExpressionAttributeNames: rows.Names(condition), ExpressionAttributeValues: values}))
		return err
	})
	if conditionFailed(err) {
		return false, nil
	}
	if err != nil {
		return false, s.failed("close "+queue, err)
	}
	return true, nil
}
