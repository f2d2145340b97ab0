package deadletter

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Ask stores a request to redrive a letter and the letters before it in its queue. With the id "<queue>#" it is the whole queue.
func (s *Store) Ask(ctx context.Context, letterID string) error {
	_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: rows.Item{
		"group": rows.S(s.requests()), "id": rows.S(letterID), "requestedAt": rows.Millis(time.Now()),
		"expiresAt": rows.N(time.Now().Add(requestTTL).Unix()),
	}})
	if err != nil {
		return s.failed("request a redrive", err)
	}
	return nil
}

// Request is a stored request.
type Request struct {
	LetterID string
	at       int64
}

// Requests returns the stored requests, at most limit.
func (s *Store) Requests(ctx context.Context, limit int) ([]Request, error) {
	var requests []Request
	for row, err := range s.query(ctx, s.requests(), "", int32(limit)) {
		if err != nil {
			return nil, err
		}
		if requests = append(requests, Request{rows.Text(row, "id"), rows.Int(row, "requestedAt")}); len(requests) == limit {
			break
		}
	}
	return requests, nil
}

// Answered removes a request, unless it was stored again meanwhile.
func (s *Store) Answered(ctx context.Context, r Request) error {
	const same = "#requestedAt = :at"
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.requests(), r.LetterID),
		ConditionExpression: aws.String(same), ExpressionAttributeNames: rows.Names(same), ExpressionAttributeValues: rows.Item{":at": rows.N(r.at)}})
	if err != nil && !conditionFailed(err) {
		return s.failed("remove a request", err)
	}
	return nil
}
