package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestConflictsAndThrottlingAreRetriedAsTheSameRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &scriptedClient{answers: []error{
			canceled(reason("TransactionConflict"), reason("None")),
			canceled(reason("ThrottlingError"), reason("TransactionConflict")),
			canceled(reason("None"), reason("ProvisionedThroughputExceeded")),
			nil,
		}}
		w := newWriter(t, c, outbox.WithTTL(48*time.Hour), outbox.WithHeaders(func(context.Context) map[string]string {
			return map[string]string{"at": time.Now().String()}
		}))
		e := event("e")
		e.Time = time.Time{} // the Writer's clock
		require.NoError(t, w.Put(t.Context(), "orders", order{"1"}, e))
		require.Len(t, c.sent, 4)
		for _, in := range c.sent[1:] {
			require.Equal(t, c.sent[0], in)
		}
		require.LessOrEqual(t, c.at[3].Sub(c.at[0]), 50*time.Millisecond*(1+2+4))
		require.Greater(t, c.at[3].Sub(c.at[0]), time.Duration(0))
	})
}

func TestSpentAttemptsAreAConflict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &scriptedClient{answers: []error{canceled(reason("TransactionConflict"), reason("ThrottlingError"))}}
		err := newWriter(t, c).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.ErrorIs(t, err, outbox.ErrConflict)
		require.NotErrorIs(t, err, outbox.ErrConditionFailed)
		require.EqualError(t, err, `outbox: transaction of event "e" not committed, 5 attempts: conflict or throttling, repeat later with the same events: `+
			`operation 0 (Put in table "orders"): TransactionConflict: operation 1 (Put of event "e" in table "events"): ThrottlingError`)
		require.Len(t, c.sent, 5)

		c = &scriptedClient{answers: c.answers}
		err = newWriter(t, c, outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 2})).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.ErrorIs(t, err, outbox.ErrConflict)
		require.Len(t, c.sent, 2)
	})
}

func TestOnePermanentReasonStopsTheRetries(t *testing.T) {
	for name, c := range map[string]struct {
		reasons []types.CancellationReason
		want    error
	}{
		"the caller's condition":  {[]types.CancellationReason{reason("TransactionConflict"), reason("ConditionalCheckFailed"), reason("None")}, outbox.ErrConditionFailed},
		"validation":              {[]types.CancellationReason{reason("ValidationError"), reason("TransactionConflict"), reason("None")}, nil},
		"an item collection":      {[]types.CancellationReason{reason("ItemCollectionSizeLimitExceeded"), reason("None"), reason("ThrottlingError")}, nil},
		"a code not known yet":    {[]types.CancellationReason{reason("TransactionConflict"), reason("Novelty"), reason("None")}, nil},
		"the event's row":         {[]types.CancellationReason{reason("TransactionConflict"), reason("None"), reason("ValidationError")}, nil},
		"the event's id is taken": {[]types.CancellationReason{reason("TransactionConflict"), reason("None"), reason("ConditionalCheckFailed")}, outbox.ErrEventConflict},
		"no reason, so no answer": {nil, outbox.ErrUnknownOutcome},
	} {
		client := &scriptedClient{answers: []error{canceled(c.reasons...)}}
		writes := []types.TransactWriteItem{putNew("1"), putNew("2")}
		writes[1].Put.TableName = aws.String("customers")
		err := newWriter(t, client).Transact(t.Context(), writes, event("e"))
		require.Errorf(t, err, "%s", name)
		require.Lenf(t, client.sent, 1, "%s", name)
		for _, kind := range []error{outbox.ErrConditionFailed, outbox.ErrEventConflict, outbox.ErrConflict, outbox.ErrUnknownOutcome} {
			require.Equalf(t, errors.Is(c.want, kind), errors.Is(err, kind), "%s: %v", name, err)
		}
	}
}

