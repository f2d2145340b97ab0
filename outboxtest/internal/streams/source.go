package streams

import (
	"context"
	"time"
)

// Record is one record as an event source mapping reads it.
type Record struct {
	SequenceNumber string
	EventName      string
	Group          string // the item: parallel batches are divided by it
	At             time.Time
	JSON           []byte
}

// Shard is one shard of a stream and its lineage.
type Shard struct{ ID, Parent string }

// Resolve returns the ARN of a table's newest stream, or of the stream with
// that ARN; false if there is none.
func (e *Engine) Resolve(ctx context.Context, tableOrARN string) (string, bool) {
	e.refresh(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.streams[tableOrARN]; s != nil {
		return s.arn, true
	}
	if s := e.latest(tableOrARN); s != nil {
		return s.arn, true
	}
	return "", false
}

// Shards returns the shards of a stream, parents before children.
func (e *Engine) Shards(arn string) []Shard {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.streams[arn]
	if s == nil {
		return nil
	}
	out := make([]Shard, 0, len(s.shards))
	for _, sh := range s.shards {
		out = append(out, Shard{ID: sh.id, Parent: sh.parent})
	}
	return out
}

// Position is where a mapping begins in a shard: TRIM_HORIZON or LATEST.
func (e *Engine) Position(arn, shardID, kind string) (int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sh := e.find(arn, shardID)
	if sh == nil {
		return 0, false
	}
	if kind == "LATEST" {
		return sh.end(), true
	}
	return sh.trimmed, true
}

// Read returns up to limit records from a position on, the position after
// them and whether the shard has ended there; ok is false if it is gone.
func (e *Engine) Read(arn, shardID string, position int64, limit int) (records []Record, next int64, ended, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trim()
	sh := e.find(arn, shardID)
	if sh == nil {
		return nil, position, true, false
	}
	rest := sh.from(position)
	page := rest[:min(limit, len(rest))]
	for _, r := range page {
		records = append(records, Record{SequenceNumber: r.sequence, EventName: r.change.Kind, Group: group(r),
			At: r.change.At, JSON: r.lambdaJSON(e.config.Region, arn)})
	}
	return records, max(position, sh.trimmed) + int64(len(page)), sh.last != "" && len(page) == len(rest), true
}

func (e *Engine) find(arn, shardID string) *shard {
	if s := e.streams[arn]; s != nil {
		return s.shard(shardID)
	}
	return nil
}
