// Package deadletter keeps the dead letters of consumers in a DynamoDB table. It knows the table's form, and each of its writes may be
// repeated. It must not know when an event becomes a dead letter, nor how letters are redriven.
//
// # The table
//
// Partition key group (S), sort key id (S). A consumer has these groups:
//
//	<consumer>           dead letters: id is <queue>#<event>, see Letter
//	<consumer>#lane      queues: id is <queue>; letters (N) that it has, last (N) that was stored, from 1 on; while a redrive holds the lock
//	                     lock (S), beats (N), lockUntil (N). A letter without a queue has them itself
//	<consumer>#part      the pieces of a letter that is too large for a row: id is <letter>#<hash of its content>#<number>; data (B)
//	<consumer>#attempt   failed attempts at events that are not dead letters yet: id is <event>, or <event>#<record>;
//	                     n (N) failures, lost (N) races, last (S) for the request that counted last, expiresAt (N)
//	<consumer>#request   redrives that were asked for: id is the letter's, or <queue>#; requestedAt (N), expiresAt (N)
//	<consumer>#discarded events whose letters were discarded: id is <queue>#<event>#<hash of its type and table>; eventId (S), timestamp (N), discardedAt (N)
//
// The letters of an aggregate form a queue. A queue's key is the aggregate's id; '#' and '%' in it are written %23 and %25, and a long id
// ends in a hash. A letter without an aggregate has no queue, its key is empty. So is that of a record that cannot be decoded, whose <event> is
// '#' and its shard, sequence number and a hash of its stream, or a hash of its bytes. If another event has a letter's key, a hash is added.
//
// A letter and the count of its queue change in one transaction. So a queue with letters always has a row, and its aggregate is parked. After
// the last letter has gone, the row stays until Close, which leaves it to the holder of the lock, if there is one. A letter's place (N) is the
// number that last became with it, so letters are numbered in the order in which they were stored, whoever stored them.
package deadletter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Letter is a dead letter.
type Letter struct {
	ID       string // of the row; Put sets it
	Event    event.Event
	Raw      []byte // the bytes of a record that cannot be decoded; its Event says only where it came from
	Error    string // why the event is a dead letter; at most maxError bytes
	Attempts int
	Parked   bool // no handler was called: an earlier event of the aggregate is a dead letter
	StoredAt time.Time
	TriedAt  time.Time // when a redrive last failed
	Order    string    // the events table by whose sequences the consumer orders the event; empty: it does not
	Inbox    string    // the consumer whose positions the inbox keeps, if there is an order
	// Incomplete says that the payload, the headers and Raw are lost. Remove had taken the letter and its parts away, and then a late copy of
	// a request brought the row back.
	Incomplete bool

	token     string // new in each Put
	parts     int
	partsHash string // keeps the parts of two events apart that have one id
}

const (
	maxError = 2 << 10
	maxKey   = 400 // bytes of an id in a key: two ids fit into the 1,024 bytes of a sort key
	maxBody  = 350 << 10
)

var escape = strings.NewReplacer("%", "%25", "#", "%23")