// The condition fails and a conflict hides the event's row: only another answer tells whether the condition fails because an
// earlier attempt was committed.
func TestAHiddenEventRowIsLookedAtAgain(t *testing.T) {
	items, err := newWriter(t, &recordingClient{}).Items(t.Context(), event("e"))
	require.NoError(t, err)
	stored := reason("ConditionalCheckFailed")
	stored.Item = items[0].Put.Item
	hidden := canceled(reason("ConditionalCheckFailed"), reason("TransactionConflict"))
	for name, c := range map[string]struct {
		answers []error
		want    error
		sent    int
	}{
		"it was committed":     {[]error{hidden, canceled(reason("ConditionalCheckFailed"), stored)}, nil, 2},
		"it was not committed": {[]error{hidden, canceled(reason("ConditionalCheckFailed"), reason("None"))}, outbox.ErrConditionFailed, 2},
		"hidden for ever":      {[]error{hidden}, outbox.ErrUnknownOutcome, 5},
	} {
		bubble(t, func(t *testing.T) {
			client := &scriptedClient{answers: c.answers}
			err := newWriter(t, client).Transact(t.Context(), []types.TransactWriteItem{putNew("1")}, event("e"))
			require.ErrorIsf(t, err, c.want, "%s", name)
			require.Lenf(t, client.sent, c.sent, "%s", name)
		})
	}
}

func TestATransactionInProgressIsAskedAgainAfterFiveSeconds(t *testing.T) {
	inProgress := &types.TransactionInProgressException{}
	bubble(t, func(t *testing.T) {
		c := &scriptedClient{answers: []error{inProgress, inProgress, nil}}
		require.NoError(t, newWriter(t, c).Put(t.Context(), "orders", order{"1"}, event("e")))
		require.GreaterOrEqual(t, c.at[1].Sub(c.at[0]), 5*time.Second)
		require.Less(t, c.at[2].Sub(c.at[0]), 6*time.Second)
		require.Equal(t, c.sent[0], c.sent[2])
	})
	bubble(t, func(t *testing.T) { // no time for that
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		c := &scriptedClient{answers: []error{inProgress}}
		start := time.Now()
		err := newWriter(t, c).Put(ctx, "orders", order{"1"}, event("e"))
		require.ErrorIs(t, err, outbox.ErrUnknownOutcome)
		require.NotErrorIs(t, err, context.DeadlineExceeded, "it has not passed yet")
		require.ErrorContains(t, err, "no time for another attempt before the context's deadline")
		require.Zero(t, time.Since(start))
		require.Len(t, c.sent, 1)
	})
}

func TestTheContextEndsThePauses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := &scriptedClient{answers: []error{canceled(reason("TransactionConflict"), reason("None"))}}
		time.AfterFunc(time.Minute, cancel)
		err := newWriter(t, c, outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 100, BaseDelay: time.Hour, MaxDelay: time.Hour})).
			Put(ctx, "orders", order{"1"}, event("e"))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, outbox.ErrConflict, "nothing was written, and that is known")
		require.ErrorContains(t, err, "TransactionConflict")
	})
}

func TestWithRetryRefusesNonsense(t *testing.T) {
	for want, r := range map[string]outbox.Retry{
		"want 1 to 100 attempts, have -1":  {MaxAttempts: -1},
		"want 1 to 100 attempts, have 101": {MaxAttempts: 101},
		"have -1ns and 1s":                 {BaseDelay: -1},
		"have 2s and 1s":                   {BaseDelay: 2 * time.Second, MaxDelay: time.Second},
		"have 50ms and -1ns":               {MaxDelay: -1},
		"have 50ms and 1h0m0.000000001s":   {MaxDelay: time.Hour + 1},
	} {
		_, err := outbox.NewWriter(&recordingClient{}, "events", outbox.WithWriteRetry(r))
		require.ErrorContains(t, err, want)
	}
}

// server answers the SDK's requests.
type server struct {
	answers []answer
	sent    int
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	a := s.answers[min(s.sent, len(s.answers)-1)]
	s.sent++
	if a == lostAnswer {
		return nil, errors.New("connection reset by peer")
	}
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader([]byte(a.body))), Request: r}, nil
}

func sdkClient(s *server, retryer aws.Retryer) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region: "eu-west-1", HTTPClient: &http.Client{Transport: s}, Retryer: retryer,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
		}),
	})
}

// A plain aws.Retryer, as somebody may have written one, that repeats everything once.
type once struct{ asked []error }

func (o *once) IsErrorRetryable(err error) bool            { o.asked = append(o.asked, err); return true }
func (*once) MaxAttempts() int                             { return 2 }
func (*once) RetryDelay(int, error) (time.Duration, error) { return time.Second, nil }
func (*once) GetInitialToken() func(error) error           { return func(error) error { return nil } }
func (*once) GetRetryToken(context.Context, error) (func(error) error, error) {
	return func(error) error { return nil }, nil
}

