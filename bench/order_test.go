package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// counting answers every request at once, and counts them by their operation.
type counting struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	c.calls[operation]++
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

// With marks and in order each event is one transaction, and nothing else, once the aggregates are remembered.
func TestBothHandleTxSendTheSame(t *testing.T) {
	c := &counting{calls: map[string]int{}}
	client := dynamodb.New(dynamodb.Options{Region: "eu-west-1", BaseEndpoint: aws.String("http://dynamodb.invalid"), HTTPClient: &http.Client{Transport: c},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
		})})
	for _, opts := range [][]outbox.ConsumerOption{nil, {outbox.WithOrder(client, "events", time.Time{})}} {
		consumer, events := txConsumer(client, opts...), newNumbered(40, 10)
		require.NoError(t, consumer.Process(t.Context(), events.next()...))
		c.calls = map[string]int{}
		require.NoError(t, consumer.Process(t.Context(), events.next()...))
		require.Equal(t, map[string]int{"TransactWriteItems": 40}, c.calls)
	}
}
