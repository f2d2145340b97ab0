package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"

	"github.com/seed-1b628d3f/outbox"
)

// EventIDHeader is the header of a mail that names its event: two mails with the same one are the same confirmation.
const EventIDHeader = "X-Event-ID"

// SESClient is what SESMailer needs of the SDK. *sesv2.Client implements it.
type SESClient interface {
	SendEmail(context.Context, *sesv2.SendEmailInput, ...func(*sesv2.Options)) (*sesv2.SendEmailOutput, error)
}

// SESMailer sends confirmations with Amazon SES, no faster than its rate. SES takes no idempotency key: the inbox keeps the same event from
// being sent twice, but for a crash between the mail and the mark, and for an answer of SES that is lost. It is safe for concurrent use.
type SESMailer struct {
	client SESClient
	from   string
	pace   *rate.Limiter
	text   *texttemplate.Template
	html   *htmltemplate.Template
}

const (
	subject  = "Your order"
	textBody = "{{.Opening}}: {{.Description}}\n\nIts number is {{.OrderID}}.\n"
	htmlBody = "<p>{{.Opening}}: {{.Description}}</p>\n<p>Its number is <b>{{.OrderID}}</b>.</p>\n"
)

// letter is what a mail says, and to whom.
type letter struct{ Opening, Description, OrderID, Email string }

// maxRate is far above what SES allows anybody.
const maxRate = 100_000

// sendTime is how much of a handler's time is left for the call of SES when the wait for a mail's turn has to end.
const sendTime = 5 * time.Second

// NewSESMailer returns a Mailer that sends from an address of a verified identity, at most so many mails a second.
func NewSESMailer(client SESClient, from string, mailsPerSecond float64) (*SESMailer, error) {
	if err := checkAddress(from); err != nil {
		return nil, fmt.Errorf("the sender %q: %w", from, err)
	}
	if !(mailsPerSecond > 0 && mailsPerSecond <= maxRate) {
		return nil, fmt.Errorf("the rate of mails is %v a second, want more than 0, and at most %d", mailsPerSecond, maxRate)
	}
	text, err := texttemplate.New("text").Parse(textBody)
	if err != nil {
		return nil, err
	}
	html, err := htmltemplate.New("html").Parse(htmlBody)
	if err != nil {
		return nil, err
	}
	return &SESMailer{client: client, from: from, pace: rate.NewLimiter(rate.Limit(mailsPerSecond), 1), text: text, html: html}, nil
}

// Confirm implements Mailer. An order without an address needs no confirmation. It waits until the next mail may be sent. A mail that SES will
// refuse again is a Permanent error. What SES has not taken because of its rate, an outage, or the state of the account is Unavailable: the event
// waits, for the next one would fare no better. Every other error is worth another attempt. No error quotes an address: errors are logged, and
// stored with dead letters.
func (m *SESMailer) Confirm(ctx context.Context, key string, order OrderCreated) error {
	return m.send(ctx, key, letter{"Thank you for your order", order.Description, order.OrderID, order.Email})
}

// Changed implements Mailer, as Confirm does. SES may deliver two mails in another order than it takes them.
func (m *SESMailer) Changed(ctx context.Context, key string, order OrderChanged) error {
	return m.send(ctx, key, letter{"Your order is now", order.Description, order.OrderID, order.Email})
}

