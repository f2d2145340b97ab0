package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
)

// watchFlag adds --watch to a command that looks at something.
func (a *app) watchFlag(flags *pflag.FlagSet) {
	flags.DurationVar(&a.every, "watch", 0, "look again after each pause of this length, until interrupted; at a terminal each look replaces the last")
}

// checkWatch checks --watch.
func (a *app) checkWatch() error {
	if a.every != 0 && a.every < time.Second {
		return fmt.Errorf("--watch: want 1s or more, have %s", a.every)
	}
	return nil
}

// watching makes a command's work that it does once, as a probe, or with --watch again and again. A look that fails is told, and the next one
// may succeed. What cannot be written ends the watching, and so does an argument that is wrong.
func (a *app) watching(look func(context.Context, *clients) error) func(context.Context, *clients) error {
	look = a.probe(look)
	return func(ctx context.Context, c *clients) error {
		if a.every == 0 {
			return look(ctx, c)
		}
		for {
			err := a.out.screen(func() error { return look(ctx, c) })
			switch lost := a.out.err(); {
			case lost != nil:
				return lost
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &usageError{}):
				return err
			case err != nil && !errors.Is(err, errFound):
				a.warn("%s", a.explain(err))
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(a.every):
			}
		}
	}
}

// screen writes what draw writes all at once; at a terminal in the place of what was there before.
func (s *stream) screen(draw func() error) error {
	s.mu.Lock()
	s.held = &bytes.Buffer{}
	s.mu.Unlock()
	err := draw()
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.held.String()
	s.held = nil
	if text == "" || s.failed != nil {
		return err
	}
	if s.colours {
		text = "\x1b[H\x1b[2J" + text
	}
	_, s.failed = io.WriteString(s.to, text)
	return err
}
