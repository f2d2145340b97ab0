package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// screen is a pseudo-terminal, and what was written to it.
type screen struct {
	keyboard, command *os.File
	shown             syncBuffer
	read              chan struct{}
}

func newScreen(t *testing.T) *screen {
	keyboard, command, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, pty.Setsize(keyboard, &pty.Winsize{Rows: 40, Cols: 160}))
	s := &screen{keyboard: keyboard, command: command, read: make(chan struct{})}
	go func() {
		defer close(s.read)
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			_, _ = s.shown.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(s.close)
	return s
}

func (s *screen) close() {
	_ = s.command.Close()
	select { // the reader meets the end, or is cut off
	case <-s.read:
	case <-time.After(time.Second):
	}
	_ = s.keyboard.Close()
	<-s.read
}

// run runs a command at the terminal.
func (s *screen) run(t *testing.T, w *world, args ...string) <-chan int {
	code := make(chan int, 1)
	go func() { code <- w.app(s.command, s.command, s.command).run(t.Context(), args) }()
	return code
}

// At a terminal there are colours, a bar and a question, whose answer counts.
func TestAtATerminal(t *testing.T) {
	w := newWorld(t)
	s := newScreen(t)
	require.Equal(t, exitOK, <-s.run(t, w, "create"))
	s.shown.await(t, "\x1b[32m+\x1b[0m events table \x1b[1mevents\x1b[") // green, bold
	w.put(t, "a", 150)

	again := []string{"replay", "--type", "ORDER_CREATED", "--again", "--run", "run"}
	for _, answer := range []string{"n\n", "\n", "what\n", "\x04"} {
		before := len(s.shown.String())
		code := s.run(t, w, again...)
		waitFor(func() bool { return strings.Contains(s.shown.String()[before:], "[y/N] ") }, 20_000)
		require.Contains(t, s.shown.String()[before:], "Write up to 150 events again to table events in us-east-1 at http://127.0.0.1:")
		_, err := s.keyboard.WriteString(answer)
		require.NoError(t, err)
		require.Equal(t, exitUnconfirmed, <-code)
		require.Equal(t, 150, w.events(t))
	}
	s.shown.await(t, "\x1b[31moutbox: \x1b[0mnot confirmed: nothing was done")

	before := len(s.shown.String())
	code := s.run(t, w, append(again, "--rate", "400")...)
	waitFor(func() bool { return strings.Contains(s.shown.String()[before:], "[y/N] ") }, 20_000)
	_, err := s.keyboard.WriteString("y\n")
	require.NoError(t, err)
	require.Equal(t, exitOK, <-code)
	s.shown.await(t, "150 events found, 150 written again")
	require.Contains(t, s.shown.String()[before:], "writing", "the bar")
	require.Contains(t, s.shown.String()[before:], "(100/150", "the bar shows how far it is")
	require.Equal(t, 300, w.events(t))

	require.NoError(t, w.Drain(t.Context()))
	require.Equal(t, exitOK, <-s.run(t, w, "tail", "--from", "oldest", "--count", "3")) // text, at a terminal
	s.shown.await(t, "\x1b[32mORDER_CREATED\x1b[0m")
	require.Equal(t, exitOK, <-s.run(t, w, "doctor"))
	s.shown.await(t, "\x1b[33mwarning \x1b[0m")
}

// NO_COLOR and a dumb terminal have no colours, but still a question.
func TestATerminalWithoutColours(t *testing.T) {
	for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		w := newWorld(t)
		t.Setenv(name, value)
		s := newScreen(t)
		require.Equal(t, exitOK, <-s.run(t, w, "create"))
		s.shown.await(t, "+ events table events created")
		w.put(t, "a", 1)
		code := s.run(t, w, "replay", "--id", "a-000", "--again", "--run", "r")
		s.shown.await(t, "[y/N] ")
		_, err := s.keyboard.WriteString("no\n")
		require.NoError(t, err)
		require.Equal(t, exitUnconfirmed, <-code)
		require.Equal(t, exitOK, <-s.run(t, w, "doctor", "--no-alarms"))
		s.shown.await(t, "0 problems")
		require.NotContains(t, s.shown.String(), "\x1b[3", "a colour")
		require.NotContains(t, s.shown.String(), "\x1b[1m", "bold")
	}
}
