package fleetsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// wireCloud is outboxtest behind the real SDK. Requests are struck on the wire, below the SDK. So the SDK's retries, and the
// bytes of every request and answer, are part of what is tested. A schedule costs about fifteen times as much as with cheapCloud.
type wireCloud struct {
	*outboxtest.AWS
	t      *testing.T
	sim    *workerSim
	writer *outbox.Writer
	order  sync.Mutex // one request at a time, so that the history has the order in which they happened
}

func newWireCloud(t *testing.T, s *workerSim) *wireCloud {
	c := &wireCloud{AWS: outboxtest.Start(t), t: t, sim: s}
	c.CreateTable(t, "orders", "orderId")
	c.CreateOutbox(t, "events", "events", 2)
	var err error
	c.writer, err = outbox.NewWriter(c.DynamoDB, "events")
	require.NoError(t, err)
	table, err := outbox.NewLeaseTable(c.DynamoDB, "leases", "mails")
	require.NoError(t, err)
	require.NoError(t, table.Create(t.Context()))
	return c
}

func (c *wireCloud) connect(l *simLink) (outbox.KinesisClient, outbox.LeaseClient) {
	config := c.Config()
	config.HTTPClient = &http.Client{Transport: simWire{l, c, c.HTTPClient().Transport}}
	return kinesis.NewFromConfig(config), dynamodb.NewFromConfig(config)
}

func (c *wireCloud) publish(id, aggregate string) {
	e := outbox.Event[orderCreated]{ID: id, AggregateID: aggregate, Data: orderCreated{OrderID: id}}
	require.NoError(c.t, c.writer.Put(c.t.Context(), "orders", map[string]string{"orderId": id}, e))
}

func (c *wireCloud) arrived() { require.NoError(c.t, c.Drain(c.t.Context())) }

func (c *wireCloud) close() { c.Close() }

func (c *wireCloud) shards() (all, open []ktypes.Shard) {
	out, err := c.Kinesis.ListShards(c.t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("events")})
	require.NoError(c.t, err)
	for _, sh := range out.Shards {
		if sh.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, sh)
		}
	}
	return out.Shards, open
}

func bounds(sh ktypes.Shard) (low, high *big.Int) {
	low, _ = new(big.Int).SetString(*sh.HashKeyRange.StartingHashKey, 10)
	high, _ = new(big.Int).SetString(*sh.HashKeyRange.EndingHashKey, 10)
	return low, high
}

func (c *wireCloud) split(pick int) {
	_, open := c.shards()
	if len(open) >= 6 {
		return
	}
	sh := open[pick%len(open)]
	low, high := bounds(sh)
	middle := new(big.Int).Add(low, high)
	_, err := c.Kinesis.SplitShard(c.t.Context(), &kinesis.SplitShardInput{StreamName: aws.String("events"), ShardToSplit: sh.ShardId,
		NewStartingHashKey: aws.String(middle.Rsh(middle, 1).String())})
	require.NoError(c.t, err)
}

func (c *wireCloud) merge(pick int) {
	_, open := c.shards()
	a := open[pick%len(open)]
	_, high := bounds(a)
	for _, b := range open {
		if low, _ := bounds(b); low.Sub(low, high).Cmp(big.NewInt(1)) == 0 {
			_, err := c.Kinesis.MergeShards(c.t.Context(), &kinesis.MergeShardsInput{StreamName: aws.String("events"), ShardToMerge: a.ShardId, AdjacentShardToMerge: b.ShardId})
			require.NoError(c.t, err)
			return
		}
	}
}