// What is known depends on every answer, not only on the last.
func TestAnswersThatTheSDKHidesAreSeen(t *testing.T) {
	for name, c := range map[string]struct {
		answers  []answer
		retryer  aws.Retryer
		want     error // nil: success
		requests int
	}{
		"success":                                 {[]answer{done}, nil, nil, 1},
		"success after a lost answer":             {[]answer{lostAnswer, done}, nil, nil, 2},
		"refused":                                 {[]answer{denied}, nil, errRefused, 1},
		"refused after a lost answer":             {[]answer{lostAnswer, denied}, nil, outbox.ErrUnknownOutcome, 2},
		"refused after a failure":                 {[]answer{failure, denied}, nil, outbox.ErrUnknownOutcome, 2},
		"refused after throttling":                {[]answer{throttled, denied}, nil, errRefused, 2},
		"throttled":                               {[]answer{throttled}, nil, outbox.ErrConflict, 4},
		"throttled after a lost answer":           {[]answer{lostAnswer, throttled}, nil, outbox.ErrUnknownOutcome, 4},
		"lost answers":                            {[]answer{lostAnswer}, nil, outbox.ErrUnknownOutcome, 4},
		"failures":                                {[]answer{failure}, nil, outbox.ErrUnknownOutcome, 4},
		"conflicts":                               {[]answer{conflict}, nil, outbox.ErrConflict, 5},
		"conflicts after a lost answer":           {[]answer{lostAnswer, conflict}, nil, outbox.ErrUnknownOutcome, 5},
		"a lost answer between conflicts":         {[]answer{conflict, lostAnswer, conflict}, nil, outbox.ErrUnknownOutcome, 5},
		"both retry, and do not multiply":         {[]answer{throttled, throttled, conflict, throttled, throttled, conflict, done}, nil, outbox.ErrConflict, 6},
		"both have spent their attempts":          {[]answer{throttled, throttled, throttled, conflict}, nil, outbox.ErrConflict, 5},
		"a condition after a lost answer":         {[]answer{lostAnswer, condition}, nil, outbox.ErrUnknownOutcome, 2},
		"a condition":                             {[]answer{condition}, nil, outbox.ErrConditionFailed, 1},
		"a limit after a lost answer":             {[]answer{lostAnswer, limit}, nil, outbox.ErrUnknownOutcome, 2},
		"a limit":                                 {[]answer{limit}, nil, errRefused, 1},
		"in progress, then refused":               {[]answer{goingOn, denied}, nil, outbox.ErrUnknownOutcome, 2},
		"in progress, then conflicts":             {[]answer{goingOn, conflict}, nil, outbox.ErrUnknownOutcome, 5},
		"in progress, then throttled":             {[]answer{goingOn, throttled}, nil, outbox.ErrUnknownOutcome, 5},
		"in progress, then a condition":           {[]answer{goingOn, condition}, nil, outbox.ErrUnknownOutcome, 2},
		"the token is taken":                      {[]answer{mismatch}, nil, outbox.ErrUnknownOutcome, 1},
		"unavailable":                             {[]answer{unavailable}, nil, outbox.ErrUnknownOutcome, 4},
		"success after conflicts":                 {[]answer{conflict, throttled, conflict, done}, nil, nil, 4},
		"in progress: the SDK does not ask again": {[]answer{goingOn, done}, nil, nil, 2},
		"in progress for ever":                    {[]answer{goingOn}, nil, outbox.ErrUnknownOutcome, 5},
		"no retries of the SDK":                   {[]answer{lostAnswer, done}, aws.NopRetryer{}, outbox.ErrUnknownOutcome, 1},
		"a retryer of one's own":                  {[]answer{denied, done}, &once{}, nil, 2},
		"a retryer of one's own, in progress":     {[]answer{goingOn, done}, &once{}, nil, 2},
		"more attempts of the SDK":                {[]answer{failure}, retry.AddWithMaxAttempts(retry.NewStandard(), 7), outbox.ErrUnknownOutcome, 7},
	} {
		bubble(t, func(t *testing.T) {
			s := &server{answers: c.answers}
			var info outbox.WriteInfo
			w := newWriter(t, sdkClient(s, c.retryer), outbox.WithWriterHooks(outbox.WriterHooks{
				Written: func(_ context.Context, i outbox.WriteInfo) { info = i },
				Failed:  func(_ context.Context, i outbox.WriteInfo, _ error) { info = i },
			}))
			start := time.Now()
			err := w.Put(t.Context(), "orders", order{"1"}, event("e"))
			require.Equalf(t, c.requests, s.sent, "%s: requests", name)
			require.Equalf(t, c.requests, info.Attempts, "%s: attempts", name)
			if c.answers[0] == goingOn {
				require.GreaterOrEqualf(t, time.Since(start), 5*time.Second, "%s", name)
			}
			if c.want == nil {
				require.NoErrorf(t, err, "%s", name)
				return
			}
			require.Errorf(t, err, "%s", name)
			for _, kind := range []error{outbox.ErrConditionFailed, outbox.ErrEventConflict, outbox.ErrConflict, outbox.ErrUnknownOutcome} {
				require.Equalf(t, errors.Is(c.want, kind), errors.Is(err, kind), "%s: %v", name, err)
			}
			var te *outbox.TransactionError
			require.ErrorAs(t, err, &te)
			require.Equalf(t, c.requests, te.Attempts, "%s: attempts in the error", name)
			require.Equal(t, []string{"e"}, te.EventIDs)
			require.ErrorContains(t, err, `event "e"`, name)
		})
	}
}

