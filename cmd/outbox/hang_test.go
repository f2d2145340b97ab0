package main

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mute leads the environment to an AWS that accepts connections and never answers.
func mute(t *testing.T) *world {
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var accepted []net.Conn
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			accepted = append(accepted, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range accepted {
			_ = c.Close()
		}
	})
	t.Setenv("AWS_ENDPOINT_URL", "http://"+listener.Addr().String())
	return w
}

// Every command ends against an AWS that accepts and does not answer, says why, and exits with 1. With -o json a document says it, too.
func TestEveryCommandEndsThoughAWSNeverAnswers(t *testing.T) {
	w := mute(t)
	each(t, func(t *testing.T, args []string) {
		for _, output := range []string{"text", "json"} {
			a := append(args[:len(args):len(args)], "--timeout", "100ms", "-o", output)
			r := w.run(t, a...) // within a minute, or it is interrupted
			require.Equal(t, exitFailed, r.code, r)
			said := r.out + r.err
			require.Contains(t, said, "no answer from AWS within 100ms (--timeout)")
			require.NotContains(t, said, "operation error")
			require.NotContains(t, said, "panic")
			if output == "json" && r.out != "" {
				require.True(t, json.Valid([]byte(r.out)), r.out)
			}
		}
	})
}

// tail --for ends in its time, too, and does not say that there were no events where nobody said so.
func TestTailForEndsThoughAWSNeverAnswers(t *testing.T) {
	w := mute(t)
	r := w.run(t, "tail", "--for", "100ms")
	require.Equal(t, result{exitFailed, "", "outbox: list the shards of stream events: no answer within 100ms (--for)\n"}, r)

	w = newWorld(t)
	w.ok(t, "create")
	w.put(t, "a", 1)
	require.NoError(t, w.Drain(t.Context()))
	w.hang(t, "GetRecords")
	r = w.run(t, "tail", "--from", "oldest", "--for", "500ms")
	require.Equal(t, exitFailed, r.code)
	require.Empty(t, r.out)
	require.Contains(t, r.err, "its last request was not answered within 500ms (--for), so events may be missing")
}

// status and doctor keep --timeout in all, however many calls are answered, and tell what they have found.
func TestAProbeEndsThoughOneCallIsNeverAnswered(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--retention", "72h")
	w.put(t, "a", 1)
	require.NoError(t, w.Drain(t.Context()))
	w.hang(t, "GetRecords", "ListEventSourceMappings")
	r := w.run(t, "status", "--group", "g", "--timeout", "500ms", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, decode[statusJSON](t, r.out).Shards[0].Error, "no answer from AWS within 500ms (--timeout)")

	r = w.run(t, "doctor", "--function", "f", "--timeout", "2s", "-o", "json")
	found := decode[doctorJSON](t, r.out).Findings
	unknown := 0
	for _, f := range found {
		if strings.Contains(f.Finding, "no answer from AWS within 2s (--timeout)") {
			require.Equal(t, gradeUnknown, f.Grade)
			unknown++
		}
	}
	require.Positive(t, unknown)
	require.Contains(t, r.out, `"check": "destination"`)
}

// hang makes operations never answer.
func (w *world) hang(t *testing.T, operations ...string) {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.intercept = func(operation string, _ http.ResponseWriter, in *http.Request) bool {
		for _, o := range operations {
			if o == operation {
				select {
				case <-done:
				case <-in.Context().Done():
				case <-time.After(time.Minute):
				}
				return true
			}
		}
		return false
	}
}