// truth reads the stream.
func (c *wireCloud) truth() truth {
	t := truth{map[string][]simRecord{}, map[simRecord]string{}, map[string][]string{}}
	all, _ := c.shards()
	for _, sh := range all {
		id := *sh.ShardId
		for _, p := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
			if p != nil {
				t.parents[id] = append(t.parents[id], *p)
			}
		}
		it, err := c.Kinesis.GetShardIterator(c.t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("events"), ShardId: &id, ShardIteratorType: ktypes.ShardIteratorTypeTrimHorizon})
		require.NoError(c.t, err)
		for next := it.ShardIterator; next != nil; {
			out, err := c.Kinesis.GetRecords(c.t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			require.NoError(c.t, err)
			for _, r := range out.Records {
				t.add(id, *r.SequenceNumber, r.Data)
			}
			if next = out.NextShardIterator; len(out.Records) == 0 && aws.ToInt64(out.MillisBehindLatest) == 0 {
				break
			}
		}
	}
	return t
}

// simWire carries the requests of a process.
type simWire struct {
	l     *simLink
	cloud *wireCloud
	next  http.RoundTripper
}

func (w simWire) RoundTrip(r *http.Request) (*http.Response, error) {
	service, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	service, _, _ = strings.Cut(service, "_")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	what := operation
	if service == "DynamoDB" {
		what = wireOperation(operation, body)
	}
	sent := r.Clone(w.l.detached()) // cloned now: the original is the SDK's
	answer, err := carry(r.Context(), w.l, service, what, func() (*http.Response, error) { return w.carryOut(sent.Clone(sent.Context()), operation, body) },
		errThrottled)
	if errors.Is(err, errThrottled) {
		body := `{"__type":"ProvisionedThroughputExceededException","message":"slow down"}`
		return &http.Response{StatusCode: 400, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Proto: "HTTP/1.1", ProtoMajor: 1,
			ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
	}
	return answer, err
}

// wireOperation names a request to DynamoDB as leaseOperation does.
func wireOperation(operation string, body []byte) string {
	var in struct{ UpdateExpression, ConditionExpression string }
	_ = json.Unmarshal(body, &in) // a missing member is empty
	switch operation {
	case "Query":
		return "View"
	case "TransactWriteItems":
		return "End"
	}
	return leaseOperation(in.UpdateExpression, in.ConditionExpression)
}

// carryOut lets a request happen. Nobody needs to close its answer.
func (w simWire) carryOut(r *http.Request, operation string, body []byte) (*http.Response, error) {
	w.cloud.order.Lock()
	defer w.cloud.order.Unlock()
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(out))
	if answer.StatusCode == http.StatusOK {
		w.cloud.audit(operation, body, out)
	}
	return answer, nil
}

type simValue struct{ S, N string }

// audit notes what a write has made of a lease.
func (c *wireCloud) audit(operation string, request, answer []byte) {
	var row struct {
		Attributes map[string]json.RawMessage
		// Of a transaction.
		TransactItems []struct {
			Update struct {
				Key                       map[string]simValue
				ExpressionAttributeValues map[string]json.RawMessage
			}
		}
	}
	if operation == "TransactWriteItems" {
		if json.Unmarshal(request, &row) != nil || len(row.TransactItems) == 0 {
			return
		}
		if end := row.TransactItems[0].Update; strings.Contains(string(end.ExpressionAttributeValues[":end"]), "SHARD_END") {
			c.sim.stored(shardOf(end.Key["id"].S), "SHARD_END", "", -1, wireHoles(end.ExpressionAttributeValues[":unfinished"]))
		}
		return
	}
	if json.Unmarshal(answer, &row) != nil {
		return
	}
	get := func(name string) (v simValue) {
		_ = json.Unmarshal(row.Attributes[name], &v) // a missing member is empty
		return v
	}
	if shard := shardOf(get("id").S); shard != "" {
		var fence int64
		_ = json.Unmarshal([]byte(get("fence").N), &fence)
		c.sim.stored(shard, get("checkpoint").S, get("owner").S, fence, wireHoles(row.Attributes["unfinished"]))
	}
}

// wireHoles reads the sequence numbers of holes.
func wireHoles(attribute []byte) map[string]bool {
	var unfinished struct{ M map[string]any }
	_ = json.Unmarshal(attribute, &unfinished) // a missing member is empty
	holes := map[string]bool{}
	for sequence := range unfinished.M {
		holes[sequence] = true
	}
	return holes
}
