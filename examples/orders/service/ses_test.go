package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/fakeses"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

var order = OrderCreated{OrderID: "1", Description: `"<b>" & two coffees`, Email: "customer@example.com"}

// fakeSES is a mailer whose SDK is led to a fake SES by the environment.
func fakeSES(t *testing.T) (*SESMailer, *fakeses.Server) {
	fake := &fakeses.Server{}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{"AWS_ENDPOINT_URL_SESV2": server.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local",
		"AWS_SECRET_ACCESS_KEY": "local", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	sdk, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	mailer, err := newMailer(sdk, local)
	require.NoError(t, err)
	return mailer, fake
}

func TestAConfirmationHasTwoPartsAndNamesItsEvent(t *testing.T) {
	mailer, fake := fakeSES(t)
	require.NoError(t, mailer.Confirm(t.Context(), "1#1", order))
	require.Equal(t, []fakeses.Mail{{
		From: "shop@example.com", To: "customer@example.com", Subject: "Your order",
		Text:    "Thank you for your order: \"<b>\" & two coffees\n\nIts number is 1.\n",
		HTML:    "<p>Thank you for your order: &#34;&lt;b&gt;&#34; &amp; two coffees</p>\n<p>Its number is <b>1</b>.</p>\n",
		Headers: map[string]string{"X-Event-ID": "1#1"},
	}}, fake.Mails())

	require.NoError(t, mailer.Changed(t.Context(), "1#2", OrderChanged{OrderID: "1", Description: "tea", Email: "customer@example.com"}))
	require.Equal(t, fakeses.Mail{
		From: "shop@example.com", To: "customer@example.com", Subject: "Your order",
		Text:    "Your order is now: tea\n\nIts number is 1.\n",
		HTML:    "<p>Your order is now: tea</p>\n<p>Its number is <b>1</b>.</p>\n",
		Headers: map[string]string{"X-Event-ID": "1#2"},
	}, fake.Mails()[1])
}

func TestAnOrderWithoutAnAddressIsNotConfirmed(t *testing.T) {
	mailer, fake := fakeSES(t)
	require.NoError(t, mailer.Confirm(t.Context(), "k", OrderCreated{OrderID: "1", Description: "x"}))
	require.Zero(t, fake.Calls())
}

func TestABadSenderOrRateIsRefusedAtOnce(t *testing.T) {
	_, err := NewSESMailer(sesv2.NewFromConfig(aws.Config{}), "the shop", 1)
	require.EqualError(t, err, `the sender "the shop": want only an address, like a@example.com`)
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		_, err = NewSESMailer(sesv2.NewFromConfig(aws.Config{}), "shop@example.com", rate)
		require.ErrorContains(t, err, fmt.Sprintf("the rate of mails is %v a second", rate))
	}
}

// A mail that SES refuses for good is permanent; what no mail can pass, as the state of the account, waits; everything else is tried again.
func TestErrorsOfSES(t *testing.T) {
	mailer, fake := fakeSES(t)
	for code, c := range map[string]struct {
		status int
		is     error // nil is an attempt
	}{
		"MessageRejected":                    {http.StatusBadRequest, outbox.ErrPermanent},
		"MailFromDomainNotVerifiedException": {http.StatusBadRequest, outbox.ErrUnavailable},
		"AccountSuspendedException":          {http.StatusBadRequest, outbox.ErrUnavailable},
		"BadRequestException":                {http.StatusBadRequest, outbox.ErrPermanent},
		"NotFoundException":                  {http.StatusNotFound, outbox.ErrUnavailable},
		"SendingPausedException":             {http.StatusBadRequest, outbox.ErrUnavailable},
		"LimitExceededException":             {http.StatusBadRequest, outbox.ErrUnavailable},
		"TooManyRequestsException":           {http.StatusTooManyRequests, outbox.ErrUnavailable},
		"ServiceUnavailable":                 {http.StatusServiceUnavailable, outbox.ErrUnavailable},
		"AccessDeniedException":              {http.StatusForbidden, outbox.ErrUnavailable},
		"UnrecognizedClientException":        {http.StatusForbidden, outbox.ErrUnavailable},
		"InternalServiceErrorException":      {http.StatusInternalServerError, nil},
	} {
		fake.Refuse(func(fakeses.Mail) (int, string) { return c.status, code })
		err := mailer.Confirm(t.Context(), "k", order)
		require.ErrorContains(t, err, fmt.Sprintf("confirm order 1: SES answers %s, status %d, request 1-", code, c.status))
		require.NotContains(t, err.Error(), "@")
		if c.is != nil {
			require.ErrorIs(t, err, c.is, code)
		}
		for _, other := range []error{outbox.ErrPermanent, outbox.ErrUnavailable} {
			if !errors.Is(c.is, other) {
				require.NotErrorIs(t, err, other, code)
			}
		}
	}
	require.Empty(t, fake.Mails())
}

