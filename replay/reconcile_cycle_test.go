package replay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// smallPages is a client whose scans have pages of two rows.
type smallPages struct {
	*dynamodb.Client
	went int // scans that went on behind a page
}

func (s *smallPages) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	if in.ExclusiveStartKey != nil {
		s.went++
	}
	limited := *in
	limited.Limit = aws.Int32(2)
	return s.Client.Scan(ctx, &limited, opts...)
}

// A call in each slot of a cycle, wherever in the slot and however often, has read every event that was in the table for the Grace when the cycle
// began: each in one slot, with any number of segments, also more than there are rows, while others write.
func TestACycleThatRanIsComplete(t *testing.T) {
	for _, segments := range []int{1, 2, 7, 100} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t)
			defer s.Close()
			client := &smallPages{Client: s.DynamoDB}
			var err error
			s.events, err = replay.New(client, "events")
			require.NoError(t, err)
			rng := rand.New(rand.NewPCG(uint64(segments), 1))
			const every, grace = time.Minute, 10 * time.Minute
			begin := map[string]time.Time{} // when each event was written
			write := func() {
				id := fmt.Sprint("e", len(begin))
				begin[id] = time.Now()
				s.put(t, s.now(id, ""))
			}
			for range 40 {
				write()
			}
			time.Sleep(grace + time.Duration(rng.IntN(600))*time.Second) // the cycle begins with any segment
			var slot map[string]bool
			o := replay.ReconcileOptions{Every: every, Cycle: time.Duration(segments) * every, Grace: grace, ReportOnly: true, Found: func(r outbox.Record, err error) {
				require.NoError(t, err)
				slot[r.ID] = true
			}}
			c := s.consumer(t)
			for range 2 {
				found, started := map[string]int{}, time.Now().Truncate(every).Add(every)
				for n := range segments {
					time.Sleep(time.Until(started.Add(time.Duration(n) * every)))
					slot = map[string]bool{}
					for range 1 + rng.IntN(2) {
						time.Sleep(time.Duration(1+rng.IntN(28)) * time.Second)
						write()
						_, err := s.reconcile(t, c, o)
						require.NoError(t, err)
					}
					for id := range slot {
						found[id]++
					}
				}
				for id, at := range begin {
					switch {
					case at.Before(started.Add(-grace)):
						require.Equal(t, 1, found[id], "%d segments: event %s, written at %s, in the cycle of %s", segments, id, at, started)
					default:
						require.LessOrEqual(t, found[id], 1, "%d segments: event %s", segments, id)
					}
				}
				time.Sleep(grace)
			}
			require.Positive(t, client.went, "pages")
		})
	}
}
