package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

// clients are those of the services that the commands use.
type clients struct {
	where    string
	dynamodb *dynamodb.Client
	kinesis  *kinesis.Client
	streams  *dynamodbstreams.Client
	lambda   *lambda.Client
	keys     *kms.Client
	alarms   alarmsClient
}

// alarmsClient is what doctor needs of CloudWatch.
type alarmsClient interface {
	DescribeAlarms(context.Context, *cloudwatch.DescribeAlarmsInput, ...func(*cloudwatch.Options)) (*cloudwatch.DescribeAlarmsOutput, error)
}

// slowError says that AWS took longer than --timeout.
type slowError struct {
	limit time.Duration
	err   error // what became of the call
}

func (e *slowError) Error() string {
	return fmt.Sprintf("no answer from AWS within %s (--timeout)", e.limit)
}

// Unwrap returns the SDK's error, by which the library knows what is certain of the call.
func (e *slowError) Unwrap() error { return e.err }

// bounded gives each call, with its repetitions, a time to be answered in. GetRecords is bounded by whoever calls it: a large answer over a
// slow line goes on for as long as it makes progress.
func bounded(limit time.Duration) func(*middleware.Stack) error {
	return func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("outbox:timeout", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
			middleware.InitializeOutput, middleware.Metadata, error,
		) {
			if awsmiddleware.GetOperationName(ctx) != "GetRecords" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, limit, &slowError{limit: limit})
				defer cancel()
			}
			out, metadata, err := next.HandleInitialize(ctx, in)
			if slow := (*slowError)(nil); err != nil && errors.As(context.Cause(ctx), &slow) {
				err = &slowError{slow.limit, err}
			}
			return out, metadata, err
		}), middleware.Before)
	}
}

// connect reads the SDK's configuration. It makes no call.
func (a *app) connect(ctx context.Context) (*clients, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(a.profile), config.WithRegion(a.region))
	if unknown := (config.SharedConfigProfileNotExistError{}); a.profile != "" && errors.As(err, &unknown) {
		return nil, usageError{fmt.Errorf("--profile: %w", err)}
	}
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("no AWS region is configured: set AWS_REGION, or give --region")
	}
	cfg.APIOptions = append(cfg.APIOptions, bounded(a.timeout))
	cfg.Logger = logging.Nop{} // what matters is told as an error
	if a.httpClient != nil {
		cfg.HTTPClient = a.httpClient
	}
	a.aws = &clients{
		where: cfg.Region, dynamodb: dynamodb.NewFromConfig(cfg), kinesis: kinesis.NewFromConfig(cfg), streams: dynamodbstreams.NewFromConfig(cfg), lambda: lambda.NewFromConfig(cfg),
		keys: kms.NewFromConfig(cfg), alarms: a.alarms,
	}
	if endpoint := aws.ToString(cfg.BaseEndpoint); endpoint != "" {
		a.aws.where += " at " + endpoint
	}
	if a.aws.alarms == nil {
		a.aws.alarms = cloudwatch.NewFromConfig(cfg)
	}
	return a.aws, nil
}
