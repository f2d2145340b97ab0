package outboxtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// event is what a function sees of a Kinesis event.
type event struct {
	Records []struct {
		Kinesis struct {
			PartitionKey, SequenceNumber string
			Data                         []byte
		}
		EventID, EventName, EventSource, EventSourceARN string
	}
}

func (e event) data() []string {
	var out []string
	for _, r := range e.Records {
		out = append(out, string(r.Kinesis.Data))
	}
	return out
}

func parse(t *testing.T, payload []byte) event {
	t.Helper()
	var e event
	require.NoError(t, json.Unmarshal(payload, &e), "%s", payload)
	return e
}

// deadline bounds a test that would otherwise wait for ever.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestMappingHonoursTheLowestFailure(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	for i := range 6 {
		put(t, a, name, "k", fmt.Sprint(i))
	}
	var mu sync.Mutex
	var got [][]string
	_, err := a.Map(outboxtest.EventSource{Stream: *name, ReportBatchItemFailures: true}, func(_ context.Context, payload []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		e := parse(t, payload)
		got = append(got, e.data())
		if len(got) > 1 {
			return nil, nil
		}
		return fmt.Appendf(nil, `{"batchItemFailures":[{"itemIdentifier":%q},{"itemIdentifier":%q}]}`,
			e.Records[4].Kinesis.SequenceNumber, e.Records[2].Kinesis.SequenceNumber), nil
	})
	require.NoError(t, err)
	require.NoError(t, a.Drain(deadline(t)))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, [][]string{{"0", "1", "2", "3", "4", "5"}, {"2", "3", "4", "5"}}, got)
}
