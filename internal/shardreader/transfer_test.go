package shardreader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"
)

// pipe is a link below the SDK: it is the HTTP client of Kinesis and of DynamoDB Streams, and all answers share its bandwidth. Its shards
// hold numbered records.
type pipe struct {
	mu      sync.Mutex
	rate    float64 // bytes a second
	free    time.Time
	records int                  // of each shard
	size    int                  // of a record
	silent  func(limit int) bool // whether an answer to a request for so many records stops for ever after its first bytes
	limits  []int
	reading int // answers whose bodies are being read
	most    int
}

func (p *pipe) kinesis() KinesisClient {
	return kinesis.New(kinesis.Options{Region: "eu-west-1", HTTPClient: p, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
}

func (p *pipe) streams() StreamsClient {
	return dynamodbstreams.New(dynamodbstreams.Options{Region: "eu-west-1", HTTPClient: p, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
}

// Do implements the HTTP client of the SDK.
func (p *pipe) Do(r *http.Request) (*http.Response, error) {
	var in struct {
		StartingSequenceNumber, SequenceNumber, ShardIterator string
		Limit                                                 int
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	service, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	answer := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Request: r}
	if operation == "GetShardIterator" {
		at := 0
		if number := in.StartingSequenceNumber + in.SequenceNumber; number != "" {
			n, _ := strconv.Atoi(number)
			at = n - 1
		}
		answer.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"ShardIterator":"%d"}`, at)))
		return answer, nil
	}
	at, _ := strconv.Atoi(in.ShardIterator)
	p.mu.Lock()
	defer p.mu.Unlock()
	body := p.answer(service, at, in.Limit)
	p.limits = append(p.limits, in.Limit)
	answer.ContentLength = int64(len(body))
	answer.Body = &flow{ctx: r.Context(), p: p, rest: bytes.NewReader(body), stops: p.silent != nil && p.silent(in.Limit)}
	return answer, nil
}

// answer is one of GetRecords, of 10 MB at most.
func (p *pipe) answer(service string, at, limit int) []byte {
	if limit == 0 {
		limit = 10000
	}
	data := strings.Repeat("x", p.size)
	var records []map[string]any
	for size := 0; at < p.records && len(records) < limit && size < 10<<20; size += p.size {
		at++
		if strings.HasPrefix(service, "Kinesis") {
			records = append(records, map[string]any{"SequenceNumber": strconv.Itoa(at), "Data": []byte(data), "PartitionKey": "k"})
			continue
		}
		records = append(records, map[string]any{"eventName": "INSERT", "dynamodb": map[string]any{"SequenceNumber": strconv.Itoa(at),
			"SizeBytes": p.size, "NewImage": map[string]any{"payload": map[string]any{"S": data}}}})
	}
	out := map[string]any{"Records": records, "NextShardIterator": strconv.Itoa(at), "MillisBehindLatest": max(0, p.records-at)}
	if len(records) == 0 {
		out["Records"] = []int{}
	}
	body, _ := json.Marshal(out) // strings and numbers
	return body
}

// flow is the body of an answer on its way through a pipe.
type flow struct {
	ctx   context.Context
	p     *pipe
	rest  *bytes.Reader
	began bool
	stops bool
}

// Read implements io.Reader.
func (f *flow) Read(b []byte) (int, error) {
	if f.stops && f.began {
		<-f.ctx.Done()
		return 0, f.ctx.Err()
	}
	n, err := f.rest.Read(b[:min(len(b), 64<<10)])
	f.p.mu.Lock()
	if !f.began {
		f.began = true
		if f.rest.Size() > largeAnswer {
			f.p.reading++
			f.p.most = max(f.p.most, f.p.reading)
		}
	}
	if now := time.Now(); f.p.free.Before(now) {
		f.p.free = now
	}
	f.p.free = f.p.free.Add(time.Duration(float64(n) / f.p.rate * float64(time.Second)))
	at := f.p.free
	f.p.mu.Unlock()
	if sleepUntil(f.ctx, at) != nil {
		return 0, f.ctx.Err()
	}
	return n, err
}

// Close implements io.Closer.
func (f *flow) Close() error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if f.began && f.rest.Size() > largeAnswer {
		f.p.reading--
	}
	f.began = false
	return nil
}

// enough ends a reading.
var enough = errors.New("all records have come")

// all reads a shard until it has delivered so many records, and returns their sequence numbers.
func all(t *testing.T, r *Reader, shard string, records int) []string {
	t.Helper()
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	_, err := r.Read(ctx, shard, Oldest, func(b Batch) error {
		for _, record := range b.Records {
			got = append(got, record.SequenceNumber)
		}
		if len(got) >= records {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough, "%d records have come", len(got))
	return got
}

// numbered are the sequence numbers of a pipe's shard.
func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i + 1)
	}
	return out
}

// TestASlowLinkIsNoFailure reads answers of 300 KB over a link that takes a minute for each of them.
func TestASlowLinkIsNoFailure(t *testing.T) {
	for name, source := range map[string]func(*pipe) Source{
		"Kinesis":                       func(p *pipe) Source { return &Kinesis{Client: p.kinesis(), Stream: "changes"} },
		"Kinesis with the SDK's reader": func(p *pipe) Source { return &Kinesis{Client: p.kinesis(), Stream: "changes", StockReader: true} },
		"DynamoDB Streams":              func(p *pipe) Source { return &Streams{Client: p.streams(), ARN: "arn"} },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipe{rate: 5e3, records: 60, size: 10000}
			begin := time.Now()
			r := &Reader{Source: source(p), Limit: 30, OnRetry: func(again Retry) { require.Fail(t, "a request failed", "%s: %+v", name, again) }}
			require.Equal(t, numbered(60), all(t, r, "shard", 60), name)
			require.Equal(t, []int{30, 30}, p.limits, name)
			require.Greater(t, time.Since(begin), 2*stallTimeout, "of the bubble's time: the answers took longer than a timeout")
		})
	}
}

// TestAStallHalvesWhatIsAskedFor has answers that stop on their way if they are large.
func TestAStallHalvesWhatIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		limit, bears int
		limits       []int // the first of them
	}{
		{1000, 300, []int{1000, 500, 250, 282}},
		{0, 600, []int{0, 1000, 500, 563}},
		{40, 35, []int{40, 32, 37, 32}},
		{10, 5, []int{10, 10, 10, 10}},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipe{rate: 1e9, records: 5000, size: 100}
			bad := 0
			p.silent = func(limit int) bool {
				if limit > c.bears || limit == 0 {
					if bad++; c.limit != 10 || bad < 4 { // below the least there is nothing to halve
						return true
					}
				}
				return false
			}
			var retries []Retry
			r := &Reader{Source: &Kinesis{Client: p.kinesis(), Stream: "changes"}, Limit: c.limit, OnRetry: func(again Retry) { retries = append(retries, again) }}
			begin := time.Now()
			require.Equal(t, numbered(1000), all(t, r, "shard", 1000)[:1000])
			require.Equal(t, c.limits, p.limits[:4])
			require.ErrorIs(t, retries[0].Err, context.DeadlineExceeded)
			require.ErrorContains(t, retries[0].Err, "given up after 30s without progress")
			require.GreaterOrEqual(t, time.Since(begin), stallTimeout)
		})
	}
	// When the link is well again, the limit is what it was.
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{rate: 1e9, records: 5000, size: 1}
		stops := 2
		p.silent = func(int) bool { stops--; return stops >= 0 }
		r := &Reader{Source: &Kinesis{Client: p.kinesis(), Stream: "changes"}, Limit: 400}
		require.Equal(t, numbered(5000), all(t, r, "shard", 5000))
		require.Equal(t, []int{400, 200, 100, 113}, p.limits[:4])
		require.Equal(t, 400, p.limits[len(p.limits)-1])
	})
}

// TestDownloadsWaitForTheirTurn has more shards with a backlog than may be read at once. A wait for a turn is longer than a stall, and no
// failure.
func TestDownloadsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const shards, turns = 8, 3
		p := &pipe{rate: 20e3, records: 60, size: 10000}
		source, downloads := &Kinesis{Client: p.kinesis(), Stream: "changes"}, NewDownloads(turns)
		var reading sync.WaitGroup
		for i := range shards {
			reading.Go(func() {
				r := &Reader{Source: source, Limit: 30, Downloads: downloads, OnRetry: func(again Retry) { require.Fail(t, "a request failed", "%+v", again) }}
				require.Equal(t, numbered(60), all(t, r, fmt.Sprint("shard", i), 60))
			})
		}
		reading.Wait()
		require.Equal(t, turns, p.most)
		require.Empty(t, downloads.turns, "all turns have been given back")
	})
	// A burst meets shards that had nothing for long: their answers are large, and nobody has asked for a turn before.
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{rate: 20e3, size: 10000}
		source, downloads := &Kinesis{Client: p.kinesis(), Stream: "changes"}, NewDownloads(2)
		time.AfterFunc(time.Minute, func() { p.mu.Lock(); p.records = 30; p.mu.Unlock() })
		var reading sync.WaitGroup
		for i := range 8 {
			reading.Go(func() {
				r := &Reader{Source: source, Limit: 100, Downloads: downloads, OnRetry: func(again Retry) { require.Fail(t, "a request failed", "%+v", again) }}
				require.Equal(t, numbered(30), all(t, r, fmt.Sprint("shard", i), 30))
			})
		}
		reading.Wait()
		require.Equal(t, 2, p.most)
	})
	// Who waits for a turn ends with its context, and small answers need no turn.
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{rate: 100e3, records: 200, size: 1000}
		downloads := NewDownloads(1)
		downloads.turns <- struct{}{}
		r := &Reader{Source: &Kinesis{Client: p.kinesis(), Stream: "changes"}, Downloads: downloads}
		s := &seen{}
		_, err := during(t, r, "shard", Oldest, s, time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, p.limits, "the first answer may be large")
		<-downloads.turns
		r.Limit = 50
		time.AfterFunc(time.Millisecond, func() { downloads.turns <- struct{}{} })
		require.Equal(t, numbered(200), all(t, r, "shard", 200))
	})
}
