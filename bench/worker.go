package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	aws1 "github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/session"
	kinesis1 "github.com/aws/aws-sdk-go/service/kinesis"
	harlow "github.com/harlow/kinesis-consumer"

	"github.com/seed-1b628d3f/outbox"
)

// fakeStream is a Kinesis stream whose answers are prepared. It is the transport of the clients: neither HTTP nor TLS nor a
// server take part, so that only what a client does with an answer is measured. Each shard has one answer with records; the
// iterator after it is at the tip.
type fakeStream struct {
	shards  []byte   // the answer of ListShards
	answers [][]byte // the answers of GetRecords by shard
	records int      // in all shards together
	data    int      // bytes of their data
}

// newFakeStream has events with orders of a size, each of its own aggregate.
func newFakeStream(shards, perShard, size int) *fakeStream {
	s := &fakeStream{}
	type entry struct {
		ApproximateArrivalTimestamp  json.Number
		Data                         string
		PartitionKey, SequenceNumber string
	}
	var list []map[string]any
	for shard := range shards {
		list = append(list, map[string]any{"ShardId": fmt.Sprint("shardId-", shard), "HashKeyRange": map[string]string{
			"StartingHashKey": fmt.Sprint(shard * 1000), "EndingHashKey": fmt.Sprint(shard*1000 + 999),
		}, "SequenceNumberRange": map[string]string{"StartingSequenceNumber": "1"}})
		var entries []entry
		for i := range perShard {
			id := fmt.Sprintf("01J1A2B3C4D5E6F7G8%02d%06d", shard, i)
			o := newOrder(size)
			o.OrderID = id
			data := change("INSERT", id, must(json.Marshal(o)))
			s.data += len(data)
			s.records++
			entries = append(entries, entry{
				json.Number(fmt.Sprintf("%d.%03d", 1731924555+i/1000, i%1000)), base64.StdEncoding.EncodeToString(data),
				fmt.Sprintf("859F5D8E5C4B4E8F9A0B1C2D%08X", i), fmt.Sprintf("4965482810174482193839449%031d", i),
			})
		}
		s.answers = append(s.answers, must(json.Marshal(map[string]any{
			"MillisBehindLatest": 0, "NextShardIterator": strings.Repeat("A", 200) + "-tip", "Records": entries,
		})))
	}
	s.shards = must(json.Marshal(map[string]any{"Shards": list}))
	return s
}

// RoundTrip answers at once.
func (s *fakeStream) RoundTrip(r *http.Request) (*http.Response, error) {
	request, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var in struct{ ShardId, ShardIterator string }
	if err := json.Unmarshal(request, &in); err != nil {
		return nil, err
	}
	var body []byte
	switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
	case "ListShards":
		body = s.shards
	case "GetShardIterator":
		body = fmt.Appendf(nil, `{"ShardIterator":%q}`, strings.TrimPrefix(in.ShardId, "shardId-"))
	case "GetRecords":
		if shard, err := strconv.Atoi(in.ShardIterator); err == nil {
			body = s.answers[shard]
		} else {
			body = fmt.Appendf(nil, `{"MillisBehindLatest":0,"NextShardIterator":%q,"Records":[]}`, in.ShardIterator)
		}
	default:
		return nil, fmt.Errorf("unknown operation %q", operation)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}, nil
}

func (s *fakeStream) client() *kinesis.Client {
	return kinesis.New(kinesis.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String("https://kinesis.invalid"), HTTPClient: &http.Client{Transport: s},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "x", SecretAccessKey: "x"}, nil
		}),
	})
}

// session1 is made once: it reads files.
var session1 = sync.OnceValue(func() *session.Session { return must(session.NewSession()) })

// take is a handler.
type take func(aggregateID string, o order)

// read gets every record of the stream with the SDK, shard by shard.
func (s *fakeStream) read(client *kinesis.Client, record func(data []byte)) {
	ctx, stream := context.Background(), aws.String("events")
	for _, shard := range must(client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: stream})).Shards {
		iterator := must(client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: stream, ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})).ShardIterator
		out := must(client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator}))
		for i := range out.Records {
			record(out.Records[i].Data)
		}
	}
}

// usually decodes a record as usual.
func usually(data []byte, handle take) {
	row := must(today(data))
	handle(row.AggregateID, unmarshal([]byte(row.Payload)))
}

// loop is what users write.
func (s *fakeStream) loop(handle take) {
	s.read(s.client(), func(data []byte) { usually(data, handle) })
}

// until returns a context that is cancelled when handle was called for every record.
func (s *fakeStream) until(handle take) (context.Context, take) {
	ctx, cancel := context.WithCancel(context.Background())
	var n atomic.Int64
	return ctx, func(aggregateID string, o order) {
		handle(aggregateID, o)
		if n.Add(1) == int64(s.records) {
			cancel()
		}
	}
}

