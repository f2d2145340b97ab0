package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func timeToLive(t *testing.T, cloud *outboxtest.AWS, table string) dynamodbtypes.TimeToLiveStatus {
	out, err := cloud.DynamoDB.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	require.NoError(t, err)
	return out.TimeToLiveDescription.TimeToLiveStatus
}

func tables(t *testing.T, cloud *outboxtest.AWS) []string {
	out, err := cloud.DynamoDB.ListTables(t.Context(), &dynamodb.ListTablesInput{})
	require.NoError(t, err)
	return out.TableNames
}

// A table of another application that has one of the names stays as it is: with a time to live its rows would be deleted.
func TestTablesOfOthersAreLeftAlone(t *testing.T) {
	for name, keys := range map[string][]string{"another key": {"id"}, "a sort key": {"eventId", "at"}} {
		t.Run(name, func(t *testing.T) {
			cloud := outboxtest.Start(t)
			cloud.CreateTable(t, eventsTable, keys[0], keys[1:]...)
			require.ErrorContains(t, setUp(t.Context(), cloud.DynamoDB, cloud.Kinesis), "there is a table events whose key is not eventId (S) alone")
			require.Equal(t, dynamodbtypes.TimeToLiveStatusDisabled, timeToLive(t, cloud, eventsTable))
			require.Equal(t, []string{eventsTable}, tables(t, cloud), "nothing is made")
		})
	}
	t.Run("a number as the key", func(t *testing.T) {
		cloud := outboxtest.Start(t)
		_, err := cloud.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{TableName: aws.String(eventsTable), BillingMode: dynamodbtypes.BillingModePayPerRequest,
			AttributeDefinitions: []dynamodbtypes.AttributeDefinition{{AttributeName: aws.String("eventId"), AttributeType: dynamodbtypes.ScalarAttributeTypeN}},
			KeySchema:            []dynamodbtypes.KeySchemaElement{{AttributeName: aws.String("eventId"), KeyType: dynamodbtypes.KeyTypeHash}}})
		require.NoError(t, err)
		require.ErrorContains(t, setUp(t.Context(), cloud.DynamoDB, cloud.Kinesis), "whose key is not eventId (S) alone")
	})
	t.Run("the same key", func(t *testing.T) { // it may be of another process of the service, which is about to connect it
		cloud := outboxtest.Start(t)
		cloud.CreateTable(t, eventsTable, "eventId")
		arn, err := createStream(t.Context(), cloud.Kinesis, eventsStream)
		require.NoError(t, err)
		require.ErrorContains(t, connect(t.Context(), cloud.DynamoDB, eventsTable, arn, false, time.Millisecond),
			"table events exists, and does not write its changes to the stream events (gave up waiting): if the table is this service's, outbox create --table events")
		require.Equal(t, dynamodbtypes.TimeToLiveStatusDisabled, timeToLive(t, cloud, eventsTable))

		set := make(chan error, 1)
		go func() { set <- setUp(t.Context(), cloud.DynamoDB, cloud.Kinesis) }()
		require.NoError(t, connect(t.Context(), cloud.DynamoDB, eventsTable, arn, true, time.Minute)) // the other process
		require.NoError(t, <-set)
		require.Equal(t, dynamodbtypes.TimeToLiveStatusDisabled, timeToLive(t, cloud, eventsTable), "its time to live is the other process's")
	})
}

// An answer that does not say what the table's key is, as a server that is not AWS may give it, is not taken for the right one.
func TestATableWhoseKeyIsNotToldIsLeftAlone(t *testing.T) {
	for _, answer := range []string{`{}`, `{"Table":{}}`, `{"Table":{"KeySchema":[{"AttributeName":"eventId","KeyType":"HASH"}]}}`} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(answer))
		}))
		defer server.Close()
		client := dynamodb.New(dynamodb.Options{BaseEndpoint: &server.URL, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}})
		require.ErrorContains(t, lookAt(t.Context(), client, eventsTable, "eventId"), "whose key is not eventId (S) alone", answer)
	}
}

func TestASecondStartFindsEverything(t *testing.T) {
	cloud := outboxtest.Start(t)
	for range 2 {
		require.NoError(t, setUp(t.Context(), cloud.DynamoDB, cloud.Kinesis))
		require.Equal(t, dynamodbtypes.TimeToLiveStatusEnabled, timeToLive(t, cloud, eventsTable))
	}
}
