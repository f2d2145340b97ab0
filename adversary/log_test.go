package adversary

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logs keeps the last warnings and errors of all processes, for the report of a failure. It is safe for concurrent use.
type logs struct {
	mu    sync.Mutex
	lines []string
	kept  bool // what follows is only the end of the world
}

func (l *logs) add(process, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept {
		return
	}
	if len(line) > 300 {
		line = line[:300] + "..."
	}
	l.lines = append(l.lines, fmt.Sprintf("%s %s: %s", time.Now().Format("04:05.000"), process, line))
	if len(l.lines) > 25 {
		l.lines = l.lines[1:]
	}
}

// keep leaves out what follows.
func (l *logs) keep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = true
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *logs) of(process string) slog.Handler { return &logHandler{to: l, process: process} }

type logHandler struct {
	to      *logs
	process string
	attrs   []slog.Attr
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Level, r.Message)
	for _, a := range h.attrs {
		fmt.Fprintf(&b, " %s", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s", a)
		return true
	})
	h.to.add(h.process, b.String())
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{to: h.to, process: h.process, attrs: append(append([]slog.Attr(nil), h.attrs...), attrs...)}
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }
