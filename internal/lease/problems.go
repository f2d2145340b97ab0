package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// contact says when a service has last answered.
type contact struct {
	last time.Time // zero: never
	err  error     // why it has not since
}

func (c *contact) note(at time.Time, err error) {
	if err == nil {
		c.last = at
	}
	c.err = err
}

// beat takes in what a heartbeat, or a registration before the first, came to. The time of a heartbeat counts from when it was sent.
func (h *Health) beat(sent time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beats.note(sent, err)
}

// look takes in what a look at the table came to.
func (h *Health) look(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks.note(time.Now(), err)
}

// stop takes in that the worker drains.
func (h *Health) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
}

// Problems returns each reason why the worker cannot do its work at the moment; none if it can. It makes no call. Before a Run nobody knows.
//
// A lease lasts for Duration without a heartbeat, so this is also how long nothing else is held against the worker, except for its listings:
// there is one in List, so failures count after two.
func (h *Health) Problems() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	var problems []error
	add := func(why error, format string, args ...any) {
		err := fmt.Errorf(format, args...)
		if why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		problems = append(problems, err)
	}
	ago := func(t time.Time) time.Duration { return now.Sub(t).Round(time.Second) }
	if h.stopped {
		add(nil, "the worker is stopping")
	}
	switch c := h.beats; {
	case c.last.IsZero():
		add(c.err, "no heartbeat has been stored yet")
	case now.Sub(c.last) >= h.doubt:
		add(c.err, "no heartbeat has been stored for %v", ago(c.last))
	}
	switch c := h.looks; {
	case c.last.IsZero():
		add(c.err, "the lease table has not been read yet")
	case now.Sub(c.last) >= h.doubt:
		add(c.err, "the lease table has not been read for %v", ago(c.last))
	}
	switch {
	case h.listed.IsZero():
		add(h.why, "the shards of the stream have not been listed yet")
	case h.failed > 0 && now.Sub(h.listed) >= h.sick():
		add(h.why, "the shards of the stream have not been listed for %v", ago(h.listed))
	}
	var failing []error
	for l, r := range h.reads {
		if !r.first.IsZero() && now.Sub(r.first) >= h.doubt {
			failing = append(failing, fmt.Errorf("shard %s has not been read for %v: %w", l.shard.ID, ago(r.first), r.err))
		}
	}
	slices.SortFunc(failing, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	problems = append(problems, failing...)
	if h.left != nil && len(failing) == 0 {
		add(h.left, "the worker leaves its shards to others")
	}
	return problems
}