// keyPart returns an id as it is written in a key.
func keyPart(id string) string {
	if part := escape.Replace(id); len(part) <= maxKey && utf8.ValidString(part) {
		return part
	}
	head := escape.Replace(strings.ToValidUTF8(id, "?"))
	return strings.ToValidUTF8(head[:min(len(head), maxKey-1-2*sha256.Size)], "") + "~" + hash(id)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// QueueKey returns the key of an aggregate's queue.
func QueueKey(aggregateID string) string { return keyPart(aggregateID) }

// QueueOf returns the key of the queue that a letter is in. It is empty if the letter has no queue.
func QueueOf(id string) string {
	queue, _, _ := strings.Cut(id, "#")
	return queue
}

func (l *Letter) id() string {
	e := &l.Event
	switch {
	case l.Raw != nil && e.SequenceNumber != "":
		return "##" + recordKey(e, e.StreamARN)
	case l.Raw != nil:
		return "##" + hash(string(l.Raw))
	}
	return QueueKey(e.AggregateID) + "#" + keyPart(e.ID)
}

// recordKey returns what tells a record from all others: its shard and number, and a hash of the namespace in which these are unique.
func recordKey(e *event.Event, namespace string) string {
	k := keyPart(e.ShardID + ":" + e.SequenceNumber)
	if namespace != "" {
		k += "~" + hash(namespace)[:16]
	}
	return k
}

// otherID returns the nth key for a letter whose own key belongs to another letter.
func (l *Letter) otherID(n int) string {
	e := &l.Event
	return l.id() + "~" + hash(strings.Join([]string{e.Type, e.Table, e.StreamARN, e.ShardID, e.SequenceNumber, string(l.Raw), strconv.Itoa(n)}, "\x00"))[:16]
}

// same reports whether the letter that is stored under the key of l is of the same event, or of the same record if it cannot be decoded. What
// is not known of one of them is no difference. The parts of the stored letter need not be read.
func (l *Letter) same(stored *Letter) bool {
	a, b := &l.Event, &stored.Event
	switch {
	case l.Raw == nil && a.Table != "" && b.Table != "":
		return a.Type == b.Type && a.Table == b.Table
	case l.Raw == nil: // not every delivery names the table
		return a.Type == b.Type && (a.StreamARN == b.StreamARN || a.StreamARN == "" || b.StreamARN == "")
	case a.StreamARN != b.StreamARN, a.ShardID != b.ShardID, a.SequenceNumber != b.SequenceNumber:
		return false
	case a.ShardID != "" && a.SequenceNumber != "":
		return true
	}
	return l.partsHash == stored.partsHash && (l.partsHash != "" || bytes.Equal(l.Raw, stored.Raw))
}

// body is the part of a letter that may be too large for a row.
type body struct {
	Headers map[string]string `json:"headers,omitempty"`
	Payload []byte            `json:"payload"`
	Raw     []byte            `json:"raw,omitempty"`
}

func (b *body) size() int {
	n := len(b.Payload) + len(b.Raw)
	for name, value := range b.Headers {
		n += len(name) + len(value) + 4
	}
	return n
}

// row returns the letter's row, and its body in parts if the body does not fit into the row.
func (l *Letter) row(group string) (rows.Item, [][]byte, error) {
	e := &l.Event
	row := rows.Item{
		"group": rows.S(group), "id": rows.S(l.ID), "error": rows.S(l.Error),
		"attempts": rows.N(int64(l.Attempts)), "storedAt": rows.Millis(l.StoredAt), "token": rows.S(l.token),
	}
	for name, value := range map[string]string{
		"eventId": e.ID, "type": e.Type, "aggregateId": e.AggregateID, "contentType": e.ContentType, "table": e.Table,
		"streamArn": e.StreamARN, "shardId": e.ShardID, "sequenceNumber": e.SequenceNumber, "order": l.Order, "inbox": l.Inbox,
	} {
		if value != "" {
			row[name] = rows.S(value)
		}
	}
	if l.Parked {
		row["parked"] = rows.Bool(true)
	}
	if e.Sequence != 0 {
		row["sequence"] = rows.N(e.Sequence)
	}
	if !e.Time.IsZero() {
		row["timestamp"] = rows.Millis(e.Time)
	}
	if !e.ChangedAt.IsZero() {
		row["changedAt"] = rows.N(e.ChangedAt.UnixMicro())
	}
	rest := body{e.Headers, e.Payload, l.Raw}
	if rest.size()+len(e.ID)+len(e.AggregateID)+len(e.Type) <= maxBody {
		rest.store(row, e.ContentType)
		return row, nil, nil
	}
	data, err := json.Marshal(rest)
	if err != nil {
		return nil, nil, err
	}
	l.partsHash = hash(e.Type + "\x00" + e.Table + "\x00" + string(data))[:32]
	row["partsHash"] = rows.S(l.partsHash)
	var parts [][]byte
	for len(data) > 0 {
		n := min(len(data), maxBody)
		parts = append(parts, data[:n])
		data = data[n:]
	}
	row["parts"] = rows.N(int64(len(parts)))
	return row, parts, nil
}

func (l *Letter) partID(i int) string { return fmt.Sprintf("%s#%s#%04d", l.ID, l.partsHash, i) }

func (b *body) store(row rows.Item, contentType string) {
	if len(b.Headers) > 0 {
		row["headers"] = rows.Headers(b.Headers)
	}
	switch {
	case b.Payload == nil:
	case contentType == "" && utf8.Valid(b.Payload):
		row["payload"] = rows.S(string(b.Payload)) // readable in a console
	default:
		row["payload"] = rows.B(b.Payload)
	}
	if b.Raw != nil {
		row["raw"] = rows.B(b.Raw)
	}
}

// read returns the letter of a row. The parts of its body, if it has any, are not read.
func read(row rows.Item) Letter {
	l := Letter{
		ID: rows.Text(row, "id"), Error: rows.Text(row, "error"), Attempts: int(rows.Int(row, "attempts")), Parked: rows.Flag(row, "parked"),
		StoredAt: rows.Time(row, "storedAt"), TriedAt: rows.Time(row, "triedAt"), Order: rows.Text(row, "order"), Inbox: rows.Text(row, "inbox"),
		parts: int(rows.Int(row, "parts")), partsHash: rows.Text(row, "partsHash"), token: rows.Text(row, "token"),
		Event: event.Event{
			ID: rows.Text(row, "eventId"), Type: rows.Text(row, "type"), AggregateID: rows.Text(row, "aggregateId"),
			Sequence: rows.Int(row, "sequence"), Time: rows.Time(row, "timestamp"), Headers: rows.ReadHeaders(row, "headers"),
			ContentType: rows.Text(row, "contentType"), Payload: rows.Bytes(row, "payload"), Table: rows.Text(row, "table"),
			StreamARN: rows.Text(row, "streamArn"), ShardID: rows.Text(row, "shardId"), SequenceNumber: rows.Text(row, "sequenceNumber"),
		},
		Raw: rows.Bytes(row, "raw"),
	}
	if row["changedAt"] != nil {
		l.Event.ChangedAt = time.UnixMicro(rows.Int(row, "changedAt")).UTC()
	}
	if text, ok := row["payload"]; ok && l.Event.Payload == nil && text != nil {
		l.Event.Payload = []byte(rows.Text(row, "payload"))
	}
	return l
}

// join fills in the body from its parts.
func (l *Letter) join(parts [][]byte) error {
	var data []byte
	for _, p := range parts {
		data = append(data, p...)
	}
	var b body
	if err := json.Unmarshal(data, &b); err != nil {
		return errors.New("its parts cannot be read")
	}
	l.Event.Headers, l.Event.Payload, l.Raw = b.Headers, b.Payload, b.Raw
	return nil
}

// cut shortens an error's text to maxError bytes, and makes it valid UTF-8.
func cut(text string) string {
	if len(text) <= maxError {
		return strings.ToValidUTF8(text, "?")
	}
	return strings.ToValidUTF8(text[:maxError], "") + "..."
}
