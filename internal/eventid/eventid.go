// Package eventid makes event ids: ULIDs that strictly increase within a process.
//
// It knows the ULID format and the clock. It must not know what an event is.
//
// ulid.Make is not enough: under concurrency its ids are not monotonic, and its entropy is seeded from the time. Two events of
// one aggregate, made one after the other, must sort in this order. So the clock is read under the lock that hands out the id,
// and never goes back.
package eventid

import (
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Source hands out ids. The zero value is not ready; use [NewSource]. A Source is safe for concurrent use.
type Source struct {
	now func() time.Time

	mu      sync.Mutex
	last    uint64 // milliseconds of the newest id; never decreases
	entropy *ulid.MonotonicEntropy
}

// NewSource returns a source that reads the time from now and its entropy from crypto/rand.
func NewSource(now func() time.Time) *Source {
	return newSource(now, rand.Reader)
}

func newSource(now func() time.Time, entropy io.Reader) *Source {
	return &Source{now: now, entropy: ulid.Monotonic(entropy, 0)}
}

// New returns the next id: 26 characters that sort after every id that this source returned before, even when the clock stands
// still or goes back.
func (s *Source) New() string {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.last = max(s.last, milliseconds(s.now()))
	id, err := ulid.New(s.last, s.entropy)
	if err != nil {
		// The 80 random bits of this millisecond are used up. The next millisecond starts a new set.
		s.last++
		if id, err = ulid.New(s.last, s.entropy); err != nil {
			// Only a clock beyond the year 10889 or a failing entropy source leads here, and crypto/rand never fails.
			panic(fmt.Sprintf("outbox: no event id can be made: %v", err))
		}
	}
	return id.String()
}

func milliseconds(t time.Time) uint64 {
	return uint64(max(t.UnixMilli(), 0))
}
