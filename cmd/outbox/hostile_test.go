package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// hostile is a text that clears the screen, renames the window, changes direction, hides, and begins a line of its own.
const hostile = "\x1b[2J\x1b]0;owned\a\u009b31m\x1b[31m\u202e\u2066\u200b\u200d\ufeff\u00ad\U000e0041\x7f\r\v\b\nFORGED\t"

// structure are the members of AWS's answers whose values have a form, so that nobody can choose them.
var structure = []string{"TableStatus", "StreamStatus", "DestinationStatus", "TimeToLiveStatus", "ContinuousBackupsStatus", "PointInTimeRecoveryStatus",
	"KeyType", "AttributeType", "AttributeName", "NextToken", "NextMarker", "ShardIterator", "NextShardIterator", "SequenceNumber", "StartingSequenceNumber",
	"EndingSequenceNumber", "StreamARN", "StreamArn", "TableName", "StreamName", "N", "B", "__type", "ApproximateCreationDateTimePrecision", "StreamMode",
	"IndexName", "IndexStatus", "ProjectionType", "BillingMode", "EventSourceArn", "FunctionResponseTypes", "Metrics", "eventName", "eventSource"}

// spoil changes the texts of a JSON value, but for some members.
func spoil(v any, name string, but []string, change func(string) string) any {
	if slices.Contains(but, name) {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		for member := range v {
			v[member] = spoil(v[member], member, but, change)
		}
	case []any:
		for i := range v {
			v[i] = spoil(v[i], name, but, change)
		}
	case string:
		if name == "Data" {
			return spoilData(v, change)
		}
		return change(v)
	}
	return v
}

// spoilData changes the texts in a record of a stream.
func spoilData(data string, change func(string) string) string {
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return data
	}
	if text, ok := spoiled(raw, structure, change); ok {
		raw = text
	} else { // a record that cannot be decoded is what its producer likes
		raw = append(raw, hostile+"\xff\x9b"...)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func spoiled(document []byte, but []string, change func(string) string) (text []byte, ok bool) {
	var v any
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, false
	}
	text, err := json.Marshal(spoil(v, "", but, change))
	return text, err == nil
}

// hostileWorld answers with hostile texts wherever somebody else can choose a text. In requests it takes them away again.
func hostileWorld(t *testing.T) *world {
	s := &session{world: newWorld(t), stop: func() {}}
	w := s.world
	m := mailedIn(t, w)
	require.NoError(t, m.consumer.Process(t.Context(), orderNumbered("order-9", 1, 60))) // so that the inbox knows the consumer
	m.written(t, orderNumbered("order-9", 2, 60))                                        // which the worker handles without its inbox
	_, err := w.kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: ptr("events"), PartitionKey: ptr("k"), Data: []byte(`{"broken`)})
	require.NoError(t, err)
	s.happens(t, "a worker has read events of two orders, while the mail server was down for order-2")
	s.worker(t) // goes on, so that there is an owner
	t.Cleanup(func() { s.stop() })
	w.mappings = fmt.Sprintf(mapping, "Enabled", "", false, 1, "")
	w.intercept = func(_ string, out http.ResponseWriter, in *http.Request) bool {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			return false
		}
		if plain, ok := spoiled(body, nil, func(s string) string { return strings.ReplaceAll(s, hostile, "") }); ok {
			body = plain
		}
		in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		answer := httptest.NewRecorder()
		if strings.HasPrefix(in.URL.Path, "/2015-03-31/") {
			_, _ = answer.WriteString(w.mappings)
		} else {
			w.ServeHTTP(answer, in)
		}
		text, ok := spoiled(answer.Body.Bytes(), structure, func(s string) string { return s + hostile })
		if !ok {
			text = answer.Body.Bytes()
		}
		for name, values := range answer.Header() {
			if name != "Content-Length" && name != "X-Amz-Crc32" {
				out.Header()[name] = values
			}
		}
		out.WriteHeader(answer.Code)
		_, _ = out.Write(text)
		return true
	}
	return w
}

