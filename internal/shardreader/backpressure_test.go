package shardreader

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/ledger"
)

// TestASlowHandlerStopsFetching puts a shard, a ledger and one slow handler together, as a Worker does.
func TestASlowHandlerStopsFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, page, all = 16, 10, 100
		s := &script{}
		next, worst := 1, 0
		var handled atomic.Int64
		owed := ledger.New(limit, ledger.Progress{}, time.Now())
		s.get = func(string) (Batch, error) {
			if next > all {
				return Batch{Children: theChild}, nil
			}
			b := Batch{Next: "next", Behind: time.Hour}
			for range page {
				b.Records = append(b.Records, records(fmt.Sprint(next))...)
				next++
			}
			worst = max(worst, next-1-int(handled.Load()))
			return b, nil
		}
		r := newReading(s)
		work, room, done := make(chan ledger.Slot, limit), make(chan struct{}, 1), make(chan struct{})
		go func() {
			defer close(done)
			for slot := range work {
				time.Sleep(time.Second)
				owed.Settled(slot)
				handled.Add(1)
				owed.Stored(owed.Progress(), time.Now())
				select {
				case room <- struct{}{}:
				default:
				}
			}
		}()
		_, err := r.Read(t.Context(), "shard", Oldest, func(b Batch) error {
			numbers := make([]string, len(b.Records))
			for i, record := range b.Records {
				numbers[i] = record.SequenceNumber
			}
			for len(numbers) > 0 {
				first, n := owed.Add(numbers, time.Now())
				if n == 0 {
					<-room
				}
				for i := range n {
					work <- first + ledger.Slot(i)
				}
				numbers = numbers[n:]
			}
			return nil
		})
		require.NoError(t, err)
		close(work)
		<-done
		require.LessOrEqual(t, worst, limit+page, "in memory are the ledger, and the batch that waits for it")
		require.Equal(t, fmt.Sprint(all), owed.Progress().Checkpoint)
		require.Equal(t, time.Duration(all)*time.Second, time.Since(s.begin), "the handler never waited for the fetching")
		require.Len(t, s.gets(), all/page+1)
	})
}
