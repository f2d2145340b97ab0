package fastget

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// page is an answer with records of a size, as Kinesis writes it.
func page(n, size int) (body []byte, data int) {
	type record struct {
		ApproximateArrivalTimestamp  json.Number
		Data                         []byte
		PartitionKey, SequenceNumber string
	}
	var out struct {
		MillisBehindLatest int
		NextShardIterator  string
		Records            []record
	}
	out.NextShardIterator = base64.StdEncoding.EncodeToString(make([]byte, 152))
	for i := range n {
		blob := make([]byte, size)
		for j := range blob {
			blob[j] = byte(rand.Uint32())
		}
		out.Records = append(out.Records, record{json.Number(fmt.Sprintf("%d.%03d", 1731924555+i, i%1000)), blob, strings.Repeat("5", 32), strings.Repeat("4", 56)})
	}
	body, _ = json.Marshal(out)
	return body, n * size
}

// At most 1.5 bytes are allocated for a byte of data, and 0.2 if the memory is given back. The test takes the best of several
// runs, because the pools of buffers lose some now and then.
func TestMemory(t *testing.T) {
	body, data := page(1000, 1000)
	for name, c := range map[string]struct {
		most float64
		read func()
	}{
		"kept": {1.5, func() { read(t, Wrap(stock, nil), body) }},
		"given back": {0.2, func() {
			var a Answer
			read(t, Wrap(stock, &a), body)
			a.Release()
		}},
	} {
		best, allocs := uint64(1<<63), uint64(1<<63)
		for range 15 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c.read()
			runtime.ReadMemStats(&after)
			best, allocs = min(best, after.TotalAlloc-before.TotalAlloc), min(allocs, after.Mallocs-before.Mallocs)
		}
		perByte := float64(best) / float64(data)
		t.Logf("%s: %.2f bytes for a byte of data, and %d allocations for 1,000 records", name, perByte, allocs)
		require.Less(t, perByte, c.most, name)
		require.Less(t, allocs, uint64(50), name)
	}
}

func read(t require.TestingT, protocol smithyhttp.ClientProtocol, body []byte) {
	var out kinesis.GetRecordsOutput
	err := protocol.DeserializeResponse(context.Background(), operation, kinesis.TypeRegistry, response(200, bytes.NewReader(body), int64(len(body))), &out)
	if err != nil || len(out.Records) == 0 {
		require.NoError(t, err)
	}
}

// perMB reports the CPU time of the process for a megabyte of data.
func perMB(b *testing.B, data int) func() {
	before := cpu()
	return func() {
		b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N)/float64(data)*1e6, "cpu-ms/MB")
	}
}

func BenchmarkDeserialize(b *testing.B) {
	for _, size := range []int{300, 1000, 10000} {
		body, data := page(1000000/size, size)
		for name, protocol := range map[string]smithyhttp.ClientProtocol{"stock": stock, "fast": Wrap(stock, nil)} {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(data))
				defer perMB(b, data)()
				for b.Loop() {
					read(b, protocol, body)
				}
			})
		}
	}
}

// BenchmarkPoll is GetRecords through a client over TLS, with the server's share, which is the same for all.
func BenchmarkPoll(b *testing.B) {
	body, data := page(1000, 1000)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body)
	}))
	defer server.Close()
	client := outboxtest.BufferedClient(server.Client().Transport)
	k := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &server.URL, HTTPClient: client,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "x", SecretAccessKey: "x"}, nil
		})})
	get := func(b *testing.B, opts ...func(*kinesis.Options)) {
		b.ReportAllocs()
		b.SetBytes(int64(data))
		defer perMB(b, data)()
		for b.Loop() {
			out, err := k.GetRecords(b.Context(), &kinesis.GetRecordsInput{ShardIterator: aws.String("x")}, opts...)
			require.NoError(b, err)
			require.Len(b, out.Records, 1000)
		}
	}
	b.Run("http alone", func(b *testing.B) {
		b.SetBytes(int64(data))
		defer perMB(b, data)()
		for b.Loop() {
			resp, err := client.Post(server.URL, "application/x-amz-json-1.1", strings.NewReader("{}"))
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(b, err)
			require.NoError(b, resp.Body.Close())
		}
	})
	b.Run("stock", func(b *testing.B) { get(b) })
	b.Run("fast", func(b *testing.B) { get(b, func(o *kinesis.Options) { o.Protocol = Wrap(o.Protocol, nil) }) })
}
