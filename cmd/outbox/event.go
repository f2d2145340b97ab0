package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-1b628d3f/outbox"
)

// eventJSON is an event as the commands print it. Payload and headers may be private: they are only there on request.
type eventJSON struct {
	ID             string            `json:"id"`
	Type           string            `json:"type"`
	AggregateID    string            `json:"aggregateId,omitempty"`
	Sequence       int64             `json:"sequence,omitempty"`
	Time           time.Time         `json:"time,omitzero"`
	ContentType    string            `json:"contentType,omitempty"`
	Headers        map[string]string `json:"headers,omitempty"`
	Payload        json.RawMessage   `json:"payload,omitempty"`       // if it is JSON in UTF-8
	PayloadBytes   []byte            `json:"payloadBase64,omitempty"` // if not
	Table          string            `json:"table,omitempty"`
	ChangedAt      time.Time         `json:"changedAt,omitzero"`
	Shard          string            `json:"shard,omitempty"`
	SequenceNumber string            `json:"sequenceNumber,omitempty"`
}

func asJSON(r outbox.Record, private bool) eventJSON {
	e := eventJSON{ID: r.ID, Type: r.Type, AggregateID: r.AggregateID, Sequence: r.Sequence, Time: r.Time, ContentType: r.ContentType,
		Table: r.Table, ChangedAt: r.ChangedAt, Shard: r.ShardID, SequenceNumber: r.SequenceNumber}
	if private {
		e.Headers = r.Headers
		if json.Valid(r.Payload) && utf8.Valid(r.Payload) {
			e.Payload = r.Payload
		} else {
			e.PayloadBytes = r.Payload
		}
	}
	return e
}

// printEvent writes an event as one line: of JSON, or of text with its payload, on request, in a second line.
func (a *app) printEvent(r outbox.Record, asLines, private bool) error {
	if asLines {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		return e.Encode(asJSON(r, private))
	}
	p := a.paint(a.out)
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s", p.faint(r.Time.Format("2006-01-02T15:04:05.000Z07:00")), p.green(printable(r.Type)), printable(r.ID))
	if r.AggregateID != "" {
		b.WriteString("  " + p.cyan(printable(r.AggregateID)))
	}
	if r.Sequence != 0 {
		fmt.Fprintf(&b, " #%d", r.Sequence)
	}
	if r.ShardID != "" {
		b.WriteString("  " + p.faint(strings.TrimPrefix(r.ShardID, "shardId-")))
	}
	if private {
		for name, value := range r.Headers {
			fmt.Fprintf(&b, "  %s=%s", printable(name), printable(value))
		}
		payload := fmt.Sprintf("%d bytes, not text", len(r.Payload))
		if utf8.Valid(r.Payload) {
			payload = printable(string(r.Payload))
		}
		b.WriteString("\n    " + payload)
	}
	_, err := fmt.Fprintln(a.out, b.String())
	return err
}

// moment reads a point in time: RFC 3339, a date or a date and time in UTC, or how long ago it is.
func (a *app) moment(flag, text string) (time.Time, error) { return momentBefore(a.now(), flag, text) }

// momentBefore is moment for a clock other than this machine's.
func momentBefore(now time.Time, flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	ago, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); err != nil && isDays {
		if ago, err = time.ParseDuration(days + "h"); err == nil {
			ago *= 24
		}
	}
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("--%s: %q is no time: want RFC 3339 (2026-01-31T12:00:00Z), a date (2026-01-31, UTC), or how long ago (90m, 3d)", flag, text)
	}
	return now.Add(-ago), nil
}
