package storm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

var (
	errConnection = errors.New("storm: the connection broke")
	errDead       = errors.New("storm: the process is dead")
)

// latest is how much later than its client gives up a request may be carried out: some are later than any lock lasts.
const latest = 150 * time.Second

// link is the HTTP client of one process: everything that the process sends goes through it.
type link struct {
	process string
	to      *http.Client
	faults  *faults
	skew    time.Duration // how far the process's clock is ahead of the services'
	dead    chan struct{} // closed by a kill
	note    func(format string, args ...any)
	tamper  func(operation string, request []byte) ([]byte, bool)

	hangs func(n int) bool // requests that hang as long as the client waits, by their number

	mu     sync.Mutex
	hung   bool
	counts map[string]int
	all    int
	killAt int // at this request the process is killed; 0: never
	kill   func()
	paused chan struct{} // while the process is paused: closed by its end
}

// Do carries a request to the services, or what the storm makes of it.
func (l *link) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	_, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	fate, diesNow, number := l.next(operation)
	if l.hanging(number) {
		if err := l.sleep(req.Context(), time.Hour); err != nil {
			return nil, err
		}
	}
	if diesNow {
		// The last request of a process arrives, or does not.
		if share(l.faults.seed, l.process, "last", 0) < 0.5 {
			l.carry(req, body)
		}
		l.kill()
	}
	if err := l.wait(req.Context()); err != nil {
		// What a process had sent before its pause arrives after it, though nobody waits for the answer any more.
		if !errors.Is(err, errDead) && share(l.faults.seed, l.process, operation, -number) < 0.5 {
			l.carry(req, body)
		}
		return nil, err
	}
	if fate != passes {
		l.note("%s, %s: %s", l.process, operation, fate)
	}
	answer, err := l.meet(fate, operation, req, body)
	if waitErr := l.wait(req.Context()); waitErr != nil {
		return nil, waitErr
	}
	return answer, err
}

func (l *link) next(operation string) (fate fault, diesNow bool, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[operation]++
	l.all++
	return l.faults.decide(l.process, operation, l.counts[operation]), l.all == l.killAt, l.all
}

// hanging says whether a request hangs.
func (l *link) hanging(number int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hangs == nil || !l.hangs(number) {
		return false
	}
	l.hung = true
	return true
}

// heal ends the hanging, once something has hung.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hung {
		l.hangs = nil
	}
}

// wait returns when the process is not paused, and fails if it is dead.
func (l *link) wait(ctx context.Context) error {
	l.mu.Lock()
	paused := l.paused
	l.mu.Unlock()
	if paused != nil {
		select {
		case <-paused:
		case <-l.dead:
		}
	}
	select {
	case <-l.dead:
		return errDead
	default:
	}
	return ctx.Err()
}

func (l *link) meet(fate fault, operation string, req *http.Request, body []byte) (*http.Response, error) {
	at := share(l.faults.seed, l.process, "how long", int(time.Now().UnixNano()%1_000_000_007))
	if err := l.sleep(req.Context(), time.Millisecond+time.Duration(at*float64(5*time.Millisecond))); err != nil {
		return nil, err
	}
	switch fate {
	case isLost:
		return nil, errConnection
	case loses:
		l.carry(req, body)
		return nil, errConnection
	case hangs:
		if err := l.sleep(req.Context(), 20*time.Second); err != nil {
			return nil, err
		}
		return nil, errConnection
	case isLate:
		time.AfterFunc(time.Duration(at*at*at*float64(latest)), func() { l.carry(req, body) })
		return nil, errConnection
	case doneFails:
		l.carry(req, body)
		return refusal(fate, operation), nil
	case fails, isThrottle, conflicts, inProgress:
		return refusal(fate, operation), nil
	case lags:
		if err := l.sleep(req.Context(), time.Duration(at*float64(3*time.Second))); err != nil {
			return nil, err
		}
	}
	return l.carry(req, body)
}

// sleep waits for d, for the end of the context, or for the death of the process.
func (l *link) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.dead:
		return errDead
	}
}

// carry hands the request to the services, and the whole answer back. The context of the caller does not end it: what was sent arrives.
func (l *link) carry(req *http.Request, body []byte) (*http.Response, error) {
	_, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	body = shifted(body, l.skew)
	if l.tamper != nil {
		changed, drop := l.tamper(operation, body)
		if drop {
			return accepted(), nil
		}
		body = changed
	}
	sent := req.Clone(context.WithoutCancel(req.Context()))
	sent.Body = io.NopCloser(bytes.NewReader(body))
	sent.ContentLength = int64(len(body))
	sent.Header.Del("Content-Length")
	answer, err := l.to.Do(sent)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	got = shifted(got, -l.skew)
	shiftDate(answer.Header, l.skew)
	answer.Header.Del("X-Amz-Crc32")
	answer.Header.Del("Content-Length")
	answer.Body = io.NopCloser(bytes.NewReader(got))
	answer.ContentLength = int64(len(got))
	return answer, nil
}

// accepted is an empty success, for a request that a planted fault has swallowed.
func accepted() *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Status: "OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:   io.NopCloser(strings.NewReader("{}")), ContentLength: 2,
	}
}
