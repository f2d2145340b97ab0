package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watched reads the steps that the page gets to see, from the one after the id on.
func watched(t *testing.T, url, after string, enough func(stages []string) bool) (stages []string, last string) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/watch", nil)
	require.NoError(t, err)
	r.Header.Set("Last-Event-ID", after)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	require.Equal(t, "text/event-stream", answer.Header.Get("Content-Type"))
	lines := bufio.NewScanner(answer.Body)
	for !enough(stages) && lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			last = id
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		var step struct{ Stage, Event string }
		if ok && json.Unmarshal([]byte(data), &step) == nil && step.Stage != "" {
			stages = append(stages, step.Stage)
		}
	}
	require.Truef(t, enough(stages), "the steps end at %q: %v", stages, lines.Err())
	return stages, last
}

// The page and what its buttons do: an order, the same change record once more, a poison order, and its redrive.
func TestThePageShowsWhatBecomesOfOrders(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, out) }()
	buffer := make([]byte, 4096)
	n, err := in.Read(buffer)
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, in) }()
	url := regexp.MustCompile(`http://[0-9.:]+`).FindString(string(buffer[:n]))

	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"} {
		answer, err := http.Get(url + path)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode, path)
		require.Contains(t, answer.Header.Get("Content-Type"), kind)
		require.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'")
		require.NotEmpty(t, body)
	}

	id := place(t, url, `{"description":"two coffees"}`)
	stages, last := watched(t, url, "", func(s []string) bool { return slices.Contains(s, "finished") })
	for _, stage := range []string{"committed", "delivered", "started", "mailed"} {
		require.Contains(t, stages, stage)
	}
	post(t, url+"/events/"+"ORDER_CREATED%23"+id+"/again", http.StatusAccepted)
	stages, last = watched(t, url, last, func(s []string) bool { return slices.Contains(s, "duplicate") })
	require.NotContains(t, stages, "committed", "what was seen comes again")
	require.NotContains(t, stages, "mailed")

	post(t, url+"/poison", http.StatusCreated)
	count := func(s []string, stage string) (n int) {
		for _, have := range s {
			if have == stage {
				n++
			}
		}
		return n
	}
	stages, last = watched(t, url, last, func(s []string) bool { return count(s, "parked") == 2 })
	require.Equal(t, 1, count(stages, "dead"))
	post(t, url+"/redrive", http.StatusOK)
	stages, _ = watched(t, url, last, func(s []string) bool { return slices.Contains(s, "redriven") })
	require.GreaterOrEqual(t, count(stages, "mailed"), 1)

	post(t, url+"/events/nobody/again", http.StatusNotFound)
	stop()
	require.NoError(t, <-ended)
}

func post(t *testing.T, url string, want int) {
	answer, err := http.Post(url, "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, answer.Body)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, want, answer.StatusCode, url)
}
