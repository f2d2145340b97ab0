package shardreader

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

// six is what the shard of a spoiled client holds. Its answers have up to two records each, and it is closed behind the last.
var six = []string{"1", "2", "3", "4", "5", "6"}

// spoiled is a client of one shard, "shard", of Kinesis or of DynamoDB Streams, whose answers a test spoils. It is no client of the SDK.
type spoiled struct {
	gets     int
	open     bool // the shard is never closed
	nameless bool // the last answer of Kinesis does not name the children
	get      func(call int, out *kinesis.GetRecordsOutput) (*kinesis.GetRecordsOutput, error)
	stream   func(call int, out *dynamodbstreams.GetRecordsOutput) (*dynamodbstreams.GetRecordsOutput, error)
	list     func(call int, out *kinesis.ListShardsOutput) (*kinesis.ListShardsOutput, error)
	lists    int
}

// spoiledKinesis and spoiledStreams give the two APIs their methods.
type (
	spoiledKinesis struct{ *spoiled }
	spoiledStreams struct{ *spoiled }
)

// from returns the numbers of an answer, and the next iterator.
func (c *spoiled) from(iterator string) (numbers []string, next *string) {
	at, _ := strconv.Atoi(iterator)
	numbers = six[at:min(at+2, len(six))]
	if at += len(numbers); at < len(six) || c.open {
		next = aws.String(strconv.Itoa(at))
	}
	return numbers, next
}

// iterator finds a sequence number, or the beginning.
func (c *spoiled) iterator(number *string) *string {
	if number == nil {
		return aws.String("0")
	}
	n, _ := strconv.Atoi(*number)
	return aws.String(strconv.Itoa(n - 1))
}

func (c spoiledKinesis) ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	one := types.Shard{ShardId: aws.String("shard"), SequenceNumberRange: &types.SequenceNumberRange{StartingSequenceNumber: aws.String("1")}}
	out := &kinesis.ListShardsOutput{Shards: []types.Shard{one}}
	if !c.open {
		one.SequenceNumberRange.EndingSequenceNumber = aws.String("9")
		out.Shards = append(out.Shards, types.Shard{ShardId: aws.String("child"), ParentShardId: aws.String("shard")})
	}
	c.lists++
	if c.list != nil {
		return c.list(c.lists, out)
	}
	return out, nil
}

func (c spoiledKinesis) GetShardIterator(_ context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	return &kinesis.GetShardIteratorOutput{ShardIterator: c.iterator(in.StartingSequenceNumber)}, nil
}

func (c spoiledKinesis) GetRecords(_ context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	numbers, next := c.from(*in.ShardIterator)
	out := &kinesis.GetRecordsOutput{Records: []types.Record{}, NextShardIterator: next, MillisBehindLatest: aws.Int64(0)}
	for _, n := range numbers {
		out.Records = append(out.Records, types.Record{SequenceNumber: aws.String(n), Data: []byte(n), PartitionKey: aws.String("k"), ApproximateArrivalTimestamp: aws.Time(time.Now())})
	}
	if next == nil && !c.nameless {
		out.ChildShards = []types.ChildShard{{ShardId: aws.String("child"), ParentShards: []string{"shard"}}}
	}
	if c.gets++; c.get == nil {
		return out, nil
	}
	return c.get(c.gets, out)
}

func (c spoiledStreams) DescribeStream(context.Context, *dynamodbstreams.DescribeStreamInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error) {
	one := streamtypes.Shard{ShardId: aws.String("shard"), SequenceNumberRange: &streamtypes.SequenceNumberRange{}}
	if !c.open {
		one.SequenceNumberRange.EndingSequenceNumber = aws.String("6")
	}
	return &dynamodbstreams.DescribeStreamOutput{StreamDescription: &streamtypes.StreamDescription{Shards: []streamtypes.Shard{one}}}, nil
}

func (c spoiledStreams) GetShardIterator(_ context.Context, in *dynamodbstreams.GetShardIteratorInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error) {
	return &dynamodbstreams.GetShardIteratorOutput{ShardIterator: c.iterator(in.SequenceNumber)}, nil
}

func (c spoiledStreams) GetRecords(_ context.Context, in *dynamodbstreams.GetRecordsInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error) {
	numbers, next := c.from(*in.ShardIterator)
	out := &dynamodbstreams.GetRecordsOutput{Records: []streamtypes.Record{}, NextShardIterator: next}
	for _, n := range numbers {
		out.Records = append(out.Records, streamtypes.Record{EventName: streamtypes.OperationTypeInsert, Dynamodb: &streamtypes.StreamRecord{SequenceNumber: aws.String(n)}})
	}
	if c.gets++; c.stream == nil {
		return out, nil
	}
	return c.stream(c.gets, out)
}

