// Package fastget reads the answers of Kinesis' GetRecords with a fraction of the work of the SDK's reader. It reads the answer
// once, and puts the data of all records into one buffer that can be used again. The SDK's client takes it as its protocol.
//
// Whatever it does not know for certain it leaves to the protocol that it wraps: every other operation, every error, and every
// answer that is not exactly as expected. So the result is always what the SDK's own reader returns.
//
// It knows the answer of GetRecords in JSON 1.1. It must not know what records mean.
//
// See https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html.
package fastget

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Wrap returns the protocol with a fast reader for GetRecords, or stock itself if it is not JSON 1.1. The results use a's memory,
// or their own if a is nil.
func Wrap(stock smithyhttp.ClientProtocol, a *Answer) smithyhttp.ClientProtocol {
	if stock == nil || stock.ID().Name != "awsJson1_1" {
		return stock
	}
	if already, ok := stock.(*protocol); ok {
		stock = already.ClientProtocol
	}
	return &protocol{stock, a}
}

// protocol is safe for concurrent use.
type protocol struct {
	smithyhttp.ClientProtocol
	answer *Answer
}

const (
	// maxKept is the largest answer whose buffer is kept for the next answer: the most that GetRecords returns, in base64, and
	// the envelopes of the records.
	maxKept = 16 << 20
	minRead = 4 << 10
)

// scratch is the memory that reading one answer needs besides the result. The result does not point into it.
type scratch struct {
	body    bytes.Buffer
	entries []entry
}

var pool = sync.Pool{New: func() any { return new(scratch) }}

// DeserializeResponse reads a successful answer of GetRecords, or leaves it to the wrapped protocol.
func (p *protocol) DeserializeResponse(
	ctx context.Context, schema *smithy.OperationSchema, types *smithy.TypeRegistry, resp *smithyhttp.Response, out smithy.Deserializable,
) error {
	records, ok := out.(*kinesis.GetRecordsOutput)
	if !ok || resp.StatusCode != 200 {
		return p.ClientProtocol.DeserializeResponse(ctx, schema, types, resp, out)
	}
	s := pool.Get().(*scratch)
	defer func() {
		if s.body.Cap() <= maxKept {
			pool.Put(s)
		}
	}()
	s.body.Reset()
	if n := resp.ContentLength; n > 0 && n <= maxKept {
		s.body.Grow(int(n) + minRead) // with room for ReadFrom to see the end
	}
	_, err := s.body.ReadFrom(resp.Body)
	var rest io.Reader = bytes.NewReader(nil)
	if err != nil {
		rest = failing{err}
	} else if fields, ok := s.parse(s.body.Bytes()); ok {
		m := p.answer.borrow()
		if fields.fill(records, s.body.Bytes(), s.entries, m) {
			p.answer.lend(m)
			return nil
		}
	}
	// The original response stays as it is, because its caller closes it.
	again, http := *resp, *resp.Response
	http.Body = io.NopCloser(io.MultiReader(bytes.NewReader(s.body.Bytes()), rest))
	again.Response = &http
	return p.ClientProtocol.DeserializeResponse(ctx, schema, types, &again, out)
}

// failing repeats the error that ended the reading of the answer.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
