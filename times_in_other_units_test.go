package outbox_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// Every magnitude of a number of milliseconds: what a Writer writes, DecodeItem and DecodeRecord read, and what they refuse it refuses.
// The error says which unit it looks like.
func TestATimeInAnotherUnitIsRefused(t *testing.T) {
	for _, c := range []struct {
		from, to int64
		looks    string // "" for milliseconds
	}{
		{-9e18, -1, "from 1973-03-04 to 5138-11-15"}, {0, 1e8 - 1, "from 1973-03-04 to 5138-11-15"}, {1e8, 1e11 - 1, "looks like seconds"}, {1e11, 1e14 - 1, ""},
		{1e14, 1e17 - 1, "looks like microseconds"}, {1e17, 9e18, "looks like nanoseconds"},
	} {
		for _, n := range []int64{c.from, c.from/2 + c.to/2, c.to} {
			item := storedRow(t, outbox.Record{ID: "1", Type: "T", Payload: []byte("1")})
			item["timestamp"] = num(fmt.Sprint(n))
			r, err := outbox.DecodeItem(item)
			streamed, streamedErr := outbox.DecodeRecord(insertOf(t, item))
			writeErr := newWriter(t, &recordingClient{}).Transact(t.Context(), nil, outbox.Record{ID: "1", Type: "T", Time: time.UnixMilli(n), Payload: []byte("1")})
			if c.looks == "" {
				require.NoError(t, err)
				require.NoError(t, streamedErr)
				require.NoError(t, writeErr)
				require.Equal(t, time.UnixMilli(n).UTC(), r.Time)
				require.Equal(t, r, streamed)
				continue
			}
			require.ErrorContains(t, err, "timestamp: want milliseconds since the epoch, from 1973-03-04 to 5138-11-15")
			require.ErrorContains(t, err, c.looks)
			require.ErrorContains(t, streamedErr, c.looks)
			require.ErrorIs(t, writeErr, outbox.ErrInvalidEvent, n)
			require.ErrorContains(t, writeErr, "want 1973-03-04 to 5138-11-15")
		}
	}
	_, err := outbox.DecodeItem(values{"eventId": str("1"), "type": str("T"), "timestamp": num("1714564800.123456"), "payload": str("1")})
	require.ErrorContains(t, err, "looks like seconds")
}

// The time of the change is told in three units. None of them is guessed where it makes no sense.
func TestAnImplausibleTimeOfAChangeIsRefused(t *testing.T) {
	for number, precision := range map[string]string{
		"0": "", "-1": "", "12345": "", "1e7": "", "171934789025064712": "", // without a precision
		"1719347890": "MICROSECOND", "1719347890250": "MICROSECOND", "1719347890250647000": "MICROSECOND",
		"1719347891": "MILLISECOND", "1719347890250647": "MILLISECOND",
	} {
		text := string(golden(t, "kinesis_insert_microseconds"))
		if precision == "" {
			text = strings.Replace(text, `,"ApproximateCreationDateTimePrecision":"MICROSECOND"`, "", 1)
		} else {
			text = strings.Replace(text, `"MICROSECOND"`, `"`+precision+`"`, 1)
		}
		_, err := outbox.DecodeRecord([]byte(strings.Replace(text, "1719347890250647", number, 1)))
		require.ErrorContains(t, err, "ApproximateCreationDateTime: want a time from 1973-03-04 to 5138-11-15", "%s %s", number, precision)
	}
}
