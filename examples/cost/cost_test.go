package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The tables of docs/cost.md and docs/sizing.md are exactly what the program prints. UPDATE_DOCS=1 writes them anew.
func TestTheTablesOfTheDocs(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(nil, &out))
	tables := strings.Split(strings.TrimSpace(out.String()), "\n\n")[1:] // the first line says the Region
	require.Len(t, tables, 7)
	found := 0
	for _, page := range []string{"../../docs/cost.md", "../../docs/sizing.md"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		want := string(text)
		for _, table := range tables {
			title, _, ok := strings.Cut(table[2:], " |")
			require.True(t, ok)
			if begin := strings.Index(want, "| "+title+" |"); begin >= 0 {
				found++
				_, rest, ok := strings.Cut(want[begin:], "\n\n")
				require.True(t, ok)
				want = want[:begin] + table + "\n\n" + rest
			}
		}
		if os.Getenv("UPDATE_DOCS") != "" {
			require.NoError(t, os.WriteFile(page, []byte(want), 0o644))
			continue
		}
		require.Equal(t, want, string(text), "%s is not what the program prints: UPDATE_DOCS=1 go test ./cost", page)
	}
	require.Equal(t, len(tables), found, "each table is on one page")
}

// The page says which prices these are.
func TestThePageNamesRegionAndDate(t *testing.T) {
	text, err := os.ReadFile("../../docs/cost.md")
	require.NoError(t, err)
	require.Contains(t, string(text), region)
	require.Contains(t, string(text), asOf)
}

// What Workers take is what docs/performance.md says.
func TestWorkersTakeWhatWasMeasured(t *testing.T) {
	text, err := os.ReadFile("../../docs/performance.md")
	require.NoError(t, err)
	for name, ms := range map[string]float64{"| Worker, default codec |": workerMS, "| not counted above: HTTP and TLS": httpMS} {
		_, row, ok := strings.Cut(string(text), name)
		require.Truef(t, ok, "docs/performance.md has no row %q", name)
		row, _, _ = strings.Cut(row, "\n")
		require.Contains(t, row, fmt.Sprintf("%g ms a MB", ms), "the page has another figure than sizing.go")
	}
}

type payload string

func (payload) EventType() string              { return "ORDER_CREATED" }
func (p payload) MarshalJSON() ([]byte, error) { return []byte(p), nil }

// The sizes that are counted with are those of what a Writer stores, and of the change records that arrive.
func TestSizesAreTheRealOnes(t *testing.T) {
	for _, size := range []int{300, 1024, 4096} {
		require.Len(t, sample(size), size)
		var later atomic.Int64
		cloud := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { return time.Now().Add(time.Duration(later.Load())) }))
		cloud.CreateTable(t, "orders", "orderId")
		cloud.CreateOutbox(t, "events", "events", 1)
		var capacity []types.ConsumedCapacity
		writer, err := outbox.NewWriter(cloud.DynamoDB, "events", outbox.WithTTL(30*24*time.Hour), outbox.WithWriterHooks(outbox.WriterHooks{
			Written: func(_ context.Context, w outbox.WriteInfo) { capacity = w.Capacity },
		}))
		require.NoError(t, err)
		order := map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: "01J1A2B3C4D5E6F7G8H9JKMNPQ"},
			"text": &types.AttributeValueMemberS{Value: strings.Repeat(".", defaults().row-len("orderId")-26-len("text"))}}
		event := outbox.NewEvent("01J1A2B3C4D5E6F7G8H9JKMNPQ", payload(sample(size)))
		event.Time = time.UnixMilli(1767225600123)
		require.NoError(t, writer.Put(t.Context(), "orders", order, event))

		billed := map[string]float64{}
		for _, c := range capacity {
			billed[aws.ToString(c.TableName)] = aws.ToFloat64(c.CapacityUnits)
		}
		require.Equal(t, map[string]float64{"orders": inTransaction(defaults().row), "events": inTransaction(rowBytes(size))}, billed)

		_, err = cloud.DynamoDB.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: aws.String("events"),
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("expiresAt"), Enabled: aws.Bool(true)}})
		require.NoError(t, err)
		written := read(t, cloud)
		require.InDelta(t, recordBytes(size), length(written), 3, "%s", written.Data)
		later.Store(int64(40 * 24 * time.Hour)) // the stream has forgotten the first one
		cloud.ExpireTTL()
		removed := read(t, cloud)
		require.InDelta(t, removalBytes(size), length(removed), 3, "%s", removed.Data)
	}
}

func length(r kinesistypes.Record) int { return len(r.Data) + len(aws.ToString(r.PartitionKey)) }

// read returns the one record of the stream.
func read(t *testing.T, cloud *outboxtest.AWS) kinesistypes.Record {
	t.Helper()
	require.NoError(t, cloud.Drain(t.Context()))
	shards, err := cloud.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("events")})
	require.NoError(t, err)
	it, err := cloud.Kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("events"),
		ShardId: shards.Shards[0].ShardId, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
	require.NoError(t, err)
	out, err := cloud.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	require.NoError(t, err)
	require.Len(t, out.Records, 1)
	return out.Records[0]
}
