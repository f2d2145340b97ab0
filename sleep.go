package outbox

import (
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/lanes"
)

// sleepers are records that wait for their next attempt. Their lanes stay closed meanwhile, and they take no goroutine and no place. The zero
// value is ready to use, from several goroutines.
type sleepers struct {
	mu     sync.Mutex
	over   bool
	timers map[sleeper]*time.Timer
}

type sleeper struct {
	batch  *lanes.Batch
	record int
}

// sleep resumes a record after a delay, for which Do returns Later. False says that nobody sleeps any more.
func (s *sleepers) sleep(b *lanes.Batch, record int, delay time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	if s.timers == nil {
		s.timers = make(map[sleeper]*time.Timer)
	}
	key := sleeper{b, record}
	s.timers[key] = time.AfterFunc(delay, func() {
		s.mu.Lock()
		_, asleep := s.timers[key]
		delete(s.timers, key)
		s.mu.Unlock()
		if asleep {
			b.Resume(record)
		}
	})
	return true
}

// wake resumes all that sleep, once and for all.
func (s *sleepers) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for key, timer := range s.timers {
		timer.Stop()
		delete(s.timers, key)
		key.batch.Resume(key.record)
	}
}