func (m *SESMailer) send(ctx context.Context, key string, order letter) error {
	if order.Email == "" {
		slog.InfoContext(ctx, "no address to confirm to", "order", order.OrderID)
		return nil
	}
	var text, html bytes.Buffer
	if err := errors.Join(m.text.Execute(&text, order), m.html.Execute(&html, order)); err != nil {
		return outbox.Permanent(err)
	}
	if err := m.turn(ctx); err != nil {
		return outbox.Unavailable(fmt.Errorf("confirm order %s: %w", order.OrderID, err))
	}
	out, err := m.client.SendEmail(ctx, &sesv2.SendEmailInput{
		FromEmailAddress: &m.from,
		Destination:      &types.Destination{ToAddresses: []string{order.Email}},
		Content: &types.EmailContent{Simple: &types.Message{
			Subject: content(subject),
			Body:    &types.Body{Text: content(text.String()), Html: content(html.String())},
			Headers: []types.MessageHeader{{Name: aws.String(EventIDHeader), Value: &key}},
		}},
	})
	if err != nil {
		told := fmt.Errorf("confirm order %s: %w", order.OrderID, withoutAddresses(ctx, err))
		switch {
		case m.senderRefused(err):
			return outbox.Unavailable(told)
		case refusedForGood(err):
			return outbox.Permanent(told)
		case notTaken(err):
			return outbox.Unavailable(told)
		}
		return told
	}
	slog.InfoContext(ctx, "confirmation sent", "order", order.OrderID, "message", aws.ToString(out.MessageId))
	return nil
}

// turn waits until the next mail may be sent. The error says that the context ends before.
func (m *SESMailer) turn(ctx context.Context) error {
	ctx, cancel := beforeDeadline(ctx, sendTime)
	defer cancel()
	return m.pace.Wait(ctx)
}

func content(s string) *types.Content {
	return &types.Content{Data: &s, Charset: aws.String("UTF-8")}
}

// withoutAddresses says what went wrong without the words of SES, which name the recipient: "Email address is not verified. The following
// identities failed the check: ...". The error's code says what it is, and the request's id finds the rest at AWS.
func withoutAddresses(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		return errors.New("SES has not answered: " + addressLike.ReplaceAllString(err.Error(), "(an address)"))
	}
	text := "SES answers " + refused.ErrorCode()
	if answer := (*awshttp.ResponseError)(nil); errors.As(err, &answer) {
		text += fmt.Sprintf(", status %d, request %s", answer.HTTPStatusCode(), answer.ServiceRequestID())
	}
	return errors.New(text)
}

// addressLike is a word that is an address, or has one in it.
var addressLike = regexp.MustCompile(`\S*@\S*`)

// senderRefused reports whether SES has not verified the sender: then it refuses every mail. Its code is that of a recipient who is not verified,
// and the message names who it was, after a colon and between commas.
func (m *SESMailer) senderRefused(err error) bool {
	var rejected *types.MessageRejected
	if !errors.As(err, &rejected) {
		return false
	}
	words := strings.FieldsFunc(rejected.ErrorMessage(), func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",:;<>", r) })
	return slices.ContainsFunc(words, func(word string) bool { return strings.EqualFold(word, m.from) })
}

// refusedForGood reports whether SES would give the same answer again, whatever becomes of the account: it is this mail that is wrong.
func refusedForGood(err error) bool {
	var (
		rejected *types.MessageRejected
		bad      *types.BadRequestException
	)
	return errors.As(err, &rejected) || errors.As(err, &bad)
}

// notTaken reports whether SES surely has not taken the mail, and would refuse every other one, too: for the rate, for an outage, or for the
// state of the account, which somebody has to change. An answer that is lost does not count, nor one with the status 500: the mail may have
// been sent, and the attempts bound how often it is sent again.
func notTaken(err error) bool {
	var (
		rate       *types.TooManyRequestsException
		quota      *types.LimitExceededException
		paused     *types.SendingPausedException
		suspended  *types.AccountSuspendedException
		domain     *types.MailFromDomainNotVerifiedException
		missing    *types.NotFoundException // a configuration set
		answer     *awshttp.ResponseError
		connection *net.OpError
	)
	return errors.As(err, &rate) || errors.As(err, &quota) || errors.As(err, &paused) ||
		errors.As(err, &suspended) || errors.As(err, &domain) || errors.As(err, &missing) ||
		errors.As(err, &answer) && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}, answer.HTTPStatusCode()) ||
		errors.As(err, &connection) && connection.Op == "dial"
}
