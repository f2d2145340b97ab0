package outbox_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The attempts of WithHandlerRetry end in a dead letter instead of the end of Run; the rest of the aggregate waits behind it,
// also what another worker reads later, and is redriven in order.
func TestAWorkerParksWhatItCannotHandle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFleetWithLetters(t)
		defer m.Close()
		m.oneShard(t)
		r := m.startWorker(t, outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 4, BaseDelay: 100 * time.Millisecond}))
		bad, good := m.put(t, "bad", 1, 4), m.put(t, "good", 3, 4)
		m.await(t, "good ones handled", time.Minute, m.all(good))
		time.Sleep(10 * time.Second)
		require.Equal(t, map[string]int{"bad-0-0": 4}, withPrefix(m.calls, "bad"))
		require.NoError(t, r.stop())
		l, err := m.letters.Get(t.Context(), "bad-0#bad-0-0")
		require.NoError(t, err)
		require.Equal(t, 4, l.Attempts)
		leases, err := m.leases.(*outbox.LeaseTable).Status(t.Context(), "events")
		require.NoError(t, err)
		require.NotEmpty(t, leases)
		for _, lease := range leases {
			require.Empty(t, lease.Attempts, "what is a dead letter has none to count")
		}

		r = m.startWorker(t)
		bad = append(bad, func() (more []string) {
			for i := 4; i < 11; i++ {
				e := event(fmt.Sprintf("bad-0-%d", i))
				e.AggregateID = "bad-0"
				require.NoError(t, m.writer.Put(t.Context(), "orders", order{e.AggregateID}, e))
				more = append(more, e.ID)
			}
			return more
		}()...)
		time.Sleep(10 * time.Second)
		require.Len(t, m.letterIDs(t), 11)
		require.Equal(t, map[string]int{"bad-0-0": 4}, withPrefix(m.calls, "bad"))
		m.repair()
		_, err = m.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
		require.NoError(t, err)
		m.await(t, "all handled", time.Minute, m.all(bad))
		require.NoError(t, r.stop())
		require.Equal(t, bad, m.order["bad-0"])
		m.requireTimes(t, 1, slices.Concat(bad, good))
		require.Empty(t, m.letterIDs(t))
	})
}

func withPrefix(calls map[string]int, prefix string) map[string]int {
	found := map[string]int{}
	for id, n := range calls {
		if len(id) > len(prefix) && id[:len(prefix)] == prefix {
			found[id] = n
		}
	}
	return found
}

// A record that cannot be decoded is kept, wherever it is in its batch, and does not end Run.
func TestAWorkerKeepsMalformedRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFleetWithLetters(t)
		defer m.Close()
		ids := m.put(t, "a", 2, 1)
		for _, data := range []string{`{"eventName":"INSERT"`, "\xff", ""} {
			_, err := m.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: ptr("events"), PartitionKey: ptr(data + "k"), Data: []byte(data)})
			require.NoError(t, err)
		}
		ids = append(ids, m.put(t, "b", 2, 1)...)
		r := m.startWorker(t)
		m.await(t, "all handled", time.Minute, m.all(ids))
		time.Sleep(5 * time.Second)
		var raw []string
		for l, err := range m.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			require.NotEmpty(t, l.Record.ShardID)
			raw = append(raw, string(l.Raw))
		}
		require.ElementsMatch(t, []string{`{"eventName":"INSERT"`, "\xff", ""}, raw)
		require.NoError(t, r.stop())

		// They are finished: the next worker does not meet them.
		r = m.startWorker(t)
		time.Sleep(10 * time.Second)
		require.NoError(t, r.stop())
		require.Len(t, m.letterIDs(t), 3)
		m.requireTimes(t, 1, ids)
	})
}

