package service

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"github.com/seed-1b628d3f/outbox"
)

// Start is how every deployed program begins: logs in JSON, what the environment says about the role, and the SDK's configuration.
func Start(ctx context.Context, role Role, getenv func(string) string, logs io.Writer) (Config, aws.Config, error) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(logs, nil)))
	c, err := FromEnvironment(role, getenv)
	if err != nil {
		return Config{}, aws.Config{}, err
	}
	sdk, err := config.LoadDefaultConfig(ctx)
	if err == nil && sdk.Region == "" {
		err = errors.New("no AWS Region is configured: set AWS_REGION")
	}
	return c, sdk, err
}

// Confirmations returns the consumer that confirms orders with SES.
func Confirmations(sdk aws.Config, c Config, metrics io.Writer) (*outbox.Consumer, error) {
	mailer, err := newMailer(sdk, c)
	if err != nil {
		return nil, err
	}
	return NewConsumer(dynamodb.NewFromConfig(sdk), c, mailer, metrics)
}

// Redrives returns the redrive whose handlers confirm orders with SES.
func Redrives(sdk aws.Config, c Config, metrics io.Writer) (*Redrive, error) {
	mailer, err := newMailer(sdk, c)
	if err != nil {
		return nil, err
	}
	return NewRedrive(dynamodb.NewFromConfig(sdk), c, mailer, metrics)
}

// Reconciles returns the Reconcile whose handlers confirm orders with SES.
func Reconciles(sdk aws.Config, c Config, metrics io.Writer) (*Reconcile, error) {
	mailer, err := newMailer(sdk, c)
	if err != nil {
		return nil, err
	}
	return NewReconcile(dynamodb.NewFromConfig(sdk), c, mailer, metrics)
}

// newMailer returns a Mailer whose SDK repeats nothing: its repeats would be faster than the rate, and no attempts of the handler.
func newMailer(sdk aws.Config, c Config) (*SESMailer, error) {
	client := sesv2.NewFromConfig(sdk, func(o *sesv2.Options) { o.Retryer = aws.NopRetryer{} })
	return NewSESMailer(client, c.MailFrom, c.MailRate)
}