// untilEnd reads a shard from a position to its end, for at most a minute of the bubble's time.
func untilEnd(t *testing.T, source Source, from Position) (*seen, []Shard, error) {
	s := &seen{}
	children, err := during(t, s.reader(source), "shard", from, s, time.Minute)
	return s, children, err
}

// TestAnswersThatLackSomething has one answer of GetRecords that is not whole, at every place of the shard. All records come once, and
// the failure is told.
func TestAnswersThatLackSomething(t *testing.T) {
	type answer = kinesis.GetRecordsOutput
	type spoil func(out *answer) (*answer, error)
	record := func(change func(r *types.Record)) spoil {
		return func(out *answer) (*answer, error) {
			if len(out.Records) == 0 {
				return nil, errors.New("nothing to spoil")
			}
			change(&out.Records[len(out.Records)-1])
			return out, nil
		}
	}
	const untold = "" // reading goes on, and nothing need be told
	for name, c := range map[string]struct {
		spoil spoil
		told  string
	}{
		"no answer":               {func(*answer) (*answer, error) { return nil, nil }, "neither an answer nor an error"},
		"a nil error":             {func(out *answer) (*answer, error) { return out, (*types.ResourceNotFoundException)(nil) }, "a nil *types.ResourceNotFoundException as its error"},
		"nothing":                 {func(*answer) (*answer, error) { return &answer{}, nil }, untold},
		"only records":            {func(out *answer) (*answer, error) { return &answer{Records: out.Records}, nil }, untold},
		"only the next iterator":  {func(out *answer) (*answer, error) { return &answer{NextShardIterator: out.NextShardIterator}, nil }, untold},
		"no next iterator":        {func(out *answer) (*answer, error) { out.NextShardIterator = nil; return out, nil }, untold},
		"an empty next iterator":  {func(out *answer) (*answer, error) { out.NextShardIterator = aws.String(""); return out, nil }, untold},
		"not how far behind":      {func(out *answer) (*answer, error) { out.MillisBehindLatest = nil; return out, nil }, untold},
		"less than not behind":    {func(out *answer) (*answer, error) { out.MillisBehindLatest = aws.Int64(-1); return out, nil }, untold},
		"behind for ever":         {func(out *answer) (*answer, error) { out.MillisBehindLatest = aws.Int64(1 << 62); return out, nil }, untold},
		"no sequence number":      {record(func(r *types.Record) { r.SequenceNumber = nil }), "no sequence number"},
		"another sequence number": {record(func(r *types.Record) { r.SequenceNumber = aws.String("x7") }), "no sequence number"},
		"a number from before":    {record(func(r *types.Record) { r.SequenceNumber = aws.String("0") }), "comes behind the record"},
		"a number twice": {func(out *answer) (*answer, error) {
			out.Records = append(out.Records, out.Records...)
			return out, nil
		}, "comes behind the record"},
		"no data":            {record(func(r *types.Record) { r.Data = nil }), "has no data"},
		"no key and no time": {record(func(r *types.Record) { r.PartitionKey, r.ApproximateArrivalTimestamp = nil, nil }), untold},
		"a child without id": {func(out *answer) (*answer, error) { out.ChildShards = make([]types.ChildShard, 1); return out, nil }, "without its id"},
		"children of another": {func(out *answer) (*answer, error) {
			out.NextShardIterator, out.ChildShards = nil, []types.ChildShard{{ShardId: aws.String("child")}}
			return out, nil
		}, untold},
	} {
		for call := 1; call <= 4; call++ {
			for _, nameless := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					about := fmt.Sprintf("%s, answer %d, nameless %t", name, call, nameless)
					client := &spoiled{nameless: nameless, get: func(n int, out *answer) (*answer, error) {
						if n == call {
							return c.spoil(out)
						}
						return out, nil
					}}
					s, children, err := untilEnd(t, &Kinesis{Client: spoiledKinesis{client}, Stream: "changes"}, Oldest)
					require.NoError(t, err, about)
					require.Equal(t, six, s.numbers, about)
					require.Len(t, children, 1, about)
					require.Empty(t, s.trimmed, about)
					if c.told != untold && client.gets > call && call < 4 {
						require.NotEmpty(t, s.retries, about)
						require.ErrorContains(t, s.retries[0].Err, c.told, about)
					}
				})
			}
		}
	}
}

