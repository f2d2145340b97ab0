package service

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// pacedSES takes one mail a second, as SES does in its sandbox, and throttles the others. It is safe for concurrent use.
type pacedSES struct {
	mu        sync.Mutex
	last      time.Time
	mails     map[string]int // by recipient
	throttled int
}

func (s *pacedSES) SendEmail(_ context.Context, in *sesv2.SendEmailInput, _ ...func(*sesv2.Options)) (*sesv2.SendEmailOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.last) < time.Second {
		s.throttled++
		return nil, &types.TooManyRequestsException{Message: aws.String("Maximum sending rate exceeded.")}
	}
	s.last = now
	s.mails[in.Destination.ToAddresses[0]]++
	return &sesv2.SendEmailOutput{}, nil
}

// readers are the two ways to read the stream. Each returns when all orders have a mail or a dead letter.
func readers() map[string]func(t *testing.T, cloud *outboxtest.AWS, consumer *outbox.Consumer, done func() bool) {
	return map[string]func(t *testing.T, cloud *outboxtest.AWS, consumer *outbox.Consumer, done func() bool){
		"Lambda": func(t *testing.T, cloud *outboxtest.AWS, consumer *outbox.Consumer, _ func() bool) {
			_, err := cloud.Map(outboxtest.EventSource{Stream: local.EventsStream, ReportBatchItemFailures: true, Timeout: time.Minute}, consumer.Invoke)
			require.NoError(t, err)
			require.NoError(t, cloud.Drain(t.Context()))
		},
		"Worker": func(t *testing.T, cloud *outboxtest.AWS, consumer *outbox.Consumer, done func() bool) {
			leases, err := outbox.NewLeaseTable(cloud.DynamoDB, "leases", Group)
			require.NoError(t, err)
			require.NoError(t, leases.Create(t.Context()))
			worker, err := outbox.NewWorker(cloud.Kinesis, local.EventsStream, consumer, leases)
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- worker.Run(ctx) }()
			for !done() {
				time.Sleep(time.Second)
			}
			stop()
			require.NoError(t, <-ended)
		},
	}
}

// Sixty orders at once, and a provider that takes a mail a second: each order gets its mail, and none becomes a dead letter. A process
// that keeps the pace is never throttled; one that does not know it has to wait like the others.
func TestAThrottledProviderMakesNoDeadLetters(t *testing.T) {
	quiet(t)
	const orders = 60
	for who, read := range readers() {
		for _, pace := range []float64{1, 5} {
			t.Run(fmt.Sprintf("%s, %v mails a second", who, pace), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cloud, letters := withLetters(t)
					ses := &pacedSES{mails: map[string]int{}}
					mailer, err := NewSESMailer(ses, local.MailFrom, pace)
					require.NoError(t, err)
					consumer, err := NewConsumer(cloud.DynamoDB, local, mailer, io.Discard)
					require.NoError(t, err)
					api, err := NewAPI(dynamodb.NewFromConfig(cloud.Config()), local)
					require.NoError(t, err)
					want := make(map[string]int)
					for i := range orders {
						address := fmt.Sprintf("c%d@example.com", i)
						status, answer := post(t, api, fmt.Sprint(i), `{"description":"tea","email":"`+address+`"}`)
						require.Equal(t, http.StatusCreated, status, answer)
						want[address] = 1
					}
					read(t, cloud, consumer, func() bool {
						ses.mu.Lock()
						defer ses.mu.Unlock()
						return len(ses.mails)+len(deadLetters(t, letters)) >= orders
					})
					require.Empty(t, deadLetters(t, letters))
					require.Equal(t, want, ses.mails)
					require.Equal(t, pace > 1, ses.throttled > 0, "%d throttled", ses.throttled)
				})
			})
		}
	}
}
