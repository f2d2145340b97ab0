package replay

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// segment reads one of the segments of the table, with eventually consistent reads.
func (e *Events) segment(segment, segments int) pages {
	x := e.expressions()
	filter := "attribute_exists(" + x.name(e.names.Type) + ")"
	projection := x.projection()
	if e.expires != outbox.NoAttribute {
		projection += ", " + x.name(e.expires)
	}
	in := &dynamodb.ScanInput{TableName: &e.table, ProjectionExpression: &projection, FilterExpression: &filter, ExpressionAttributeNames: x.names}
	if segments > 1 {
		in.Segment, in.TotalSegments = aws.Int32(int32(segment)), aws.Int32(int32(segments))
	}
	return func(ctx context.Context) (page, bool, error) { return e.scanned(ctx, in) }
}

// expiryOf returns when a row expires, or zero.
func (e *Events) expiryOf(i item) time.Time {
	if seconds := rows.Int(i, e.expires); seconds > 0 {
		return time.Unix(seconds, 0)
	}
	return time.Time{}
}
