package outboxtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// What an SQS queue or an SNS topic is told, in the form captured from AWS.
func TestTheMessageOfAnOnFailureDestination(t *testing.T) {
	const prefix = `^{"requestContext":{"requestId":"[0-9a-f-]{36}","functionArn":"arn:aws:lambda:us-east-1:000000000000:function:function",`
	for _, c := range []struct {
		name   string
		src    outboxtest.EventSource
		answer string
		err    error
		want   string
	}{
		{"the function failed", outboxtest.EventSource{Stream: "changes", MaxAttempts: 2}, "", errors.New("boom"),
			`"condition":"RetryAttemptsExhausted","approximateInvokeCount":2},"responseContext":{"statusCode":200,"executedVersion":"\$LATEST","functionError":"Unhandled"},` +
				`"version":"1.0","timestamp":"2000-01-01T00:00:00.\d{3}Z","KinesisBatchInfo":{"shardId":"shardId-00000000000\d","startSequenceNumber":"\d{56}","endSequenceNumber":"\d{56}",` +
				`"approximateArrivalOfFirstRecord":"2000-01-01T00:00:00.000Z","approximateArrivalOfLastRecord":"2000-01-01T00:00:00.000Z","batchSize":1,` +
				`"streamArn":"arn:aws:kinesis:us-east-1:000000000000:stream/changes"}}$`},
		{"the function reported a record", outboxtest.EventSource{Stream: "changes", MaxAttempts: 3, ReportBatchItemFailures: true},
			`{"batchItemFailures":[{"itemIdentifier":"9"}]}`, nil,
			`"condition":"RetryAttemptsExhausted","approximateInvokeCount":3},"responseContext":{"statusCode":200,"executedVersion":"\$LATEST","functionError":null},`},
		{"too old at once", outboxtest.EventSource{Stream: "changes", MaxAge: time.Nanosecond}, "", nil,
			`"condition":"RecordAgeExceeded","approximateInvokeCount":1},"version":"1.0",`},
		{"of a table", outboxtest.EventSource{Table: "events", MaxAttempts: 1}, "", errors.New("boom"),
			`"condition":"RetryAttemptsExhausted","approximateInvokeCount":1},"responseContext":.*,"DDBStreamBatchInfo":{"shardId":"shardId-\d{20}-[0-9a-f]{8}",` +
				`"startSequenceNumber":"\d{21}","endSequenceNumber":"\d{21}","approximateArrivalOfFirstRecord":"2000-01-01T00:00:00Z",` +
				`"approximateArrivalOfLastRecord":"2000-01-01T00:00:00Z","batchSize":1,"streamArn":"arn:aws:dynamodb:.*/stream/.*"}}$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := outboxtest.Start(t)
				eventsTable(t, a)
				require.NoError(t, putEvent(t.Context(), a, "1", "{}"))
				require.NoError(t, a.Drain(t.Context()))
				put(t, a, stream(t, a, "other", 1), "k", "x") // another stream's record is not told of
				time.Sleep(time.Nanosecond * 2)
				var told []string
				c.src.OnFailure = func(f outboxtest.FailedBatch) { told = append(told, string(f.Message)) }
				_, err := a.Map(c.src, func(context.Context, []byte) ([]byte, error) { return []byte(c.answer), c.err })
				require.NoError(t, err)
				require.NoError(t, a.Drain(deadline(t)))
				require.Len(t, told, 1)
				require.Regexp(t, prefix+c.want, told[0])
			})
		})
	}
}