// The longest delays of the SDK's default retryer. The Writer's own are what they are.
func longestDelay(attempt int, err error) (time.Duration, error) {
	base := 25 * time.Millisecond
	if retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err).Bool() {
		base = time.Second
	}
	return base << (attempt - 1), nil
}

// Every sequence of answers after which a call sends another request.
func TestRequestsAndPausesOfACallAreBounded(t *testing.T) {
	usual := sdkClient(&server{}, nil).Options().Retryer
	require.Equal(t, 4, usual.MaxAttempts(), "the doc comments of WithWriteRetry and Put are about 4")
	for _, err := range []error{&types.ProvisionedThroughputExceededException{}, &types.InternalServerError{}} {
		for n := range 3 * 1000 {
			delay, failed := usual.RetryDelay(1+n/1000, err)
			require.NoError(t, failed)
			longest, _ := longestDelay(1+n/1000, err)
			require.LessOrEqualf(t, delay, longest, "after attempt %d, %v", 1+n/1000, err)
		}
	}
	bubble(t, func(t *testing.T) {
		s := &server{}
		w := newWriter(t, sdkClient(s, retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.Backoff, o.RateLimiter = usual.MaxAttempts(), retry.BackoffDelayerFunc(longestDelay), ratelimit.None
		})))
		calls, most, longest := 0, 0, time.Duration(0)
		for scripts := [][]answer{nil}; len(scripts) > 0; scripts = scripts[1:] {
			s.answers, s.sent = append(slices.Clone(scripts[0]), done), 0
			start := time.Now()
			_ = w.Put(t.Context(), "orders", order{"1"}, event("e")) // how it ends, the enumeration tells
			calls, most, longest = calls+1, max(most, s.sent), max(longest, time.Since(start))
			if s.sent == len(s.answers) {
				for _, a := range []answer{throttled, conflict, goingOn} {
					scripts = append(scripts, append(slices.Clone(scripts[0]), a))
				}
			}
		}
		t.Logf("%d calls; at most %d requests and %s", calls, most, longest)
		require.Equal(t, 8, most)
		require.Greater(t, longest, 15*time.Second)
		require.Less(t, longest, 15500*time.Millisecond)
	})
}

// The context ends while the SDK waits for its next attempt. If every request before was refused, nothing was written.
func TestTheContextEndsBetweenTheSDKsAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		answers []answer
		want    error
	}{
		"throttled":                     {[]answer{throttled}, outbox.ErrConflict},
		"throttled after a lost answer": {[]answer{lostAnswer, throttled}, outbox.ErrUnknownOutcome},
		"a failure":                     {[]answer{failure}, outbox.ErrUnknownOutcome},
	} {
		bubble(t, func(t *testing.T) {
			s := &server{answers: c.answers}
			slow := retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 10 * time.Second, nil })
			})
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			err := newWriter(t, sdkClient(s, slow)).Put(ctx, "orders", order{"1"}, event("e"))
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			for _, kind := range []error{outbox.ErrConflict, outbox.ErrUnknownOutcome} {
				require.Equalf(t, errors.Is(c.want, kind), errors.Is(err, kind), "%s: %v", name, err)
			}
			require.Equal(t, 2, s.sent, name)
		})
	}
}

