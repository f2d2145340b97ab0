package main

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/lease"
)

// spoilRecords spoils the first n answers of GetRecords.
func (m *moving) spoilRecords(n int32, spoil func(record map[string]any)) {
	var answers atomic.Int32
	m.edit("GetRecords", func(_, answer map[string]any) {
		if answers.Add(1) <= n {
			spoil(in(answer, "Records", 0))
		}
	})
}

// throttleRecords refuses the first n requests of GetRecords, as Kinesis does after five a second.
func (m *moving) throttleRecords(n int32) {
	var requests atomic.Int32
	m.intercept = func(operation string, out http.ResponseWriter, in *http.Request) bool {
		if operation != "GetRecords" || requests.Add(1) > n {
			return false
		}
		_, _ = io.Copy(io.Discard, in.Body)
		out.Header().Set("Content-Type", "application/x-amz-json-1.1")
		out.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(out, `{"__type":"ProvisionedThroughputExceededException","message":"Rate exceeded"}`)
		return true
	}
}

// What a shard does not answer, or answers with less than a record, is asked again.
func TestTheReadsOfACheckpointMoveAreRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*moving)
		says    string
	}{
		"one throttled read":               {func(m *moving) { m.throttleRecords(1) }, ""},
		"throttled reads":                  {func(m *moving) { m.throttleRecords(2) }, "outbox: shard " + onlyShard + ": GetRecords is repeated: ProvisionedThroughputExceededException: Rate exceeded\n"},
		"a record without sequence number": {func(m *moving) { m.spoilRecords(1, func(r map[string]any) { delete(r, "SequenceNumber") }) }, `a record has no sequence number, but ""`},
		"a record without data":            {func(m *moving) { m.spoilRecords(1, func(r map[string]any) { delete(r, "Data") }) }, " has no data\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMoving(t)
			numbers := m.write(t, 4)
			m.begun(t, lease.Progress{Checkpoint: lease.TrimHorizon})
			c.happens(m)
			r := m.move(t, "--shard", onlyShard, "--skip", numbers[2], "--yes")
			require.Equal(t, exitOK, r.code, r.err)
			require.Contains(t, r.err, c.says)
			if c.says == "" {
				require.Empty(t, r.err)
			}
			require.Equal(t, lease.Progress{Checkpoint: numbers[2], Holes: map[string]lease.Hole{
				numbers[0]: {Key: lease.AggregateKey("a")}, numbers[1]: {Key: lease.AggregateKey("a")}}}, m.lease(t).Progress)
		})
	}
}

// What a read does not tell is not told as an answer.
func TestACheckpointIsNotMovedWhereTheShardCannotBeRead(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 3)
	m.begun(t, lease.Progress{Checkpoint: numbers[2]})
	before := m.lease(t)

	m.spoilRecords(1_000_000, func(r map[string]any) { delete(r, "SequenceNumber") })
	r := m.move(t, "--shard", onlyShard, "--from", "1h", "--yes", "--timeout", "3s")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "outbox: shard "+onlyShard+`: repeated for 3s (--timeout): a record has no sequence number, but ""`)
	require.Equal(t, before, m.lease(t))

	m.refuse("GetRecords")
	r = m.move(t, "--shard", onlyShard, "--from", "1h", "--yes")
	require.Equal(t, exitFailed, r.code, "and not: what came before is NOT handled")
	require.Contains(t, r.err, "GetRecords: AccessDeniedException")
	require.Equal(t, before, m.lease(t))
}
