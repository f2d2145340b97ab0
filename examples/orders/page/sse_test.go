package page

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watching is a client of a stream.
type watching struct {
	t      *testing.T
	answer *http.Response
	lines  *bufio.Scanner
}

// watchFrom opens a stream. seen is the id of the last line that was seen; in the header, as a browser sends it, or in the address.
func watchFrom(t *testing.T, url, header, parameter string) *watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?after="+parameter, nil)
	require.NoError(t, err)
	if header != "" {
		r.Header.Set("Last-Event-ID", header)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &watching{t: t, answer: answer, lines: lines}
}

// until reads up to a line with a beginning. It returns what was read, without that line.
func (w *watching) until(beginning string) (read []string) {
	w.t.Helper()
	for w.lines.Scan() {
		if strings.HasPrefix(w.lines.Text(), beginning) {
			return read
		}
		read = append(read, w.lines.Text())
	}
	require.FailNowf(w.t, "the stream has ended", "without %q: %v, after %d lines", beginning, w.lines.Err(), len(read))
	return nil
}

func serveStream(t *testing.T, f *feed, patience time.Duration, clients int) (s *stream, url string) {
	t.Helper()
	s = newStream(f, time.Minute, patience, clients)
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		s.close()
		server.Close()
	})
	return s, server.URL
}

// nobodyWatches waits until all streams have ended.
func nobodyWatches(t *testing.T, s *stream) {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.places) == 0 }, 20*time.Second, time.Millisecond, "a stream has not ended")
}

func TestAReaderThatComesBackGoesOnWhereItWas(t *testing.T) {
	f := newFeed(3)
	for n := range 3 {
		f.add(fmt.Append(nil, n+1))
	}
	_, url := serveStream(t, f, time.Minute, 100)
	first := watchFrom(t, url, "", "")
	require.Contains(t, first.until("data: 1"), "event: reset")
	first.until("data: 3")
	require.NotContains(t, first.until("event: live"), "event: reset")

	require.NotContains(t, watchFrom(t, url, f.id(2), "").until("data: 3"), "event: reset")
	require.NotContains(t, watchFrom(t, url, "", f.id(2)).until("data: 3"), "event: reset")
	require.NotContains(t, watchFrom(t, url, f.id(2), f.id(1)).until("data: 3"), "data: 2", "the browser's own place is the later one")
	f.add([]byte("4"))
	f.add([]byte("5"))
	first.until("data: 5")
	require.NotContains(t, watchFrom(t, url, f.id(2), "").until("data: 3"), "event: reset", "the next line is kept")
	for _, strange := range []string{f.id(1), f.id(0), f.id(6), f.id(1 << 63), "other-2", f.epoch, f.epoch + "-", f.epoch + "--1", f.epoch + "-99999999999999999999", "-", strings.Repeat("9", 10_000)} {
		require.Contains(t, watchFrom(t, url, strange, "").until("data: 3"), "event: reset", strange)
	}
}

// One that does not read is dropped, in the midst of a line, and holds up neither those who add nor those who read.
func TestAReaderThatDoesNotReadIsDropped(t *testing.T) {
	f := newFeed(1000)
	s, url := serveStream(t, f, 300*time.Millisecond, 10)
	slow, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer slow.Close()
	_, err = fmt.Fprintf(slow, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(s.places) == 1 }, 20*time.Second, time.Millisecond)
	quick := watchFrom(t, url, "", "")
	line := []byte(strings.Repeat("x", 100<<10))
	for range 500 { // more than the buffers of a connection take
		f.add(line)
	}
	f.add([]byte("end"))
	quick.until("data: end")
	require.NoError(t, quick.answer.Body.Close())
	nobodyWatches(t, s)
}

// One that is overtaken by what is kept is dropped, too: what it would get has gaps.
func TestAReaderThatIsOvertakenStartsAnew(t *testing.T) {
	f := newFeed(2)
	f.add([]byte("1"))
	s, url := serveStream(t, f, time.Minute, 10)
	w := watchFrom(t, url, "", "")
	w.until("event: live")
	f.mu.Lock() // the reader is at line 2
	f.next += 5
	f.mu.Unlock()
	f.add([]byte("7"))
	for w.lines.Scan() {
		require.False(t, strings.HasPrefix(w.lines.Text(), "data: 7"), "lines are left out")
	}
	require.NoError(t, w.lines.Err(), "the answer ends well")
	nobodyWatches(t, s)
	require.Contains(t, watchFrom(t, url, f.id(1), "").until("event: live"), "event: reset")
}

func TestThereIsALimitOfReaders(t *testing.T) {
	f := newFeed(2)
	s, url := serveStream(t, f, time.Minute, 2)
	first, second := watchFrom(t, url, "", ""), watchFrom(t, url, "", "")
	first.until("event: live")
	second.until("event: live")
	third := watchFrom(t, url, "", "")
	require.Equal(t, http.StatusServiceUnavailable, third.answer.StatusCode)
	require.NotEmpty(t, third.answer.Header.Get("Retry-After"))
	require.NoError(t, first.answer.Body.Close())
	require.Eventually(t, func() bool { return len(s.places) == 1 }, 20*time.Second, time.Millisecond, "a place is not given back")
	watchFrom(t, url, "", "").until("event: live")
	s.close()
	for second.lines.Scan() {
	}
	require.NoError(t, second.lines.Err(), "a stream that is closed does not end well")
	nobodyWatches(t, s)
}
