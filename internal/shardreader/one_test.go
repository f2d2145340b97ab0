package shardreader

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One finds its record however the service answers, and says that it has expired only if this is certain.
func TestOneRecord(t *testing.T) {
	empty, end := Batch{Behind: 0}, Batch{Behind: 0, Next: "-"}
	for name, test := range map[string]struct {
		answers []any
		found   bool
		retries int
	}{
		"at once":                             {[]any{Batch{Records: records("57")}}, true, 0},
		"among others":                        {[]any{Batch{Records: records("55", "57", "58")}}, true, 0},
		"after answers without records":       {[]any{empty, empty, Batch{Records: records("57")}}, true, 0},
		"after earlier records":               {[]any{Batch{Records: records("9", "55")}, Batch{Records: records("57")}}, true, 0},
		"after an end that was none":          {[]any{end, Batch{Records: records("57")}}, true, 1},
		"after throttling and an outage":      {[]any{code("ProvisionedThroughputExceededException"), fmt.Errorf("no route"), Batch{Records: records("57")}}, true, 2},
		"after an iterator that was too old":  {[]any{code("ExpiredIteratorException"), Batch{Records: records("57")}}, true, 0},
		"a later record is in its place":      {[]any{Batch{Records: records("100")}}, false, 0},
		"the service says that it is trimmed": {[]any{code("TrimmedDataAccessException")}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := in(test.answers...)
				r := newReading(&script{get: func(iterator string) (Batch, error) {
					b, err := answers(iterator)
					if b.Next == "-" {
						b.Next = ""
					}
					return b, err
				}})
				record, found, err := r.One(t.Context(), "shard", "57")
				require.NoError(t, err)
				require.Equal(t, test.found, found)
				require.Len(t, r.retries, test.retries)
				if found {
					require.Equal(t, records("57")[0], record)
				}
				require.Contains(t, r.log[0], "iterator shard 57")
				require.Empty(t, r.trimmed)
			})
		})
	}
}

func TestOneRecordThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReading(&script{get: in(code("AccessDeniedException"))})
		_, _, err := r.One(t.Context(), "shard", "57")
		stop := (*StopError)(nil)
		require.ErrorAs(t, err, &stop)
		for _, wrong := range []string{"", "x", "TRIM_HORIZON", "AT_TIMESTAMP:5"} {
			_, _, err := r.One(t.Context(), "shard", wrong)
			require.ErrorAs(t, err, &stop, wrong)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r = newReading(&script{get: func(string) (Batch, error) { return Batch{Behind: 0}, nil }})
		_, found, err := r.One(t.Context(), "shard", "57")
		require.ErrorAs(t, err, &stop, "answers without the record prove nothing")
		require.False(t, found)
		require.Len(t, r.retries, oneMisses-1)
		r = newReading(&script{get: func(string) (Batch, error) { return Batch{}, fmt.Errorf("no route") }})
		_, _, err = r.One(ctx, "shard", "57")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// The requests of One are at least Poll's time apart, and the record outlives the answer.
func TestOneRecordIsPacedAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := []byte("data of 57")
		lent := false
		n := 0
		r := newReading(&script{get: func(string) (Batch, error) {
			if n++; n < 4 {
				return Batch{Next: "next", Behind: 0}, nil
			}
			return Batch{Records: []Record{{SequenceNumber: "57", Data: data}}, release: func() { lent = true; copy(data, "xxxx") }}, nil
		}})
		r.Poll = 300 * time.Millisecond
		record, found, err := r.One(t.Context(), "shard", "57")
		require.NoError(t, err)
		require.True(t, found)
		require.True(t, lent)
		require.Equal(t, "data of 57", string(record.Data))
		require.Equal(t, []int{300, 600, 900, 1200}, r.gets())
	})
}
