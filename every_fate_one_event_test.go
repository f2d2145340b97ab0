package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// What can become of one request, between the SDK and DynamoDB. All of them, in all orders, for as many requests as a script is
// long; after that everything works.
type fate int

const (
	works          fate = iota
	unreachable         // the connection is refused
	timesOut            // nothing arrives, and the HTTP client gives up
	answerLost          // carried out, and the connection breaks
	answerTooLate       // carried out, and the HTTP client gives up
	fails               // 500, nothing done
	failsAfter          // 500, carried out all the same
	isThrottled         // the request as a whole
	itemThrottled       // as a cancellation reason
	itemConflict        // the caller's item is held by another transaction
	eventConflict       // the event's row is
	isInProgress        // the same transaction is going on
	delayed             // the connection breaks; the request arrives after the caller has given up
	delayedLonger       // the connection breaks; the request arrives after the caller's repeat
	deadline            // nothing arrives before the caller's deadline
	deadlineAfter       // carried out, and then the deadline passes
	cancelled           // the caller cancels before anything arrives
	cancelledAfter      // carried out, and then the caller cancels
	fates               // how many there are
)

// ends says that the call makes no other request after this one.
func (f fate) ends() bool { return f == works || f >= deadline }

// everyScript returns all sequences of fates up to the depth; none goes on after a fate that ends the call.
func everyScript(depth int) [][]fate {
	if depth == 0 {
		return [][]fate{nil}
	}
	var out [][]fate
	for f := range fates {
		if f.ends() {
			out = append(out, []fate{f})
			continue
		}
		for _, rest := range everyScript(depth - 1) {
			out = append(out, append([]fate{f}, rest...))
		}
	}
	return out
}

// everySpentAttempt returns the sequences with which an attempt of the SDK ends at its last request: before that, everything that its
// retryer repeats, once for each effect; then every fate.
func everySpentAttempt(requests int) [][]fate {
	if requests == 1 {
		return everyScript(1)
	}
	var out [][]fate
	for _, f := range []fate{fails, failsAfter, isThrottled, delayed, delayedLonger} {
		for _, rest := range everySpentAttempt(requests - 1) {
			out = append(out, append([]fate{f}, rest...))
		}
	}
	return out
}

// call is one call of the Writer: what becomes of its requests.
type call struct {
	script         []fate
	sent           int // of the script
	requests       int
	before         func(request int) // or nil
	cancel         func()
	arriving       []func() // requests still under way when the call has returned
	arrivingLonger []func()
}

type callKey struct{}

// network carries out the fates of the call that a request's context carries. For a PutItem, a conflict or throttling of an item is an answer of
// its own.
type network struct{ http.RoundTripper }

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	c, scripted := r.Context().Value(callKey{}).(*call)
	if !scripted {
		return n.RoundTripper.RoundTrip(r)
	}
	if c.requests++; c.before != nil {
		c.before(c.requests)
	}
	if c.sent >= len(c.script) {
		return n.RoundTripper.RoundTrip(r)
	}
	c.sent++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	carryOut := func() {
		again := r.Clone(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(strings.NewReader(string(body)))
		_, _ = n.RoundTripper.RoundTrip(again) // its answer is lost
	}
	refuse := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	cancelledBy := func(codes ...string) (*http.Response, error) {
		return refuse(400, fmt.Sprintf(`{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"Transaction cancelled",`+
			`"CancellationReasons":[{"Code":%q},{"Code":%q}]}`, codes[0], codes[1]))
	}
	f, onePut := c.script[c.sent-1], strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutItem")
	switch {
	case onePut && f == itemThrottled:
		return refuse(400, throttled.body)
	case onePut && (f == itemConflict || f == eventConflict || f == isInProgress): // a PutItem has no token, so nothing of its own goes on
		return refuse(400, itemIsHeld.body)
	}
	switch f {
	case unreachable:
		return nil, syscall.ECONNREFUSED
	case timesOut:
		return nil, timeoutError{}
	case answerLost:
		carryOut()
		return nil, syscall.ECONNRESET
	case answerTooLate:
		carryOut()
		return nil, timeoutError{}
	case failsAfter:
		carryOut()
		return refuse(500, failure.body)
	case fails:
		return refuse(500, failure.body)
	case isThrottled:
		return refuse(400, throttled.body)
	case itemThrottled:
		return cancelledBy("ThrottlingError", "None")
	case itemConflict:
		return cancelledBy("TransactionConflict", "None")
	case eventConflict:
		return cancelledBy("None", "TransactionConflict")
	case isInProgress:
		c.arriving = append(c.arriving, carryOut)
		return refuse(400, goingOn.body)
	case delayed:
		c.arriving = append(c.arriving, carryOut)
		return nil, syscall.ECONNRESET
	case delayedLonger:
		c.arrivingLonger = append(c.arrivingLonger, carryOut)
		return nil, syscall.ECONNRESET
	case deadline, deadlineAfter:
		if f == deadlineAfter {
			carryOut()
		}
		<-r.Context().Done()
		return nil, r.Context().Err()
	case cancelled, cancelledAfter:
		if f == cancelledAfter {
			carryOut()
		}
		c.cancel()
		return nil, r.Context().Err()
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return n.RoundTripper.RoundTrip(r)
}

// scriptedWriters are Writers whose requests meet the fates of their calls.
type scriptedWriters struct {
	usual, ownRetries, sdkRetries, noRetries *outbox.Writer
	attempts                                 int // of the SDK
}

func (w *world) scriptedWriters(t *testing.T) (s scriptedWriters) {
	options := dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://dynamodb.invalid"),
		HTTPClient: &http.Client{Transport: network{w.HTTPClient().Transport}}, Credentials: w.Config().Credentials}
	s.attempts = dynamodb.New(options).Options().Retryer.MaxAttempts()
	// A client's quota would be spent after some 35 failed calls, and the SDK would repeat nothing any more.
	options.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.RateLimiter = s.attempts, ratelimit.None })
	withoutRetries := options
	withoutRetries.Retryer = aws.NopRetryer{}
	s.usual = newWriter(t, dynamodb.New(options))
	s.sdkRetries = newWriter(t, dynamodb.New(options), outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 1}))
	s.ownRetries = newWriter(t, dynamodb.New(withoutRetries), outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 2}))
	s.noRetries = newWriter(t, dynamodb.New(withoutRetries), outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 1}),
		outbox.WithWriterHooks(outbox.WriterHooks{Written: func(context.Context, outbox.WriteInfo) {}}))
	return s
}

