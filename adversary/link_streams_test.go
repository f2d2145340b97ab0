package adversary

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	streams "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
)

// streamsLink is the DynamoDB stream as a process sees it.
type streamsLink struct {
	*link
	real    *dynamoStream
	foreign *dynamoStream
	first   *first[streams.DescribeStreamOutput] // the member's first listing
}

func (l streamsLink) DescribeStream(ctx context.Context, in *streams.DescribeStreamInput, _ ...func(*streams.Options)) (*streams.DescribeStreamOutput, error) {
	if err := l.request(ctx, streamsList); err != nil {
		return nil, err
	}
	from := l.real
	switch {
	case l.strikes(nilAnswer):
		return nil, nil
	case l.strikes(emptyListing):
		return &streams.DescribeStreamOutput{}, l.answer(ctx, 100)
	case in.ExclusiveStartShardId == nil && in.ShardFilter == nil && l.first.get() != nil && l.strikes(oldListing):
		return l.first.get(), l.answer(ctx, 1000)
	case in.ShardFilter == nil && l.strikes(foreignListing):
		from = l.foreign
	}
	out, err := from.DescribeStream(ctx, in)
	if err != nil {
		return nil, err
	}
	about := out.StreamDescription
	if from == l.real && in.ExclusiveStartShardId == nil && in.ShardFilter == nil && in.Limit == nil {
		l.first.keep(out)
	}
	if about.LastEvaluatedShardId != nil && l.strikes(firstPageOnly) {
		cut := *about
		cut.LastEvaluatedShardId = nil
		about = &cut
	}
	if len(about.Shards) > 0 && l.strikes(noRangeEnd) {
		cut := *about
		cut.Shards = append([]types.Shard(nil), about.Shards...)
		for i := range cut.Shards {
			cut.Shards[i].SequenceNumberRange = &types.SequenceNumberRange{StartingSequenceNumber: cut.Shards[i].SequenceNumberRange.StartingSequenceNumber}
		}
		about = &cut
	}
	return &streams.DescribeStreamOutput{StreamDescription: about, ResultMetadata: out.ResultMetadata}, l.answer(ctx, 100*len(about.Shards))
}

func (l streamsLink) GetShardIterator(ctx context.Context, in *streams.GetShardIteratorInput, _ ...func(*streams.Options)) (*streams.GetShardIteratorOutput, error) {
	if err := l.request(ctx, streamsRead); err != nil {
		return nil, err
	}
	switch {
	case l.strikes(nilAnswer):
		return nil, nil
	case l.strikes(noIterator):
		return &streams.GetShardIteratorOutput{}, nil
	}
	out, err := l.real.GetShardIterator(ctx, in)
	if err != nil {
		return nil, err
	}
	return out, l.answer(ctx, 300)
}

func (l streamsLink) GetRecords(ctx context.Context, in *streams.GetRecordsInput, _ ...func(*streams.Options)) (*streams.GetRecordsOutput, error) {
	shard, closed := l.real.closedShard(*in.ShardIterator)
	if err := l.request(ctx, streamsRead); err != nil {
		return nil, err
	}
	switch {
	case l.strikes(nilAnswer):
		return nil, nil
	case l.strikesClosed(emptyBody, shard, closed):
		return &streams.GetRecordsOutput{}, nil
	case l.strikes(expiredIterator):
		return nil, &types.ExpiredIteratorException{Message: aws.String("Iterator expired")}
	case l.strikes(shortPage):
		if l.intn(3) == 0 {
			return &streams.GetRecordsOutput{Records: []types.Record{}, NextShardIterator: in.ShardIterator}, nil
		}
		asked := *in
		asked.Limit = aws.Int32(int32(1 + l.intn(3)))
		in = &asked
	}
	out, err := l.real.GetRecords(ctx, in)
	if err != nil {
		return nil, err
	}
	// Of a closed shard the service itself gives no iterator at the end, and nothing else: this lie nobody can know.
	if out.NextShardIterator != nil && !closed && l.strikes(noNextIterator) {
		out.NextShardIterator = nil
	}
	return out, l.answer(ctx, 300+l.real.weight(len(out.Records)))
}
