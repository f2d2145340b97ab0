package replay

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// After a failure nothing more is begun, and what runs is finished. Ten aggregates run at a time.
func TestNothingIsBegunAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records []outbox.Record
		for i := range 90 {
			records = append(records, outbox.Record{ID: fmt.Sprint(i), AggregateID: fmt.Sprint(i % 30)})
		}
		broken := errors.New("broken")
		unfinished, err := eachAggregate(records, func(r outbox.Record) error {
			if r.ID == "0" {
				return broken
			}
			time.Sleep(time.Second)
			return nil
		})
		require.ErrorIs(t, err, broken)
		require.GreaterOrEqual(t, len(unfinished), 81)
		require.Equal(t, 0, unfinished[0])
	})
}

// Events without an aggregate have no order, and are written side by side.
func TestEventsWithoutAnAggregateAreWrittenSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		unfinished, err := eachAggregate(make([]outbox.Record, 100), func(outbox.Record) error {
			time.Sleep(time.Second)
			return nil
		})
		require.NoError(t, err)
		require.Empty(t, unfinished)
		require.Equal(t, 10*time.Second, time.Since(started))
	})
}
