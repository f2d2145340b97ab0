package integration

import (
	"context"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// service is something that a server may offer and a case may need.
type service string

const (
	tables       service = "tables"       // DynamoDB without what follows
	transactions service = "transactions" // TransactWriteItems and TransactGetItems
	timeToLive   service = "time to live" // its settings; nothing waits for an expiry
	streams      service = "streams"      // Kinesis
	hop          service = "hop"          // DynamoDB's streaming destination, to a stream of the same server
)

var allServices = []service{tables, transactions, timeToLive, streams, hop}

// server is something that speaks AWS's protocols.
type server struct {
	name     string
	offers   []service
	config   aws.Config
	endpoint string // "" if there is no way to it but config
	deviates deviations
}

// endpointsVariable says where servers listen, as "ministack=http://127.0.0.1:4566 dynalite=http://127.0.0.1:4567".
const endpointsVariable = "OUTBOX_SERVERS"

// sdkVariable says what the AWS of the SDK's own configuration is to be tested for, as "tables transactions".
const sdkVariable = "OUTBOX_SDK"

// servers returns what the cases run against: outboxtest in two ways, always, and the servers of the environment.
func servers(t *testing.T) []server {
	t.Helper()
	inProcess := outboxtest.Start(t)
	served := serve(t)
	out := []server{
		{name: "outboxtest", offers: allServices, config: inProcess.Config()},
		{name: "outboxtest-served", offers: allServices, endpoint: served, config: local(served, outboxtest.BufferedClient(nil))},
	}
	for field := range strings.FieldsSeq(os.Getenv(endpointsVariable)) {
		name, endpoint, ok := strings.Cut(field, "=")
		k, known := foreign[name]
		require.Truef(t, ok && known, "%s: %q is not NAME=URL of a known server", endpointsVariable, field)
		out = append(out, server{name: name, offers: k.offers, deviates: k.deviates, endpoint: endpoint,
			config: local(endpoint, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()})})
	}
	if offers, ok := os.LookupEnv(sdkVariable); ok {
		out = append(out, ofTheSDK(t, offers))
	}
	return out
}

// serve starts outboxtest on a port of the loopback interface.
func serve(t *testing.T) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	aws := outboxtest.New()
	s := &http.Server{Handler: aws, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
		aws.Close()
	})
	return "http://" + listener.Addr().String()
}

// local is the configuration for a server on this machine.
func local(endpoint string, client *http.Client) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		HTTPClient:   client,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		// A server that fails with 500 where it should refuse is asked again; that must not take long.
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 50 * time.Millisecond })
		},
	}
}

// ofTheSDK is whatever the SDK's configuration names: AWS itself, or any server that AWS_ENDPOINT_URL and its kin point to.
func ofTheSDK(t *testing.T, offers string) server {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	s := server{name: "sdk", config: cfg}
	for word := range strings.FieldsSeq(offers) {
		i := slices.IndexFunc(allServices, func(o service) bool { return strings.Fields(string(o))[0] == word })
		require.GreaterOrEqualf(t, i, 0, "%s: there is no service %q", sdkVariable, word)
		s.offers = append(s.offers, allServices[i])
	}
	require.NotEmptyf(t, s.offers, "%s: want some of %v", sdkVariable, allServices)
	return s
}

// probes ask a service whether it is there. They are how "not offered" is checked: such a service must refuse its probe.
var probes = map[service]func(context.Context, clients) error{
	tables: func(ctx context.Context, c clients) error {
		_, err := c.DynamoDB.ListTables(ctx, &dynamodb.ListTablesInput{})
		return err
	},
	transactions: func(ctx context.Context, c clients) error {
		_, err := c.DynamoDB.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: puts(missing, 1)})
		return err
	},
	timeToLive: func(ctx context.Context, c clients) error {
		_, err := c.DynamoDB.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{TableName: aws.String(missing),
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("expiresAt"), Enabled: aws.Bool(true)}})
		return err
	},
	streams: func(ctx context.Context, c clients) error {
		_, err := c.Kinesis.ListStreams(ctx, &kinesis.ListStreamsInput{})
		return err
	},
	hop: func(ctx context.Context, c clients) error {
		_, err := c.DynamoDB.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: aws.String(missing)})
		return err
	},
}

// requireOffers fails the test if the server offers other services than it is said to.
func requireOffers(t *testing.T, s server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, o := range allServices {
		err := probes[o](ctx, newClients(s))
		// Whoever knows the operation misses the table.
		code := errorCode(err)
		there := err == nil || code == "ResourceNotFoundException"
		if want := slices.Contains(s.offers, o); there != want {
			t.Errorf("%s: is said to offer %q: %t; its answer to a request is %v", s.name, o, want, err)
		}
	}
}

// clients are the SDK's, for one server.
type clients struct {
	server   string
	DynamoDB *dynamodb.Client
	Kinesis  *kinesis.Client
}

func newClients(s server) clients {
	return clients{server: s.name, DynamoDB: dynamodb.NewFromConfig(s.config), Kinesis: kinesis.NewFromConfig(s.config)}
}
