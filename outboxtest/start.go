package outboxtest

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// TB is the part of [testing.TB] that this package uses. *testing.T and
// *testing.B implement it.
type TB interface {
	Helper()
	Context() context.Context
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// AWS is a [Server] with SDK clients that talk to it inside the process, without
// a network.
type AWS struct {
	*Server
	DynamoDB *dynamodb.Client
	Kinesis  *kinesis.Client
	Streams  *dynamodbstreams.Client
}

// Start returns a running server with clients for a test. If an option is wrong,
// the test fails. The server is closed when the test ends. The seed of faults is
// logged; go test shows it when the test fails.
func Start(t TB, opts ...Option) *AWS {
	t.Helper()
	s, err := newServer(opts)
	if err != nil {
		t.Fatalf("%v", err)
		return nil
	}
	s.settings.warn = func(text string) { t.Logf("%s", text) }
	t.Cleanup(s.Close)
	switch {
	case s.settings.random:
		t.Logf("outboxtest: faults by seed %d; to replay them, set %s=%d", s.Seed(), SeedVariable, s.Seed())
	case len(s.settings.faults) > 0:
		t.Logf("outboxtest: faults by seed %d", s.Seed())
	}
	config := s.Config()
	return &AWS{
		Server:   s,
		DynamoDB: dynamodb.NewFromConfig(config),
		Kinesis:  kinesis.NewFromConfig(config),
		Streams:  dynamodbstreams.NewFromConfig(config),
	}
}

// Config returns the configuration for further clients of the server, as in
// dynamodb.NewFromConfig(server.Config()). Requests do not leave the process, the
// credentials are dummies, and the retryer is the SDK's standard one with pauses
// of at most 20 ms: 3 attempts, where a DynamoDB client has 4 by default.
func (s *Server) Config() aws.Config {
	return aws.Config{
		Region:       s.settings.region,
		BaseEndpoint: aws.String("http://outboxtest.invalid"), // never resolved
		HTTPClient:   s.HTTPClient(),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "outboxtest", SecretAccessKey: "outboxtest"}, nil
		}),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 20 * time.Millisecond })
		},
	}
}
