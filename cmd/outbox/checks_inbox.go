package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// checkInbox compares how long an inbox remembers events with how long they may come again.
func (x *examination) checkInbox(ctx context.Context) {
	const check = "inbox memory"
	if x.inbox == "" || !x.checkOther(ctx, inboxSpec, x.inbox) {
		return
	}
	out, err := scan(ctx, x.c.dynamodb, &dynamodb.ScanInput{TableName: &x.inbox, Limit: aws.Int32(sampled),
		ProjectionExpression: aws.String("#c, #h, #e"), ExpressionAttributeNames: map[string]string{"#c": "consumer", "#h": "handledAt", "#e": "expiresAt"}})
	if err != nil {
		x.failed(gradeUnknown, check, x.inbox, "dynamodb:Scan", err)
		return
	}
	var memory time.Duration
	consumers, ordered := map[string]bool{}, map[string]bool{}
	for _, row := range out.Items {
		consumer, rest, _ := strings.Cut(rows.Text(row, "consumer"), "#")
		if strings.HasSuffix(rest, "#position") {
			ordered[consumer] = true
			continue
		}
		if row["handledAt"] == nil {
			continue // a claim
		}
		if rows.Int(row, "handledAt") <= 0 {
			x.add(gradeUnknown, check, x.inbox, "handledAt of a mark is no time in milliseconds: how long it remembers cannot be seen", "find out who writes such rows: an Inbox writes milliseconds, in a number")
			return
		}
		seconds, wrong := expiry(row["expiresAt"])
		if wrong != "" {
			x.add(gradeProblem, check, x.inbox, "expiresAt of a mark "+wrong, "find out who writes such rows: an Inbox writes seconds, in a number")
			return
		}
		if d := time.Unix(seconds, 0).Sub(rows.Time(row, "handledAt")); memory == 0 || d < memory {
			memory = d
		}
		consumers[consumer] = true
	}
	if len(consumers) == 0 && len(ordered) > 0 {
		x.add(gradeOK, check, x.inbox, fmt.Sprintf("only positions of %s among %s: they do not expire", strings.Join(slices.Sorted(maps.Keys(ordered)), ", "), count(len(out.Items), "row")), "")
		return
	}
	if len(consumers) == 0 {
		x.add(gradeUnknown, check, x.inbox, fmt.Sprintf("there is no mark among %s: how long it remembers cannot be seen", count(len(out.Items), "row")), "look again when events have been handled")
		return
	}
	more := "give WithInboxTTL more than the stream's retention, and as much as WithTTL"
	text := fmt.Sprintf("%s forgets an event after %s", strings.Join(slices.Sorted(maps.Keys(consumers)), ", "), age(memory.Round(time.Second)))
	switch {
	case x.retention == 0:
		x.add(gradeUnknown, check, x.inbox, text+", and the stream's retention is not known", "")
	case memory < x.retention:
		x.add(gradeProblem, check, x.inbox, fmt.Sprintf("%s, and the stream keeps records for %s: a duplicate is handled again", text, age(x.retention)), more)
	case x.lifetime > memory+time.Hour: // a Writer rounds up by as much
		x.add(gradeWarning, check, x.inbox, fmt.Sprintf("%s, and rows live for %s: a replay.To of older events handles them again", text, age(x.lifetime)), more)
	case x.forEver:
		x.add(gradeWarning, check, x.inbox, text+", and rows live for ever: a replay.To of older events handles them again", "replay.To only what is younger, or give WithInboxTTL as much as a replay may go back")
	case x.lifetime == 0:
		x.add(gradeUnknown, check, x.inbox, text+", and how long rows live is not known", "give --ttl what the service gives WithTTL")
	default:
		x.add(gradeOK, check, x.inbox, text+", which is long enough"+reconciles(memory), "")
	}
}

// reconciles says how far back replay.Reconcile judges events with an inbox that remembers for so long.
func reconciles(memory time.Duration) string {
	const margin = 48 * time.Hour // outbox.Consumer.Accounts
	if memory <= margin {
		return ", but too short for Reconcile, which needs more than two days, two of its Cycles and its Grace"
	}
	return ", and lets Reconcile judge events of the last " + age((memory - margin).Round(time.Second))
}
