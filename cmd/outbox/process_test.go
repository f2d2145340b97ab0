//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// TestMain makes the test's program the command itself, for tests that need a process.
func TestMain(m *testing.M) {
	if os.Getenv("OUTBOX_TEST_IS_THE_COMMAND") != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is the command as a program of its own, with the test's environment.
func process(t *testing.T, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "OUTBOX_TEST_IS_THE_COMMAND=1")
	return cmd
}

// endOf runs a program and returns its exit code, -1 for a signal, and what it said on standard error.
func endOf(t *testing.T, cmd *exec.Cmd) (code int, said string) {
	var stderr bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// eventful is a world with something for each command to print.
func eventful(t *testing.T) *world {
	w := newWorld(t)
	w.ok(t, "create", "--dead-letters", "dead-letters", "--inbox", "inbox")
	w.put(t, "a", 3)
	require.NoError(t, w.Drain(t.Context()))
	box, err := outbox.NewInbox(w.dynamodb, "inbox", "c")
	require.NoError(t, err)
	consumer, err := outbox.NewConsumer(outbox.WithInbox(box), outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	outbox.Handle(consumer, func(context.Context, outbox.Event[orderCreated]) error { return nil })
	require.NoError(t, consumer.Process(t.Context(), outbox.Record{ID: "0", Type: "ORDER_CREATED", Table: "events", Payload: []byte("{}")})) // so that the inbox knows the consumer
	return w
}

// printing are calls that print something in an eventful world.
var printing = [][]string{
	{"--help"}, {"--version"}, {"help", "tail"}, {"completion", "bash"},
	{"create"}, {"create", "-o", "json"}, {"tail", "--from", "oldest", "--count", "3"}, {"tail", "--from", "oldest", "--count", "3", "-o", "text"},
	{"replay", "--type", "ORDER_CREATED"}, {"replay", "--type", "ORDER_CREATED", "--dry-run"},
	{"replay", "--type", "ORDER_CREATED", "--again", "--run", "r", "--yes"}, {"replay", "--id", "a-000", "-o", "json"},
	{"status", "--group", "g"}, {"status", "--group", "g", "-o", "json"}, {"doctor", "--no-alarms"}, {"doctor", "--no-alarms", "-o", "json"},
	{"reconcile", "--consumer", "c"}, {"reconcile", "--consumer", "c", "-o", "json"},
	{"dead", "list", "--consumer", "c"}, {"dead", "redrive", "--consumer", "c", "--all", "--yes"}, {"dead", "discard", "--consumer", "c", "--all", "--yes", "-o", "json"},
	{"order", "show", "--consumer", "c", "a"}, {"order", "forget", "--consumer", "c", "a", "--yes"}, {"order", "forget", "--consumer", "c", "a", "-o", "json"},
}

// On a full disk each command ends with 1 and says why, and none says 0.
func TestAFullDiskIsAnExitCode(t *testing.T) {
	eventful(t)
	if runtime.GOOS == "darwin" {
		t.Skip("macOS has no /dev/full")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	for _, args := range printing {
		cmd := process(t, args...)
		cmd.Stdout = full
		code, said := endOf(t, cmd)
		require.Equal(t, exitFailed, code, "%q: %s", args, said)
		require.Contains(t, said, "outbox: the output is incomplete: write /dev/stdout: no space left on device\n", args)
	}

	cmd := process(t, "replay", "--type", "NONE") // a note
	cmd.Stderr = full
	code, _ := endOf(t, cmd)
	require.Equal(t, exitFailed, code)
}

// If nobody reads the pipe, each command ends with 141, silently; one that changes something has done so.
func TestAClosedPipeIsAnExitCode(t *testing.T) {
	w := eventful(t)
	for _, args := range printing {
		read, write, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, read.Close())
		cmd := process(t, args...)
		cmd.Stdout = write
		code, said := endOf(t, cmd)
		require.NoError(t, write.Close())
		require.Equal(t, exitNoReader, code, "%q: %s", args, said)
		require.Empty(t, withoutNotes(said), args)
	}
	require.Equal(t, 6, w.events(t), "replay --again has written its copies")
}

// tail | head ends with head.
func TestTailEndsWithItsReader(t *testing.T) {
	w := eventful(t)
	cmd := process(t, "tail", "--from", "oldest")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, out.Close())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for i := 0; ; i++ { // it learns of it with its next event
		w.put(t, fmt.Sprintf("later-%d", i), 1)
		require.NoError(t, w.Drain(t.Context()))
		select {
		case <-ended:
			require.Equal(t, exitNoReader, cmd.ProcessState.ExitCode())
			return
		case <-time.After(100 * time.Millisecond):
			require.Less(t, i, 200)
		}
	}
}

// The first signal ends tail in good order. If it cannot, since nobody takes what it writes, the second ends it at once.
func TestASecondSignalEndsTheCommandAtOnce(t *testing.T) {
	w := eventful(t)
	cmd := process(t, "tail", "--from", "oldest")
	shown, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(shown).ReadString('\n') // it has begun
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	require.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())

	w.put(t, "b", 1000)
	require.NoError(t, w.Drain(t.Context()))
	cmd = process(t, "tail", "--from", "oldest", "--payload")
	out, err := cmd.StdoutPipe() // 64 KiB, and then tail's writes wait
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 100))
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() { _, _ = cmd.Process.Wait(); close(ended) }()
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-ended:
		require.Fail(t, "the first signal ended it, so the test shows nothing")
	case <-time.After(time.Second):
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		require.Fail(t, "the second signal did not end it")
	}
}
