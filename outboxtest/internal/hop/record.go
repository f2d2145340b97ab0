package hop

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// The order of the fields is that of records captured from AWS.
type changeRecord struct {
	AWSRegion    string          `json:"awsRegion"`
	EventID      string          `json:"eventID"`
	EventName    string          `json:"eventName"`
	UserIdentity *userIdentity   `json:"userIdentity"`
	RecordFormat string          `json:"recordFormat"`
	TableName    string          `json:"tableName"`
	DynamoDB     json.RawMessage `json:"dynamodb"`
	EventSource  string          `json:"eventSource"`
}

type userIdentity struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
}

type changeImages struct {
	ApproximateCreationDateTime          int64
	Keys                                 attr.Item
	NewImage                             attr.Item `json:",omitempty"`
	OldImage                             attr.Item `json:",omitempty"`
	SizeBytes                            int
	ApproximateCreationDateTimePrecision string `json:",omitempty"`
}

// Encode returns the change record of a change, with an event id of its own.
func Encode(c dynamo.Change, region, precision string) ([]byte, error) {
	images := changeImages{Keys: c.Keys, NewImage: c.New, OldImage: c.Old, SizeBytes: c.SizeBytes,
		ApproximateCreationDateTime: c.At.UnixMilli()}
	if precision == "MICROSECOND" {
		images.ApproximateCreationDateTime = c.At.UnixMicro()
		images.ApproximateCreationDateTimePrecision = precision
	}
	body, err := wire.Marshal(images)
	if err != nil {
		return nil, fmt.Errorf("encoding a change of table %s: %w", c.Table, err)
	}
	record := changeRecord{
		AWSRegion: region, EventID: uuid(), EventName: c.Kind, RecordFormat: "application/json",
		TableName: c.Table, DynamoDB: body, EventSource: "aws:dynamodb",
	}
	if c.ByTTL {
		record.UserIdentity = &userIdentity{Type: "Service", PrincipalID: "dynamodb.amazonaws.com"}
	}
	return wire.Marshal(record)
}

// PartitionKey returns the opaque key of an item's change records: the same
// for the same item, unrelated for any two items, whatever their keys share.
func PartitionKey(c dynamo.Change) string {
	names := make([]string, 0, len(c.Keys))
	for name := range c.Keys {
		names = append(names, name)
	}
	slices.Sort(names)
	h := md5.New()
	for _, part := range append([]string{c.TableARN}, names...) {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash never fails
		if v, ok := c.Keys[part]; ok {
			b, _ := v.MarshalJSON() // a key attribute always encodes
			_, _ = h.Write(b)
		}
	}
	return strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
}

// uuid returns a random UUID, version 4.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
