package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
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
		"AWS_SECRET_ACCESS_KEY": "local", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_MAX_ATTEMPTS": "1"} {
		t.Setenv(name, value)
	}
	sdk, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	mailer, err := NewSESMailer(sesv2.NewFromConfig(sdk), local.MailFrom)
	require.NoError(t, err)
	return mailer, fake
}

func TestAConfirmationHasTwoPartsAndNamesItsEvent(t *testing.T) {
	mailer, fake := fakeSES(t)
	require.NoError(t, mailer.Confirm(t.Context(), "ORDER_CREATED#1", order))
	require.Equal(t, []fakeses.Mail{{
		From: "shop@example.com", To: "customer@example.com", Subject: "Your order",
		Text:    "Thank you for your order: \"<b>\" & two coffees\n\nIts number is 1.\n",
		HTML:    "<p>Thank you for your order: &#34;&lt;b&gt;&#34; &amp; two coffees</p>\n<p>Its number is <b>1</b>.</p>\n",
		Headers: map[string]string{"X-Event-ID": "ORDER_CREATED#1"},
	}}, fake.Mails())
}

func TestAnOrderWithoutAnAddressIsNotConfirmed(t *testing.T) {
	mailer, fake := fakeSES(t)
	require.NoError(t, mailer.Confirm(t.Context(), "k", OrderCreated{OrderID: "1", Description: "x"}))
	require.Zero(t, fake.Calls())
}

func TestABadSenderIsRefusedAtOnce(t *testing.T) {
	_, err := NewSESMailer(sesv2.NewFromConfig(aws.Config{}), "the shop")
	require.ErrorContains(t, err, `the sender "the shop"`)
}

// What SES refuses for good is permanent; everything else is tried again.
func TestErrorsOfSES(t *testing.T) {
	mailer, fake := fakeSES(t)
	for code, c := range map[string]struct {
		status    int
		permanent bool
	}{
		"MessageRejected":                    {http.StatusBadRequest, true},
		"MailFromDomainNotVerifiedException": {http.StatusBadRequest, true},
		"AccountSuspendedException":          {http.StatusBadRequest, true},
		"BadRequestException":                {http.StatusBadRequest, true},
		"NotFoundException":                  {http.StatusNotFound, true},
		"SendingPausedException":             {http.StatusBadRequest, false},
		"LimitExceededException":             {http.StatusBadRequest, false},
		"TooManyRequestsException":           {http.StatusTooManyRequests, false},
		"AccessDeniedException":              {http.StatusForbidden, false},
		"InternalServiceErrorException":      {http.StatusInternalServerError, false},
	} {
		fake.Refuse(func(fakeses.Mail) (int, string) { return c.status, code })
		err := mailer.Confirm(t.Context(), "k", order)
		require.ErrorContains(t, err, "confirm order 1: ")
		require.ErrorContains(t, err, code)
		require.Equal(t, c.permanent, errors.Is(err, outbox.ErrPermanent), code)
	}
	require.Empty(t, fake.Mails())
}

// mapped places the consumer behind a Lambda mapping. What it writes for CloudWatch comes back.
func mapped(t *testing.T, mailer Mailer) (*outboxtest.AWS, http.Handler, *bytes.Buffer) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	inbox, err := outbox.NewInbox(cloud.DynamoDB, local.InboxTable, Group)
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, local.DeadLettersTable, Group)
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	metrics := &bytes.Buffer{} // each line is written under a lock; it is read after Drain
	consumer, err := NewConsumer(cloud.DynamoDB, local, mailer, metrics)
	require.NoError(t, err)
	_, err = cloud.Map(outboxtest.EventSource{Stream: local.EventsStream, ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	api, err := NewAPI(cloud.DynamoDB, local)
	require.NoError(t, err)
	return cloud, api, metrics
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
	cloud, api, metrics := mapped(t, mailer)
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
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, local.DeadLettersTable, Group)
	require.NoError(t, err)
	var dead []outbox.DeadLetter
	for l, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		dead = append(dead, l)
	}
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

// CloudWatch makes a metric of the line: its namespace, name and dimension are where the format wants them.
func TestADeadLetterIsAMetric(t *testing.T) {
	cloud, api, metrics := mapped(t, brokenMailer{})
	placed(t, api, "a@example.com")
	require.NoError(t, cloud.Drain(t.Context()))
	var line map[string]any
	require.NoError(t, json.Unmarshal(metrics.Bytes(), &line), "one line")
	meta := line["_aws"].(map[string]any)
	require.IsType(t, float64(0), meta["Timestamp"])
	require.Equal(t, []any{map[string]any{
		"Namespace": MetricNamespace, "Dimensions": []any{[]any{ConsumerDimension}},
		"Metrics": []any{map[string]any{"Name": DeadLettersMetric, "Unit": "Count"}},
	}}, meta["CloudWatchMetrics"])
	require.Equal(t, Group, line[ConsumerDimension])
	require.InEpsilon(t, 1.0, line[DeadLettersMetric], 0)
	require.Equal(t, "ORDER_CREATED", line["eventType"])
	require.Equal(t, false, line["parked"])
}