func TestStreamsAnswersThatLackSomething(t *testing.T) {
	type answer = dynamodbstreams.GetRecordsOutput
	type spoil func(out *answer) (*answer, error)
	record := func(change func(r *streamtypes.Record)) spoil {
		return func(out *answer) (*answer, error) {
			change(&out.Records[len(out.Records)-1])
			return out, nil
		}
	}
	for name, c := range map[string]struct {
		spoil spoil
		told  string
	}{
		"no answer":              {func(*answer) (*answer, error) { return nil, nil }, "neither an answer nor an error"},
		"a nil error":            {func(out *answer) (*answer, error) { return out, (*streamtypes.TrimmedDataAccessException)(nil) }, "as its error"},
		"nothing":                {func(*answer) (*answer, error) { return &answer{}, nil }, ""},
		"only records":           {func(out *answer) (*answer, error) { return &answer{Records: out.Records}, nil }, ""},
		"only the next iterator": {func(out *answer) (*answer, error) { return &answer{NextShardIterator: out.NextShardIterator}, nil }, ""},
		"a record of nothing":    {record(func(r *streamtypes.Record) { *r = streamtypes.Record{} }), "does not say what happened"},
		"no kind of change":      {record(func(r *streamtypes.Record) { r.EventName = "" }), "does not say what happened"},
		"no change":              {record(func(r *streamtypes.Record) { r.Dynamodb = nil }), "no sequence number"},
		"no sequence number":     {record(func(r *streamtypes.Record) { r.Dynamodb.SequenceNumber = nil }), "no sequence number"},
		"a number from before":   {record(func(r *streamtypes.Record) { r.Dynamodb.SequenceNumber = aws.String("0") }), "comes behind the record"},
	} {
		for call := 1; call <= 3; call++ {
			synctest.Test(t, func(t *testing.T) {
				about := fmt.Sprintf("%s, answer %d", name, call)
				client := &spoiled{stream: func(n int, out *answer) (*answer, error) {
					if n == call {
						return c.spoil(out)
					}
					return out, nil
				}}
				s, _, err := untilEnd(t, &Streams{Client: spoiledStreams{client}, ARN: "arn"}, Oldest)
				require.NoError(t, err, about)
				require.Equal(t, six, s.numbers, about)
				require.Empty(t, s.trimmed, about)
				if c.told != "" {
					require.NotEmpty(t, s.retries, about)
					require.ErrorContains(t, s.retries[0].Err, c.told, about)
				}
			})
		}
	}
}

// TestAnOpenShardHasNoEnd has answers without a next iterator from a shard that is open, for a day.
func TestAnOpenShardHasNoEnd(t *testing.T) {
	for name, spoil := range map[string]func(n int, out *kinesis.GetRecordsOutput) (*kinesis.GetRecordsOutput, error){
		"one": func(n int, out *kinesis.GetRecordsOutput) (*kinesis.GetRecordsOutput, error) {
			if n == 9 {
				return &kinesis.GetRecordsOutput{}, nil
			}
			return out, nil
		},
		"a day of them": func(n int, out *kinesis.GetRecordsOutput) (*kinesis.GetRecordsOutput, error) {
			if n > 9 {
				return &kinesis.GetRecordsOutput{Records: []types.Record{}, MillisBehindLatest: aws.Int64(0)}, nil
			}
			return out, nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := &spoiled{open: true, get: spoil}
			s := &seen{}
			_, err := during(t, s.reader(&Kinesis{Client: spoiledKinesis{client}, Stream: "changes"}), "shard", Oldest, s, 24*time.Hour)
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.Equal(t, six, s.numbers, name)
			if name == "one" {
				require.Zero(t, client.lists, "a new iterator has shown that it goes on")
				return
			}
			require.NotEmpty(t, s.retries, name)
			require.ErrorIs(t, s.retries[0].Err, errNoEnd)
			require.Equal(t, "GetRecords", s.retries[0].Operation)
			require.Less(t, client.lists, 24*60*60/4, "it is asked again after pauses that grow")
		})
	}
}

// TestAClosedShardIsReadToItsEnd has a shard that was closed long ago, so that its listing says nothing about a single answer.
func TestAClosedShardIsReadToItsEnd(t *testing.T) {
	for _, from := range []Position{Oldest, "1", "3"} {
		for wrong := 1; wrong < looks; wrong++ {
			synctest.Test(t, func(t *testing.T) {
				client := &spoiled{nameless: true, get: func(n int, out *kinesis.GetRecordsOutput) (*kinesis.GetRecordsOutput, error) {
					if n <= wrong {
						return &kinesis.GetRecordsOutput{Records: []types.Record{}, MillisBehindLatest: aws.Int64(0)}, nil
					}
					return out, nil
				}}
				s, children, err := untilEnd(t, &Kinesis{Client: spoiledKinesis{client}, Stream: "changes"}, from)
				require.NoError(t, err)
				done := 0
				if number, ok := from.sequence(); ok {
					done, _ = strconv.Atoi(number)
				}
				require.Equal(t, six[done:], s.numbers)
				require.Len(t, children, 1)
				require.Empty(t, s.trimmed)
				require.Len(t, s.retries, 1, "the records after it contradict it")
				require.ErrorIs(t, s.retries[0].Err, errNoEnd)
				require.Equal(t, wrong, s.retries[0].Failures)
			})
		}
	}
}

