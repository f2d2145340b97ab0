package watermark

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// model is the ring as simply as it can be said.
type model struct {
	capacity  int
	sequences []string
	done      []bool
}

func (m *model) finished() int {
	for i, done := range m.done {
		if !done {
			return i
		}
	}
	return len(m.done)
}

func (m *model) check(t require.TestingT, got Mark, what string) {
	finished := m.finished()
	want := Mark{Finished: uint64(finished), Above: len(m.done) - finished, Oldest: got.Oldest}
	if finished > 0 {
		want.Sequence = m.sequences[finished-1]
	}
	require.Equal(t, want, got, what)
	require.Equal(t, want.Above == 0, got.Oldest.IsZero(), what)
	require.LessOrEqual(t, got.Above, m.capacity, what)
}

// play does what the bytes say to a ring and to the model of it.
func play(t require.TestingT, capacity int, moves []byte) {
	r, m := New(capacity), &model{capacity: capacity}
	var open []Slot
	ended, end := context.WithCancel(context.Background())
	end()
	for i, move := range moves {
		what := fmt.Sprintf("move %d of %v, capacity %d", i, moves, capacity)
		if move%2 == 0 || len(open) == 0 {
			batch := make([]string, int(move/2)%7)
			for j := range batch {
				batch[j] = fmt.Sprint(len(m.sequences) + j)
			}
			first, n, err := r.Add(ended, batch)
			room := capacity - (len(m.done) - m.finished())
			if len(batch) > 0 && room == 0 {
				require.ErrorIs(t, err, context.Canceled, what)
				require.Zero(t, n, what)
			} else {
				require.NoError(t, err, what)
				require.Equal(t, min(room, len(batch)), n, what)
				require.EqualValues(t, len(m.done), first, what)
			}
			for j := range n {
				open = append(open, first+Slot(j))
				m.sequences, m.done = append(m.sequences, batch[j]), append(m.done, false)
			}
		} else {
			k := int(move/2) % len(open)
			slot := open[k]
			open = append(open[:k], open[k+1:]...)
			r.Done(slot)
			m.done[slot] = true
		}
		m.check(t, r.Mark(), what)
		require.NoError(t, r.Wait(ended, uint64(m.finished())), what)
		require.Error(t, r.Wait(ended, uint64(m.finished()+1)), what)
		require.Empty(t, r.waiters, what)
	}
}

func TestTheRingIsItsModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Log("seed", seed)
	for range 200 {
		moves := make([]byte, rng.IntN(120))
		for i := range moves {
			moves[i] = byte(rng.Uint32())
		}
		play(t, 1+rng.IntN(20), moves)
	}
}

func FuzzTheRingIsItsModel(f *testing.F) {
	f.Add(uint8(3), []byte{6, 1, 5, 3, 8, 1, 1})
	f.Add(uint8(0), []byte{12, 1, 12, 1})
	f.Fuzz(func(t *testing.T, capacity uint8, moves []byte) {
		play(t, int(capacity)%32+1, moves[:min(len(moves), 500)])
	})
}

// TestManyHandlersFinishOneShard has handlers finish in any order while a fetcher adds and a checkpointer looks on.
func TestManyHandlersFinishOneShard(t *testing.T) {
	const records, capacity, handlers = 5000, 64, 8
	r := New(capacity)
	work := make(chan Slot, capacity)
	var mu sync.Mutex
	finished := make([]bool, records)
	var all sync.WaitGroup
	for range handlers {
		all.Go(func() {
			for slot := range work {
				mu.Lock()
				finished[slot] = true
				mu.Unlock()
				r.Done(slot)
			}
		})
	}
	looked, stop := make(chan error), make(chan struct{})
	go func() {
		var before Mark
		for {
			m := r.Mark()
			mu.Lock()
			for i := before.Finished; i < m.Finished; i++ {
				if !finished[i] {
					mu.Unlock()
					looked <- fmt.Errorf("the mark %+v has passed record %d, which is not finished", m, i)
					return
				}
			}
			mu.Unlock()
			if m.Finished < before.Finished || m.Above > capacity || m.Finished > 0 && m.Sequence != fmt.Sprint(m.Finished-1) {
				looked <- fmt.Errorf("the mark went from %+v to %+v", before, m)
				return
			}
			before = m
			select {
			case <-stop:
				looked <- nil
				return
			default:
			}
		}
	}()
	for next := 0; next < records; {
		batch := make([]string, min(1+next%100, records-next))
		for i := range batch {
			batch[i] = fmt.Sprint(next + i)
		}
		for len(batch) > 0 {
			first, n, err := r.Add(t.Context(), batch)
			require.NoError(t, err)
			require.EqualValues(t, next, first)
			for i := range n {
				work <- first + Slot(i)
			}
			next, batch = next+n, batch[n:]
		}
	}
	require.NoError(t, r.Wait(t.Context(), records))
	close(work)
	all.Wait()
	close(stop)
	require.NoError(t, <-looked)
	require.Equal(t, Mark{Sequence: fmt.Sprint(records - 1), Finished: records}, r.Mark())
	require.Empty(t, r.waiters)
}