// requireHarmless fails if a text has a character that drives a terminal, or a line that somebody else has begun.
func requireHarmless(t *testing.T, text string, args ...any) {
	require.True(t, utf8.ValidString(text), "%q of %q", text, args)
	require.False(t, strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }), "%q of %q", text, args)
	for line := range strings.Lines(text) {
		require.False(t, strings.HasPrefix(line, "FORGED"), "%q of %q", text, args)
	}
}

// No text that others have stored, in rows, in records, in names of shards, reaches the output as it is, whatever the command.
func TestTextsOfOthersNeverDriveTheTerminal(t *testing.T) {
	w := hostileWorld(t)
	shown := map[string]bool{}
	each(t, func(t *testing.T, args []string) {
		for _, output := range []string{"text", "json"} {
			args := append(slices.Clone(args), "-o", output)
			for i, arg := range args {
				if strings.HasPrefix(arg, "order-") {
					args[i] += hostile
				}
			}
			r := w.run(t, args...)
			requireHarmless(t, r.out, args)
			requireHarmless(t, r.err, args)
			if strings.Contains(r.out, "FORGED") {
				shown[args[0]+" "+args[1]] = true
			}
			for d := json.NewDecoder(strings.NewReader(r.out)); output == "json" && d.More(); {
				var v any
				require.NoError(t, d.Decode(&v), "%q", r.out)
			}
		}
	})
	for _, command := range []string{"tail --from", "replay --id", "replay --type", "replay --from", "status --group", "doctor --dead-letters", "reconcile --consumer", "dead list", "dead show"} {
		require.True(t, shown[command], "%s shows no hostile text, so the test shows nothing of it", command)
	}
}

// Nor does a text in an error of AWS.
func TestErrorsOfAWSNeverDriveTheTerminal(t *testing.T) {
	w := newWorld(t)
	text, err := json.Marshal(map[string]string{"__type": "com.amazon#Odd" + hostile + "Exception", "message": "no" + hostile})
	require.NoError(t, err)
	w.intercept = func(_ string, out http.ResponseWriter, _ *http.Request) bool {
		out.WriteHeader(http.StatusBadRequest)
		_, _ = out.Write(text)
		return true
	}
	each(t, func(t *testing.T, args []string) {
		for _, output := range []string{"text", "json"} {
			r := w.run(t, append(slices.Clone(args), "-o", output)...)
			require.Equal(t, exitFailed, r.code)
			requireHarmless(t, r.out, args)
			requireHarmless(t, r.err, args)
			require.Contains(t, r.out+r.err, "FORGED", args)
		}
	})
}

// A stream lets pass its own colours at a terminal, and none elsewhere; nothing else of others passes in any case.
func TestAStreamWritesOnlyWhatHasAPicture(t *testing.T) {
	for text, want := range map[string]string{
		"plain, größer, 日本語 🙂\n\tx":       "plain, größer, 日本語 🙂\n\tx",
		"\x1b[31mred\x1b[0m":              `\u001b[31mred\u001b[0m`,
		"a\u009bb\u2028c\ue000":           `a\u009bb\u2028c\ue000`,
		"tag \U000e0041":                  `tag \udb40\udc41`,
		"a\u034f\ufe0f\u115f\u3164\u2800": `a\u034f\ufe0f\u115f\u3164\u2800`,
		"\xff\x9b":                        "\ufffd\ufffd",
	} {
		var b bytes.Buffer
		_, err := (&stream{to: &b}).Write([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, b.String())
	}
	var b bytes.Buffer
	_, err := (&stream{to: &b, colours: true}).Write([]byte("\x1b[31mred\x1b[0m \x1b[8mhidden \x1b[2J"))
	require.NoError(t, err)
	require.Equal(t, "\x1b[31mred\x1b[0m \\u001b[8mhidden \\u001b[2J", b.String())
	require.Equal(t, "two; lines", oneLine("two\n\n  lines\n"))
}

// A payload that is JSON, but no UTF-8, is in base64, so that the output is JSON in UTF-8 and nothing of it is lost.
func TestAPayloadThatIsNoUTF8(t *testing.T) {
	payload := []byte("\"\xff\"")
	require.True(t, json.Valid(payload))
	e := asJSON(outbox.Record{ID: "1", Payload: payload}, true)
	require.Empty(t, e.Payload)
	require.Equal(t, payload, e.PayloadBytes)
}
