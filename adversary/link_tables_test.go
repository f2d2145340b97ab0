package adversary

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// tableLink is the tables as a process sees them. The methods for creating tables are missing: the tables exist.
type tableLink struct {
	outbox.DeadLetterClient
	*link
	db         *database
	consistent bool // of the watch: all its reads are strongly consistent
}

// errLost is what a client sees of a lost answer.
var errLost = errors.New("read: connection reset by peer")

// through carries a write out and passes its answer on.
func through[In, Out any](ctx context.Context, l tableLink, in *In, do func(context.Context, *In, ...func(*dynamodb.Options)) (*Out, error)) (*Out, error) {
	if err := l.request(ctx, tables); err != nil {
		return nil, err
	}
	if l.strikes(nilAnswer) {
		return nil, nil
	}
	out, err := do(ctx, in)
	if l.strikes(lateDuplicate) {
		again := *in
		time.AfterFunc(l.between(time.Second, 20*time.Second), func() { _, _ = do(context.Background(), &again) })
	}
	if l.strikes(lostAnswer) {
		return nil, errLost
	}
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) && refused.Item != nil && l.strikes(noOldItem) {
		refused.Item = nil
	}
	if failed := l.answer(ctx, 500); failed != nil {
		return nil, failed
	}
	return out, err
}

func (l tableLink) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	out, err := through(ctx, l, in, l.db.UpdateItem)
	if out != nil && out.Attributes != nil && l.strikes(noAttributes) {
		return &dynamodb.UpdateItemOutput{}, err
	}
	return out, err
}

func (l tableLink) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return through(ctx, l, in, l.db.PutItem)
}

func (l tableLink) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return through(ctx, l, in, l.db.DeleteItem)
}

func (l tableLink) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return through(ctx, l, in, l.db.TransactWriteItems)
}

// reading carries a read out and passes its answer on.
func reading[In, Out any](ctx context.Context, l tableLink, in *In, do func(context.Context, *In, ...func(*dynamodb.Options)) (*Out, error)) (*Out, error) {
	if err := l.request(ctx, tables); err != nil {
		return nil, err
	}
	if l.strikes(nilAnswer) {
		return nil, nil
	}
	out, err := do(ctx, in)
	if failed := l.answer(ctx, 2000); failed != nil {
		return nil, failed
	}
	return out, err
}

func (l tableLink) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return reading(ctx, l, in, l.db.GetItem)
}

func (l tableLink) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	return reading(ctx, l, in, l.db.BatchGetItem)
}

func (l tableLink) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if l.consistent {
		asked := *in
		asked.ConsistentRead = aws.Bool(true)
		in = &asked
	}
	out, err := reading(ctx, l, in, l.db.Query)
	switch {
	case err != nil || out == nil || *in.TableName != "leases": // an answer of the dead letter table that lies loses the order, and is not its promise
	case l.strikes(emptyQuery):
		return &dynamodb.QueryOutput{}, nil
	case len(out.Items) > 1 && l.strikes(cutQuery):
		n := l.intn(len(out.Items))
		return &dynamodb.QueryOutput{Items: out.Items[:n], Count: int32(n), ScannedCount: out.ScannedCount}, nil
	}
	return out, err
}
