package reconcilestorm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

var (
	errConnection = errors.New("reconcilestorm: the connection broke")
	errDead       = errors.New("reconcilestorm: the process is dead")
)

// exchange is a request to DynamoDB and its answer.
type exchange func(operation string, request []byte) (status int, answer []byte)

// rates say how often a request of an operation fails. unread is the share of the BatchGetItems that leave keys unread.
type rates struct{ broken, lost, error, unread float64 }

// link is the HTTP client of one process: everything that the process sends goes through it.
type link struct {
	world   *world
	process string
	calm    bool // no faults
	kill    context.CancelFunc
	dead    <-chan struct{}

	mu        sync.Mutex
	counts    map[string]uint64
	all       int
	killAt    int // at this request the process dies; 0: never
	killAfter bool
}

// Do carries a request to the services, or what the storm makes of it.
func (l *link) Do(req *http.Request) (*http.Response, error) {
	request, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	select {
	case <-l.dead:
		return nil, errDead
	case <-req.Context().Done():
		return nil, req.Context().Err()
	default:
	}
	service, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	carry := func(operation string, request []byte) (int, []byte) {
		again := req.Clone(context.WithoutCancel(req.Context())) // what is sent is carried out
		again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(request)), int64(len(request))
		out := must(l.world.client.Do(again))
		return out.StatusCode, must(io.ReadAll(out.Body))
	}
	dynamo := strings.HasPrefix(service, "DynamoDB_")
	if dynamo && l.world.tamper != nil {
		carry = l.world.tamper(l.world, carry)
	}
	if operation == "Scan" {
		request = with(request, "Limit", l.world.plan.page)
	}
	luck, dies := l.next(operation)
	if dies {
		if l.killAfter {
			carry(operation, request)
		}
		l.world.deaths.Add(1)
		l.kill()
		return nil, errDead
	}
	if f := l.world.plan.requests[operation]; dynamo && !l.calm && !l.world.quiet.Load() {
		switch {
		case luck < f.broken:
			return nil, errConnection
		case luck < f.broken+f.lost:
			carry(operation, request)
			return nil, errConnection
		case luck < f.broken+f.lost+f.error:
			return answerOf(req, 500, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"planted"}`))
		case luck < f.broken+f.lost+f.error+f.unread:
			l.world.unread.Add(1)
			carry = half(carry)
		}
	}
	status, answer := carry(operation, request)
	return answerOf(req, status, answer)
}

// next counts a request. What becomes of it depends on the seed, the process and the number; when the process dies was drawn at its start.
func (l *link) next(operation string) (luck float64, dies bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[operation]++
	l.all++
	h := fnv.New64a()
	_, _ = h.Write([]byte(l.process + operation))
	return rand.New(rand.NewPCG(l.world.seed^h.Sum64(), l.counts[operation])).Float64(), l.all == l.killAt
}

type members map[string]json.RawMessage

// with sets a member of a JSON object.
func with(object []byte, name string, value any) []byte {
	var m members
	must(0, json.Unmarshal(object, &m))
	m[name] = must(json.Marshal(value))
	return must(json.Marshal(m))
}

// half lets a BatchGetItem read the first half of its keys.
func half(carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		var in struct {
			RequestItems map[string]members
		}
		must(0, json.Unmarshal(request, &in))
		unread := map[string]any{}
		for table, ask := range in.RequestItems {
			var keys []json.RawMessage
			must(0, json.Unmarshal(ask["Keys"], &keys))
			unread[table] = map[string]any{"Keys": keys[len(keys)/2:]}
			if len(keys) < 2 {
				return 200, must(json.Marshal(map[string]any{"Responses": map[string]any{}, "UnprocessedKeys": unread}))
			}
			ask["Keys"] = must(json.Marshal(keys[:len(keys)/2]))
		}
		status, answer := carry(operation, must(json.Marshal(in)))
		if status != 200 {
			return status, answer
		}
		return status, with(answer, "UnprocessedKeys", unread)
	}
}

func answerOf(req *http.Request, status int, answer []byte) (*http.Response, error) {
	return &http.Response{StatusCode: status, Status: strconv.Itoa(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)), Request: req}, nil
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
