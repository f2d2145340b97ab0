package lanes

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeysKeepTheirOrderAndNeverOverlap(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			limit := 1 + rnd.IntN(8)
			p := New(limit)
			var mu sync.Mutex
			busy := map[uint64]bool{}
			running, most := 0, 0
			var wg sync.WaitGroup
			for range 1 + rnd.IntN(4) {
				keys := make([]uint64, rnd.IntN(150))
				pauses := make([]time.Duration, len(keys))
				for i := range keys {
					keys[i] = rnd.Uint64N(12) // 0 is Free
					pauses[i] = time.Duration(rnd.IntN(3)) * time.Millisecond
				}
				wg.Go(func() {
					last := map[uint64]int{}
					ran := 0
					p.Run(keys, func(i int) bool {
						mu.Lock()
						key := keys[i]
						if key != Free {
							require.Falsef(t, busy[key], "seed %d: key %d overlaps", seed, key)
							busy[key] = true
							before, seen := last[key]
							require.Truef(t, !seen || before < i, "seed %d: record %d of key %d ran after %d", seed, i, key, before)
							last[key] = i
						}
						ran++
						running++
						most = max(most, running)
						mu.Unlock()
						time.Sleep(pauses[i])
						mu.Lock()
						busy[key] = false
						running--
						mu.Unlock()
						return true
					})
					require.Equalf(t, len(keys), ran, "seed %d: not every record ran", seed)
				})
			}
			wg.Wait()
			require.LessOrEqualf(t, most, limit, "seed %d: more ran at a time than the limit", seed)
			synctest.Wait()
			require.Zero(t, p.running, "goroutines are left")
			require.Empty(t, p.active)
			require.Empty(t, p.ready)
		})
	}
}

func TestDifferentKeysRunInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		var together sync.WaitGroup
		together.Add(n)
		keys := make([]uint64, n)
		for i := range keys {
			keys[i] = uint64(i + 1)
		}
		New(n).Run(keys, func(int) bool {
			together.Done()
			together.Wait() // unless all run at once this is a deadlock, which synctest reports
			return true
		})
	})
}

func TestAFailureGivesUpOnlyItsOwnKey(t *testing.T) {
	keys := []uint64{1, 2, 1, Free, 2, 1, Free}
	for _, limit := range []int{1, 3} {
		var ran [7]atomic.Bool
		New(limit).Run(keys, func(i int) bool {
			ran[i].Store(true)
			return i != 0 && i != 3
		})
		for i, want := range []bool{true, true, false, true, true, false, true} {
			require.Equalf(t, want, ran[i].Load(), "record %d with limit %d", i, limit)
		}
	}
}

func TestOneAtATimeIsBatchOrder(t *testing.T) {
	keys := make([]uint64, 300)
	for i := range keys {
		keys[i] = uint64(i % 7)
	}
	var order []int
	New(1).Run(keys, func(i int) bool {
		order = append(order, i)
		return true
	})
	for i, got := range order {
		require.Equal(t, i, got)
	}
	require.Len(t, order, len(keys))
}

// A record that comes early in the batch, but waited for its lane, goes before all later records.
func TestEarlyRecordsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		keys := make([]uint64, 300)
		keys[0], keys[1] = 1, 1
		var second time.Duration
		New(2).Run(keys, func(i int) bool {
			switch i {
			case 0:
				time.Sleep(150 * time.Millisecond)
			case 1:
				second = time.Since(start)
			default:
				time.Sleep(time.Millisecond)
			}
			return true
		})
		require.Equal(t, 150*time.Millisecond, second)
	})
}

func TestARecordThatEndsItsGoroutineDoesNotHangTheRest(t *testing.T) {
	for _, limit := range []int{1, 2} {
		var ran [4]atomic.Bool
		New(limit).Run([]uint64{1, 1, 2, 2}, func(i int) bool {
			ran[i].Store(true)
			if i == 0 {
				runtime.Goexit()
			}
			return true
		})
		require.False(t, ran[1].Load(), "the record after the one that ended its goroutine ran")
		require.True(t, ran[2].Load() && ran[3].Load(), "another key was held up")
	}
}

func BenchmarkRun(b *testing.B) {
	for _, keysPerBatch := range []int{8, 64, 512} {
		b.Run(map[int]string{8: "8 keys", 64: "64 keys", 512: "all different"}[keysPerBatch], func(b *testing.B) {
			p := New(8)
			keys := make([]uint64, 512)
			for i := range keys {
				keys[i] = uint64(i%keysPerBatch + 1)
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Run(keys, func(int) bool { return true })
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/record")
		})
	}
}
