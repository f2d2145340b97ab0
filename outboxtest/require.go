package outboxtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

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
// It reads the rows by their documented form: the attributes "type",
// "contentType" and "payload". JSON is decoded by encoding/json. For payloads of
// another codec, give its Unmarshal: it gets a pointer to a T. Any client that can
// scan will do: the client of [AWS], or a client for a real table.
func RequireEmitted[T Payload](t TB, client dynamodb.ScanAPIClient, eventsTable string, match func(T) bool, unmarshal ...func(data []byte, v any) error) T {
	t.Helper()
	var none T
	rows, err := readEvents(t, client, eventsTable)
	if err != nil {
		t.Fatalf("outboxtest: %v", err)
		return none
	}
	var unread strings.Builder
	for _, row := range rows {
		data, ok, err := matching(row, match, unmarshal)
		if ok {
			return data
		}
		if err != nil && unread.Len() == 0 {
			_, _ = fmt.Fprintf(&unread, "; event %s cannot be decoded: %v", row.id, err) // a Builder never fails
		}
	}
	t.Fatalf("outboxtest: no event %s in table %s is the one that is looked for%s; there are %s", typeName[T](), eventsTable, unread.String(), tell(rows))
	return none
}

// RequireNotEmitted fails the test if the events table has an event of T's type
// whose payload match accepts, or cannot be decoded. A nil match accepts any
// payload. Everything else is as with RequireEmitted.
func RequireNotEmitted[T Payload](t TB, client dynamodb.ScanAPIClient, eventsTable string, match func(T) bool, unmarshal ...func(data []byte, v any) error) {
	t.Helper()
	rows, err := readEvents(t, client, eventsTable)
	if err != nil {
		t.Fatalf("outboxtest: %v", err)
		return
	}
	for _, row := range rows {
		switch _, ok, err := matching(row, match, unmarshal); {
		case err != nil:
			t.Fatalf("outboxtest: table %s has an event that may be the one that must not be there: %v: %s", eventsTable, err, row)
			return
		case ok:
			t.Fatalf("outboxtest: table %s has an event that must not be there: %s", eventsTable, row)
			return
		}
	}
}

// eventRow is what the helpers know of an event.
type eventRow struct {
	id, kind, contentType string
	payload               []byte
}

func (r eventRow) String() string {
	if utf8.Valid(r.payload) {
		return fmt.Sprintf("%s (%s) %s", r.kind, r.id, r.payload)
	}
	return fmt.Sprintf("%s (%s) %q", r.kind, r.id, r.payload)
}

// isJSON compares media types as the library does: without case and parameters.
func (r eventRow) isJSON() bool {
	mediaType, _, _ := strings.Cut(r.contentType, ";")
	mediaType = strings.TrimSpace(mediaType)
	return mediaType == "" || strings.EqualFold(mediaType, "application/json")
}

func typeName[T Payload]() string {
	var zero T
	return zero.EventType()
}

// matching decodes a row of T's type. The error says that this failed.
func matching[T Payload](row eventRow, match func(T) bool, unmarshal []func([]byte, any) error) (data T, ok bool, err error) {
	switch {
	case row.kind != typeName[T]():
		return data, false, nil
	case row.isJSON():
		err = json.Unmarshal(row.payload, &data)
	case len(unmarshal) > 1:
		err = fmt.Errorf("%d Unmarshals are given: give that of its codec", len(unmarshal))
	case len(unmarshal) == 0:
		err = fmt.Errorf("its content type is %q: give the Unmarshal of its codec", row.contentType)
	default:
		err = unmarshal[0](row.payload, &data)
	}
	return data, err == nil && (match == nil || match(data)), err
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
			rows = append(rows, eventRow{id: text(item["eventId"]), kind: text(item["type"]), contentType: text(item["contentType"]), payload: []byte(text(item["payload"]))})
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
