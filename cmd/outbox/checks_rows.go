package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// absent is what an attribute is named that the table lacks.
const absent = outbox.NoAttribute

// sampled is how many rows are looked at.
const sampled = 25

// rowSample is what some rows of the events table say of their lives.
type rowSample struct {
	err      error
	rows     int
	expiring int           // of them, those with a time to live
	shortest time.Duration // of those lives, from the event's time on; 0 if no row has both times
	latest   time.Time     // when the last of them expires
	wrong    string        // what no Writer writes
}

// sampleRows looks at some rows.
func (x *examination) sampleRows(ctx context.Context) (s rowSample) {
	names := map[string]string{"#id": x.attributes.ID}
	projection := "#id"
	for alias, name := range map[string]string{"#t": x.attributes.Time, "#e": x.attributes.ExpiresAt} {
		if name != absent {
			names[alias] = name
			projection += ", " + alias
		}
	}
	out, err := scan(ctx, x.c.dynamodb, &dynamodb.ScanInput{TableName: &x.table, Limit: aws.Int32(sampled), ProjectionExpression: &projection, ExpressionAttributeNames: names})
	if err != nil {
		s.err = err
		return s
	}
	for _, row := range out.Items {
		s.add(row[x.attributes.Time], row[x.attributes.ExpiresAt])
	}
	return s
}

func (s *rowSample) add(written, expires dynamodbtypes.AttributeValue) {
	s.rows++
	if expires == nil {
		return
	}
	seconds, wrong := expiry(expires)
	if wrong != "" {
		s.wrong = wrong
		return
	}
	end := time.Unix(seconds, 0)
	s.expiring++
	if end.After(s.latest) {
		s.latest = end
	}
	if from, ok := written.(*dynamodbtypes.AttributeValueMemberN); ok {
		if ms, err := strconv.ParseInt(from.Value, 10, 64); err == nil {
			if d := end.Sub(time.UnixMilli(ms)); s.shortest == 0 || d < s.shortest {
				s.shortest = d
			}
		}
	}
	if from, ok := written.(*dynamodbtypes.AttributeValueMemberS); ok { // of another writer
		if at, err := time.Parse(time.RFC3339, from.Value); err == nil {
			if d := end.Sub(at); s.shortest == 0 || d < s.shortest {
				s.shortest = d
			}
		}
	}
}

// expiry reads a time to live, and says what is wrong with one that DynamoDB passes over.
func expiry(v dynamodbtypes.AttributeValue) (seconds int64, wrong string) {
	n, ok := rows.As[*dynamodbtypes.AttributeValueMemberN](v)
	if !ok {
		return 0, "is no number"
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || f < 1e8 || f >= 1e11 { // the years 1973 to 5138
		return 0, "is " + n.Value + ", which is no time in seconds"
	}
	return int64(f), ""
}

// checkLifetime compares how long rows live with how long the stream keeps their records.
func (x *examination) checkLifetime() {
	const check = "lifetime of rows"
	s := &x.sample
	lifetime, how := x.ttl, "by --ttl"
	switch {
	case x.attributes.ExpiresAt == absent:
		x.forEver = true
		x.add(gradeOK, check, x.table, "no row expires: the table has no attribute for it", "")
		return
	case s.err != nil && x.ttl == 0:
		x.failed(gradeUnknown, check, x.table, "dynamodb:Scan", s.err)
		return
	case s.err != nil: // the rest is as --ttl says
	case s.wrong != "":
		x.add(gradeProblem, check, x.table, x.attributes.ExpiresAt+" of a row "+s.wrong+": DynamoDB never deletes such a row",
			"find out who writes such rows, perhaps in milliseconds or as text: a Writer with WithTTL writes seconds, in a number")
		return
	case s.rows == 0 && x.ttl == 0:
		x.add(gradeUnknown, check, x.table, "the table has no row to measure", "give --ttl what the service gives WithTTL, or look again when there are events")
		return
	case s.expiring == 0 && x.ttl == 0:
		x.forEver = true
		x.add(gradeOK, check, x.table, fmt.Sprintf("none of %s expires", count(s.rows, "row")), "")
		return
	case s.shortest != 0 && (x.ttl == 0 || s.shortest < x.ttl):
		lifetime, how = s.shortest, "by the shortest of "+count(s.expiring, "row")
	}
	if x.retention == 0 {
		x.add(gradeUnknown, check, x.table, "the stream's retention is not known, with which they are compared", "")
		return
	}
	x.judgeLifetime(lifetime, how)
}

func (x *examination) judgeLifetime(lifetime time.Duration, how string) {
	const check = "lifetime of rows"
	more := "give WithTTL more than the retention and the time that somebody needs to notice and replay"
	if lifetime == 0 {
		x.add(gradeUnknown, check, x.table, "rows expire, and do not say when they were written", "give --ttl what the service gives WithTTL")
		return
	}
	x.lifetime = lifetime
	text := fmt.Sprintf("rows live for %s (%s)", age(lifetime), how)
	switch left := lifetime - x.retention; {
	case left <= 0:
		x.add(gradeProblem, check, x.table, fmt.Sprintf("%s, and the stream keeps records for %s: what was missed cannot be replayed", text, age(x.retention)), more)
	case left < weekend:
		x.add(gradeWarning, check, x.table, fmt.Sprintf("%s, and the stream keeps records for %s, which leaves %s to notice that something is missing", text, age(x.retention), age(left)), more)
	case x.ttl == 0 && x.sample.latest.Sub(x.now()) <= x.retention:
		x.add(gradeWarning, check, x.table, fmt.Sprintf("%s of the table expires within %s, while the stream may still have it", count(x.sample.expiring, "row"), age(max(0, x.sample.latest.Sub(x.now())))),
			"if events are written at present, "+more+"; if not, look again when there are some, or give --ttl")
	default:
		x.add(gradeOK, check, x.table, fmt.Sprintf("%s, longer than the stream's %s", text, age(x.retention)), "")
	}
}
