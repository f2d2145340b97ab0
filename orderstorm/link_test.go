package orderstorm

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
	errConnection = errors.New("orderstorm: the connection broke")
	errDead       = errors.New("orderstorm: the process is dead")
	errStopped    = errors.New("orderstorm: no process may run")
)

// exchange is a request to DynamoDB and its answer.
type exchange func(operation string, request []byte) (status int, answer []byte)

// link is the HTTP client of one process: everything that the process sends goes through it.
type link struct {
	world   *world
	process string
	calm    bool // no faults, no tampering: only death
	dead    chan struct{}
	kill    func()

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
	service, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	select {
	case <-l.dead:
		return nil, errDead
	case <-req.Context().Done():
		return nil, req.Context().Err()
	default:
	}
	luck, dies := l.next(operation)
	dynamo := strings.HasPrefix(service, "DynamoDB_")
	carry := func(operation string, request []byte) (int, []byte) {
		return l.world.carry(req, service, operation, request)
	}
	if dynamo && !l.calm && l.world.tamper != nil {
		carry = l.world.tamper(carry)
	}
	if dies {
		if l.killAfter {
			carry(operation, request)
		}
		l.world.mu.Lock()
		l.world.deaths++
		l.world.mu.Unlock()
		l.kill()
		return nil, errDead
	}
	if !dynamo || l.calm || l.world.quiet.Load() {
		status, answer := carry(operation, request)
		return answerOf(req, status, answer)
	}
	switch f := l.world.rates[operation]; {
	case luck < f.broken:
		return nil, errConnection
	case luck < f.broken+f.lost:
		carry(operation, request)
		return nil, errConnection
	case luck < f.broken+f.lost+f.error:
		return answerOf(req, 500, failure("InternalServerError", ""))
	case luck < f.broken+f.lost+f.error+f.conflict && operation == "TransactWriteItems":
		var in transaction
		must(0, json.Unmarshal(request, &in))
		reasons := strings.Repeat(`,{"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}`, len(in.TransactItems))
		return answerOf(req, 400, failure("TransactionCanceledException", `,"CancellationReasons":[`+reasons[1:]+`]`))
	case luck < f.broken+f.lost+f.error+f.conflict:
		return answerOf(req, 400, failure("TransactionConflictException", ""))
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

func failure(code, more string) []byte {
	return []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#` + code + `","message":"planted"` + more + `}`)
}

func answerOf(req *http.Request, status int, answer []byte) (*http.Response, error) {
	return &http.Response{StatusCode: status, Status: strconv.Itoa(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)), Request: req}, nil
}

// transaction is what the storm reads of a TransactWriteItems.
type transaction struct {
	TransactItems []struct {
		Put    *struct{ TableName string }
		Update *struct {
			TableName                 string
			Key                       map[string]struct{ S string }
			ExpressionAttributeValues map[string]json.RawMessage
		}
	}
}

// carry sends a request, and looks at what it does to the effects. Requests that may write effects go one after the other, so that nobody knows of
// an effect before the world does.
func (w *world) carry(req *http.Request, service, operation string, request []byte) (int, []byte) {
	effects := (operation == "TransactWriteItems" || operation == "UpdateItem") && bytes.Contains(request, []byte(`"accounts"`))
	if effects {
		w.mu.Lock()
		defer w.mu.Unlock()
	}
	if req.Context().Err() != nil {
		return 500, failure("InternalServerError", "")
	}
	again := req.Clone(context.WithoutCancel(req.Context())) // what is sent is carried out, and the world knows what has become of it
	again.Header.Set("X-Amz-Target", service+"."+operation)
	again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(request)), int64(len(request))
	out := must(w.client.Do(again))
	answer := must(io.ReadAll(out.Body))
	if effects {
		w.seen(operation, request, out.StatusCode, answer)
	}
	return out.StatusCode, answer
}

// seen keeps which effects are committed, and looks at conditions that do not hold. The position or the mark and the effects are in the same
// transaction: one that the inbox allows, and the effect before it does not, breaks the order, or has an effect twice.
func (w *world) seen(operation string, request []byte, status int, answer []byte) {
	if operation == "UpdateItem" {
		request = []byte(`{"TransactItems":[{"Update":` + string(request) + `}]}`)
	}
	var in transaction
	must(0, json.Unmarshal(request, &in))
	var out struct{ CancellationReasons []struct{ Code string } }
	must(0, json.Unmarshal(answer, &out))
	allowed, refused := true, false // by the inbox's conditions, by those of the effects
	for i, item := range in.TransactItems {
		mark := item.Put != nil && item.Put.TableName == "inbox"
		if item.Update == nil && !mark {
			continue
		}
		effect := !mark && item.Update.TableName == "accounts"
		switch {
		case status == 200 && effect:
			account, n := item.Update.Key["accountId"].S, numberOf(item.Update.ExpressionAttributeValues[":n"])
			if w.committed[account] == nil {
				w.committed[account] = map[int64]bool{}
			}
			w.committed[account][n] = true // a repeat with the same token writes nothing
		case i < len(out.CancellationReasons):
			code := out.CancellationReasons[i].Code
			if effect {
				refused = refused || code == "ConditionalCheckFailed"
			} else {
				allowed = allowed && code == "None"
			}
		}
	}
	if allowed && refused {
		w.brokeLocked(checkTable, "the inbox allows a transaction whose effect is not the next one: %s", request)
	}
}

func numberOf(attribute json.RawMessage) int64 {
	var v struct{ N string }
	must(0, json.Unmarshal(attribute, &v))
	return must(strconv.ParseInt(v.N, 10, 64))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
