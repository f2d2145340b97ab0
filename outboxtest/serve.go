package outboxtest

import (
	"context"
	"net/http"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/fault"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// The services, by the names that faults use.
const (
	serviceDynamoDB = "DynamoDB"
	serviceKinesis  = "Kinesis"
	serviceStreams  = "DynamoDBStreams"
)

// service is one emulated service and its protocol.
type service struct {
	name     string
	protocol wire.Protocol
	do       func(ctx context.Context, operation string, body []byte) (any, error)
	success  func(http.ResponseWriter, any)
	failure  func(http.ResponseWriter, error)
}

func (s *Server) routes() map[string]service {
	out := make(map[string]service)
	for _, sv := range []service{
		{name: serviceDynamoDB, protocol: wire.DynamoDB(), do: s.db.Do},
		{name: serviceStreams, protocol: wire.DynamoDBStreams(), do: s.streams.Do},
		{name: serviceKinesis, protocol: wire.Kinesis(), do: s.kinesis.Do, success: kinesisSuccess, failure: kinesisFailure},
	} {
		if sv.failure == nil {
			sv.success, sv.failure = sv.protocol.WriteResult, sv.protocol.WriteError
		}
		out[sv.protocol.Target] = sv
	}
	return out
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	target, operation, ok := wire.ParseTarget(r)
	sv, known := s.services[target]
	if !ok || !known {
		if r.Header.Get("Content-Type") == wire.Kinesis().ContentType {
			kinesisFailure(w, wire.Unknown(r))
			return
		}
		wire.WriteUnknown(w, r)
		return
	}
	fail := func(err error) {
		s.date(w)
		sv.failure(w, err)
	}
	body, err := wire.ReadBody(r, 0)
	if err != nil {
		fail(err)
		return
	}
	if strings.Contains(r.Header.Get("Content-Type"), "cbor") {
		fail(wire.Serialization("CBOR is not supported here; use " + sv.protocol.ContentType))
		return
	}
	what := s.faults.Request(sv.name, operation)
	if what.Latency > 0 {
		sleep(r.Context(), what.Latency)
	}
	if what.Kind == fault.CutNetwork || s.cuts.has(sv.name) {
		hangUp(w, errRefused())
		return
	}
	if what.Kind != "" {
		fail(s.injected(what.Kind, sv.name, operation, body))
		return
	}
	result, err := sv.do(r.Context(), operation, body)
	if what.LoseAnswer || s.cuts.has(sv.name) {
		hangUp(w, errReset())
		return
	}
	if err != nil {
		fail(err)
		return
	}
	s.date(w)
	sv.success(w, result)
}

// date dates an answer by the server's clock.
func (s *Server) date(w http.ResponseWriter) {
	w.Header().Set("Date", s.settings.now().UTC().Format(http.TimeFormat))
}

// hangUpper is a response writer that can fail the round trip itself.
type hangUpper interface{ hangUp(error) }

// hangUp ends the connection without an answer. cause is what an in-process
// client sees. If the connection cannot be broken (HTTP/2, a recorder), the
// answer is an empty 503.
func hangUp(w http.ResponseWriter, cause error) {
	if h, ok := w.(hangUpper); ok {
		h.hangUp(cause)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	_ = conn.Close() // the client notices by itself
}
