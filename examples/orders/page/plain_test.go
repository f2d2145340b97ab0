package page

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The Writer's hook may run after the handler has finished. What it tells happened first all the same.
func TestStepsAreInTheOrderInWhichTheyHappened(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	steps := []Step{ // the latest first
		{Stage: Committed, Event: "other", At: at(20)},
		{Stage: Committed, Event: "a", At: at(9)},
		{Stage: Finished, Event: "a", At: at(5)},
		{Stage: Mailed, Event: "a", At: at(5)},
		{Stage: Started, Event: "a", At: at(4)},
		{Stage: Delivered, Event: "a", At: at(3), ChangedAt: at(2)},
	}
	byTime(steps)
	var stages []Stage
	for _, s := range steps {
		stages = append(stages, s.Stage)
	}
	require.Equal(t, []Stage{Committed, Delivered, Started, Mailed, Finished, Committed}, stages)
	require.Equal(t, at(2), steps[0].At)
	require.Equal(t, at(20), steps[5].At)
}
