package wire

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRequestBytes is the largest request body AWS accepts from anyone; a larger one is refused
// before it is looked at.
const MaxRequestBytes = 16 << 20

// Service does operations: body is the request's JSON, the result is encoded as JSON.
// A failure is an *Error; any other error becomes an InternalServerError.
// A Service is safe for concurrent use.
type Service interface {
	Do(ctx context.Context, operation string, body []byte) (result any, err error)
}

// Protocol is what differs between services that speak AWS JSON.
type Protocol struct {
	// Target is the part of X-Amz-Target before the dot, e.g. "DynamoDB_20120810".
	Target string
	// Package is the service's namespace, e.g. "com.amazonaws.dynamodb.v20120810". It prefixes
	// error types and appears in complaints about the body.
	Package string
	// ContentType is the protocol's media type.
	ContentType string
	// Checksum adds X-Amz-Crc32, which DynamoDB's clients verify.
	Checksum bool
}

// DynamoDB is DynamoDB's protocol.
func DynamoDB() Protocol {
	return Protocol{
		Target: "DynamoDB_20120810", Package: "com.amazonaws.dynamodb.v20120810",
		ContentType: "application/x-amz-json-1.0", Checksum: true,
	}
}

// DynamoDBStreams is the protocol of DynamoDB Streams.
func DynamoDBStreams() Protocol {
	return Protocol{
		Target: "DynamoDBStreams_20120810", Package: "com.amazonaws.dynamodb.v20120810",
		ContentType: "application/x-amz-json-1.0", Checksum: true,
	}
}

// Kinesis is the protocol of Kinesis data streams.
func Kinesis() Protocol {
	return Protocol{
		Target: "Kinesis_20131202", Package: "com.amazonaws.kinesis.v20131202",
		ContentType: "application/x-amz-json-1.1",
	}
}

// ParseTarget splits the request's X-Amz-Target into the service's target and the operation.
// ok is false if the header is missing or is not of that form.
func ParseTarget(r *http.Request) (target, operation string, ok bool) {
	target, operation, ok = strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	ok = ok && target != "" && operation != "" && !strings.Contains(operation, ".")
	return target, operation, ok
}

// ReadBody reads the request's body, at most limit bytes of it; a longer one is an *Error with
// status 413. Zero means MaxRequestBytes.
func ReadBody(r *http.Request, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = MaxRequestBytes
	}
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, Serialization("")
	}
	if int64(len(body)) > limit {
		return nil, &Error{
			Code: CodeTooLarge, Status: http.StatusRequestEntityTooLarge,
			Message: "Request size exceeded the limit of " + strconv.FormatInt(limit, 10) + " bytes",
		}
	}
	return body, nil
}

// Serve answers one request whose operation is known: it reads the body, asks the service and
// writes what it said.
func (p Protocol) Serve(w http.ResponseWriter, r *http.Request, operation string, s Service) {
	body, err := ReadBody(r, 0)
	if err != nil {
		p.WriteError(w, err)
		return
	}
	result, err := s.Do(r.Context(), operation, body)
	if err != nil {
		p.WriteError(w, err)
		return
	}
	p.WriteResult(w, result)
}

// Handler serves one service alone: requests for another target get UnknownOperationException.
func (p Protocol) Handler(s Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, operation, ok := ParseTarget(r)
		if !ok || target != p.Target {
			p.WriteError(w, UnknownOperation(r.Header.Get("X-Amz-Target")))
			return
		}
		p.Serve(w, r, operation, s)
	})
}

// WriteResult writes a successful answer; a nil result is an empty object.
func (p Protocol) WriteResult(w http.ResponseWriter, result any) {
	if result == nil { // an operation without output answers nothing at all
		p.write(w, http.StatusOK, nil)
		return
	}
	body, err := Marshal(result)
	if err != nil {
		p.WriteError(w, err)
		return
	}
	p.write(w, http.StatusOK, body)
}

// WriteError writes an error document.
func (p Protocol) WriteError(w http.ResponseWriter, err error) {
	e := AsError(err)
	doc := e.document(p.Package + "#")
	body, err := Marshal(doc)
	if err != nil {
		body = []byte(`{"__type":"` + CodeInternal + `"}`)
	}
	if kind, ok := doc["__type"].(string); ok {
		w.Header().Set("X-Amzn-Errortype", kind)
	}
	p.write(w, e.HTTPStatus(), body)
}

func (p Protocol) write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", p.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Amzn-Requestid", requestID())
	if p.Checksum {
		h.Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10))
	}
	w.WriteHeader(status)
	// The client is gone if this fails, and there is nobody else to tell.
	_, _ = w.Write(body)
}

// requestID has the length and alphabet of a real one.
func requestID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
}

// Marshal encodes as AWS does: no HTML escaping, no trailing newline.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Parse reads a request body into maps, slices, strings, booleans and json.Numbers. Anything but
// exactly one JSON object is a SerializationException.
func Parse(body []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, Serialization("")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, Serialization("")
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, Serialization("")
	}
	return object, nil
}

// Epoch is a point in time as the AWS JSON protocols write it: seconds with milliseconds.
type Epoch time.Time

// MarshalJSON writes e.g. 1719347890.25.
func (e Epoch) MarshalJSON() ([]byte, error) {
	ms := time.Time(e).UnixMilli()
	return strconv.AppendFloat(nil, float64(ms)/1000, 'f', -1, 64), nil
}
