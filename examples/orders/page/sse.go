package page

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// stream serves a feed as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). It is safe for
// concurrent use.
//
// A client gets what is kept, then the event "live", then every line as it comes. One that comes back with the id of the last line that it has
// seen, in the header Last-Event-ID or as the parameter after, goes on there; if that is not possible, the event "reset" tells it to forget what
// it knows. A client that does not take what is sent to it within the patience, or that is overtaken by what is kept, is dropped.
type stream struct {
	feed      *feed
	heartbeat time.Duration // after which silence is broken by a comment
	patience  time.Duration // with a client, for each write
	most      int           // clients at a time

	closing sync.Once
	closed  chan struct{}
	places  chan struct{}
}

func newStream(f *feed, heartbeat, patience time.Duration, clients int) *stream {
	return &stream{feed: f, heartbeat: heartbeat, patience: patience, most: clients, closed: make(chan struct{}), places: make(chan struct{}, clients)}
}

// close ends all streams.
func (s *stream) close() { s.closing.Do(func() { close(s.closed) }) }

// linesPerWrite bounds what one write may hold.
const linesPerWrite = 64

func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		w.Header().Set("Retry-After", "5")
		service.Answer(w, http.StatusServiceUnavailable, service.Problem{Error: fmt.Sprintf("%d clients are watching, which is the limit", s.most)})
		return
	}
	control := http.NewResponseController(w)
	send := func(text []byte) bool {
		if control.SetWriteDeadline(time.Now().Add(s.patience)) != nil {
			return false
		}
		if _, err := w.Write(text); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	if control.SetReadDeadline(time.Time{}) != nil { // the server's is for the request, and would end the stream, too
		service.Answer(w, http.StatusInternalServerError, service.Problem{Error: "no streaming here"})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)

	opening := "retry: 1000\n\n"
	seen := r.Header.Get("Last-Event-ID") // a browser sends it when it comes back by itself
	if seen == "" {
		seen = r.URL.Query().Get("after")
	}
	n, known := s.feed.after(seen)
	if !known {
		n = s.feed.start()
		opening += "event: reset\ndata: {}\n\n"
	}
	if !send([]byte(opening)) {
		return
	}
	live := false
	silence := time.NewTimer(s.heartbeat)
	defer silence.Stop()
	for {
		lines, more, err := s.feed.from(n, linesPerWrite)
		if err != nil {
			return
		}
		var text bytes.Buffer
		for _, line := range lines {
			fmt.Fprintf(&text, "id: %s\ndata: %s\n\n", s.feed.id(n), line)
			n++
		}
		if len(lines) == 0 && !live {
			live = true
			text.WriteString("event: live\ndata: {}\n\n")
		}
		if text.Len() > 0 {
			if !send(text.Bytes()) {
				return
			}
			silence.Reset(s.heartbeat)
			continue
		}
		select {
		case <-more:
		case <-silence.C:
			if !send([]byte(": still here\n\n")) {
				return
			}
			silence.Reset(s.heartbeat)
		case <-r.Context().Done():
			return
		case <-s.closed:
			return
		}
	}
}
