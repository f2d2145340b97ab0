// Package usercode calls code that users wrote, and asks the errors that such code returned. A panic there must not end the process: it would
// end the next owner of the shard as well. The package knows nothing of what the code is for.
package usercode

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
)

// ErrGoexit is the Value of a Panic if the code ended its goroutine.
var ErrGoexit = errors.New("it ended its goroutine")

// Panic is how a call ended that did not return.
type Panic struct {
	Value any
	Stack []byte
}

// Run calls f, and returns how it panicked, or nil. If f ends its goroutine, Run does not return.
func Run(f func()) (p *Panic) {
	defer func() {
		if v := recover(); v != nil {
			p = &Panic{v, debug.Stack()}
		}
	}()
	f()
	return nil
}

// Apart is Run for goroutines that must not end: it calls f on a goroutine of its own, and waits.
func Apart(f func()) (p *Panic) {
	done := make(chan struct{})
	p = &Panic{Value: ErrGoexit}
	go func() {
		defer close(done)
		p = Run(f)
	}()
	<-done
	return p
}

// Logger returns a logger that drops a line instead of panicking.
func Logger(l *slog.Logger) *slog.Logger { return slog.New(logHandler{l.Handler()}) }

type logHandler struct{ slog.Handler }

func (h logHandler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	Run(func() { enabled = h.Handler.Enabled(ctx, level) })
	return enabled
}

func (h logHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	Run(func() { err = h.Handler.Handle(ctx, r) })
	return err
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	Run(func() { h.Handler = h.Handler.WithAttrs(attrs) })
	return h
}

func (h logHandler) WithGroup(name string) slog.Handler {
	Run(func() { h.Handler = h.Handler.WithGroup(name) })
	return h
}
