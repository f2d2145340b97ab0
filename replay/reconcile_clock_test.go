package replay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// By a clock that is ahead, what is on its way looks lost, or what is lost too old to be judged; by one that is behind, what is lost looks young. A clock
// that is a little off is within the Grace.
func TestAClockThatIsOffIsAnError(t *testing.T) {
	for off, wrong := range map[time.Duration]bool{
		-4 * time.Minute: false, 4 * time.Minute: false, -2 * time.Hour: true, 2 * time.Hour: true, 40 * 24 * time.Hour: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			right := func() time.Time { return time.Now().Add(-off) }
			s := &shop{world: &world{AWS: outboxtest.Start(t, outboxtest.WithClock(right))}, runs: map[string]int{}}
			defer s.Close()
			s.CreateOutbox(t, "events", "events", 1)
			inbox, err := outbox.NewInbox(s.DynamoDB, "inbox", "mails")
			require.NoError(t, err)
			require.NoError(t, inbox.Create(t.Context()))
			s.writer, err = outbox.NewWriter(s.DynamoDB, "events")
			require.NoError(t, err)
			s.events, err = replay.New(s.DynamoDB, "events")
			require.NoError(t, err)
			put := func(id string, age time.Duration) outbox.Record {
				r := event(id, "", 0)
				r.Time = right().Add(-age)
				s.put(t, r)
				r.Table = "events"
				return r
			}
			require.NoError(t, s.consumer(t).Process(t.Context(), put("handled", 3*time.Hour)))
			put("lost", 3*time.Hour)
			put("on its way", time.Minute)
			for _, o := range []replay.ReconcileOptions{{ReportOnly: true}, {}} {
				r, err := s.reconcile(t, s.consumer(t), o)
				if wrong {
					require.ErrorContains(t, err, "off by more than 5m0s", "%s", off)
					require.Equal(t, replay.ReconcileResult{Segments: 1}, r)
					continue
				}
				require.NoError(t, err, "%s", off)
				require.Equal(t, []int{1, 1}, []int{r.Young, r.Undelivered}, "%s", off)
			}
			require.Zero(t, s.runs["on its way"])
		})
	}
}
