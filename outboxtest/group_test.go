package outboxtest_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// following is a worker's group that follows each order by another, up to "3".
type following struct {
	*outboxtest.AWS
	writer  *outbox.Writer
	leases  *outbox.LeaseTable
	letters *outbox.DeadLetterTable
	handled atomic.Int64
	fails   atomic.Pointer[error]
}

func newFollowing(t *testing.T) *following {
	f := &following{AWS: outboxtest.Start(t)}
	f.CreateOutbox(t, "events", "changes", 2)
	var err error
	f.writer, err = outbox.NewWriter(f.DynamoDB, "events")
	require.NoError(t, err)
	f.leases, err = outbox.NewLeaseTable(f.DynamoDB, "leases", "followers")
	require.NoError(t, err)
	require.NoError(t, f.leases.Create(t.Context()))
	f.letters, err = outbox.NewDeadLetterTable(f.DynamoDB, "letters", "followers")
	require.NoError(t, err)
	require.NoError(t, f.letters.Create(t.Context()))
	return f
}

func (f *following) order(t *testing.T, id string) {
	require.NoError(t, f.writer.Transact(t.Context(), nil, outbox.NewEvent("order-"+id, OrderCreated{OrderID: id})))
}

func (f *following) consumer(t *testing.T) *outbox.Consumer {
	c, err := outbox.NewConsumer(outbox.WithDeadLetters(f.letters), outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	outbox.Handle(c, func(ctx context.Context, e outbox.Event[OrderCreated]) error {
		if err := f.fails.Load(); err != nil {
			return *err
		}
		f.handled.Add(1)
		time.Sleep(3 * time.Second) // handlers take their time
		if e.Data.OrderID == "3" {
			return nil
		}
		next := outbox.NewEvent(e.AggregateID, OrderCreated{OrderID: string(e.Data.OrderID[0] + 1)})
		return f.writer.Transact(ctx, nil, next)
	})
	return c
}

// run runs a worker until the test has ended.
func (f *following) run(t *testing.T, opts ...outbox.WorkerOption) {
	w, err := outbox.NewWorker(f.Kinesis, "changes", f.consumer(t), f.leases, opts...)
	require.NoError(t, err)
	f.runWorker(t, w)
}

func (f *following) runWorker(t *testing.T, w *outbox.Worker) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// DrainWorkers returns when everything is handled that was written, and what the handlers have written, and not before.
func TestDrainWorkersWaitsForWhatHandlersCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		f.order(t, "0")
		f.run(t)
		for range 3 { // and again, when there is more
			before := f.handled.Load()
			f.order(t, "1")
			f.order(t, "2")
			require.NoError(t, f.DrainWorkers(t.Context(), "changes", "leases", "followers"))
			require.EqualValues(t, max(before+5, 9), f.handled.Load())
			require.NoError(t, f.DrainWorkers(t.Context(), "changes", "leases", "followers"), "nothing is left")
		}
	})
}

// A closed shard, a start in the middle and a dead letter leave nothing to wait for.
func TestDrainWorkersWaitsForNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		f.order(t, "3")
		require.NoError(t, f.Drain(t.Context()))
		time.Sleep(time.Minute)
		f.run(t, outbox.StartAtLatest())
		time.Sleep(time.Minute)
		require.NoError(t, f.DrainWorkers(t.Context(), "changes", "leases", "followers"))
		require.Zero(t, f.handled.Load(), "it is older than the group")
		f.order(t, "3")
		split(t, f.AWS, aws.String("changes"), shards(t, f.AWS, aws.String("changes"))[0])
		f.order(t, "3")
		require.NoError(t, f.DrainWorkers(t.Context(), "changes", "leases", "followers"))
		require.EqualValues(t, 2, f.handled.Load())

		poison := outbox.Permanent(errors.New("poison"))
		f.fails.Store(&poison)
		f.order(t, "3")
		require.NoError(t, f.DrainWorkers(t.Context(), "changes", "leases", "followers"))
		n := 0
		for _, err := range f.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 1, n)
	})
}

// A checkpoint passes records that fail, and names them: they are waited for.
func TestDrainWorkersWaitsForWhatACheckpointHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		s := func(text string) types.AttributeValue { return &types.AttributeValueMemberS{Value: text} }
		row := map[string]types.AttributeValue{"group": s("followers"), "id": s("changes#L#shardId-000000000001"), "checkpoint": s("SHARD_END"),
			"unfinished": &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"49": &types.AttributeValueMemberM{}}}}
		_, err := f.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("leases"), Item: row})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorContains(t, f.DrainWorkers(ctx, "changes", "leases", "followers"), "shard shardId-000000000001 has 1 unfinished records")
		delete(row, "unfinished")
		_, err = f.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("leases"), Item: row})
		require.NoError(t, err)
		require.NoError(t, f.DrainWorkers(t.Context(), "changes", "leases", "followers"))
	})
}

// Workers of a DynamoDB stream are waited for by its ARN.
func TestDrainWorkersOfADynamoDBStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		out, err := f.DynamoDB.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"),
			StreamSpecification: &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage}})
		require.NoError(t, err)
		arn := *out.TableDescription.LatestStreamArn
		w, err := outbox.NewStreamsWorker(f.Streams, arn, f.consumer(t), f.leases)
		require.NoError(t, err)
		f.runWorker(t, w)
		f.order(t, "1")
		require.NoError(t, f.RollStreamShard("events"))
		require.NoError(t, f.DrainWorkers(t.Context(), arn, "leases", "followers"))
		require.EqualValues(t, 3, f.handled.Load())
	})
}

// What cannot end is told: a handler that fails for ever, a group without workers, names that are wrong.
func TestDrainWorkersSaysWhatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		f.order(t, "3")
		wait := func(stream, table string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return f.DrainWorkers(ctx, stream, table, "followers")
		}
		err := wait("changes", "leases")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "has records, and the lease table knows nothing of it")
		down := errors.New("down")
		f.fails.Store(&down)
		f.run(t)
		require.ErrorContains(t, wait("changes", "leases"), "is at TRIM_HORIZON, and its last record at ")
		require.ErrorContains(t, wait("changes", "lease"), "reading the lease table lease: ResourceNotFoundException")
		require.ErrorContains(t, wait("change", "leases"), `there is no Kinesis stream "change"`)
		f.fails.Store(nil)
		require.NoError(t, f.DrainWorkers(t.Context(), "changes", "leases", "followers"))
	})
}

// late writes an order when it is asked for the first time whether it has ended, and ends then.
type late struct {
	context.Context
	once  sync.Once
	write func()
}

func (l *late) Err() error {
	err := l.Context.Err()
	l.once.Do(l.write)
	return err
}

// What is written while the leases are read, and does not arrive, is told as well, though the group has handled everything else.
func TestDrainWorkersSaysWhatHasNotArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		require.NoError(t, f.SetFaults(outboxtest.Fault{Kind: outboxtest.DelayRecord, Probability: 1, Duration: time.Hour}))
		ctx, cancel := context.WithCancel(t.Context())
		err := f.DrainWorkers(&late{Context: ctx, write: func() {
			f.order(t, "3")
			synctest.Wait() // until the record is delayed
			cancel()
		}}, "changes", "leases", "followers")
		require.ErrorIs(t, err, context.Canceled)
		require.EqualError(t, err, "outboxtest: not everything was handled: 0 change records on their way to Kinesis, 1 more delayed by a fault: context canceled")
	})
}
