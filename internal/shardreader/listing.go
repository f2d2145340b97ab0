package shardreader

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// pageTimeout is how long one page of a listing may take, with the client's own retries. A listing has as many pages as it needs.
	pageTimeout = time.Minute
	// keptPages is how long the pages of a listing that failed are kept. A token of Kinesis lives for five minutes.
	keptPages = 2 * time.Minute
	// barrenPages is how many pages in a row may bring no new shard. DynamoDB Streams has empty pages.
	barrenPages = 100
)

// listing lists the shards of a stream: once at a time, for all who ask meanwhile, and from the page that failed. The zero value is
// ready for use. It is safe for concurrent use.
//
// Whoever asks may get pages that were read a little before. So a shard that is listed is there, and a shard that is closed stays closed,
// but a shard that is missing may be younger than its page.
type listing struct {
	mu      sync.Mutex
	running *run
	last    []Shard // the last complete listing

	soFar partial // what the one who lists has read, or has left to the next one
}

// run is a listing under way.
type run struct {
	done   chan struct{}
	shards []Shard
	err    error
	left   bool // its caller's context has ended; somebody else goes on
}

// partial is what is known of a listing that is not complete.
type partial struct {
	shards []Shard
	index  map[string]int  // of shards by their ids
	tokens map[string]bool // those that have been used
	token  string          // of the next page; "" for the first
	count  int             // pages read
	barren int             // pages in a row without a new shard
	at     time.Time       // when the last page was read
}

// read reads a page. The token of the first page is "", and so is the token behind the last page.
type read func(ctx context.Context, token string) (shards []Shard, next string, err error)

// all returns all shards. The slice is shared, and must not be changed.
func (l *listing) all(ctx context.Context, read read) ([]Shard, error) {
	for {
		l.mu.Lock()
		r := l.running
		lead := r == nil
		if lead {
			r = &run{done: make(chan struct{})}
			l.running = r
		}
		l.mu.Unlock()
		if lead {
			l.lead(ctx, r, read)
			return r.shards, r.err
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if !r.left {
			return r.shards, r.err
		}
	}
}

func (l *listing) lead(ctx context.Context, r *run, read read) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.running = nil; r.err == nil && !r.left {
			l.last = r.shards
		}
		close(r.done)
	}()
	r.left = true // also if the client panics
	r.shards, r.err = l.read(ctx, read)
	r.left = r.err != nil && ctx.Err() != nil
}

// read reads the pages that are missing.
func (l *listing) read(ctx context.Context, read read) ([]Shard, error) {
	resumed := l.soFar.token != "" && time.Since(l.soFar.at) < keptPages
	if !resumed {
		l.soFar = partial{}
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		page, cancel := context.WithTimeout(ctx, pageTimeout)
		shards, next, err := read(page, l.soFar.token)
		cancel()
		if err != nil {
			if resumed && ctx.Err() == nil && judge(err) == stop { // the token is too old, or its shard has expired
				l.soFar, resumed = partial{}, false
				continue
			}
			return nil, err
		}
		resumed = false
		if err := l.soFar.add(shards, next); err != nil {
			l.soFar = partial{}
			return nil, err
		}
		if next == "" {
			complete := l.soFar.complete()
			l.soFar = partial{}
			return complete, nil
		}
	}
}

func (p *partial) add(shards []Shard, next string) error {
	if p.index == nil {
		p.index, p.tokens = map[string]int{}, map[string]bool{}
	}
	p.at = time.Now()
	p.count++
	p.barren++
	for _, s := range shards {
		if err := s.check(); err != nil {
			return err
		}
		if i, known := p.index[s.ID]; known {
			p.shards[i] = s
			continue
		}
		p.barren = 0
		p.index[s.ID] = len(p.shards)
		p.shards = append(p.shards, s)
	}
	if p.token = next; next == "" {
		return nil
	}
	if p.tokens[next] || p.barren > barrenPages {
		return fmt.Errorf("the listing of the shards does not end: %d pages have brought %d shards", p.count, len(p.shards))
	}
	p.tokens[next] = true
	return nil
}

// complete returns all shards. Not every server says where a closed shard ends, but its children name it.
func (p *partial) complete() []Shard {
	for _, s := range p.shards {
		for _, parent := range s.Parents {
			if i, listed := p.index[parent]; listed {
				p.shards[i].Closed = true
			}
		}
	}
	return p.shards
}

// known returns the last complete listing, which may be old.
func (l *listing) known() []Shard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *listing) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running != nil
}

// ended says whether a listing shows that a shard has ended, and which shards continue it. A disabled stream has closed shards without
// children, and children outlive their parent in the listing.
func ended(all []Shard, shard string) (bool, []Shard) {
	children := childrenOf(all, shard)
	closed := slices.ContainsFunc(all, func(s Shard) bool { return s.ID == shard && s.Closed })
	return closed || len(children) > 0, children
}

// continues says whether all these shards are children of a shard.
func continues(children []Shard, shard string) bool {
	return !slices.ContainsFunc(children, func(s Shard) bool { return s.ID == "" || !slices.Contains(s.Parents, shard) })
}

func childrenOf(all []Shard, shard string) (children []Shard) {
	for _, s := range all {
		if slices.Contains(s.Parents, shard) {
			children = append(children, s)
		}
	}
	return children
}
