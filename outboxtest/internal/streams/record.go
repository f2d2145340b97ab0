package streams

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// images is the inner part of a stream record.
type images struct {
	ApproximateCreationDateTime int64
	Keys                        attr.Item
	NewImage                    attr.Item `json:",omitempty"`
	OldImage                    attr.Item `json:",omitempty"`
	SequenceNumber              string
	SizeBytes                   int
	StreamViewType              string
}

// identity is who made the change; the API and Lambda spell it differently.
type identity struct {
	PrincipalID string `json:"PrincipalId"`
	Type        string
}

type lambdaIdentity struct {
	PrincipalID string `json:"principalId"`
	Type        string `json:"type"`
}

type recordOut struct {
	AWSRegion    string    `json:"awsRegion"`
	DynamoDB     images    `json:"dynamodb"`
	EventID      string    `json:"eventID"`
	EventName    string    `json:"eventName"`
	EventSource  string    `json:"eventSource"`
	EventVersion string    `json:"eventVersion"`
	UserIdentity *identity `json:"userIdentity,omitempty"`
}

type lambdaRecord struct {
	EventID        string          `json:"eventID"`
	EventName      string          `json:"eventName"`
	EventVersion   string          `json:"eventVersion"`
	EventSource    string          `json:"eventSource"`
	AWSRegion      string          `json:"awsRegion"`
	DynamoDB       images          `json:"dynamodb"`
	EventSourceARN string          `json:"eventSourceARN"`
	UserIdentity   *lambdaIdentity `json:"userIdentity,omitempty"`
}

func (r *record) images() images {
	c := r.change
	out := images{ApproximateCreationDateTime: c.At.Unix(), Keys: c.Keys, SequenceNumber: r.sequence,
		SizeBytes: c.SizeBytes, StreamViewType: c.StreamView}
	if c.StreamView == "NEW_IMAGE" || c.StreamView == "NEW_AND_OLD_IMAGES" {
		out.NewImage = c.New
	}
	if c.StreamView == "OLD_IMAGE" || c.StreamView == "NEW_AND_OLD_IMAGES" {
		out.OldImage = c.Old
	}
	return out
}

func (r *record) out(region string) recordOut {
	out := recordOut{AWSRegion: region, DynamoDB: r.images(), EventID: r.eventID, EventName: r.change.Kind,
		EventSource: "aws:dynamodb", EventVersion: "1.1"}
	if r.change.ByTTL {
		out.UserIdentity = &identity{PrincipalID: "dynamodb.amazonaws.com", Type: "Service"}
	}
	return out
}

// lambdaJSON is the record as an event source mapping passes it on.
func (r *record) lambdaJSON(region, arn string) []byte {
	out := lambdaRecord{EventID: r.eventID, EventName: r.change.Kind, EventVersion: "1.1", EventSource: "aws:dynamodb",
		AWSRegion: region, DynamoDB: r.images(), EventSourceARN: arn}
	if r.change.ByTTL {
		out.UserIdentity = &lambdaIdentity{PrincipalID: "dynamodb.amazonaws.com", Type: "Service"}
	}
	body, _ := wire.Marshal(out) // attribute values, strings and numbers always encode
	return body
}

// group names the item of a record.
func group(r *record) string {
	body, _ := wire.Marshal(r.change.Keys) // key attributes always encode; maps in a fixed order
	return string(body)
}
