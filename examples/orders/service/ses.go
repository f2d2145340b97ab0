package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log/slog"
	texttemplate "text/template"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"

	"github.com/seed-1b628d3f/outbox"
)

// EventIDHeader is the header of a mail that names its event: two mails with the same one are the same confirmation.
const EventIDHeader = "X-Event-ID"

// SESClient is what SESMailer needs of the SDK. *sesv2.Client implements it.
type SESClient interface {
	SendEmail(context.Context, *sesv2.SendEmailInput, ...func(*sesv2.Options)) (*sesv2.SendEmailOutput, error)
}

// SESMailer sends confirmations with Amazon SES. SES takes no idempotency key: the inbox keeps the same event from being sent
// twice, but for a crash between the mail and the mark, and for an answer of SES that is lost. It is safe for concurrent use.
type SESMailer struct {
	client SESClient
	from   string
	text   *texttemplate.Template
	html   *htmltemplate.Template
}

const (
	subject  = "Your order"
	textBody = "Thank you for your order: {{.Description}}\n\nIts number is {{.OrderID}}.\n"
	htmlBody = "<p>Thank you for your order: {{.Description}}</p>\n<p>Its number is <b>{{.OrderID}}</b>.</p>\n"
)

// NewSESMailer returns a Mailer that sends from an address of a verified identity.
func NewSESMailer(client SESClient, from string) (*SESMailer, error) {
	if err := checkAddress(from); err != nil {
		return nil, fmt.Errorf("the sender %q: %w", from, err)
	}
	text, err := texttemplate.New("text").Parse(textBody)
	if err != nil {
		return nil, err
	}
	html, err := htmltemplate.New("html").Parse(htmlBody)
	if err != nil {
		return nil, err
	}
	return &SESMailer{client: client, from: from, text: text, html: html}, nil
}

// Confirm implements Mailer. An order without an address needs no confirmation. What SES will refuse again is a Permanent error;
// every other error, throttling for instance, is worth another attempt.
func (m *SESMailer) Confirm(ctx context.Context, key string, order OrderCreated) error {
	if order.Email == "" {
		slog.InfoContext(ctx, "no address to confirm to", "order", order.OrderID)
		return nil
	}
	var text, html bytes.Buffer
	if err := errors.Join(m.text.Execute(&text, order), m.html.Execute(&html, order)); err != nil {
		return outbox.Permanent(err)
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
		err = fmt.Errorf("confirm order %s: %w", order.OrderID, err)
		if refusedForGood(err) {
			return outbox.Permanent(err)
		}
		return err
	}
	slog.InfoContext(ctx, "confirmation sent", "order", order.OrderID, "message", aws.ToString(out.MessageId))
	return nil
}

func content(s string) *types.Content {
	return &types.Content{Data: &s, Charset: aws.String("UTF-8")}
}

// refusedForGood reports whether SES would give the same answer again. Somebody has to change something: the message, the
// identity, the account. Then the dead letter can be redriven.
func refusedForGood(err error) bool {
	var (
		rejected  *types.MessageRejected
		domain    *types.MailFromDomainNotVerifiedException
		suspended *types.AccountSuspendedException
		bad       *types.BadRequestException
		missing   *types.NotFoundException
	)
	return errors.As(err, &rejected) || errors.As(err, &domain) || errors.As(err, &suspended) || errors.As(err, &bad) || errors.As(err, &missing)
}
