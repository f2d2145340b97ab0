// Package signal is a broadcast: "something has changed, look again".
//
// Unlike a sync.Cond it is waited for in a select, next to a context and a
// timer. It knows nothing of what has changed.
package signal

import "sync"

// Signal is the broadcast. The zero value is ready to use. It is safe for
// concurrent use.
type Signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// Next returns a channel that the next Fire closes. Take it before looking at
// what may change, or a change in between goes unnoticed. As long as there was
// no Fire, it is the same channel.
func (s *Signal) Next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// Fire wakes everyone who waits.
func (s *Signal) Fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
