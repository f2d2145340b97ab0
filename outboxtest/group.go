package outboxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/lambda"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// DrainWorkers is [Server.Drain] for Workers: it waits until everything is done
// that Drain waits for, and a group of workers has handled every record of a
// stream, including records that its handlers caused meanwhile. An event that
// has become a dead letter, or waits behind one, counts as handled. So does a
// record that has expired, whether it was handled or not.
//
// The stream is named as in the workers: by the name or ARN of a Kinesis stream,
// or by the ARN of a DynamoDB stream. What the group has handled is what its
// checkpoints in the lease table say, read by the documented form of the rows,
// whatever faults there are. Checkpoints are stored once a second; so
// DrainWorkers takes a second or two, and nothing in a [testing/synctest] bubble.
//
// If ctx ends first, the error says what is stuck. A handler that fails for ever
// keeps DrainWorkers from returning, so give it a context with a deadline. A
// stream or a lease table that does not exist is an error at once. Leases in
// memory have no table, and nobody can see how far they are.
func (s *Server) DrainWorkers(ctx context.Context, stream, leaseTable, group string) error {
	source := EventSource{Stream: stream}
	if strings.HasPrefix(stream, "arn:") && strings.Contains(stream, ":dynamodb:") {
		source = EventSource{Table: stream}
	}
	shards, _, err := s.source(source)
	if err != nil {
		return fmt.Errorf("outboxtest: DrainWorkers: %w", err)
	}
	// Nothing tells that a checkpoint was stored, so this looks again and again.
	const pause = 10 * time.Millisecond
	var stuck []string
	over := func() error {
		return fmt.Errorf("outboxtest: not everything was handled: %s: %w", strings.Join(stuck, "; "), context.Cause(ctx))
	}
	for {
		if err := s.Drain(ctx); err != nil {
			return err
		}
		written, changed := s.kinesis.Changed(), s.streams.Changed()
		rows, err := s.leases(ctx, leaseTable, group, stream)
		switch {
		case err != nil && ctx.Err() != nil && len(stuck) > 0: // cut off by ctx: what was stuck before is
			return over()
		case err != nil:
			return fmt.Errorf("outboxtest: DrainWorkers: %w", err)
		}
		stuck = nil
		if what := behind(shards, rows); what != "" {
			stuck = append(stuck, fmt.Sprintf("group %s of stream %s: %s", group, stream, what))
		}
		// Handlers write before their records are finished. So whatever they have
		// caused is on its way by now, unless it has arrived since.
		if what := s.pending(); what != "" {
			stuck = append(stuck, what)
		}
		if written != s.kinesis.Changed() || changed != s.streams.Changed() {
			stuck = append(stuck, "records have just been written")
		}
		if len(stuck) == 0 {
			return nil
		}
		sleep(ctx, pause)
		if ctx.Err() != nil {
			return over()
		}
	}
}

// leaseRow is what the lease table says of a shard.
type leaseRow struct {
	checkpoint string
	unfinished int
}

// The checkpoints that are not sequence numbers.
const (
	atHorizon = "TRIM_HORIZON"
	atEnd     = "SHARD_END"
	atTime    = "AT_TIMESTAMP#"
)

// leases reads the rows of a group's leases by shard.
func (s *Server) leases(ctx context.Context, table, group, stream string) (map[string]leaseRow, error) {
	rows, prefix := make(map[string]leaseRow), stream+"#L#"
	request := map[string]any{
		"TableName": table, "ConsistentRead": true, "KeyConditionExpression": "#g = :g AND begins_with(#i, :i)",
		"ExpressionAttributeNames":  map[string]string{"#g": "group", "#i": "id"},
		"ExpressionAttributeValues": map[string]any{":g": map[string]string{"S": group}, ":i": map[string]string{"S": prefix}},
	}
	for {
		var page struct {
			Items []struct {
				ID         struct{ S string }                     `json:"id"`
				Checkpoint struct{ S string }                     `json:"checkpoint"`
				Unfinished struct{ M map[string]json.RawMessage } `json:"unfinished"`
			}
			LastEvaluatedKey map[string]any
		}
		if err := s.query(ctx, request, &page); err != nil {
			return nil, fmt.Errorf("reading the lease table %s: %w", table, err)
		}
		for _, row := range page.Items {
			rows[strings.TrimPrefix(row.ID.S, prefix)] = leaseRow{row.Checkpoint.S, len(row.Unfinished.M)}
		}
		if len(page.LastEvaluatedKey) == 0 {
			return rows, nil
		}
		request["ExclusiveStartKey"] = page.LastEvaluatedKey
	}
}

// query makes a request that no fault strikes.
func (s *Server) query(ctx context.Context, request, answer any) error {
	body, err := wire.Marshal(request)
	if err != nil {
		return err
	}
	result, err := s.db.Do(ctx, "Query", body)
	if err != nil {
		return err
	}
	text, err := wire.Marshal(result)
	return errors.Join(err, json.Unmarshal(text, answer))
}

// behind says which shards have records that are not handled; "" if there are
// none.
func behind(source lambda.Source, rows map[string]leaseRow) string {
	var out []string
	for _, shard := range source.Shards() {
		last, ok := lastRecord(source, shard.ID)
		row, known := rows[shard.ID]
		switch {
		case known && row.unfinished > 0:
			out = append(out, fmt.Sprintf("shard %s has %d unfinished records up to its checkpoint", shard.ID, row.unfinished))
		case !ok:
		case !known:
			out = append(out, fmt.Sprintf("shard %s has records, and the lease table knows nothing of it", shard.ID))
		case !row.covers(last):
			out = append(out, fmt.Sprintf("shard %s is at %s, and its last record at %s", shard.ID, row.checkpoint, last.ID))
		}
	}
	return strings.Join(out, "; ")
}

func (r leaseRow) covers(last lambda.Record) bool {
	switch text, isTime := strings.CutPrefix(r.checkpoint, atTime); {
	case r.checkpoint == atEnd:
		return true
	case r.checkpoint == atHorizon:
		return false
	case isTime:
		at, err := time.Parse(time.RFC3339Nano, text)
		return err == nil && last.Arrived.Before(at)
	}
	return len(r.checkpoint) > len(last.ID) || len(r.checkpoint) == len(last.ID) && r.checkpoint >= last.ID
}

// lastRecord returns the newest record of a shard that has not expired.
func lastRecord(source lambda.Source, shard string) (lambda.Record, bool) {
	end, ok := source.Position(shard, lambda.Latest, time.Time{})
	if !ok || end == 0 {
		return lambda.Record{}, false
	}
	records, _, _, _ := source.Read(shard, end-1, 1)
	if len(records) == 0 {
		return lambda.Record{}, false
	}
	return records[len(records)-1], true
}
