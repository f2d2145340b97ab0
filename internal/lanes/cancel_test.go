package lanes

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A cancelled batch gives its records up and stops waiting for other batches. A batch that waits for it goes on waiting for the
// batch before it.
func TestACanceledBatchLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(3)
		start := time.Now()
		var first, second, third Batch
		p.Start(&first, []uint64{1}, runner(func(int) bool {
			time.Sleep(time.Minute)
			return true
		}))
		var ran []int
		p.Start(&second, []uint64{1, 2, 1}, runner(func(i int) bool {
			ran = append(ran, i)
			return true
		}))
		var thirdRan time.Duration
		p.Start(&third, []uint64{1}, runner(func(int) bool {
			thirdRan = time.Since(start)
			return true
		}))
		synctest.Wait()
		canceled := make(chan struct{})
		close(canceled)
		second.Wait(canceled)
		require.Zero(t, time.Since(start), "the canceled batch waited")
		require.Equal(t, []int{1}, ran)
		third.Wait(nil)
		require.Equal(t, time.Minute, thirdRan, "a lane overlaps with the batch before the canceled one")
		first.Wait(nil)
		synctest.Wait()
		require.Empty(t, p.active)
		require.Zero(t, p.running)
	})
}

// The same for a batch that waits for a free goroutine instead of a lane.
func TestACanceledBatchDoesNotWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(1)
		start := time.Now()
		var first, second Batch
		p.Start(&first, []uint64{Free, Free}, runner(func(int) bool {
			time.Sleep(time.Minute)
			return true
		}))
		p.Start(&second, []uint64{1, 1, Free}, runner(func(int) bool {
			require.Fail(t, "a canceled record ran")
			return true
		}))
		canceled := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(canceled) })
		second.Wait(canceled)
		require.Equal(t, time.Second, time.Since(start))
		first.Wait(nil)
		require.Equal(t, 2*time.Minute, time.Since(start))
	})
}

// A running record of a cancelled batch is waited for.
func TestACanceledBatchWaitsForWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(2)
		start := time.Now()
		canceled := make(chan struct{})
		var b Batch
		p.Start(&b, []uint64{1, 1, 2}, runner(func(int) bool {
			time.Sleep(time.Minute)
			select {
			case <-canceled:
				return false
			default:
				return true
			}
		}))
		time.AfterFunc(time.Second, func() { close(canceled) })
		b.Wait(canceled)
		require.Equal(t, time.Minute, time.Since(start))
	})
}

// Batches of a key run in the order in which they were started, whoever waits for them.
func TestStartDecidesTheOrder(t *testing.T) {
	p := New(4)
	batches := make([]Batch, 50)
	var order []int
	for i := range batches {
		p.Start(&batches[i], []uint64{7}, runner(func(int) bool {
			order = append(order, i)
			return true
		}))
	}
	for i := range batches {
		batches[len(batches)-1-i].Wait(nil)
	}
	for i, got := range order {
		require.Equal(t, i, got)
	}
	require.Len(t, order, len(batches))
}

func TestDispatchAllocatesByBatchOnly(t *testing.T) {
	p := New(8)
	keys := make([]uint64, 100)
	for i := range keys {
		keys[i] = uint64(i + 1)
	}
	do := runner(func(int) bool { return true })
	require.LessOrEqual(t, testing.AllocsPerRun(50, func() {
		var b Batch
		p.Start(&b, keys, do)
		b.Wait(nil)
	}), 10.0)
}

// FuzzBatches runs batches that the input describes. Each byte is a record: three bits of key, and how it ends. 0xff starts
// another batch, and 0xfe a batch that is cancelled while it runs. In all of them keys do not overlap and keep their order over
// batches, nothing runs after a failure, and every Wait returns.
func FuzzBatches(f *testing.F) {
	f.Add([]byte{1, 2, 1, 0xff, 1, 0x11, 1, 2, 0xfe, 1, 2, 3, 0xff, 1, 2, 3}, uint8(2))
	f.Add([]byte{0, 0, 0, 0xfe, 0, 1, 0xff, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, script []byte, limit uint8) {
		script = script[:min(len(script), 500)]
		synctest.Test(t, func(t *testing.T) {
			p := New(1 + int(limit%8))
			var mu sync.Mutex
			busy, last := map[uint64]bool{}, map[uint64]int{}
			failed := map[[2]int]bool{}
			var wg sync.WaitGroup
			start := func(number int, records []byte, cancel bool) {
				keys := make([]uint64, len(records))
				for i, r := range records {
					keys[i] = uint64(r & 7)
				}
				var b Batch
				var canceled chan struct{}
				if cancel {
					canceled = make(chan struct{})
					time.AfterFunc(time.Duration(number)*time.Millisecond, func() { close(canceled) })
				}
				isCanceled := func() bool {
					select {
					case <-canceled:
						return true
					default:
						return false
					}
				}
				p.Start(&b, keys, runner(func(i int) bool {
					if cancel && isCanceled() {
						return false
					}
					key, place := keys[i], number*1000+i
					mu.Lock()
					if key != Free {
						require.False(t, busy[key], "key %d overlaps", key)
						require.Less(t, last[key], place+1, "key %d out of order", key)
						require.False(t, failed[[2]int{number, int(key)}], "key %d goes on after a failure", key)
						busy[key], last[key] = true, place
					}
					mu.Unlock()
					time.Sleep(time.Duration(records[i]>>5) * time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					busy[key] = false
					failed[[2]int{number, int(key)}] = records[i]&0x10 != 0
					return records[i]&0x10 == 0
				}))
				wg.Go(func() { b.Wait(canceled) })
			}
			number, from, cancel := 1, 0, false
			for i, b := range script {
				if b >= 0xfe {
					start(number, script[from:i], cancel)
					number, from, cancel = number+1, i+1, b == 0xfe
				}
			}
			start(number, script[from:], cancel)
			wg.Wait()
			synctest.Wait()
			require.Zero(t, p.running)
			require.Empty(t, p.active)
			require.Empty(t, p.ready)
		})
	})
}
