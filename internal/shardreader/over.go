package shardreader

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
)

// Over says why a stream gives nothing new any more.
type Over struct {
	Reason string // "" if the stream goes on
	// Certain says that the service has said so itself. Otherwise a listing may only be behind: the children of shards that have just
	// been closed are missing, or a stream that has just been created.
	Certain bool
}

// Missing is the reason of a stream that is not there.
const Missing = "it does not exist: it was deleted, or its name, account or Region is another"

// OverBy is what a listing says about the stream.
func OverBy(listed []Shard, err error) Over {
	switch {
	case awserr.Code(err) == "ResourceNotFoundException":
		return Over{Reason: Missing}
	case err != nil || len(listed) == 0 || slices.ContainsFunc(listed, func(s Shard) bool { return Open(s, listed) }):
		return Over{}
	}
	return Over{Reason: "every shard is closed, and none continues it"}
}

// Open reports whether a listing knows of no end of a shard: it has no ending sequence number, and continues in no other shard.
func Open(s Shard, listed []Shard) bool {
	return !s.Closed && !slices.ContainsFunc(listed, func(other Shard) bool { return slices.Contains(other.Parents, s.ID) })
}

// Over implements [Source].
func (k *Kinesis) Over(ctx context.Context) (Over, error) {
	return overOrError(k.Shards(ctx))
}

// Over implements [Source]. A stream that is disabled stays readable for a day.
func (s *Streams) Over(ctx context.Context) (Over, error) {
	out, err := awserr.Answered(s.Client.DescribeStream(ctx, &dynamodbstreams.DescribeStreamInput{StreamArn: &s.ARN, Limit: aws.Int32(1)}))
	if err != nil {
		return overOrError(nil, err)
	}
	if out.StreamDescription != nil {
		switch out.StreamDescription.StreamStatus {
		case types.StreamStatusDisabled, types.StreamStatusDisabling:
			return Over{Reason: "it has been disabled, or its table was deleted; a table's stream that is enabled again has another ARN", Certain: true}, nil
		}
	}
	return overOrError(s.Shards(ctx))
}

func overOrError(listed []Shard, err error) (Over, error) {
	if over := OverBy(listed, err); over.Reason != "" {
		return over, nil
	}
	return Over{}, err
}
