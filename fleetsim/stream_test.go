package fleetsim

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const simKeys = 1 << 10 // hash keys

// simStream is a Kinesis stream behind the SDK's interface, without requests on a wire. Like Kinesis, it may answer with fewer
// records than there are, or with none, and with or without the children of a shard that has ended.
type simStream struct {
	mu     sync.Mutex
	rng    *rand.Rand
	shards []*simShard
	last   int
	// answer, if not nil, changes an answer: a bug to plant.
	answer func(sh *simShard, from int, out *kinesis.GetRecordsOutput)
	// describe, if not nil, changes what a listing says of a shard: a bug to plant.
	describe func(*ktypes.Shard)
}

type simShard struct {
	id      string
	parents []string
	lo, hi  int
	closed  bool
	records []ktypes.Record
	truth   []simRecord
}

func newSimStream(seed uint64) *simStream {
	s := &simStream{rng: rand.New(rand.NewPCG(seed, 4)), last: 999_000}
	s.add(0, simKeys/2-1)
	s.add(simKeys/2, simKeys-1)
	return s
}

func (s *simStream) add(lo, hi int, parents ...string) *simShard {
	sh := &simShard{id: fmt.Sprintf("shardId-%012d", len(s.shards)), parents: parents, lo: lo, hi: hi}
	s.shards = append(s.shards, sh)
	return sh
}

func (s *simStream) open() (open []*simShard) {
	for _, sh := range s.shards {
		if !sh.closed {
			open = append(open, sh)
		}
	}
	slices.SortFunc(open, func(a, b *simShard) int { return a.lo - b.lo })
	return open
}

const simEvent = `{"awsRegion":"eu-central-1","eventID":"1","eventName":"INSERT","userIdentity":null,"recordFormat":"application/json","tableName":"events",` +
	`"dynamodb":{"ApproximateCreationDateTime":1719347890250000,"Keys":{"eventId":{"S":"%[1]s"}},"NewImage":{"eventId":{"S":"%[1]s"},"type":{"S":"ORDER_CREATED"},` +
	`"timestamp":{"N":"1719347890250"},"aggregateId":{"S":"%[2]s"},"payload":{"S":"{\"orderId\":\"%[1]s\"}"}},"SizeBytes":200},"eventSource":"aws:dynamodb"}`

// publish adds an event. The events of an aggregate lie in all shards, as with a table whose key is the event's id.
func (s *simStream) publish(id, aggregate string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := fnv.New32a()
	h.Write([]byte(id))
	key := int(h.Sum32()>>7) % simKeys
	for _, sh := range s.open() {
		if key >= sh.lo && key <= sh.hi {
			s.last += 1 + s.rng.IntN(20) // the number of digits changes, too
			sequence := strconv.Itoa(s.last)
			sh.records = append(sh.records, ktypes.Record{Data: fmt.Appendf(nil, simEvent, id, aggregate), PartitionKey: &id, SequenceNumber: &sequence,
				ApproximateArrivalTimestamp: aws.Time(time.Now())})
			sh.truth = append(sh.truth, simRecord{sh.id, sequence})
		}
	}
}

func (s *simStream) split(pick int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open()
	sh := open[pick%len(open)]
	if sh.lo == sh.hi || len(open) >= 6 {
		return
	}
	middle := (sh.lo + sh.hi) / 2
	sh.closed = true
	s.add(sh.lo, middle, sh.id)
	s.add(middle+1, sh.hi, sh.id)
}

func (s *simStream) merge(pick int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open()
	if len(open) < 2 {
		return
	}
	i := pick % (len(open) - 1)
	a, b := open[i], open[i+1]
	a.closed, b.closed = true, true
	s.add(a.lo, b.hi, a.id, b.id)
}

// truth is the stream as it is.
func (s *simStream) truth() truth {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := truth{map[string][]simRecord{}, map[simRecord]string{}, map[string][]string{}}
	for _, sh := range s.shards {
		t.parents[sh.id] = sh.parents
		for i, at := range sh.truth {
			t.add(sh.id, at.sequence, sh.records[i].Data)
		}
	}
	return t
}

func (s *simStream) shard(id *string) (*simShard, error) {
	for _, sh := range s.shards {
		if sh.id == aws.ToString(id) {
			return sh, nil
		}
	}
	return nil, &ktypes.ResourceNotFoundException{Message: id}
}

func (sh *simShard) describe() ktypes.Shard {
	out := ktypes.Shard{ShardId: &sh.id, HashKeyRange: &ktypes.HashKeyRange{StartingHashKey: aws.String(strconv.Itoa(sh.lo)), EndingHashKey: aws.String(strconv.Itoa(sh.hi))}}
	if len(sh.parents) > 0 {
		out.ParentShardId = &sh.parents[0]
	}
	if len(sh.parents) > 1 {
		out.AdjacentParentShardId = &sh.parents[1]
	}
	return out
}

func (s *simStream) ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &kinesis.ListShardsOutput{}
	for _, sh := range s.shards {
		d := sh.describe()
		if s.describe != nil {
			s.describe(&d)
		}
		out.Shards = append(out.Shards, d)
	}
	return out, nil
}

// GetShardIterator makes an iterator of the form <shard>/<index>.
func (s *simStream) GetShardIterator(_ context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh, err := s.shard(in.ShardId)
	if err != nil {
		return nil, err
	}
	at := 0
	switch in.ShardIteratorType {
	case ktypes.ShardIteratorTypeTrimHorizon:
	case ktypes.ShardIteratorTypeAtSequenceNumber:
		for at < len(sh.records) && *sh.records[at].SequenceNumber != *in.StartingSequenceNumber {
			at++
		}
		if at == len(sh.records) {
			return nil, &ktypes.InvalidArgumentException{Message: aws.String(*in.StartingSequenceNumber + " is not in " + sh.id)}
		}
	default:
		panic("unknown iterator " + in.ShardIteratorType)
	}
	return &kinesis.GetShardIteratorOutput{ShardIterator: aws.String(sh.id + "/" + strconv.Itoa(at))}, nil
}

func (s *simStream) GetRecords(_ context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, index, _ := strings.Cut(*in.ShardIterator, "/")
	sh, err := s.shard(&id)
	if err != nil {
		return nil, err
	}
	from, err := strconv.Atoi(index)
	if err != nil {
		return nil, err
	}
	n := min(len(sh.records)-from, int(aws.ToInt32(in.Limit)))
	if n > 0 && s.rng.IntN(4) == 0 {
		n = s.rng.IntN(n + 1)
	}
	to := from + n
	out := &kinesis.GetRecordsOutput{Records: slices.Clone(sh.records[from:to]), MillisBehindLatest: aws.Int64(0)}
	if to < len(sh.records) {
		behind := time.Since(*sh.records[to].ApproximateArrivalTimestamp).Milliseconds()
		out.MillisBehindLatest = aws.Int64(max(behind, 1))
	}
	if to < len(sh.records) || !sh.closed {
		out.NextShardIterator = aws.String(id + "/" + strconv.Itoa(to))
	} else if s.rng.IntN(2) == 0 {
		for _, child := range s.shards {
			if slices.Contains(child.parents, sh.id) {
				d := child.describe()
				out.ChildShards = append(out.ChildShards, ktypes.ChildShard{ShardId: d.ShardId, ParentShards: child.parents, HashKeyRange: d.HashKeyRange})
			}
		}
	}
	if s.answer != nil {
		s.answer(sh, from, out)
	}
	return out, nil
}
