package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go/logging"
)

// clients are those of the services that the commands use.
type clients struct {
	where    string
	dynamodb *dynamodb.Client
	kinesis  *kinesis.Client
	lambda   *lambda.Client
	alarms   alarmsClient
}

// alarmsClient is what doctor needs of CloudWatch.
type alarmsClient interface {
	DescribeAlarms(context.Context, *cloudwatch.DescribeAlarmsInput, ...func(*cloudwatch.Options)) (*cloudwatch.DescribeAlarmsOutput, error)
}

// connect reads the SDK's configuration. It makes no call.
func (a *app) connect(ctx context.Context) (*clients, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("no AWS region is configured: set AWS_REGION")
	}
	cfg.Logger = logging.Nop{} // what matters is told as an error
	if a.httpClient != nil {
		cfg.HTTPClient = a.httpClient
	}
	a.aws = &clients{
		where: cfg.Region, dynamodb: dynamodb.NewFromConfig(cfg), kinesis: kinesis.NewFromConfig(cfg), lambda: lambda.NewFromConfig(cfg), alarms: a.alarms,
	}
	if endpoint := aws.ToString(cfg.BaseEndpoint); endpoint != "" {
		a.aws.where += " at " + endpoint
	}
	if a.aws.alarms == nil {
		a.aws.alarms = cloudwatch.NewFromConfig(cfg)
	}
	return a.aws, nil
}
