package deadletter

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Target is what a redrive takes: the letters of a queue up to one of them, the whole queue, or a letter without a queue.
type Target struct {
	Queue  string // empty for a letter without a queue
	Letter string // the id of the last letter; empty for the whole queue
}

// ID returns the letter's id, or "<queue>#" for a whole queue.
func (t Target) ID() string {
	if t.Letter == "" {
		return t.Queue + "#"
	}
	return t.Letter
}

func targetOf(id string) Target {
	t := Target{Queue: QueueOf(id), Letter: id}
	if t.Queue != "" && id == t.Queue+"#" {
		t.Letter = ""
	}
	return t
}

// Ask stores a request to redrive a target. A target has one request, however often it is asked for.
func (s *Store) Ask(ctx context.Context, t Target) error {
	_, err := awserr.Written(s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: rows.Item{
		"group": rows.S(s.requests()), "id": rows.S(t.ID()), "requestedAt": rows.Millis(time.Now()),
		"expiresAt": rows.N(time.Now().Add(requestTTL).Unix()),
	}}))
	if err != nil {
		return s.failed("request a redrive", err)
	}
	return nil
}

// Request is a stored request.
type Request struct {
	Target
	at int64
}

// Requests returns the stored requests, at most limit.
func (s *Store) Requests(ctx context.Context, limit int) ([]Request, error) {
	var requests []Request
	for row, err := range s.query(ctx, s.requests(), "", int32(limit)) {
		if err != nil {
			return nil, err
		}
		if requests = append(requests, Request{targetOf(rows.Text(row, "id")), rows.Int(row, "requestedAt")}); len(requests) == limit {
			break
		}
	}
	return requests, nil
}

// Answered removes a request, unless it was stored again meanwhile.
func (s *Store) Answered(ctx context.Context, r Request) error {
	const same = "#requestedAt = :at"
	_, err := awserr.Written(s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.requests(), r.ID()),
		ConditionExpression: aws.String(same), ExpressionAttributeNames: rows.Names(same), ExpressionAttributeValues: rows.Item{":at": rows.N(r.at)}}))
	if err != nil && !conditionFailed(err) {
		return s.failed("remove a request", err)
	}
	return nil
}
