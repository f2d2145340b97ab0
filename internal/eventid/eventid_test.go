package eventid

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

// A clock that stands still, jumps forward or jumps back does not change the order of the ids.
func TestIdsIncreaseWhateverTheClockDoes(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		now := time.UnixMilli(1_700_000_000_000)
		s := NewSource(func() time.Time { return now })
		last := ""
		for range 2_000 {
			switch rnd.IntN(4) {
			case 0:
				now = now.Add(time.Duration(rnd.IntN(5)) * time.Millisecond)
			case 1:
				now = now.Add(-time.Duration(rnd.IntN(5_000)) * time.Millisecond)
			}
			id := s.New()
			require.Greaterf(t, id, last, "seed %d: an id does not sort after the one before it", seed)
			last = id
		}
	}
}

func TestIdsAreUniqueAndOrderedUnderConcurrency(t *testing.T) {
	const goroutines, each = 16, 5_000
	s := NewSource(time.Now)
	all := make([][]string, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				all[g] = append(all[g], s.New())
			}
		})
	}
	wg.Wait()

	seen := make(map[string]bool, goroutines*each)
	for g, ids := range all {
		require.Truef(t, slices.IsSorted(ids), "goroutine %d saw its ids out of order", g)
		for _, id := range ids {
			require.Falsef(t, seen[id], "id %s was handed out twice", id)
			seen[id] = true
		}
	}
	require.Len(t, seen, goroutines*each)
}

func TestIdCarriesTheTime(t *testing.T) {
	at := time.UnixMilli(1_719_347_890_250)
	id, err := ulid.ParseStrict(NewSource(func() time.Time { return at }).New())
	require.NoError(t, err)
	require.Equal(t, at.UTC(), id.Timestamp().UTC())
}

func TestClockBeforeTheEpochStillGivesIds(t *testing.T) {
	s := NewSource(func() time.Time { return time.Time{} })
	first, second := s.New(), s.New()
	require.Greater(t, second, first)
}

// All ones leave no room to count up within the millisecond.
func TestExhaustedEntropyMovesToTheNextMillisecond(t *testing.T) {
	at := time.UnixMilli(1_719_347_890_250)
	// ULID's monotonic entropy draws 10 bytes for an id and fewer for each step after it.
	entropy := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte{0xff}, 10)), rand.NewChaCha8([32]byte{}))
	s := newSource(func() time.Time { return at }, entropy)
	first := s.New()
	var second string
	for range 4 {
		second = s.New()
		require.Greater(t, second, first)
		first = second
	}
	id, err := ulid.ParseStrict(second)
	require.NoError(t, err)
	require.Equal(t, uint64(at.UnixMilli()+1), id.Time())
}

func BenchmarkNew(b *testing.B) {
	s := NewSource(time.Now)
	for b.Loop() {
		s.New()
	}
}
