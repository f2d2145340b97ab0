// Package backoff spaces out attempts. It must not know what is attempted.
package backoff

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// FullJitter is exponential backoff with full jitter. A delay is chosen evenly between nothing and a bound that doubles with
// every failure. Full jitter spreads competitors best; see
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
type FullJitter struct {
	Base time.Duration // the bound after the first failure
	Max  time.Duration // the highest bound
}

// Delay returns how long to wait after the nth failure, counted from 1.
func (f FullJitter) Delay(n int) time.Duration {
	bound := min(f.Base, f.Max)
	for i := 1; i < n && bound < f.Max; i++ {
		if bound > f.Max/2 {
			bound = f.Max
			break
		}
		bound *= 2
	}
	if bound <= 0 {
		return 0
	}
	return rand.N(bound)
}

// ErrNoTime says that the context's deadline comes before the end of the delay.
var ErrNoTime = errors.New("no time for another attempt before the context's deadline")

// Wait waits for d. It fails if ctx ends first. If ctx's deadline comes before d has passed, it fails at once with ErrNoTime,
// because the attempt after the delay could not be made.
func Wait(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return ErrNoTime
	}
	if Sleep(ctx, d) != nil {
		return fmt.Errorf("no other attempt: %w", ctx.Err())
	}
	return nil
}

// Sleep waits for d. If ctx ends first, or had ended before, it returns ctx's cause.
func Sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
