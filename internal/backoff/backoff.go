// Package backoff spaces out repeated attempts. It must not know what is attempted.
package backoff

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// FullJitter is exponential backoff with full jitter: a pause is chosen evenly between nothing and a bound that doubles with
// every failure. It spreads competitors best; see
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
type FullJitter struct {
	Base time.Duration // the bound after the first failure
	Max  time.Duration // what no bound exceeds
}

// Pause returns how long to wait after the nth failure, counted from 1.
func (f FullJitter) Pause(n int) time.Duration {
	bound := f.Base
	for i := 1; i < n && bound < f.Max; i++ {
		bound *= 2
	}
	return rand.N(min(bound, f.Max) + 1)
}

// Wait waits for d. It fails when ctx ends first, and at once when ctx's deadline comes before d has passed, so that nobody
// waits for an attempt that cannot be made.
func Wait(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return fmt.Errorf("no time for another attempt: %w", context.DeadlineExceeded)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no other attempt: %w", ctx.Err())
	}
}
