package replay

import (
	"context"
	"fmt"
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
	return func(ctx context.Context) (page, bool, error) {
		asked := time.Now()
		p, more, err := e.scanned(ctx, in)
		if err == nil {
			err = checkClock(asked, p.date, time.Now())
		}
		return p, more, err
	}
}

// clockOff is how far this machine's clock may be from the service's.
const clockOff = 5 * time.Minute

// checkClock compares this machine's clock, before a request and after it, with the time in the answer: which events are young, or too old to be judged,
// goes by the clock.
func checkClock(asked, date, answered time.Time) error {
	if date.IsZero() || !date.Before(asked.Add(-clockOff)) && !date.After(answered.Add(clockOff)) {
		return nil
	}
	return fmt.Errorf("this machine's clock says %s, and the service's says %s: it is off by more than %s", answered.UTC().Format(time.RFC3339), date.UTC().Format(time.RFC3339), clockOff)
}

// expiryOf returns when a row expires, or zero.
func (e *Events) expiryOf(i item) time.Time {
	if seconds := rows.Int(i, e.expires); seconds > 0 {
		return time.Unix(seconds, 0)
	}
	return time.Time{}
}
