package fleetsim

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/itemsize"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
)

// unitMeter counts the queries of all workers, and the read units that DynamoDB would count for them.
type unitMeter struct {
	*simTable
	mu           sync.Mutex
	looks, views int
	units        float64
}

func (m *unitMeter) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out, err := m.simTable.Query(ctx, in, opts...)
	if err != nil {
		return nil, err
	}
	bytes := 0
	for _, row := range out.Items {
		n, err := itemsize.Of(row)
		if err != nil {
			return nil, err
		}
		bytes += n
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if units := math.Ceil(float64(bytes) / 4096); aws.ToBool(in.ConsistentRead) {
		m.views, m.units = m.views+1, m.units+units
	} else {
		m.looks, m.units = m.looks+1, m.units+units/2
	}
	return out, nil
}

func (m *unitMeter) take() (looks, views int, units float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	looks, views, units = m.looks, m.views, m.units
	m.looks, m.views, m.units = 0, 0, 0
	return looks, views, units
}

// What a calm fleet reads of its lease table, for docs/sizing.md: looks, views, and read units a second. Before is what the same
// fleet would read if each worker took a view twice a second.
func TestReadUnitsOfACalmFleet(t *testing.T) {
	for _, f := range []struct {
		shards, finished, workers int
		most                      float64 // units a second
	}{
		{1, 0, 1, 2}, {10, 0, 2, 3}, {100, 0, 10, 12}, {1000, 0, 100, 500}, {4, 4400, 1, 8},
	} {
		t.Run(fmt.Sprintf("%d shards, %d finished", f.shards, f.finished), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				meter := &unitMeter{simTable: newSimTable()}
				store, err := dynamostore.New(meter, "leases", "confirmations", "events")
				require.NoError(t, err)
				var shards []lease.Shard
				for i := range f.shards + f.finished {
					shards = append(shards, lease.Shard{ID: fmt.Sprintf("shardId-%012d", i), Parents: []string{fmt.Sprintf("shardId-%012d", i-1000)},
						HashLo: "170141183460469231731687303715884105728", HashHi: "340282366920938463463374607431768211455"})
				}
				for _, s := range shards[:f.finished] {
					require.NoError(t, store.Ensure(t.Context(), s, lease.ShardEnd))
				}
				ctx, stop := context.WithCancel(t.Context())
				var fleet sync.WaitGroup
				for range f.workers {
					fleet.Go(func() {
						require.NoError(t, lease.Run(ctx, lease.Config{
							Store: store, Worker: "orders-5d9f8b6c4-x2x7q",
							Shards: func(context.Context) ([]lease.Shard, error) { return shards, nil },
							Consume: func(ctx context.Context, h *lease.Held) error {
								if err := h.Save(ctx, lease.Progress{Checkpoint: "49656473829384756473829384756473829384756473829384756478"}); err != nil {
									return err
								}
								select {
								case <-h.Stop():
									return nil
								case <-ctx.Done():
									return ctx.Err()
								}
							},
						}))
					})
				}
				time.Sleep(30 * time.Second)
				one := &unitMeter{simTable: meter.simTable}
				before, err := dynamostore.New(one, "leases", "confirmations", "events")
				require.NoError(t, err)
				_, err = before.View(t.Context())
				require.NoError(t, err)
				_, _, view := one.take()
				meter.take()
				const minutes = 1
				time.Sleep(minutes * time.Minute)
				looks, views, units := meter.take()
				units /= minutes * 60
				t.Logf("%d workers: %.1f looks and %.2f views a second, %.1f read units a second; before, %.0f", f.workers,
					float64(looks)/minutes/60, float64(views)/minutes/60, units, 2*view*float64(f.workers))
				require.Less(t, units, f.most)
				stop()
				fleet.Wait()
			})
		})
	}
}