// While the sender is not verified SES refuses every mail, so the events wait. A recipient whose address ends with the sender's is still his own.
func TestAnUnverifiedSenderMakesNoDeadLetters(t *testing.T) {
	mailer, fake := fakeSES(t)
	fake.Refuse(func(fakeses.Mail) (int, string) { return http.StatusBadRequest, fakeses.SenderRejected })
	err := mailer.Confirm(t.Context(), "k", order)
	require.ErrorIs(t, err, outbox.ErrUnavailable)
	require.NotErrorIs(t, err, outbox.ErrPermanent)
	require.ErrorContains(t, err, "confirm order 1: SES answers MessageRejected, status 400, request 1-")
	require.NotContains(t, err.Error(), "@")

	fake.Refuse(func(fakeses.Mail) (int, string) { return http.StatusBadRequest, "MessageRejected" })
	err = mailer.Confirm(t.Context(), "k", OrderCreated{OrderID: "1", Description: "tea", Email: "work" + local.MailFrom})
	require.ErrorIs(t, err, outbox.ErrPermanent)
}

// A mail whose answer is lost may have been sent, so the attempts at it are counted, and the SDK makes none. One for which there was no connection was not.
func TestNoAnswerOfSES(t *testing.T) {
	mailer, fake := fakeSES(t)
	fake.LoseAnswers()
	err := mailer.Confirm(t.Context(), "k", order)
	require.ErrorContains(t, err, "confirm order 1: SES has not answered: ")
	require.NotErrorIs(t, err, outbox.ErrUnavailable)
	require.Len(t, fake.Mails(), 1)

	t.Setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:1")
	sdk, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	mailer, err = newMailer(sdk, local)
	require.NoError(t, err)
	require.ErrorIs(t, mailer.Confirm(t.Context(), "k", order), outbox.ErrUnavailable)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, mailer.Confirm(ctx, "k", order), context.Canceled)
}

// The SDK's own errors quote no address either, whatever they say.
func TestAnErrorOfTheSDKQuotesNoAddress(t *testing.T) {
	err := withoutAddresses(t.Context(), errors.New(`operation error SESv2: <customer@example.com>, "b@example.org": no`))
	require.EqualError(t, err, "SES has not answered: operation error SESv2: (an address) (an address) no")
}

// Whatever SES says about a recipient, it is neither in the log, nor in a dead letter's error, nor in a metric.
func TestAddressesStayWhereTheyAre(t *testing.T) {
	mailer, fake := fakeSES(t)
	codes := map[string]string{"rejected@example.com": "MessageRejected", "bad@example.com": "BadRequestException", "broken@example.com": "InternalServiceErrorException"}
	var slow atomic.Bool
	slow.Store(true)
	fake.Refuse(func(m fakeses.Mail) (int, string) {
		if m.To == "slow@example.com" && slow.Swap(false) {
			return http.StatusTooManyRequests, "TooManyRequestsException"
		}
		if code := codes[m.To]; code != "" {
			return map[bool]int{true: http.StatusInternalServerError, false: http.StatusBadRequest}[code == "InternalServiceErrorException"], code
		}
		return 0, ""
	})
	var log lockedBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer slog.SetDefault(before)
	cloud, api, letters, metrics := mapped(t, mailer)
	for address := range codes {
		placed(t, api, address)
	}
	placed(t, api, "slow@example.com")
	require.NoError(t, cloud.Drain(t.Context()))
	dead := deadLetters(t, letters)
	require.Len(t, dead, len(codes))
	for _, l := range dead {
		require.Contains(t, l.Error, "SES answers ")
		require.NotContains(t, l.Error, "example.com")
		require.NotContains(t, l.ID, "example.com")
	}
	require.Contains(t, metrics.String(), "DeadLetters")
	require.NotContains(t, metrics.String(), "example.com")
	for _, code := range []string{"MessageRejected", "BadRequestException", "InternalServiceErrorException", "TooManyRequestsException"} {
		require.Contains(t, log.String(), "SES answers "+code)
	}
	require.NotContains(t, log.String(), "example.com")
	require.NotContains(t, log.String(), "@")
}

