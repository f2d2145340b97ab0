package page

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// feed keeps the last lines that were added, and wakes those that wait for the next one. A reader has a place in it and no queue of
// its own, so that a slow one costs nothing. It is safe for concurrent use.
type feed struct {
	epoch string // tells the lines of this process from those of another one

	mu    sync.Mutex
	lines [][]byte // line n is at n modulo the length
	next  uint64   // of the next line; the first one is 1
	more  chan struct{}
}

func newFeed(size int) *feed {
	return &feed{epoch: rand.Text(), lines: make([][]byte, size), next: 1, more: make(chan struct{})}
}

func (f *feed) add(line []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines[f.next%uint64(len(f.lines))] = line
	f.next++
	close(f.more)
	f.more = make(chan struct{})
}

// oldest is the first line that is kept. The lock is held.
func (f *feed) oldest() uint64 {
	if size := uint64(len(f.lines)); f.next > size {
		return f.next - size
	}
	return 1
}

// start is the place of a reader that knows nothing.
func (f *feed) start() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.oldest()
}

// after is the place of a reader that has read up to the line with an id. ok is false if what follows is not known any more.
func (f *feed) after(id string) (n uint64, ok bool) {
	epoch, number, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || epoch != f.epoch || n >= f.next || n+1 < f.oldest() {
		return 0, false
	}
	return n + 1, true
}

func (f *feed) id(n uint64) string { return fmt.Sprintf("%s-%d", f.epoch, n) }

var errBehind = errors.New("the reader is behind what is kept")

// from returns the lines from a place on, at most a number of them. If there is none, more is closed as soon as there is.
func (f *feed) from(n uint64, most int) (lines [][]byte, more <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n < f.oldest() {
		return nil, nil, errBehind
	}
	for ; n < f.next && len(lines) < most; n++ {
		lines = append(lines, f.lines[n%uint64(len(f.lines))])
	}
	return lines, f.more, nil
}

// kept returns the lines there are, the latest one first.
func (f *feed) kept() (lines [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := f.next - 1; n >= f.oldest(); n-- {
		lines = append(lines, f.lines[n%uint64(len(f.lines))])
	}
	return lines
}
