package replay_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// largeTable answers as a table of many events does, and as an inbox that has all of them or none. It makes each page when it is asked for it.
type largeTable struct {
	*dynamodb.Client
	rows    int
	handled bool
	at      time.Time // of each event

	requests int
	top      uint64 // live memory
}

// look notes how much memory is live. Most is live while a page is judged.
func (l *largeTable) look() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	l.top = max(l.top, m.HeapAlloc)
	return m.HeapAlloc
}

func (l *largeTable) Scan(_ context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	const page = 2462 // rows of 426 bytes, with payloads of 300
	from := 0
	if start, ok := in.ExclusiveStartKey["eventId"]; ok {
		var err error
		if from, err = strconv.Atoi(attrText(start)[len("event-"):]); err != nil {
			return nil, err
		}
		from++
	}
	to := min(from+page, l.rows)
	out := &dynamodb.ScanOutput{Items: make([]item, 0, page)}
	for i := from; i < to; i++ {
		out.Items = append(out.Items, item{"eventId": attrS(fmt.Sprintf("event-%020d", i)), "type": attrS("NOTED"),
			"aggregateId": attrS(fmt.Sprintf("aggregate-%016d", i)), "timestamp": attrN(fmt.Sprint(l.at.UnixMilli())), "expiresAt": attrN("1767225600")})
	}
	out.Count, out.ScannedCount = int32(to-from), int32(to-from)
	if to < l.rows {
		out.LastEvaluatedKey = item{"eventId": out.Items[len(out.Items)-1]["eventId"]}
	}
	return out, nil
}

func (l *largeTable) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	if l.requests++; l.requests%12 == 0 {
		l.look()
	}
	marks := []item{}
	for _, key := range in.RequestItems["inbox"].Keys {
		if l.handled {
			id := attrText(key["eventId"])
			marks = append(marks, item{"eventId": key["eventId"], "consumer": key["consumer"], "type": attrS("NOTED"), "handledAt": attrN(fmt.Sprint(l.at.UnixMilli())),
				"aggregateId": attrS("aggregate-" + id[len(id)-16:]), "expiresAt": attrN("1767225600")})
		}
	}
	return &dynamodb.BatchGetItemOutput{Responses: map[string][]item{"inbox": marks}}, nil
}

// Reconcile keeps a page of the table in memory, and the keys of what is missing. RECONCILE_ROWS=1000000 asks for the figures of
// docs/performance.md.
func TestReconcileNeedsLittleMemory(t *testing.T) {
	rows := 20_000
	if text := os.Getenv("RECONCILE_ROWS"); text != "" {
		var err error
		rows, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	for name, handled := range map[string]bool{"all handled": true, "none handled": false} {
		t.Run(name, func(t *testing.T) {
			l := &largeTable{Client: dynamodb.New(dynamodb.Options{}), rows: rows, handled: handled, at: time.Now().Add(-time.Hour)}
			events, err := replay.New(l, "events")
			require.NoError(t, err)
			inbox, err := outbox.NewInbox(l, "inbox", "mails")
			require.NoError(t, err)
			c := newConsumer(t, unreached, outbox.WithInbox(inbox))
			maxDeliver := min(rows/10, 100_000)
			base := l.look()
			began := time.Now()
			result, err := events.Reconcile(t.Context(), c, replay.ReconcileOptions{MaxDeliver: maxDeliver})
			t.Logf("%d rows, %d requests, %s: at most %.1f MB live", result.Searched, l.requests, time.Since(began), float64(l.top-base)/(1<<20))
			if handled {
				require.NoError(t, err)
				require.Equal(t, replay.ReconcileResult{Segments: 1, Searched: rows, Handled: rows}, result)
			} else {
				require.ErrorIs(t, err, replay.ErrBehind)
				require.Greater(t, result.Undelivered, maxDeliver)
			}
			require.Less(t, float64(l.top-base)/(1<<20), 8+float64(result.Undelivered)*200/(1<<20), "MB")
		})
	}
}

func attrText(v types.AttributeValue) string { return v.(*types.AttributeValueMemberS).Value }
