package shardreader

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// script is a source that answers what a test tells it to, and notes when it was asked for what. One goroutine uses it.
type script struct {
	begin    time.Time
	get      func(iterator string) (Batch, error)
	iterator func(from Position) (string, error) // default: "it@" and the position
	shards   func() ([]Shard, error)
	log      []string // "<milliseconds> <what was asked for>"
	wait     time.Duration

	Clock
}

func (s *script) Over(context.Context) (Over, error) { return Over{}, nil }

func (s *script) Latest(context.Context) (time.Time, error) { return s.Now(), nil }

// note keeps what was asked for, and when.
func (s *script) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf("%d ", time.Since(s.begin).Milliseconds())+fmt.Sprintf(format, args...))
}

func (s *script) Shards(ctx context.Context) ([]Shard, error) {
	s.note("shards")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.shards()
}

func (s *script) Ended(ctx context.Context, shard string) (bool, []Shard, error) {
	all, err := s.Shards(ctx)
	if err != nil {
		return false, nil, err
	}
	over, children := ended(all, shard)
	return over, children, nil
}

func (s *script) Iterator(_ context.Context, shard string, from Position) (string, error) {
	s.note("iterator %s %s", shard, from)
	if s.iterator != nil {
		return s.iterator(from)
	}
	return "it@" + string(from), nil
}

func (s *script) Get(ctx context.Context, iterator string, _ int, _ *Transfer) (Batch, error) {
	s.note("get %s", iterator)
	if s.wait > 0 {
		timer := time.NewTimer(s.wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
	return s.get(iterator)
}

// gets returns when records were asked for, in milliseconds.
func (s *script) gets() (at []int) {
	for _, line := range s.log {
		var ms int
		if n, _ := fmt.Sscanf(line, "%d get", &ms); n == 1 && strings.Contains(line, " get ") {
			at = append(at, ms)
		}
	}
	return at
}

// theChild is what continues the shard of a script.
var theChild = []Shard{{ID: "child", Parents: []string{"shard"}}}

// in plays answers one after the other; the shard ends after the last.
func in(answers ...any) func(string) (Batch, error) {
	n := 0
	return func(string) (Batch, error) {
		if n == len(answers) {
			return Batch{Behind: -1, Children: theChild}, nil
		}
		n++
		switch a := answers[n-1].(type) {
		case error:
			return Batch{}, a
		case Batch:
			if a.Next == "" {
				a.Next = fmt.Sprint("next", n)
			}
			return a, nil
		}
		panic("neither a batch nor an error")
	}
}

// records are records with these sequence numbers.
func records(numbers ...string) []Record {
	out := make([]Record, len(numbers))
	for i, n := range numbers {
		out[i] = Record{SequenceNumber: n, Data: []byte("data of " + n)}
	}
	return out
}

// code is an error of the API with this code, as the SDK wraps it.
func code(code string) error {
	return fmt.Errorf("operation error: %w", &smithy.GenericAPIError{Code: code, Message: "says the script"})
}

// reading is a Reader at a script, and what it delivered and told.
type reading struct {
	Reader
	*script
	got      []string // the sequence numbers delivered
	batches  int
	trimmed  []Trimmed
	retries  []Retry
	children []Shard
	err      error
}

// newReading is a Reader at a script that begins now.
func newReading(s *script) *reading {
	r := &reading{script: s}
	s.begin = time.Now()
	r.Source = s
	r.OnTrimmed = func(t Trimmed) { r.trimmed = append(r.trimmed, t) }
	r.OnRetry = func(again Retry) { r.retries = append(r.retries, again) }
	return r
}

// deliver keeps the sequence numbers of a batch.
func (r *reading) deliver(b Batch) error {
	r.batches++
	for _, record := range b.Records {
		r.got = append(r.got, record.SequenceNumber)
	}
	return nil
}

// read reads from a position until the shard ends or reading fails.
func (r *reading) read(t *testing.T, from Position) *reading {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 48*time.Hour) // of the bubble's time: a test that hangs says where
	defer cancel()
	r.children, r.err = r.Read(ctx, "shard", from, r.deliver)
	require.NotErrorIs(t, r.err, context.DeadlineExceeded, "%v", r.log[max(len(r.log)-10, 0):])
	return r
}

// play reads a script to the end of its shard.
func play(t *testing.T, from Position, answers ...any) *reading {
	t.Helper()
	r := newReading(&script{get: in(answers...)}).read(t, from)
	require.NoError(t, r.err)
	return r
}

// seen is what a reader delivered and told. It may be looked at while the reader is blocked.
type seen struct {
	data, numbers []string
	polls         []time.Time
	trimmed       []Trimmed
	retries       []Retry
}

// reader is a Reader that tells what it sees.
func (s *seen) reader(source Source) *Reader {
	return &Reader{Source: source, OnRetry: func(r Retry) { s.retries = append(s.retries, r) }, OnTrimmed: func(t Trimmed) { s.trimmed = append(s.trimmed, t) }}
}

// deliver keeps a batch, and when it came.
func (s *seen) deliver(b Batch) error {
	s.polls = append(s.polls, time.Now())
	for _, r := range b.Records {
		s.data, s.numbers = append(s.data, string(r.Data)), append(s.numbers, r.SequenceNumber)
	}
	return nil
}

// during reads from a position for some time and returns what was seen.
func during(t *testing.T, r *Reader, shard string, from Position, s *seen, d time.Duration) ([]Shard, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return r.Read(ctx, shard, from, s.deliver)
}

// table is a table with a DynamoDB stream.
func table(t *testing.T, opts ...outboxtest.Option) (a *outboxtest.AWS, arn string) {
	t.Helper()
	a = outboxtest.Start(t, opts...)
	out, err := a.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("events"), BillingMode: dbtypes.BillingModePayPerRequest,
		AttributeDefinitions: []dbtypes.AttributeDefinition{{AttributeName: aws.String("eventId"), AttributeType: dbtypes.ScalarAttributeTypeS}},
		KeySchema:            []dbtypes.KeySchemaElement{{AttributeName: aws.String("eventId"), KeyType: dbtypes.KeyTypeHash}},
		StreamSpecification:  &dbtypes.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: dbtypes.StreamViewTypeNewAndOldImages},
	})
	require.NoError(t, err)
	return a, *out.TableDescription.LatestStreamArn
}
