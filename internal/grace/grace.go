// Package grace says what may still be written when a context has ended, and until when.
package grace

import (
	"context"
	"time"
)

type answerKey struct{}

// Until returns ctx with the time at which somebody answers for what happens under ctx. An answer in time is worth more than what is written
// after it. If ctx has an earlier time, that time holds.
func Until(ctx context.Context, answer time.Time) context.Context {
	if earlier, ok := ctx.Value(answerKey{}).(time.Time); ok && earlier.Before(answer) {
		return ctx
	}
	return context.WithValue(ctx, answerKey{}, answer)
}

// After returns a context for what is to be written also when ctx has ended. It has the values of ctx, and ends after d, or at the time of Until
// if this is earlier.
func After(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(d)
	if answer, ok := ctx.Value(answerKey{}).(time.Time); ok && answer.Before(end) {
		end = answer
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}