// While the table cannot be used, nothing that fails is finished and no checkpoint passes it, stops and restarts included;
// afterwards all is as it should be, without another attempt at the event.
func TestAWorkerWaitsForTheDeadLetterTable(t *testing.T) {
	for _, operation := range []string{"TransactWriteItems", "Query"} {
		t.Run(operation, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newFleetWithLetters(t)
				defer m.Close()
				m.oneShard(t)
				ids := m.put(t, "bad", 1, 3)
				letters := m.letters
				client := &refusingClient{DeadLetterClient: m.DynamoDB, operation: operation}
				var err error
				m.letters, err = outbox.NewDeadLetterTable(client, "letters", "mails")
				require.NoError(t, err)
				client.refuse.Store(true)
				retry := outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 2, BaseDelay: 100 * time.Millisecond})
				for range 2 {
					r := m.startWorker(t, retry)
					time.Sleep(time.Minute)
					require.NoError(t, r.stop())
				}
				require.LessOrEqual(t, m.calls["bad-0-0"], 3, "what waits for the table is no attempt; the second worker makes one")
				require.Zero(t, m.calls["bad-0-1"])
				client.refuse.Store(false)
				r := m.startWorker(t, retry)
				time.Sleep(time.Minute)
				require.NoError(t, r.stop())
				m.letters = letters
				require.Equal(t, []string{"bad-0#bad-0-0", "bad-0#bad-0-1", "bad-0#bad-0-2"}, m.letterIDs(t))
				require.Zero(t, m.calls["bad-0-1"])
				m.repair()
				r = m.startWorker(t)
				_, err = m.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
				require.NoError(t, err)
				m.await(t, "all handled", time.Minute, m.all(ids))
				require.NoError(t, r.stop())
				require.Equal(t, ids, m.order["bad-0"])
			})
		})
	}
}

// Lost answers and throttling of the table change nothing.
func TestAWorkerParksThroughFaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFleetWithLetters(t)
		defer m.Close()
		ids := m.put(t, "bad", 1, 8)
		good := m.put(t, "good", 4, 5)
		var faults []outboxtest.Fault
		for _, kind := range []outboxtest.FaultKind{outboxtest.LoseAnswer, outboxtest.Throttle, outboxtest.ServerError, outboxtest.TransactionConflict} {
			faults = append(faults, outboxtest.Fault{Kind: kind, Service: "DynamoDB", Probability: 0.1})
		}
		require.NoError(t, m.SetFaults(faults...))
		r := m.startWorker(t, outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 3, BaseDelay: 100 * time.Millisecond}))
		m.await(t, "good ones handled", 5*time.Minute, m.all(good))
		time.Sleep(time.Minute)
		m.StopFaults()
		m.repair()
		_, err := m.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
		require.NoError(t, err)
		m.await(t, "all handled", time.Minute, m.all(ids))
		time.Sleep(5 * time.Second)
		require.NoError(t, r.stop())
		require.Empty(t, m.letterIDs(t))
		require.Len(t, m.order["bad-0"], 8)
	})
}

// When a failing event becomes a letter at last, what has waited for it in the shards that continue its shard is parked behind it, at whichever
// worker it waits.
func TestALetterHoldsBackWhatWaitsInOtherShards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFleetWithLetters(t)
		defer m.Close()
		m.oneShard(t)
		retry := outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 15, BaseDelay: 3 * time.Second, MaxDelay: 3 * time.Second})
		workers := []running{m.startWorker(t, retry), m.startWorker(t, retry)}
		m.put(t, "bad", 1, 1)
		time.Sleep(5 * time.Second)
		split(t, m.fleet, 2)
		ids := m.put(t, "bad", 1, 20) // the first is there already
		stored := func() (n int) {
			for _, err := range m.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
				require.NoError(t, err)
				n++
			}
			return n
		}
		m.await(t, "all are letters", 5*time.Minute, func() bool { return stored() == len(ids) })
		for _, w := range workers {
			require.NoError(t, w.stop())
		}
		m.requireTimes(t, 0, ids)
	})
}
