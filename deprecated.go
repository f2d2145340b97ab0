package outbox

import "context"

// Names of before v0.1.0, for programs that were written against them. The release that follows it leaves them out.

// WithMaxAttempts is the former name of WithInvokeAttempts.
//
// Deprecated: use WithInvokeAttempts.
func WithMaxAttempts(n int) DeadLetterOption { return WithInvokeAttempts(n) }

// Leases is the former name of Status.
//
// Deprecated: use Status.
func (t *LeaseTable) Leases(ctx context.Context, stream string) ([]LeaseStatus, error) {
	return t.Status(ctx, stream)
}