// lockedBuffer is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// withLetters is an AWS with all tables, and the dead letters of the service.
func withLetters(t *testing.T) (*outboxtest.AWS, *outbox.DeadLetterTable) {
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	inbox, err := outbox.NewInbox(cloud.DynamoDB, local.InboxTable, Group)
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, local.DeadLettersTable, Group)
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	return cloud, letters
}

func deadLetters(t *testing.T, letters *outbox.DeadLetterTable) (all []outbox.DeadLetter) {
	for l, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		all = append(all, l)
	}
	return all
}

// mapped places the consumer behind a Lambda mapping. What it writes for CloudWatch comes back.
func mapped(t *testing.T, mailer Mailer) (*outboxtest.AWS, http.Handler, *outbox.DeadLetterTable, *bytes.Buffer) {
	cloud, letters := withLetters(t)
	metrics := &bytes.Buffer{} // each line is written under a lock; it is read after Drain
	consumer, err := NewConsumer(cloud.DynamoDB, local, mailer, metrics)
	require.NoError(t, err)
	_, err = cloud.Map(outboxtest.EventSource{Stream: local.EventsStream, ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	api, err := NewAPI(cloud.DynamoDB, local)
	require.NoError(t, err)
	return cloud, api, letters, metrics
}

func placed(t *testing.T, api http.Handler, email string) {
	w := httptest.NewRecorder()
	body := bytes.NewBufferString(fmt.Sprintf(`{"description":"two coffees","email":%q}`, email))
	api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body))
	require.Equal(t, http.StatusCreated, w.Code, w.Body)
}

// Throttling is tried again, a mail that is refused becomes a dead letter with a metric, and the same event is not sent twice.
func TestConfirmationsThroughTheStream(t *testing.T) {
	mailer, fake := fakeSES(t)
	throttled := 0
	fake.Refuse(func(m fakeses.Mail) (int, string) {
		switch {
		case m.To == "nobody@example.com":
			return http.StatusBadRequest, "MessageRejected"
		case throttled < 3:
			throttled++
			return http.StatusTooManyRequests, "TooManyRequestsException"
		}
		return 0, ""
	})
	quiet(t)
	cloud, api, letters, metrics := mapped(t, mailer)
	require.NoError(t, cloud.SetFaults(outboxtest.Fault{Kind: outboxtest.DuplicateRecord, Probability: 1}))
	placed(t, api, "a@example.com")
	placed(t, api, "nobody@example.com")
	placed(t, api, "b@example.com")
	require.NoError(t, cloud.Drain(t.Context()))

	var to []string
	for _, m := range fake.Mails() {
		to = append(to, m.To)
	}
	require.ElementsMatch(t, []string{"a@example.com", "b@example.com"}, to)
	dead := deadLetters(t, letters)
	require.Len(t, dead, 1, "%v", dead)
	require.Contains(t, dead[0].Error, "MessageRejected")
	lines := bytes.Split(bytes.TrimSpace(metrics.Bytes()), []byte("\n"))
	require.NotEmpty(t, lines)
	var line map[string]any
	require.NoError(t, json.Unmarshal(lines[0], &line))
	require.Equal(t, dead[0].ID, line["deadLetter"])
}

// The handler that fails for another reason than SES is one, too.
type brokenMailer struct{}

func (brokenMailer) Confirm(context.Context, string, OrderCreated) error {
	return outbox.Permanent(errors.New("broken"))
}

func (brokenMailer) Changed(context.Context, string, OrderChanged) error {
	return outbox.Permanent(errors.New("broken"))
}

// CloudWatch makes a metric of the line: its namespace, name and dimension are where the format wants them.
func TestADeadLetterIsAMetric(t *testing.T) {
	quiet(t)
	cloud, api, _, metrics := mapped(t, brokenMailer{})
	placed(t, api, "a@example.com")
	require.NoError(t, cloud.Drain(t.Context()))
	var line map[string]any
	require.NoError(t, json.Unmarshal(metrics.Bytes(), &line), "one line")
	meta := line["_aws"].(map[string]any)
	require.IsType(t, float64(0), meta["Timestamp"])
	require.Equal(t, []any{map[string]any{
		"Namespace": MetricNamespace, "Dimensions": []any{[]any{StackDimension}},
		"Metrics": []any{map[string]any{"Name": DeadLettersMetric, "Unit": "Count"}},
	}}, meta["CloudWatchMetrics"])
	require.Equal(t, local.Stack, line[StackDimension])
	require.Equal(t, Group, line["consumer"])
	require.InEpsilon(t, 1.0, line[DeadLettersMetric], 0)
	require.Equal(t, "ORDER_CREATED", line["eventType"])
	require.Equal(t, false, line["parked"])
}
