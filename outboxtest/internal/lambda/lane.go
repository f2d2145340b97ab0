package lambda

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"runtime/debug"
	"slices"
	"time"
)

const (
	// maxPayload is the size of an invocation that Lambda accepts.
	maxPayload = 6 << 20
	// firstPause doubles with every failed attempt up to longestPause. Lambda's
	// own pauses are longer and not documented.
	firstPause   = time.Millisecond
	longestPause = time.Second
)

// lane handles, in order and one batch at a time, the records of a shard that
// belong to it: all of them without parallelization, else those of its groups.
type lane struct {
	mapping *Mapping
	shardID string
	index   int

	// Guarded by mapping.mu.
	position int64 // everything before it has been handled
	ended    bool
	working  string // what the lane is at, "" when it waits for records
	failures int
	lastErr  error
}

func (l *lane) run(ctx context.Context) {
	for {
		batch, next, ended, ok := l.gather(ctx)
		if ctx.Err() != nil {
			return
		}
		if !ok {
			ended = true // trimmed away: there is nothing left to handle
		}
		if len(batch) > 0 && !l.process(ctx, batch) {
			return
		}
		l.commit(next, ended)
		if ended {
			return
		}
	}
}

// commit notes that everything before next has been handled.
func (l *lane) commit(next int64, ended bool) {
	m := l.mapping
	m.mu.Lock()
	l.position, l.ended, l.working, l.failures, l.lastErr = next, ended, "", 0, nil
	m.mu.Unlock()
	m.fire()
}

// pending is called with the mapping's lock held.
func (l *lane) pending() string {
	if l.working != "" {
		text := fmt.Sprintf("shard %s: %s", l.shardID, l.working)
		if l.failures > 0 {
			text += fmt.Sprintf(", failed %d times, last error: %v", l.failures, l.lastErr)
		}
		return text
	}
	if l.ended {
		return ""
	}
	if records, _, ended, ok := l.mapping.config.Source.Read(l.shardID, l.position, 1); len(records) > 0 {
		return fmt.Sprintf("shard %s: records from %s on are waiting", l.shardID, records[0].ID)
	} else if ok && ended {
		return fmt.Sprintf("shard %s: its end is about to be noticed", l.shardID)
	}
	return ""
}

func (l *lane) mine(r Record) bool {
	n := l.mapping.config.Parallel
	if n <= 1 {
		return true
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.Group)) // a hash never fails
	return int(h.Sum32()%uint32(n)) == l.index
}

func (l *lane) wanted(r Record) bool {
	names := l.mapping.config.EventNames
	return len(names) == 0 || slices.Contains(names, r.EventName)
}

// gather waits for records and makes a batch: as many as fit, as soon as there
// are any, or once the window is over. It returns the position after the batch
// and whether the shard ends there; ok is false when ctx ends or the shard is
// gone. A batch may be empty: only records that nobody wants, or the
// end.
func (l *lane) gather(ctx context.Context) (batch []Record, next int64, ended, ok bool) {
	m := l.mapping
	m.mu.Lock()
	next = l.position
	m.mu.Unlock()
	var window <-chan time.Time
	size := len(emptyEnvelope)
	for {
		more, flush := m.config.Source.Changed(), m.changed.Next()
		var full bool
		batch, next, size, ended, full, ok = l.collect(batch, next, size)
		switch {
		case !ok || ctx.Err() != nil:
			return nil, next, false, false
		case full || ended:
			return batch, next, ended, true
		case len(batch) == 0:
			l.skipTo(next)
		case m.config.Window == 0 || l.flushed():
			return batch, next, false, true
		case window == nil:
			timer := time.NewTimer(m.config.Window)
			defer timer.Stop()
			window = timer.C
		}
		select {
		case <-ctx.Done():
			return nil, next, false, false
		case <-window:
			return batch, next, false, true
		case <-more:
		case <-flush:
		}
	}
}

// skipTo moves on past records that nobody wants.
func (l *lane) skipTo(next int64) {
	m := l.mapping
	m.mu.Lock()
	moved := l.position != next
	l.position = next
	m.mu.Unlock()
	if moved {
		m.fire()
	}
}

func (l *lane) flushed() bool {
	l.mapping.mu.Lock()
	defer l.mapping.mu.Unlock()
	return l.mapping.flushing > 0
}

// collect adds what the source has to the batch until it is full.
func (l *lane) collect(batch []Record, next int64, size int) (_ []Record, after int64, newSize int, ended, full, ok bool) {
	for limit := l.mapping.config.BatchSize; len(batch) < limit; {
		want := limit - len(batch)
		records, end, atEnd, ok := l.mapping.config.Source.Read(l.shardID, next, want)
		if !ok {
			return nil, next, size, false, false, false
		}
		// Records may have been trimmed, so positions are counted from the end.
		start := end - int64(len(records))
		for i, r := range records {
			if !l.mine(r) || !l.wanted(r) {
				continue
			}
			grown := size + len(r.JSON) + 1
			if len(batch) > 0 && grown > maxPayload {
				return batch, start + int64(i), size, false, true, true
			}
			batch, size = append(batch, r), grown
		}
		next = end
		if atEnd || len(records) < want {
			return batch, next, size, atEnd, false, true
		}
	}
	return batch, next, size, false, true, true
}

const emptyEnvelope = `{"Records":[]}`

func payload(batch []Record) []byte {
	var b bytes.Buffer
	b.WriteString(`{"Records":[`)
	for i, r := range batch {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(r.JSON)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func stack() []byte { return debug.Stack() }
