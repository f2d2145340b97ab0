package shardreader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// stallTimeout is how long a request may go without progress, which is its first byte or a further byte. An answer may have 10 MB:
	// how long it takes depends on the link, and on what else is on the link.
	stallTimeout = 30 * time.Second
	// blindTimeout bounds a request of a client that does not let its answer be watched.
	blindTimeout = 5 * time.Minute
	// largeAnswer is from which size on an answer counts as a download.
	largeAnswer = 256 << 10
)

// Downloads bounds how many large answers of GetRecords are read at once, over all Readers that share it. A nil *Downloads bounds
// nothing. It is safe for concurrent use.
type Downloads struct{ turns chan struct{} }

// NewDownloads returns Downloads that let n large answers be read at once.
func NewDownloads(n int) *Downloads { return &Downloads{make(chan struct{}, n)} }

// Transfer is one request for records and its answer, until the answer has been read. A nil *Transfer watches nothing. It is safe for
// concurrent use, because a client may make several requests for one call.
type Transfer struct {
	downloads *Downloads
	cancel    context.CancelCauseFunc
	stall     *time.Timer

	mu       sync.Mutex
	patience time.Duration
	holding  bool // a turn of downloads
	ended    bool
}

// transfer begins a request. Its context ends with ctx, with end, and when the request makes no progress.
func (d *Downloads) transfer(ctx context.Context) (context.Context, *Transfer) {
	call, cancel := context.WithCancelCause(ctx)
	t := &Transfer{downloads: d, cancel: cancel, patience: blindTimeout}
	t.stall = time.AfterFunc(t.patience, t.giveUp)
	return call, t
}

func (t *Transfer) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel(&stalledError{t.patience})
}

// end gives the turn back.
func (t *Transfer) end() {
	t.stall.Stop()
	t.cancel(nil) // whoever still waits for a turn goes first
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.holding {
		<-t.downloads.turns
	}
}

// take waits for a turn, which the transfer keeps. The wait is no lack of progress.
func (t *Transfer) take(ctx context.Context) error {
	if t.downloads == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holding || t.ended {
		return nil
	}
	t.stall.Stop()
	select {
	case t.downloads.turns <- struct{}{}:
		t.holding = true
		t.stall.Reset(t.patience)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *Transfer) progress() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.stall.Reset(t.patience)
	}
}

// watch is an option of the SDK that makes the transfer see the bytes of the answer.
func (t *Transfer) watch(stack *middleware.Stack) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	t.patience = stallTimeout
	t.mu.Unlock()
	t.progress()
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("outbox:progress", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error,
	) {
		t.progress()
		out, metadata, err := next.HandleDeserialize(ctx, in)
		response, ok := out.RawResponse.(*smithyhttp.Response)
		if err != nil || !ok || response.Response == nil || response.Body == nil {
			return out, metadata, err
		}
		t.progress()
		if n := response.ContentLength; n < 0 || n > largeAnswer {
			if err := t.take(ctx); err != nil {
				_ = response.Body.Close()
				return out, metadata, err
			}
		}
		response.Body = &watched{response.Body, t}
		return out, metadata, nil
	}), middleware.After)
}

// watched is the body of an answer.
type watched struct {
	io.ReadCloser
	t *Transfer
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.t.progress()
	}
	return n, err
}

// stalledError says that a request was given up because it made no progress. To errors.Is it is a context.DeadlineExceeded.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("given up after %s without progress", e.after)
}

// Unwrap says that a deadline ended the request.
func (e *stalledError) Unwrap() error { return context.DeadlineExceeded }

// stalled returns why a request was given up, or nil if it was not.
func stalled(call context.Context) error {
	if e := (*stalledError)(nil); errors.As(context.Cause(call), &e) {
		return e
	}
	return nil
}