// TestWhereAnEndIsSeen has servers that name no children and say in different ways that the shard has ended.
func TestWhereAnEndIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		shards []Shard
		over   bool
	}{
		"it is listed with its end": {[]Shard{{ID: "shard", Closed: true}}, true},
		"others name it as parent":  {[]Shard{{ID: "shard"}, {ID: "child", Parents: []string{"shard"}}}, true},
		"it is not listed any more": {[]Shard{{ID: "child", Parents: []string{"shard"}}}, true},
		"it is listed as open":      {[]Shard{{ID: "shard"}}, false},
		"other shards are listed":   {[]Shard{{ID: "cousin", Parents: []string{"uncle"}}}, false},
		"nothing is listed":         {nil, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{get: func(iterator string) (Batch, error) {
				if iterator == "it@7" {
					return Batch{Records: records("7"), Behind: -1}, nil
				}
				return Batch{Records: records("5", "7"), Behind: -1}, nil
			}, shards: func() ([]Shard, error) { return c.shards, nil }}
			r := newReading(s)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			children, err := r.Read(ctx, "shard", Oldest, r.deliver)
			require.Equal(t, []string{"5", "7"}, r.got, name)
			require.Equal(t, c.over, err == nil, name)
			if !c.over {
				require.ErrorIs(t, err, context.DeadlineExceeded, name)
				require.NotEmpty(t, r.retries, name)
				return
			}
			require.Equal(t, childrenOf(c.shards, "shard"), children, name)
			require.Empty(t, r.retries, name)
			require.Equal(t, []int{0, 200}, r.gets(), "the record at the position is proof enough")
		})
	}
	// A shard without records has nothing to show, so its answers must agree.
	synctest.Test(t, func(t *testing.T) {
		s := &script{get: func(string) (Batch, error) { return Batch{Behind: -1}, nil }, shards: func() ([]Shard, error) { return []Shard{{ID: "shard", Closed: true}}, nil }}
		r := newReading(s).read(t, Oldest)
		require.NoError(t, r.err)
		require.Len(t, r.gets(), looks)
		require.Empty(t, r.retries)
	})
	// The record at the position has expired, and the shard has ended.
	synctest.Test(t, func(t *testing.T) {
		s := &script{get: func(string) (Batch, error) { return Batch{Behind: -1}, nil }, shards: func() ([]Shard, error) { return []Shard{{ID: "shard", Closed: true}}, nil }}
		r := newReading(s).read(t, "7")
		require.NoError(t, r.err)
		require.Equal(t, []Trimmed{{Shard: "shard", After: "7"}}, r.trimmed)
	})
}

// TestEmptyDataIsData has records without bytes, which producers other than DynamoDB may put.
func TestEmptyDataIsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, s := kinesisStream(t)
		put(t, a, "")
		put(t, a, "x")
		split(t, a)
		for _, stock := range []bool{false, true} {
			*s = seen{}
			r.Source.(*Kinesis).StockReader = stock
			_, err := during(t, r, first, Oldest, s, time.Minute)
			require.NoError(t, err)
			require.Equal(t, []string{"", "x"}, s.data)
			require.Empty(t, s.retries)
		}
	})
}

// silent is a client that returns neither an answer nor an error.
type silent struct{}

func (silent) ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	return nil, nil
}

func (silent) GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	return nil, nil
}

func (silent) GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	return nil, nil
}

// silentStreams is one of DynamoDB Streams, which may have a description.
type silentStreams struct {
	described *dynamodbstreams.DescribeStreamOutput
}

func (s silentStreams) DescribeStream(context.Context, *dynamodbstreams.DescribeStreamInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error) {
	return s.described, nil
}

func (silentStreams) GetShardIterator(context.Context, *dynamodbstreams.GetShardIteratorInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error) {
	return nil, nil
}

func (silentStreams) GetRecords(context.Context, *dynamodbstreams.GetRecordsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error) {
	return nil, nil
}

func TestAClientThatReturnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, source := range []Source{&Kinesis{Client: silent{}}, &Streams{Client: silentStreams{}}} {
			s, _, err := untilEnd(t, source, Oldest)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotEmpty(t, s.retries)
			require.ErrorContains(t, s.retries[0].Err, "neither an answer nor an error")
			_, err = source.Get(t.Context(), "iterator", 0, nil)
			require.ErrorContains(t, err, "neither an answer nor an error")
			_, _, err = source.Ended(t.Context(), "shard")
			require.ErrorContains(t, err, "neither an answer nor an error")
		}
	})
}
