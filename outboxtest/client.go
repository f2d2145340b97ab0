package outboxtest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
)

// HTTPClient returns a client whose requests go straight into the server,
// whatever their host. There is no network, so it is fast and works in a
// [testing/synctest] bubble. Give it to the SDK as the HTTPClient of its
// configuration, together with any BaseEndpoint.
func (s *Server) HTTPClient() *http.Client { return &http.Client{Transport: inProcess{s}} }

// inProcess is a round trip that calls the server in the caller's goroutine.
type inProcess struct{ server *Server }

// RoundTrip reads the whole request before it answers. So the SDK may close the
// request's body as soon as it has an answer.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in, err := detached(r)
	if err != nil {
		return nil, err
	}
	if err := r.Context().Err(); err != nil {
		return nil, context.Cause(r.Context())
	}
	w := &answer{header: make(http.Header), status: http.StatusOK}
	t.server.serve(w, in)
	if w.failure != nil {
		return nil, w.failure
	}
	// If the caller's context ended while the request waited, there is no answer.
	if err := r.Context().Err(); err != nil {
		return nil, context.Cause(r.Context())
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(bytes.NewReader(w.body.Bytes())), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// answer collects a response in memory.
type answer struct {
	header  http.Header
	status  int
	wrote   bool
	body    bytes.Buffer
	failure error
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if !a.wrote {
		a.wrote, a.status = true, status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.wrote = true
	return a.body.Write(b)
}

func (a *answer) hangUp(err error) { a.failure = err }

// BufferedClient returns a client for a server behind a real listener, such as
// [net/http/httptest.NewServer]. It sends a copy of the request's body, because
// the SDK closes the body as soon as an answer begins. A server in the same
// process may answer before the transport has read the body. Without the copy, an
// answer of more than 64 KB then fails now and again with "use of closed network
// connection". A nil base is [http.DefaultTransport].
func BufferedClient(base http.RoundTripper) *http.Client {
	if base == nil {
		base = http.DefaultTransport
	}
	return &http.Client{Transport: buffered{base}}
}

type buffered struct{ base http.RoundTripper }

func (t buffered) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := detached(r)
	if err != nil {
		return nil, err
	}
	return t.base.RoundTrip(out)
}

// detached returns the request with a body of its own, and closes the original.
func detached(r *http.Request) (*http.Request, error) {
	out := r.Clone(r.Context())
	if r.Body == nil || r.Body == http.NoBody {
		return out, nil
	}
	body, err := io.ReadAll(r.Body)
	closeErr := r.Body.Close()
	if err != nil {
		return nil, err
	}
	if closeErr != nil {
		return nil, closeErr
	}
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.ContentLength = int64(len(body))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return out, nil
}
