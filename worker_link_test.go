package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

var errGone = errors.New("the process is gone, or its network is")

// simLink is everything between one simulated process and the world: its requests, and the effects of its handlers. Requests are
// struck on the wire, below the SDK, so that its retries are part of what is tested.
type simLink struct {
	sim  *workerSim
	next http.RoundTripper
	dead chan struct{} // closed when the process has been killed

	mu      sync.Mutex
	rng     *rand.Rand
	trouble float64         // share of requests whose answer is lost, late, doubled or an error
	cut     map[string]bool // services that cannot be reached
	resumed chan struct{}   // not nil: the process is paused until it is closed

	// Where the process is killed, counted over requests and handler effects.
	points, killAt int
	killAfter      bool
	onKill         func()
}

func (l *simLink) killed() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

func (l *simLink) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.killed() {
		close(l.dead)
	}
}

// point counts a place where the process may be killed, before or after what happens there.
func (l *simLink) point() (before, after bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.points++
	here := l.points == l.killAt
	return here && !l.killAfter, here && l.killAfter
}

func (l *simLink) die() {
	l.kill()
	if l.onKill != nil {
		l.onKill()
	}
}

// gate waits while the process is paused.
func (l *simLink) gate() {
	l.mu.Lock()
	resumed := l.resumed
	l.mu.Unlock()
	if resumed != nil {
		<-resumed
	}
}

func (l *simLink) pause(d time.Duration) {
	l.mu.Lock()
	l.resumed = make(chan struct{})
	resumed := l.resumed
	l.mu.Unlock()
	time.Sleep(d)
	l.mu.Lock()
	l.resumed = nil
	l.mu.Unlock()
	close(resumed)
}

func (l *simLink) setCut(service string, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[service] = cut
}

func (l *simLink) isCut(service string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut[service] || l.killed()
}

// strike draws what happens to a request.
func (l *simLink) strike() (kind string, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rng.Float64() >= l.trouble {
		return "", 0
	}
	kinds := []string{"throttle", "broken", "lost", "late", "slow", "double"}
	return kinds[l.rng.IntN(len(kinds))], time.Duration(l.rng.Int64N(int64(3 * time.Second)))
}

func (l *simLink) RoundTrip(r *http.Request) (*http.Response, error) {
	service, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	service, _, _ = strings.Cut(service, "_")
	l.gate()
	before, after := l.point()
	if before {
		l.die()
	}
	if l.isCut(service) {
		return nil, errGone
	}
	kind, delay := l.strike()
	switch kind {
	case "broken":
		return nil, errGone
	case "throttle":
		body := `{"__type":"ProvisionedThroughputExceededException","message":"slow down"}`
		return &http.Response{StatusCode: 400, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Proto: "HTTP/1.1", ProtoMajor: 1,
			ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
	case "slow":
		if !simSleep(r.Context(), delay) {
			return nil, context.Cause(r.Context())
		}
		l.gate()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if kind == "double" || kind == "late" { // a copy that the network kept arrives long after the caller has gone on
		copied := r.Clone(context.WithoutCancel(r.Context())) // now: the original is the SDK's
		l.sim.others.Go(func() {
			time.Sleep(delay)
			if answer, err := l.carryOut(copied, operation, body); err == nil {
				answer.Body.Close()
			}
		})
		if kind == "late" {
			return nil, errGone
		}
	}
	answer, err := l.carryOut(r.Clone(r.Context()), operation, body)
	if after {
		l.die()
	}
	l.gate()
	if err == nil && (kind == "lost" || l.isCut(service)) {
		answer.Body.Close()
		return nil, errGone
	}
	return answer, err
}

// carryOut lets the request happen, one at a time, so that the history has the order in which they did.
func (l *simLink) carryOut(r *http.Request, operation string, body []byte) (*http.Response, error) {
	l.sim.wire.Lock()
	defer l.sim.wire.Unlock()
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer, err := l.next.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK || operation != "UpdateItem" && operation != "TransactWriteItems" {
		return answer, err
	}
	out, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(out))
	l.sim.audit(operation, body, out)
	return answer, nil
}

func simSleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type simValue struct{ S, N string }

// audit notes what a write has made of a lease.
func (s *workerSim) audit(operation string, request, answer []byte) {
	shardOf := func(id string) string {
		_, shard, _ := strings.Cut(id, "#L#")
		return shard
	}
	var row struct {
		Attributes map[string]json.RawMessage
		// of a transaction
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
			s.stored(shardOf(end.Key["id"].S), "SHARD_END", "", -1)
		}
		return
	}
	if json.Unmarshal(answer, &row) != nil {
		return
	}
	get := func(name string) (v simValue) {
		_ = json.Unmarshal(row.Attributes[name], &v) // what is missing is empty
		return v
	}
	if shard := shardOf(get("id").S); shard != "" {
		var fence int64
		_ = json.Unmarshal([]byte(get("fence").N), &fence)
		s.stored(shard, get("checkpoint").S, get("owner").S, fence)
	}
}
