package outboxtest

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/lambda"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// failureMessage is what an on-failure destination is told about records that
// were given up. Its fields have the order of captured messages.
type failureMessage struct {
	RequestContext struct {
		RequestID              string `json:"requestId"`
		FunctionARN            string `json:"functionArn"`
		Condition              string `json:"condition"`
		ApproximateInvokeCount int    `json:"approximateInvokeCount"`
	} `json:"requestContext"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	Kinesis         *batchInfo       `json:"KinesisBatchInfo,omitempty"`
	DynamoDB        *batchInfo       `json:"DDBStreamBatchInfo,omitempty"`
}

// responseContext is left out unless the attempts were exhausted.
type responseContext struct {
	StatusCode      int     `json:"statusCode"`
	ExecutedVersion string  `json:"executedVersion"`
	FunctionError   *string `json:"functionError"`
}

type batchInfo struct {
	ShardID             string `json:"shardId"`
	StartSequenceNumber string `json:"startSequenceNumber"`
	EndSequenceNumber   string `json:"endSequenceNumber"`
	FirstArrival        string `json:"approximateArrivalOfFirstRecord"`
	LastArrival         string `json:"approximateArrivalOfLastRecord"`
	BatchSize           int    `json:"batchSize"`
	StreamARN           string `json:"streamArn"`
}

const milliseconds = "2006-01-02T15:04:05.000Z"

func (s *Server) failureMessage(src EventSource, arn string, d lambda.Discarded) []byte {
	first, last := d.Records[0], d.Records[len(d.Records)-1]
	layout := milliseconds
	if src.Table != "" {
		layout = time.RFC3339 // a DynamoDB stream counts seconds
	}
	info := &batchInfo{
		ShardID: d.ShardID, StartSequenceNumber: first.ID, EndSequenceNumber: last.ID, BatchSize: len(d.Records), StreamARN: arn,
		FirstArrival: first.Arrived.UTC().Format(layout), LastArrival: last.Arrived.UTC().Format(layout),
	}
	m := failureMessage{Version: "1.0", Timestamp: s.settings.now().UTC().Format(milliseconds), Kinesis: info}
	if src.Table != "" {
		m.Kinesis, m.DynamoDB = nil, info
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	m.RequestContext.RequestID = fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	m.RequestContext.FunctionARN = "arn:aws:lambda:" + s.settings.region + ":" + s.settings.account + ":function:function"
	m.RequestContext.Condition = d.Condition
	m.RequestContext.ApproximateInvokeCount = max(d.Attempts, 1) // Lambda counts the attempt that it did not make
	if d.Condition == lambda.RetriesExhausted {
		m.ResponseContext = &responseContext{StatusCode: 200, ExecutedVersion: "$LATEST"}
		if d.FunctionFailed {
			unhandled := "Unhandled"
			m.ResponseContext.FunctionError = &unhandled
		}
	}
	body, _ := wire.Marshal(m) // strings and numbers always encode
	return body
}
