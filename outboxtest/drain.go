package outboxtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Drain waits until every change record has reached Kinesis and every mapping has
// handled all its records, including records that the functions caused meanwhile.
// Batching windows end at once, so that Drain waits only for work. If ctx ends
// first, the error says what is stuck. A function that fails for ever keeps Drain
// from returning, so give it a context with a deadline.
func (s *Server) Drain(ctx context.Context) error {
	for _, m := range s.running() {
		defer m.running.Flush()()
	}
	for {
		progress, written, changed := s.progress.Next(), s.kinesis.Changed(), s.streams.Changed()
		if s.isClosed() {
			return errors.New("outboxtest: the server is closed")
		}
		stuck := s.pending()
		// Functions write, and pending may look at a place before they have
		// written there. Everything was idle at once only if nothing at all has
		// moved.
		if stuck == "" && progress == s.progress.Next() && written == s.kinesis.Changed() && changed == s.streams.Changed() {
			return nil
		}
		if stuck == "" {
			continue
		}
		select {
		case <-progress:
		case <-written:
		case <-changed:
		case <-ctx.Done():
			if now := s.pending(); now != "" {
				stuck = now // with what failed in the meantime
			}
			return fmt.Errorf("outboxtest: not everything was handled: %s: %w", stuck, context.Cause(ctx))
		}
	}
}

func (s *Server) running() []*Mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mappings)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// pending describes what is left to do. It returns "" if nothing is left.
func (s *Server) pending() string {
	var out []string
	if what := s.hop.Pending(); what != "" {
		out = append(out, what)
	}
	for _, m := range s.running() {
		if what := m.running.Pending(); what != "" {
			out = append(out, "mapping of "+m.name+": "+what)
		}
	}
	return strings.Join(out, "; ")
}