type timeoutError struct{}

func (timeoutError) Error() string {
	return "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
}
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// Every fate of every request that a call makes, for each kind of write and each way to retry: what the first call says is
// true, a repeat with the same event succeeds, at once and after the idempotency token has expired, and in the end there is
// one row, one event and one change record.
func TestEveryFateOfEveryRequestEndsInOneRowAndOneEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorldWith(t)
		defer w.Close()
		put := func(id string) []types.TransactWriteItem {
			return []types.TransactWriteItem{{Put: &types.Put{TableName: aws.String("orders"), Item: values{"orderId": str(id)}}}}
		}
		putIfAbsent := func(id string) []types.TransactWriteItem { return []types.TransactWriteItem{putNew(id)} }
		s := w.scriptedWriters(t)
		ways := []struct {
			name    string
			writer  *outbox.Writer
			write   func(id string) []types.TransactWriteItem
			scripts [][]fate // what becomes of the first requests
		}{
			{"put if absent", s.usual, putIfAbsent, everyScript(3)},
			{"put if absent, the SDK's attempts are spent", s.usual, putIfAbsent, everySpentAttempt(s.attempts)},
			{"put", s.usual, put, everyScript(2)},
			{"put if absent, no retries of the SDK", s.ownRetries, putIfAbsent, everyScript(2)},
			{"put if absent, no retries", s.noRetries, putIfAbsent, everyScript(1)},
			{"put, no retries", s.noRetries, put, everyScript(1)},
		}
		var repeats []func()
		cases, requests := 0, 0
		outcomes := map[error]int{}
		for _, way := range ways {
			for _, script := range way.scripts {
				cases++
				id := fmt.Sprintf("%s, %v", way.name, script)
				e := event(id)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				c := &call{script: script, cancel: cancel}
				err := way.writer.Transact(context.WithValue(ctx, callKey{}, c), way.write(id), e)
				cancel()
				requests += c.sent
				outcomes[w.requireTruth(t, id, err)]++

				for _, arrive := range c.arriving {
					arrive()
				}
				require.NoErrorf(t, way.writer.Transact(t.Context(), way.write(id), e), "%s: first %v, then the repeat", id, err)
				for _, arrive := range c.arrivingLonger {
					arrive()
				}
				repeats = append(repeats, func() {
					require.NoErrorf(t, way.writer.Transact(t.Context(), way.write(id), e), "%s: the repeat after the token has expired", id)
					anew := e
					anew.Time = anew.Time.Add(time.Hour)
					require.NoErrorf(t, way.writer.Transact(t.Context(), way.write(id), anew), "%s: the repeat with another time", id)
				})
			}
		}
		time.Sleep(11 * time.Minute)
		for _, repeat := range repeats {
			repeat()
		}
		w.requireRows(t, int64(cases), int64(cases))
		w.requireOneChangeRecordEach(t, cases)
		t.Logf("%d cases, %d faulty requests in all; first calls: %d succeeded, %d conflicts, %d unknown outcomes",
			cases, requests, outcomes[nil], outcomes[outbox.ErrConflict], outcomes[outbox.ErrUnknownOutcome])
		require.Len(t, outcomes, 3)
	})
}

// requireTruth checks that an error claims no more than is so, and returns its kind.
func (w *world) requireTruth(t *testing.T, id string, err error) error {
	stored := w.row(t, "events", "eventId", id) != nil
	require.Equalf(t, stored, w.row(t, "orders", "orderId", id) != nil, "%s: half a transaction", id)
	switch {
	case err == nil:
		require.Truef(t, stored, "%s: success, and nothing is written", id)
		return nil
	case errors.Is(err, outbox.ErrUnknownOutcome):
		return outbox.ErrUnknownOutcome
	}
	require.ErrorIsf(t, err, outbox.ErrConflict, "%s", id)
	require.Falsef(t, stored, "%s: it says that nothing was written, and something was: %v", id, err)
	return outbox.ErrConflict
}
