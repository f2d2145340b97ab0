package outbox_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// beats are what a Health hook was called with.
type beats struct {
	f      *fleet
	said   []string
	health []error
}

func (b *beats) hook() outbox.WorkerOption {
	return outbox.WithWorkerHooks(outbox.WorkerHooks{Health: func(err error) {
		b.f.mu.Lock()
		defer b.f.mu.Unlock()
		text := ""
		if err != nil {
			text = err.Error()
		}
		b.said, b.health = append(b.said, text), append(b.health, err)
	}})
}

// take returns what was said since the last call.
func (b *beats) take() []string {
	synctest.Wait()
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

// A Worker is healthy from its first listing until it stops, with a shard or without, and tells so once a second.
func TestAWorkerWithoutAShardIsHealthyAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		c := newConsumer(t, quiet())
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
		beat := &beats{f: f}
		for range 3 { // of two shards
			w, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases, beat.hook())
			require.NoError(t, err)
			require.EqualError(t, w.Health(), "outbox: worker of stream events: Run has not begun")
			r := runWorker(t, w)
			defer func() {
				require.NoError(t, w.Health())
				require.NoError(t, r.stop())
				require.EqualError(t, w.Health(), "outbox: worker of stream events: Run has ended")
			}()
		}
		time.Sleep(10 * time.Second)
		beat.take()
		time.Sleep(10 * time.Second)
		said := beat.take()
		require.Len(t, said, 30)
		for _, s := range said {
			require.Empty(t, s)
		}
		require.EqualError(t, new(outbox.Worker).Health(), "outbox: a Worker is made by NewWorker or NewStreamsWorker")
	})
}

// A Worker that is cut off from DynamoDB or from the stream says so when a lease would have ended, while it is cut off, and no longer.
func TestAWorkerThatIsCutOffSaysSo(t *testing.T) {
	for service, want := range map[string]string{
		"DynamoDB": `(?s)no heartbeat has been stored for \S+: .*; the lease table has not been read for \d+s: `,
		"Kinesis":  `(?s)^outbox: worker of stream events: shard shardId-000000000000 has not been read for \S+: .*; shard shardId-000000000001 has not been read for `,
	} {
		t.Run(service, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t)
				defer f.Close()
				beat := &beats{f: f}
				r := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil }, beat.hook())
				time.Sleep(10 * time.Second)
				require.Empty(t, beat.take()[5:][0])
				heal, err := f.Cut(service)
				require.NoError(t, err)
				time.Sleep(6 * time.Second)
				for _, s := range beat.take() {
					require.Empty(t, s, "a lease lasts longer")
				}
				time.Sleep(20 * time.Second)
				said := beat.take()
				require.Regexp(t, want, said[len(said)-1])
				heal()
				time.Sleep(30 * time.Second)
				said = beat.take()
				require.Empty(t, said[len(said)-1])
				f.await(t, "all handled", time.Minute, f.all(f.put(t, "a", 1, 3)))
				require.NoError(t, r.stop())
			})
		})
	}
}

// Events that wait for the dead letter table are no failures of a handler; the Worker names the table for which they wait.
func TestAWorkerNamesTheTableForWhichEventsWait(t *testing.T) {
	for operation, want := range map[string]string{
		"TransactWriteItems": `1 events of shard \S+ wait, the first for \S+: outbox: the dead letter table cannot be used: `,
		"Query":              `shard \S+ has not been read for \S+: outbox: the dead letter table cannot be used: `,
	} {
		t.Run(operation, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newFleetWithLetters(t)
				defer m.Close()
				m.oneShard(t)
				client := &refusingClient{DeadLetterClient: m.DynamoDB, operation: operation}
				var err error
				m.letters, err = outbox.NewDeadLetterTable(client, "letters", "mails")
				require.NoError(t, err)
				client.refuse.Store(true)
				m.put(t, "bad", 1, 1)
				beat := &beats{f: m.fleet}
				r := m.startWorker(t, outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 2, BaseDelay: 100 * time.Millisecond}), beat.hook())
				time.Sleep(time.Minute)
				said := beat.take()
				require.Regexp(t, want, said[len(said)-1])
				client.refuse.Store(false)
				time.Sleep(time.Minute)
				said = beat.take()
				require.Empty(t, said[len(said)-1])
				require.NoError(t, r.stop())
			})
		})
	}
}

// A handler that fails is a matter of its event: the Worker is healthy.
func TestAWorkerWhoseHandlersFailIsHealthy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		beat := &beats{f: f}
		f.put(t, "a", 1, 1)
		r := f.start(t, func(context.Context, outbox.Event[orderCreated]) error { return errors.New("no") }, beat.hook())
		time.Sleep(time.Minute)
		for _, s := range beat.take()[5:] {
			require.Empty(t, s)
		}
		require.NoError(t, r.stop())
	})
}

// While it drains, a Worker goes on telling.
func TestAWorkerThatDrainsSaysThatItStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		beat := &beats{f: f}
		f.put(t, "a", 1, 1)
		r := f.start(t, func(context.Context, outbox.Event[orderCreated]) error {
			time.Sleep(20 * time.Second)
			return nil
		}, beat.hook())
		time.Sleep(10 * time.Second)
		beat.take()
		require.NoError(t, r.stop())
		said := beat.take()
		require.Greater(t, len(said), 5)
		require.Equal(t, "outbox: worker of stream events: the worker is stopping", said[len(said)-1])
	})
}

// What ended Run is named afterwards, and a stream that is over while Run goes on. The errors of AWS are found in what Health returns.
func TestAWorkerNamesWhatEndedRunAndAStreamThatIsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		stream := "events"
		c := newConsumer(t, quiet())
		outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return outbox.Permanent(errors.New("poison")) })
		w, err := outbox.NewWorker(f.Kinesis, stream, c, f.leases)
		require.NoError(t, err)
		r := runWorker(t, w)
		time.Sleep(10 * time.Second)
		require.NoError(t, w.Health())
		f.put(t, "a", 1, 1)
		<-r.done
		require.ErrorContains(t, w.Health(), "Run has ended: outbox: worker of stream events: ")
		require.ErrorIs(t, w.Health(), outbox.ErrPermanent)

		time.Sleep(time.Minute)
		w, err = outbox.NewWorker(f.Kinesis, stream, c, new(outbox.MemoryLeases), outbox.StartAtLatest()) // behind the poison
		require.NoError(t, err)
		r = runWorker(t, w)
		time.Sleep(10 * time.Second)
		require.NoError(t, w.Health())
		_, err = f.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: &stream})
		require.NoError(t, err)
		time.Sleep(5 * time.Minute)
		require.ErrorContains(t, w.Health(), "the stream has ended: it does not exist")
		var api smithy.APIError
		require.ErrorAs(t, w.Health(), &api)
		require.NoError(t, r.stop())
	})
}
