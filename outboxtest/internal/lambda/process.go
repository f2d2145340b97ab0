package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// part is a batch or a piece of one, with the attempts that count against it.
type part struct {
	records  []Record
	attempts int
}

// process invokes the function with a batch until all of it is handled or
// given up. It returns false if the mapping stops before that.
func (l *lane) process(ctx context.Context, batch []Record) bool {
	parts := []part{{records: batch}}
	pause := firstPause
	for len(parts) > 0 {
		p := parts[0]
		p.records = l.dropOld(p)
		if len(p.records) == 0 {
			parts = parts[1:]
			continue
		}
		body := payload(p.records)
		if len(body) > maxPayload {
			l.discard(TooLarge, p.records, p.attempts, fmt.Errorf("a payload of %d bytes is more than Lambda takes", len(body)))
			parts = parts[1:]
			continue
		}
		l.at(p)
		handled, err := l.attempt(ctx, p.records, body)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			parts, pause = parts[1:], firstPause
			continue
		}
		rest, progressed := l.after(p, handled, err)
		parts = append(rest, parts[1:]...)
		if progressed {
			pause = firstPause
		}
		if !wait(ctx, pause) {
			return false
		}
		pause = min(2*pause, longestPause)
	}
	return true
}

// at notes what the lane is at, for Pending.
func (l *lane) at(p part) {
	m := l.mapping
	m.mu.Lock()
	defer m.mu.Unlock()
	l.working = fmt.Sprintf("a batch of %d records from %s on is being handled", len(p.records), p.records[0].ID)
}

// after decides what comes after a failure: the parts to go on with, and
// whether there was progress.
func (l *lane) after(p part, handled int, err error) (rest []part, progressed bool) {
	m := l.mapping
	m.mu.Lock()
	l.failures++
	l.lastErr = err
	m.mu.Unlock()
	if handled > 0 {
		// Partial progress starts the count anew for what is left.
		return []part{{records: p.records[handled:]}}, true
	}
	var partial *itemFailure
	if m.config.Bisect && len(p.records) > 1 && !errors.As(err, &partial) {
		// Splitting does not count as an attempt.
		half := len(p.records) / 2
		return []part{{p.records[:half], p.attempts}, {p.records[half:], p.attempts}}, false
	}
	p.attempts++
	if m.config.MaxAttempts > 0 && p.attempts >= m.config.MaxAttempts {
		l.discard(RetriesExhausted, p.records, p.attempts, err)
		return nil, false
	}
	return []part{p}, false
}

func (l *lane) dropOld(p part) []Record {
	m := l.mapping
	if m.config.MaxAge <= 0 {
		return p.records
	}
	horizon := m.config.Now().Add(-m.config.MaxAge)
	var old, young []Record
	for _, r := range p.records {
		if r.Arrived.Before(horizon) {
			old = append(old, r)
		} else {
			young = append(young, r)
		}
	}
	if len(old) > 0 {
		l.discard(TooOld, old, p.attempts, fmt.Errorf("older than %v", m.config.MaxAge))
	}
	return young
}

func (l *lane) discard(condition string, records []Record, attempts int, err error) {
	if l.mapping.config.OnFailure == nil {
		return
	}
	var failed *functionError
	l.mapping.config.OnFailure(Discarded{Condition: condition, ShardID: l.shardID, Records: slices.Clone(records),
		Payload: payload(records), Attempts: attempts, Err: err, FunctionFailed: errors.As(err, &failed)})
}

func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// itemFailure is an answer that names records of the batch.
type itemFailure struct{ id string }

func (e *itemFailure) Error() string { return "the function reported record " + e.id + " as failed" }

// functionError is what the function itself failed with, not what its answer said.
type functionError struct{ error }

func (e *functionError) Unwrap() error { return e.error }

// attempt invokes the function once. It returns how many records, from the
// first on, are handled; an error if that is not all of them.
func (l *lane) attempt(ctx context.Context, batch []Record, body []byte) (handled int, err error) {
	answer, err := l.mapping.invoke(ctx, body)
	if err != nil {
		return 0, &functionError{err}
	}
	if !l.mapping.config.ReportBatchItemFailures {
		if report := l.mapping.config.OnIgnored; report != nil && namesFailures(answer) {
			report()
		}
		return len(batch), nil
	}
	return judge(batch, answer)
}

// namesFailures tells whether an answer is a partial batch response that names records.
func namesFailures(answer []byte) bool {
	var response struct {
		Failures []json.RawMessage `json:"batchItemFailures"`
	}
	return json.Unmarshal(answer, &response) == nil && len(response.Failures) > 0
}

// judge reads a partial batch response.
func judge(batch []Record, answer []byte) (handled int, err error) {
	// Lambda takes every empty answer for success, not only an empty object.
	if slices.Contains([]string{"", "null", `""`, "[]"}, string(bytes.TrimSpace(answer))) {
		return len(batch), nil
	}
	var response struct {
		Failures []json.RawMessage `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &response); err != nil {
		return 0, fmt.Errorf("the function's answer is not a batch response: %w", err)
	}
	lowest := len(batch)
	for _, raw := range response.Failures {
		var failure map[string]any
		if err := json.Unmarshal(raw, &failure); err != nil {
			return 0, fmt.Errorf("a batch item failure is not an object: %s", raw)
		}
		id, _ := failure["itemIdentifier"].(string)
		i := slices.IndexFunc(batch, func(r Record) bool { return r.ID == id })
		if id == "" || i < 0 {
			return 0, fmt.Errorf("the function reported an item identifier that is not in the batch: %s", raw)
		}
		lowest = min(lowest, i)
	}
	if lowest == len(batch) {
		return len(batch), nil
	}
	return lowest, &itemFailure{id: batch[lowest].ID}
}
