package outbox_test

import (
	"context"
	"encoding/base64"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// insertWith is a change record with these members in its image, in the shape in which DynamoDB writes it.
func insertWith(image, created string) string {
	return `{"eventName":"INSERT","tableName":"events","dynamodb":{"ApproximateCreationDateTime":` + created + `,"NewImage":{` + image + `}}}`
}

// hostile are records that cost a careless decoder its memory, its stack, or its mind. Each is about size bytes long,
// or a MiB.
func hostile(size int) map[string]string {
	const good, now = `"eventId":{"S":"1"},"type":{"S":"T"},"timestamp":{"N":"1719347890250"},"payload":{"S":"{}"}`, `1719347890250`
	big := func(piece string) string { return strings.Repeat(piece, size/len(piece)) }
	mega := strings.Repeat(`\`, 1<<20)
	attribute := func(name, value string) string { return insertWith(good+`,"`+name+`":`+value, now) }
	texts := map[string]string{
		"payload of backslashes":                 attribute("payload", `{"S":"`+mega+`"}`),
		"payload of backslashes, not closed":     attribute("payload", `{"S":"`+mega+`\"}`),
		"payload of backslashes, with space":     attribute("payload", `{ "S":"`+big(`\\`)+`"}`),
		"payload of invalid UTF-8":               attribute("payload", `{"S":"`+big("\xff")+`"}`),
		"payload of invalid UTF-8, with space":   attribute("payload", `{ "S":"`+big("\xff")+`"}`),
		"binary payload of invalid UTF-8":        attribute("payload", `{"B":"`+big("\xff")+`"}`),
		"payload of escapes":                     attribute("payload", `{"S":"`+big(`\u00e9`)+`"}`),
		"payload of lone surrogates":             attribute("payload", `{"S":"`+big(`\ud83d`)+`"}`),
		"payload of escaped NUL":                 attribute("payload", `{"S":"`+big(`\u0000`)+`"}`),
		"payload of NUL":                         attribute("payload", `{"S":"`+big("\x00")+`"}`),
		"NUL between members":                    insertWith(good+",\x00", now),
		"nothing but NUL":                        big("\x00"),
		"binary payload":                         attribute("payload", `{"B":"`+big("YWFh")+`"}`),
		"binary payload of escaped slashes":      attribute("payload", `{"B":"`+big(`\/\/\/\/`)+`"}`),
		"binary payload, cut off":                attribute("payload", `{"B":"`+big("YWFh")+`YQ"}`),
		"binary payload, cut off in its padding": attribute("payload", `{"B":"YQ="}`),
		"many payloads":                          insertWith(good+big(`,"payload":{"S":"x"}`), now),
		"a payload before everything else":       insertWith(`"payload":{"S":"x"},"other":{"S":"`+big("y")+`"},`+good, now),
		"an id of invalid UTF-8":                 attribute("eventId", `{"S":"`+big("\xff")+`"}`),
		"a long aggregate id":                    attribute("aggregateId", `{"S":"`+big("x")+`"}`),
		"an aggregate id of escapes":             attribute("aggregateId", `{"S":"`+big(`\"`)+`"}`),
		"a header's name of invalid UTF-8":       attribute("headers", `{"M":{"`+big("\xff")+`":{"S":"v"}}}`),
		"a header's value of escapes":            attribute("headers", `{"M":{"n":{"S":"`+big(`\n`)+`"}}}`),
		"one header many times":                  attribute("headers", `{"M":{"n":{"S":"v"}`+big(`,"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn":{"S":"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"}`)+`}}`),
		"a name of escapes":                      attribute(big(`\"`), `{"S":"x"}`),
		"a name of invalid UTF-8":                attribute(big("\xff"), `{"S":"x"}`),
		"a table of invalid UTF-8":               strings.Replace(insertWith(good, now), `"events"`, `"`+big("\xff")+`"`, 1),
		"a source of escapes":                    strings.Replace(insertWith(good, now), `"tableName":"events"`, `"eventSourceARN":"`+big(`\"`)+`:table\/x"`, 1),
		"a sequence of 400 digits":               attribute("sequence", `{"N":"`+strings.Repeat("9", 400)+`"}`),
		"a sequence of many digits":              attribute("sequence", `{"N":"`+big("9")+`"}`),
		"a sequence of many zeros":               attribute("sequence", `{"N":"`+big("0")+`7"}`),
		"a time of 400 digits":                   attribute("timestamp", `{"N":"`+strings.Repeat("9", 400)+`"}`),
		"a time of many digits":                  attribute("timestamp", `{"N":"1.`+big("9")+`"}`),
		"a time of much text":                    attribute("timestamp", `{"S":"`+big("9")+`"}`),
		"a change time of 400 digits":            insertWith(good, strings.Repeat("9", 400)),
		"a change time of many digits":           insertWith(good, big("9")),
		"a change time with many digits":         insertWith(good, "1."+big("9")),
		"a change time with a large exponent":    insertWith(good, "1e"+big("9")),
		"deep objects":                           insertWith(`"deep":`+strings.Repeat(`{"M":`, 10_000)+`1`+strings.Repeat("}", 10_000)+","+good, now),
		"deep arrays":                            insertWith(`"deep":`+strings.Repeat(`[`, 10_000)+strings.Repeat("]", 10_000)+","+good, now),
		"deep headers":                           attribute("headers", `{"M":`+strings.Repeat(`{"M":`, 10_000)+`1`+strings.Repeat("}", 10_000)+"}"),
		"deep and nothing else":                  big("["),
		"many numbers":                           insertWith(`"n":[1`+big(",-1.5e9")+`],`+good, now),
		"many spaces":                            strings.ReplaceAll(insertWith(good, now), `:`, ":"+strings.Repeat(" \t\r\n", 10_000)),
		"a long event name":                      `{"eventName":"` + big(`\"`) + `"`,
		"a removal, its name last":               `{"dynamodb":{"OldImage":{"a":{"S":"` + big(`\"`) + `"}}},"eventName":"REMOVE"`,
	}
	for _, kind := range []string{`{"N":"1"}`, `{"M":{}}`, `{"L":[]}`, `{"BOOL":true}`, `{"NULL":true}`, `{"SS":["a"]}`, `{"NS":["1"]}`, `{"BS":["YQ=="]}`, `{"S":1}`, `{"S":null}`, `{"B":{}}`, `{}`, `[]`, `1`, `null`, `"x"`, `{"X":"x"}`} {
		texts["payload "+kind] = attribute("payload", kind)
		texts["headers "+kind] = attribute("headers", kind)
		texts["id "+kind] = attribute("eventId", kind)
	}
	return texts
}

// allocated returns how many bytes f allocates, as little as it ever does: other goroutines may allocate, too.
func allocated(f func()) uint64 {
	least := ^uint64(0)
	var before, after runtime.MemStats
	for range 2 {
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// Whatever arrives: the slow decoder and the fast one agree, and decoding takes at most three times the input's memory.
func TestHostileRecords(t *testing.T) {
	const rest = 32 << 10 // what the sizes of the allocator's classes, an error and a map add
	for name, text := range hostile(1 << 16) {
		data := []byte(text)
		var got outbox.Record
		var err error
		used := allocated(func() { got, err = outbox.DecodeRecord(data) })
		require.LessOrEqual(t, used, uint64(3*len(data)+rest), "%s: %d bytes allocated for %d bytes", name, used, len(data))
		if err != nil {
			require.Less(t, len(err.Error()), 300, "%s: the error grows with the record", name)
		}
		want, slowErr := slowDecode(data)
		if errors.Is(slowErr, errTooDeep) {
			require.ErrorContains(t, err, "nested deeper than 128 levels", name)
			continue
		}
		require.Equalf(t, slowErr == nil, err == nil, "%s: slow: %v, fast: %v", name, slowErr, err)
		require.Equalf(t, errors.Is(slowErr, outbox.ErrNotEvent), errors.Is(err, outbox.ErrNotEvent), "%s: slow: %v, fast: %v", name, slowErr, err)
		if err == nil {
			require.True(t, want.ID == got.ID && want.AggregateID == got.AggregateID && string(want.Payload) == string(got.Payload), "%s: another event", name)
			require.Equal(t, want.Headers, got.Headers, name)
			require.Equal(t, want.Sequence, got.Sequence, name)
		}
	}
}

// The same records in an invocation: answered, one way or the other, within the same bound.
func TestHostileInvocations(t *testing.T) {
	c := newConsumer(t)
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[map[string]any]) error { return nil })
	const rest = 64 << 10
	for name, text := range hostile(1 << 16) {
		if strings.Contains(name, "surrogates") {
			continue // no JSON in it: what its codec does with it is the codec's
		}
		for _, payload := range [][]byte{kinesisEvent(text), []byte(strings.Replace(string(kinesisEvent(text)), base64.StdEncoding.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text))[1:], 1))} {
			used := allocated(func() {
				answer, err := c.Invoke(context.Background(), payload)
				require.NoError(t, err, name)
				require.NotEmpty(t, answer, name)
			})
			require.LessOrEqual(t, used, uint64(3*len(payload)+rest), "%s: %d bytes allocated for %d bytes", name, used, len(payload))
		}
	}
}

