package outboxtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Drain waits until every change record has reached Kinesis and every mapping
// has handled everything there is, including what the functions caused in the
// meantime. Batching windows end at once, so that there is nothing to wait for
// but work. It returns an error that says what is stuck if ctx ends first: a
// function that fails for ever keeps Drain from returning, so give it a context
// with a deadline.
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
		// Functions write, and what they write is looked at before or after
		// them. Only if nothing at all has moved was everything idle at once.
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

// pending describes what is left to do, "" if nothing.
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
