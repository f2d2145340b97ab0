package shardreader

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/watermark"
)

// TestASlowHandlerStopsFetching puts a shard, a ring and one slow handler together, as a Worker does.
func TestASlowHandlerStopsFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity, limit, all = 16, 10, 100
		s := &script{}
		next := 1
		ring, worst := watermark.New(capacity), 0
		s.get = func(string) (Batch, error) {
			if next > all {
				return Batch{Children: []Shard{{ID: "child"}}}, nil
			}
			b := Batch{Next: "next", Behind: time.Hour}
			for range limit {
				b.Records = append(b.Records, records(fmt.Sprint(next))...)
				next++
			}
			worst = max(worst, next-1-int(ring.Mark().Finished))
			return b, nil
		}
		r := newReading(s)
		work := make(chan watermark.Slot, capacity)
		handled := make(chan struct{})
		go func() {
			defer close(handled)
			for slot := range work {
				time.Sleep(time.Second)
				ring.Done(slot)
			}
		}()
		_, err := r.Read(t.Context(), "shard", Oldest, func(b Batch) error {
			numbers := make([]string, len(b.Records))
			for i, record := range b.Records {
				numbers[i] = record.SequenceNumber
			}
			for len(numbers) > 0 {
				first, n, err := ring.Add(t.Context(), numbers)
				if err != nil {
					return err
				}
				for i := range n {
					work <- first + watermark.Slot(i)
				}
				numbers = numbers[n:]
			}
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, ring.Wait(context.Background(), all))
		close(work)
		<-handled
		require.LessOrEqual(t, worst, capacity+limit, "in memory are the ring, and the batch that waits for it")
		require.Equal(t, watermark.Mark{Sequence: fmt.Sprint(all), Finished: all}, ring.Mark())
		require.Equal(t, time.Duration(all)*time.Second, time.Since(s.begin), "the handler never waited for the fetching")
		require.Len(t, s.gets(), all/limit+1)
	})
}