func TestAFullRingStopsAdding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(16)
		batch := make([]string, 40)
		for i := range batch {
			batch[i] = fmt.Sprint(i)
		}
		first, n, err := r.Add(t.Context(), batch)
		require.NoError(t, err)
		require.Equal(t, 16, n)
		require.Zero(t, first)

		stopped := errors.New("stopped")
		ctx, stop := context.WithCancelCause(t.Context())
		added, ended := make(chan int), make(chan error)
		go func() {
			_, n, err := r.Add(ctx, batch[16:])
			if err != nil {
				n = -1
			}
			added <- n
		}()
		r.Done(1) // finished, but not the oldest
		synctest.Wait()
		require.Equal(t, 16, r.Mark().Above, "the ring holds what waits for an earlier record")
		r.Done(0)
		require.Equal(t, 2, <-added)
		go func() {
			_, n, _ := r.Add(ctx, batch[18:])
			added <- n
		}()
		synctest.Wait()
		r.Done(2)
		synctest.Wait()
		require.Equal(t, 15, r.Mark().Above, "it does not wake for every record, but for an eighth of the ring")
		r.Done(3)
		require.Equal(t, 2, <-added)

		time.Sleep(time.Minute)
		require.Equal(t, time.Minute, time.Since(r.Mark().Oldest), "the age of the oldest unfinished record")
		go func() {
			_, _, err := r.Add(ctx, batch[20:])
			ended <- err
		}()
		go func() { ended <- r.Wait(ctx, 20) }()
		synctest.Wait()
		stop(stopped)
		require.ErrorIs(t, <-ended, stopped)
		require.ErrorIs(t, <-ended, stopped)
		require.Empty(t, r.waiters)

		go func() { ended <- r.Wait(t.Context(), 20) }()
		for s := Slot(19); s > 3; s-- {
			synctest.Wait()
			r.Done(s)
		}
		require.NoError(t, <-ended)
		require.Equal(t, Mark{Sequence: "19", Finished: 20}, r.Mark())
	})
}

func TestASlotIsDoneOnce(t *testing.T) {
	r := New(4)
	_, _, err := r.Add(t.Context(), []string{"a", "b", "c"})
	require.NoError(t, err)
	require.Panics(t, func() { r.Done(3) })
	r.Done(1)
	require.Panics(t, func() { r.Done(1) })
	r.Done(0)
	require.Panics(t, func() { r.Done(0) })
	require.Equal(t, "b", r.Mark().Sequence)
}

func TestNoAllocationPerRecord(t *testing.T) {
	r := New(1000)
	batch := make([]string, 100)
	for i := range batch {
		batch[i] = fmt.Sprint(i)
	}
	ctx := context.Background()
	allocs := testing.AllocsPerRun(100, func() {
		first, n, _ := r.Add(ctx, batch)
		for i := n - 1; i >= 0; i-- {
			r.Done(first + Slot(i))
		}
		r.Mark()
	})
	require.Zero(t, allocs)
}

func BenchmarkARecord(b *testing.B) {
	r := New(1000)
	batch := make([]string, 100)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		first, n, _ := r.Add(ctx, batch)
		for i := range n {
			r.Done(first + Slot(i))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/record")
}

func TestFlush(t *testing.T) {
	now := time.Unix(1000, 0)
	f := Flush{Every: time.Second, Records: 500}
	at := func(n uint64) Mark { return Mark{Finished: n} }
	require.False(t, f.Due(at(0), now.Add(time.Hour)), "nothing is finished")
	f = Flush{Every: time.Second, Records: 500}
	require.False(t, f.Due(at(1), now))
	require.False(t, f.Due(at(499), now.Add(999*time.Millisecond)))
	require.True(t, f.Due(at(500), now))
	require.EqualValues(t, 500, f.Next())
	require.True(t, f.Due(at(1), now.Add(time.Second)))

	f.Stored(at(700), now.Add(time.Second))
	require.EqualValues(t, 1200, f.Next())
	require.False(t, f.Due(at(700), now.Add(time.Hour)), "it has not moved")
	require.False(t, f.Due(at(701), now.Add(time.Second+999*time.Millisecond)))
	require.True(t, f.Due(at(701), now.Add(2*time.Second)))
	require.False(t, f.Due(at(1199), now.Add(time.Second)))
	require.True(t, f.Due(at(1200), now.Add(time.Second)))
}
