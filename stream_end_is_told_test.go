package outbox_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// ends collects what StreamEnded is told.
type ends struct {
	mu   sync.Mutex
	told []string
}

func (e *ends) hook() outbox.WorkerOption {
	return outbox.WithWorkerHooks(outbox.WorkerHooks{StreamEnded: func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.told = append(e.told, err.Error())
	}})
}

// take returns what was told since the last call.
func (e *ends) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	told := e.told
	e.told = nil
	return told
}

func ignoreEvent(context.Context, outbox.Event[orderCreated]) error { return nil }

// A table's stream that is disabled, and perhaps enabled again under another ARN, is told of at once and once a minute, in the log as well. A
// shard that is replaced is no end.
func TestADisabledStreamIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		set := func(on bool) string {
			s := &types.StreamSpecification{StreamEnabled: &on}
			if on {
				s.StreamViewType = types.StreamViewTypeNewImage
			}
			out, err := f.DynamoDB.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"), StreamSpecification: s})
			require.NoError(t, err)
			return *out.TableDescription.LatestStreamArn
		}
		arn := set(true)
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), outbox.WithTables("events"))
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
		var e ends
		w, err := outbox.NewStreamsWorker(f.Streams, arn, c, f.leases, e.hook())
		require.NoError(t, err)
		r := runWorker(t, w)
		time.Sleep(10 * time.Minute)
		for range 5 {
			require.NoError(t, f.RollStreamShard("events"))
			time.Sleep(2 * time.Minute)
		}
		require.Empty(t, e.take(), "it is open")
		last := f.put(t, "last", 2, 2)
		set(false)
		time.Sleep(30 * time.Second)
		f.requireTimes(t, 1, last)
		told := e.take()
		require.Len(t, told, 1, "at once")
		require.NotEqual(t, arn, set(true))
		time.Sleep(5 * time.Minute)
		require.InDelta(t, 5, len(e.take()), 1, "once a minute")
		want := "outbox: the stream " + arn + " has ended: it has been disabled, or its table was deleted; a table's stream that is enabled again has another ARN"
		require.Equal(t, want, told[0])
		require.NoError(t, r.stop())
		require.Contains(t, log.String(), `level=ERROR msg="outbox: the stream has ended" stream=`+arn)
	})
}

// A Kinesis stream that does not exist is told of after a minute, since a new stream may not be found at first.
func TestADeletedStreamIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		name := aws.String("later")
		c := newConsumer(t, quiet())
		outbox.Handle(c, ignoreEvent)
		var e ends
		w, err := outbox.NewWorker(f.Kinesis, *name, c, f.leases, e.hook())
		require.NoError(t, err)
		r := runWorker(t, w)
		time.Sleep(40 * time.Second)
		_, err = f.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2)})
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		require.Empty(t, e.take())
		_, err = f.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: name, EnforceConsumerDeletion: aws.Bool(true)})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Empty(t, e.take(), "the listing may be behind")
		time.Sleep(5 * time.Minute)
		told := e.take()
		require.InDelta(t, 4, len(told), 1)
		require.Equal(t, "outbox: the stream later has ended: it does not exist: it was deleted, or its name, account or Region is another", told[0])
		require.NoError(t, r.stop())
	})
}

// childless is a Kinesis that keeps the children of shards to itself.
type childless struct {
	outbox.KinesisClient
	mu   sync.Mutex
	hide bool
}

func (c *childless) set(hide bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hide = hide
}

func (c *childless) ListShards(ctx context.Context, in *kinesis.ListShardsInput, opts ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	out, err := c.KinesisClient.ListShards(ctx, in, opts...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.hide {
		out.Shards = slices.DeleteFunc(out.Shards, func(s kinesistypes.Shard) bool { return s.ParentShardId != nil })
	}
	return out, err
}

func (c *childless) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, opts ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	out, err := c.KinesisClient.GetRecords(ctx, in, opts...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.hide {
		out.ChildShards = nil
	}
	return out, err
}

// While a stream scales, a listing may lack the children of all its shards. It is told of only if that lasts, and no longer than it lasts.
func TestAStreamThatScalesHasNotEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		client := &childless{KinesisClient: f.Kinesis}
		var e ends
		r := f.startWith(t, client, f.leases, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil }, e.hook())
		time.Sleep(2 * time.Minute)
		client.set(true)
		time.Sleep(50 * time.Second)
		client.set(false)
		time.Sleep(5 * time.Minute)
		require.Empty(t, e.take())

		client.set(true)
		time.Sleep(10 * time.Minute)
		told := e.take()
		require.NotEmpty(t, told)
		require.True(t, strings.HasSuffix(told[0], "every shard is closed, and none continues it"), told[0])
		client.set(false)
		time.Sleep(2 * time.Minute)
		e.take()
		time.Sleep(10 * time.Minute)
		require.Empty(t, e.take(), "it goes on")
		require.NoError(t, r.stop())
	})
}
