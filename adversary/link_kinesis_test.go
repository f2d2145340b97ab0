package adversary

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// kinesisLink is the data stream as a process sees it.
type kinesisLink struct {
	*link
	real    *kinesisService
	foreign *kinesisService
	first   *first[kinesis.ListShardsOutput] // the member's first listing
}

// weight is what some records weigh on the wire.
func (s *stream) weight(records int) int { return records * (400 + s.padding) }

func (l kinesisLink) ListShards(ctx context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	if err := l.request(ctx, kinesisList); err != nil {
		return nil, err
	}
	from := l.real
	whole := in.NextToken == nil && in.ExclusiveStartShardId == nil
	switch {
	case l.strikes(nilAnswer):
		return nil, nil
	case l.strikes(emptyListing):
		return &kinesis.ListShardsOutput{}, l.answer(ctx, 100)
	case whole && l.first.get() != nil && l.strikes(oldListing):
		return l.first.get(), l.answer(ctx, 1000)
	case l.strikes(foreignListing):
		from = l.foreign
	}
	out, err := from.ListShards(ctx, in)
	if err != nil {
		return nil, err
	}
	if whole && from == l.real {
		l.first.keep(out)
	}
	answer := *out
	if answer.NextToken != nil && l.strikes(firstPageOnly) {
		answer.NextToken = nil
	}
	if len(answer.Shards) > 0 && l.strikes(noRangeEnd) {
		answer.Shards = append([]types.Shard(nil), answer.Shards...)
		for i := range answer.Shards {
			answer.Shards[i].SequenceNumberRange = &types.SequenceNumberRange{StartingSequenceNumber: answer.Shards[i].SequenceNumberRange.StartingSequenceNumber}
		}
	}
	return &answer, l.answer(ctx, 200*len(answer.Shards))
}

func (l kinesisLink) GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	if err := l.request(ctx, kinesisRead); err != nil {
		return nil, err
	}
	switch {
	case l.strikes(nilAnswer):
		return nil, nil
	case l.strikes(noIterator):
		return &kinesis.GetShardIteratorOutput{}, nil
	}
	out, err := l.real.GetShardIterator(ctx, in)
	if err != nil {
		return nil, err
	}
	return out, l.answer(ctx, 300)
}

func (l kinesisLink) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	shard, closed := l.real.closedShard(*in.ShardIterator)
	if err := l.request(ctx, kinesisRead); err != nil {
		return nil, err
	}
	switch {
	case l.strikes(nilAnswer):
		return nil, nil
	case l.strikesClosed(emptyBody, shard, closed):
		return &kinesis.GetRecordsOutput{}, nil
	case l.strikes(expiredIterator):
		return nil, &types.ExpiredIteratorException{Message: aws.String("Iterator expired.")}
	case l.strikes(shortPage):
		if l.intn(3) == 0 {
			return &kinesis.GetRecordsOutput{Records: []types.Record{}, NextShardIterator: in.ShardIterator, MillisBehindLatest: aws.Int64(1000)}, nil
		}
		asked := *in
		asked.Limit = aws.Int32(int32(1 + l.intn(3)))
		in = &asked
	}
	out, err := l.real.GetRecords(ctx, in)
	if err != nil {
		return nil, err
	}
	if out.NextShardIterator != nil && l.strikes(noNextIterator) {
		out.NextShardIterator = nil
	}
	if out.ChildShards != nil && l.strikes(noChildren) {
		out.ChildShards = nil
	}
	if l.strikes(noLag) {
		out.MillisBehindLatest = nil
		for i := range out.Records {
			out.Records[i].ApproximateArrivalTimestamp = nil
		}
	}
	return out, l.answer(ctx, 300+l.real.weight(len(out.Records)))
}
