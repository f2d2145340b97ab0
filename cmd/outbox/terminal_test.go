package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// screen is a pseudo-terminal, and what was written to it.
type screen struct {
	keyboard, command *os.File
	shown             syncBuffer
	read              chan struct{}
}

func newScreen(t *testing.T) *screen { return newScreenOf(t, 160) }

func newScreenOf(t *testing.T, columns uint16) *screen {
	keyboard, command, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, pty.Setsize(keyboard, &pty.Winsize{Rows: 40, Cols: columns}))
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
		require.Contains(t, s.shown.String()[before:], "No inbox knows the copies: what was handled already is handled again. Write up to 150 events again to table events in us-east-1 at http://127.0.0.1:")
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

// ours are the sequences that the command itself sends to a terminal: its colours, and those of the bar, which takes its line away.
var ours = regexp.MustCompile(`\x1b\[(0|1|2|22|31|32|33|36|K|0m\x1b\[K)m?|\r`)

// At a narrow and at a wide terminal, with colours and without, each command shows the texts of others as what they are. What drives the
// terminal is the command's own, and no bar is wider than the terminal.
func TestHostileTextsAtATerminal(t *testing.T) {
	for _, columns := range []uint16{40, 200} {
		for _, noColor := range []string{"", "1"} {
			t.Run(fmt.Sprintf("%d columns, NO_COLOR=%s", columns, noColor), func(t *testing.T) {
				w := hostileWorld(t)
				t.Setenv("NO_COLOR", noColor)
				s := newScreenOf(t, columns)
				for _, command := range everyCommand {
					for _, call := range command.calls {
						<-s.run(t, w, strings.Fields(call)...)
					}
				}
				fmt.Fprintln(s.command, "the end")
				s.shown.await(t, "the end")
				shown := s.shown.String()
				require.Contains(t, shown, `\u001b[2J`)
				require.Equal(t, noColor == "", strings.Contains(shown, "\x1b[32m"))
				requireHarmless(t, ours.ReplaceAllString(shown, ""))
				for _, bar := range regexp.MustCompile(`\r[^\r\n]*[|█][^\r\n]*`).FindAllString(shown, -1) {
					require.LessOrEqual(t, utf8.RuneCountInString(ours.ReplaceAllString(bar, "")), int(columns), "%q", bar)
				}
			})
		}
	}
}

// status --watch looks again and again, each time in the place of the last, and a look that fails does not end it.
func TestStatusWatches(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create")
	s := newScreen(t)
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- w.app(s.command, s.command, s.command).run(ctx, []string{"status", "--group", "g", "--watch", "1s"})
	}()
	s.shown.await(t, "\x1b[H\x1b[2JSHARD")
	before := len(s.shown.String())
	w.refuse("ListShards")
	waitFor(func() bool { return strings.Contains(s.shown.String()[before:], "AccessDeniedException") }, 20_000)
	require.Contains(t, s.shown.String()[before:], "AccessDeniedException")
	w.refuse()
	before = len(s.shown.String())
	waitFor(func() bool { return strings.Contains(s.shown.String()[before:], "\x1b[H\x1b[2JSHARD") }, 20_000)
	require.Contains(t, s.shown.String()[before:], "\x1b[H\x1b[2JSHARD")
	cancel()
	require.Equal(t, exitInterrupted, <-code)

	// In a pipe the looks follow each other.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	var out, errs syncBuffer
	go func() {
		code <- w.app(nil, &out, &errs).run(ctx, []string{"status", "--group", "g", "--watch", "1s", "-o", "json"})
	}()
	waitFor(func() bool { return strings.Count(out.String(), "\n}\n") >= 2 }, 20_000)
	cancel()
	require.Equal(t, exitInterrupted, <-code)
	d := json.NewDecoder(strings.NewReader(out.String()))
	for range 2 {
		var look statusJSON
		require.NoError(t, d.Decode(&look))
		require.Len(t, look.Shards, 1)
	}
}
