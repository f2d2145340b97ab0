package outboxtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Payload is a type of event, as the library knows it.
type Payload interface{ EventType() string }

// RequireEmitted fails the test unless the events table has an event of T's type
// whose payload match accepts. It returns this payload. A nil match accepts any
// payload. The failure says which events there are.
//
// It reads the rows by their documented form: the attribute "type" and the JSON
// in "payload". Any client that can scan will do: the client of [AWS], or a
// client for a real table.
func RequireEmitted[T Payload](t TB, client dynamodb.ScanAPIClient, eventsTable string, match func(T) bool) T {
	t.Helper()
	var none T
	rows, err := readEvents(t, client, eventsTable)
	if err != nil {
		t.Fatalf("outboxtest: %v", err)
		return none
	}
	for _, row := range rows {
		if data, ok := matching(row, match); ok {
			return data
		}
	}
	t.Fatalf("outboxtest: no event %s in table %s is the one that is looked for; there are %s", typeName[T](), eventsTable, tell(rows))
	return none
}

// RequireNotEmitted fails the test if the events table has an event of T's type
// whose payload match accepts. A nil match accepts any payload.
func RequireNotEmitted[T Payload](t TB, client dynamodb.ScanAPIClient, eventsTable string, match func(T) bool) {
	t.Helper()
	rows, err := readEvents(t, client, eventsTable)
	if err != nil {
		t.Fatalf("outboxtest: %v", err)
		return
	}
	for _, row := range rows {
		if _, ok := matching(row, match); ok {
			t.Fatalf("outboxtest: table %s has an event that must not be there: %s", eventsTable, row)
			return
		}
	}
}

// eventRow is what the helpers know of an event.
type eventRow struct {
	id, kind string
	payload  []byte
}

func (r eventRow) String() string { return fmt.Sprintf("%s (%s) %s", r.kind, r.id, r.payload) }

func typeName[T Payload]() string {
	var zero T
	return zero.EventType()
}

// matching decodes a row of T's type. A payload that does not decode matches
// nothing; the failure shows it.
func matching[T Payload](row eventRow, match func(T) bool) (data T, ok bool) {
	if row.kind != typeName[T]() || json.Unmarshal(row.payload, &data) != nil {
		return data, false
	}
	return data, match == nil || match(data)
}

func readEvents(t TB, client dynamodb.ScanAPIClient, table string) ([]eventRow, error) {
	var rows []eventRow
	pages := dynamodb.NewScanPaginator(client, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			return nil, fmt.Errorf("reading table %s: %w", table, err)
		}
		for _, item := range page.Items {
			rows = append(rows, eventRow{id: text(item["eventId"]), kind: text(item["type"]), payload: []byte(text(item["payload"]))})
		}
	}
	slices.SortFunc(rows, func(a, b eventRow) int { return strings.Compare(a.id, b.id) })
	return rows, nil
}

func text(v types.AttributeValue) string {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberB:
		return string(v.Value)
	}
	return ""
}

// tell lists events, not too many.
func tell(rows []eventRow) string {
	if len(rows) == 0 {
		return "no events at all"
	}
	const enough = 20
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%d events:", len(rows)) // a Builder never fails
	for i, row := range rows {
		if i == enough {
			_, _ = fmt.Fprintf(&b, "\n\t... and %d more", len(rows)-enough)
			break
		}
		b.WriteString("\n\t" + row.String())
	}
	return b.String()
}
