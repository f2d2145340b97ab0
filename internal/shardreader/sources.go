package shardreader

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// KinesisClient is the part of *kinesis.Client that reading needs.
type KinesisClient interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

// StreamsClient is the part of *dynamodbstreams.Client that reading needs.
type StreamsClient interface {
	DescribeStream(context.Context, *dynamodbstreams.DescribeStreamInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error)
	GetShardIterator(context.Context, *dynamodbstreams.GetShardIteratorInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error)
	GetRecords(context.Context, *dynamodbstreams.GetRecordsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error)
}

// Kinesis is a Kinesis data stream as a source.
type Kinesis struct {
	Client KinesisClient
	Stream string // name or ARN
}

// Streams is the DynamoDB stream of a table as a source.
type Streams struct {
	Client StreamsClient
	ARN    string
}

var errUnwritten = errors.New("outbox: not written yet")

func (k *Kinesis) Shards(context.Context) ([]Shard, error) { return nil, errUnwritten }
func (k *Kinesis) Iterator(context.Context, string, Position) (string, error) {
	return "", errUnwritten
}
func (k *Kinesis) Get(context.Context, string, int) (Batch, error) { return Batch{}, errUnwritten }
func (s *Streams) Shards(context.Context) ([]Shard, error)         { return nil, errUnwritten }
func (s *Streams) Iterator(context.Context, string, Position) (string, error) {
	return "", errUnwritten
}
func (s *Streams) Get(context.Context, string, int) (Batch, error) { return Batch{}, errUnwritten }

var (
	_ Source = (*Kinesis)(nil)
	_ Source = (*Streams)(nil)
)