// What is wrong with the envelope, not with a record.
func TestHostileEnvelopes(t *testing.T) {
	big := func(piece string) string { return strings.Repeat(piece, 1<<20/len(piece)) }
	good := string(kinesisEvent(changeRecord("1", "a")))
	for name, text := range map[string]string{
		"deep":                     `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "," + good[1:],
		"backslashes":              `{"a":"` + big(`\`) + `",` + good[1:],
		"data that is not closed":  strings.Replace(good, `"data":"`, `"data":"`+big("YWFh")+`\`, 1),
		"a sequence number":        strings.Replace(good, `"sequenceNumber":"s0"`, `"sequenceNumber":"`+big(`\"`)+`"`, 1),
		"a stream of bad UTF-8":    strings.Replace(good, `stream/events`, big("\xff"), 1),
		"a shard of escapes":       strings.Replace(good, `shardId-000000000007`, big(`\"`), 1),
		"a source of escapes":      strings.Replace(good, `"aws:kinesis"`, `"`+big(`\"`)+`"`, 1),
		"many members":             `{` + big(`"a":1,`) + good[1:],
		"many records without any": `{"Records":[{}` + big(`,{}`) + `]}`,
		"NUL":                      good + "\x00",
		"a number of 400 digits":   `{"a":` + strings.Repeat("9", 400) + "," + good[1:],
	} {
		c := newConsumer(t)
		payload := []byte(text)
		used := allocated(func() {
			if _, err := c.Invoke(context.Background(), payload); err != nil {
				require.Less(t, len(err.Error()), 1000, name)
			}
		})
		require.LessOrEqual(t, used, uint64(3*len(payload)+64<<10), "%s: %d bytes allocated for %d bytes", name, used, len(payload))
	}
}