// harlow is github.com/harlow/kinesis-consumer, which is made of the first SDK. It reads the shards in parallel.
func (s *fakeStream) harlow(handle take) {
	// The transport is not the session's, which may want to change it.
	client := kinesis1.New(session1(), &aws1.Config{
		Region: aws1.String("eu-west-1"), Endpoint: aws1.String("https://kinesis.invalid"), HTTPClient: &http.Client{Transport: s},
		Credentials: credentials.NewStaticCredentials("x", "x", ""),
	})
	c := must(harlow.New("events", harlow.WithClient(client), harlow.WithShardIteratorType("TRIM_HORIZON")))
	ctx, handle := s.until(handle)
	err := c.Scan(ctx, func(r *harlow.Record) error {
		usually(r.Data, handle)
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// worker is a Worker from its creation to the end of Run, leases, checkpoints and all.
func (s *fakeStream) worker(consumer []outbox.ConsumerOption, worker []outbox.WorkerOption) func(take) {
	return func(handle take) {
		c := must(outbox.NewConsumer(append(consumer, outbox.WithLogger(slog.New(slog.DiscardHandler)))...))
		ctx, handle := s.until(handle)
		outbox.Handle(c, func(_ context.Context, e outbox.Event[order]) error {
			handle(e.AggregateID, e.Data)
			return nil
		})
		w := must(outbox.NewWorker(s.client(), "events", c, &outbox.MemoryLeases{}, worker...))
		if err := w.Run(ctx); err != nil {
			panic(err)
		}
	}
}

// way is a way from a stream to typed events.
type way struct {
	name string
	run  func(take)
}

func (s *fakeStream) ways() []way {
	sonic, stock := []outbox.ConsumerOption{outbox.WithCodec(sonicCodec{})}, []outbox.WorkerOption{outbox.WithStockReader()}
	return []way{
		{"loop", s.loop},
		{"harlow", s.harlow},
		{"stock", s.worker(nil, stock)},
		{"worker", s.worker(nil, nil)},
		{"sonic", s.worker(sonic, nil)},
	}
}

// overTLS returns a function that gets the answers of a server over TLS, and does nothing with them. The server's share of the
// CPU time counts.
func (s *fakeStream) overTLS() func() {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := s.answers[must(strconv.Atoi(r.URL.Path[1:]))]
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	}))
	client := server.Client()
	var buf bytes.Buffer
	return func() {
		for shard, want := range s.answers {
			resp := must(client.Get(fmt.Sprintf("%s/%d", server.URL, shard)))
			buf.Reset()
			if n := must(buf.ReadFrom(resp.Body)); n != int64(len(want)) {
				panic(n)
			}
			_ = resp.Body.Close()
		}
	}
}

// allocated returns the bytes that a call allocates, the least of some calls: pools of buffers lose some now and then.
func allocated(do func()) float64 {
	var least uint64
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; least == 0 || n < least {
			least = n
		}
	}
	return float64(least)
}

// workerRows is about reading a stream. All sides are measured together, by the first row; the others only print.
func workerRows() []row {
	s := newFakeStream(4, 1000, 300)
	size := float64(s.data) / float64(s.records)
	nothing := func(string, order) {}
	var sides []side
	run := map[string]func(){}
	for _, w := range s.ways() {
		run[w.name] = func() { w.run(nothing) }
		sides = append(sides, side{w.name, s.records, run[w.name]})
	}
	sides = append(sides,
		side{"sdk", s.records, func() { s.read(s.client(), func([]byte) {}) }},
		side{"tls", s.records, s.overTLS()},
	)
	group := fmt.Sprintf("Poll to typed events, free handler, records of %.1f KB", size/1000)
	var all results
	perMB := func(name string) float64 { return all.ns(name) / size } // nanoseconds a byte are milliseconds a megabyte
	line := func(name, side string, most float64) row {
		target := ""
		if most > 0 {
			target = fmt.Sprintf("%.2f × the usual loop's time", most)
		}
		return row{group: group, name: name, target: target, judge: func(r results) (string, bool) {
			if len(r) > 0 {
				all = r
			}
			ratio := all.ratio(side, "loop")
			return fmt.Sprintf("%.2f × (%.1f ms a MB, %.1f allocs a record)", ratio, perMB(side), all.get(side).allocs), most == 0 || ratio <= most
		}}
	}
	rows := []row{
		line("the usual loop: SDK's GetRecords, aws-lambda-go, by hand, attributevalue", "loop", 0),
		line("github.com/harlow/kinesis-consumer v0.3.5 with the same decoding", "harlow", 0),
		line("Worker, stock reader, default codec", "stock", 0.55),
		line("Worker, default codec", "worker", 0),
		line("Worker, sonic as codec", "sonic", 0.22),
		// For a byte of data the codec takes 0.5 (sonic copies the text), the payload 0.3, a record while it is handled 0.3, and strings 0.2.
		// sonic.ConfigStd copies the strings as well; with it the sum is 1.56.
		{group: group, name: "bytes allocated there", target: "1.5 for a byte of data", judge: func(results) (string, bool) {
			n := allocated(run["sonic"]) / float64(s.data)
			return fmt.Sprintf("%.2f (default codec %.2f; the usual loop %.1f)", n, allocated(run["worker"])/float64(s.data), allocated(run["loop"])/float64(s.data)), n <= 1.5
		}},
		line("floor: the SDK's GetRecords alone", "sdk", 0),
		line("not counted above: HTTP and TLS, with the server's share", "tls", 0),
	}
	rows[0].sides = sides
	return rows
}
