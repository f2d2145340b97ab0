package integration

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// trial is what a case gets in place of *testing.T: a case that fails may be a known deviation, and a subtest that has failed
// cannot be forgiven any more. It is what testify's require needs.
type trial struct {
	ctx context.Context

	mu       sync.Mutex
	failures []string
	cleanups []func(context.Context)
	panicked bool
}

// attempt runs a case and returns what it has failed with; empty if it passed. panicked says that it was not an assertion.
func attempt(ctx context.Context, limit time.Duration, f func(*trial)) (failure string, panicked bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := &trial{ctx: ctx}
	done := make(chan struct{})
	go func() { // a goroutine of its own, since FailNow ends it
		defer close(done)
		ended := false
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v\n%s", p, debug.Stack())
				t.panicked = true
			} else if !ended && t.failure() == "" {
				t.Errorf("the case ended early, and does not say why") // a FailNow alone must not pass
			}
		}()
		f(t)
		ended = true
	}()
	<-done
	// Cleaning up has time of its own, also after a case that ran into its limit.
	clean, stop := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer stop()
	for _, c := range slices.Backward(t.cleanups) {
		c(clean)
	}
	return t.failure(), t.panicked
}

func (t *trial) failure() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.failures, "\n")
}

// Context ends when the case has had its time.
func (t *trial) Context() context.Context { return t.ctx }

// Cleanup runs f when the case has ended, whatever its end.
func (t *trial) Cleanup(f func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *trial) Helper() {}

func (t *trial) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

func (t *trial) FailNow() { runtime.Goexit() }

// eventually repeats check until it returns true. It fails with what was waited for after a minute, or when the case's time is
// over.
func (t *trial) eventually(what string, check func() bool) {
	for deadline := time.Now().Add(time.Minute); ; {
		if check() {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("gave up waiting: %s", what)
			t.FailNow()
		}
		t.pause(20 * time.Millisecond)
	}
}

// pause waits, unless the case's time is over.
func (t *trial) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
		t.Errorf("the case ran into its time limit: %v", t.ctx.Err())
		t.FailNow()
	}
}