// A server that takes requests and never answers: the connection's read timeout ends each of them, and the call.
func TestASilentConnectionEndsWithTheReadTimeout(t *testing.T) {
	silence := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silence }))
	defer server.Close()
	defer close(silence)
	options := sdkClient(nil, nil).Options()
	options.Retryer = nil
	options.BaseEndpoint = &server.URL
	options.HTTPClient = awshttp.NewBuildableClient().WithReadTimeout(100 * time.Millisecond)
	err := newWriter(t, dynamodb.New(options)).Put(context.Background(), "orders", order{"1"}, event("e"))
	require.ErrorIs(t, err, outbox.ErrUnknownOutcome)
	var te *outbox.TransactionError
	require.ErrorAs(t, err, &te)
	require.Equal(t, 4, te.Attempts)
}

// errRefused stands for an error that is none of the sentinels.
var errRefused = errors.New("refused")

// Nothing is sent when the SDK itself refuses the request.
func TestWhatTheSDKRefusesWasNotSent(t *testing.T) {
	s := &server{answers: []answer{done}}
	err := newWriter(t, sdkClient(s, nil)).Transact(t.Context(), []types.TransactWriteItem{{
		Update: &types.Update{TableName: aws.String("orders"), Key: values{"orderId": str("1")}}}}, event("e"))
	require.ErrorIs(t, err, outbox.ErrInvalidWrite)
	require.ErrorContains(t, err, "outbox: transaction of event \"e\" refused before sending: invalid write: ")
	require.Zero(t, s.sent)

	noCredentials := errors.New("no credentials found")
	for name, options := range map[string]func(*dynamodb.Options){
		"no region": func(o *dynamodb.Options) { o.Region = "" },
		"no credentials": func(o *dynamodb.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, noCredentials })
		},
	} {
		bubble(t, func(t *testing.T) {
			err := newWriter(t, dynamodb.New(sdkClient(s, nil).Options(), options)).Put(t.Context(), "orders", order{"1"}, event("e"))
			require.Errorf(t, err, "%s", name)
			require.NotErrorIs(t, err, outbox.ErrUnknownOutcome)
			require.ErrorContains(t, err, "refused before sending")
			var te *outbox.TransactionError
			require.ErrorAs(t, err, &te)
			require.Zero(t, te.Attempts)
			require.Zero(t, s.sent)
		})
	}
}

// twiceClient applies the options of a call to a client of its own and hands them on as well, as a wrapper may.
type twiceClient struct{ options dynamodb.Options }

func (c twiceClient) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return dynamodb.New(c.options, opts...).TransactWriteItems(ctx, in, opts...)
}

// bareClient is not the SDK's: it returns no output, and its answers are all that is known.
type bareClient struct{ answers []error }

func (c *bareClient) TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	err := c.answers[0]
	c.answers = c.answers[1:]
	return nil, err
}

// hastyClient returns when its caller's patience ends, while the SDK goes on.
type hastyClient struct{ client *dynamodb.Client }

func (c hastyClient) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	go func() { _, _ = c.client.TransactWriteItems(context.WithoutCancel(ctx), in, opts...) }()
	return nil, context.DeadlineExceeded
}

func TestOtherClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &server{answers: []answer{lostAnswer, goingOn, denied}}
		err := newWriter(t, twiceClient{sdkClient(s, nil).Options()}).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.ErrorIs(t, err, outbox.ErrUnknownOutcome)
		require.Equal(t, 3, s.sent)
		var te *outbox.TransactionError
		require.ErrorAs(t, err, &te)
		require.Equal(t, 3, te.Attempts, "a request is counted once")

		require.NoError(t, newWriter(t, &bareClient{[]error{nil}}).Put(t.Context(), "orders", order{"1"}, event("e")))
		inProgress, conflict := &types.TransactionInProgressException{}, canceled(reason("TransactionConflict"), reason("None"))
		err = newWriter(t, &bareClient{[]error{inProgress, conflict, apiError{"AccessDeniedException"}}}).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.ErrorIs(t, err, outbox.ErrUnknownOutcome, "what is in progress may still be committed")

		err = newWriter(t, hastyClient{sdkClient(&server{answers: []answer{failure, done}}, nil)}).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.ErrorIs(t, err, outbox.ErrUnknownOutcome)
		time.Sleep(time.Minute) // for what it left behind
	})
}
