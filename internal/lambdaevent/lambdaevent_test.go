package lambdaevent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// read returns all records as "source shard number data".
func read(payload string) (records []string, err error) {
	s := New([]byte(payload))
	var r Record
	for s.Next(&r) {
		data := string(r.Data)
		if r.Err != nil {
			data = "!" + r.Err.Error()
		}
		records = append(records, strings.Join([]string{r.SourceARN, r.ShardID, r.SequenceNumber(nil), data}, " "))
	}
	if s.Next(&r) {
		return nil, fmt.Errorf("a record after the last one")
	}
	return records, s.Err()
}

func kinesis(number, data string) string {
	return `{"kinesis":{"data":` + data + `,"sequenceNumber":"` + number + `"},"eventSource":"aws:kinesis","eventID":"shard-1:` + number + `","eventSourceARN":"arn"}`
}

func TestRecordsOfKinesis(t *testing.T) {
	slash := base64.StdEncoding.EncodeToString([]byte("???>>>"))
	require.Contains(t, slash, "/")
	got, err := read(` { "x" : [] , "Records" : [ ` + strings.Join([]string{
		kinesis("1", `"YQ=="`), kinesis("2", `"`+strings.ReplaceAll(slash, "/", `\/`)+`"`), kinesis("3", `""`), kinesis("4", `"YQ="`), kinesis("5", `"Y\nQ=="`),
		kinesis("6", `null`), kinesis("7", `"!"`), kinesis("8", `"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"`), `{"eventSource":"aws:kinesis","kinesis":{"sequenceNumber":"9","data":"*","data":"Yg=="}}`,
	}, " , ") + ` ] , "y" : 1 } `)
	require.NoError(t, err)
	require.Equal(t, []string{
		"arn shard-1 1 a", "arn shard-1 2 ???>>>", "arn shard-1 3 ", "arn shard-1 4 !the data is not base64: illegal base64 data at input byte 3", "arn shard-1 5 a",
		"arn shard-1 6 !there is no data", "arn shard-1 7 !the data is not base64: illegal base64 data at input byte 0", "arn shard-1 8 " + strings.Repeat("a", 30), "  9 b",
	}, got)
}

func TestRecordsOfDynamoDBAreTheirOwnData(t *testing.T) {
	record := `{"eventSource":"aws:dynamodb", "dynamodb":{"NewImage":{},"SequenceNumber":"1"},"eventID":"x","eventSourceARN":"arn"}`
	got, err := read(`{"Records":[ ` + record + ` ]}`)
	require.NoError(t, err)
	require.Equal(t, []string{"arn  1 " + record}, got)
}

func TestWhatIsNoInvocation(t *testing.T) {
	one := kinesis("1", `"YQ=="`)
	for payload, want := range map[string]string{
		"":                                       "have nothing",
		"[]":                                     "have 2 bytes that are no object",
		`{"detail":{},"source":"x"}`:             `have an object with the members ["detail" "source"]`,
		`{"Records":null}`:                       `have an object with the members ["Records"]`,
		`{"Records":[` + one:                     "not JSON: byte",
		`{"Records":[` + one + `}`:               "not JSON: byte",
		`{"Records":[` + one + `,]}`:             "not JSON: byte",
		`{"Records":[` + one + `]`:               "not JSON: byte",
		`{"Records":[` + one + `]}}`:             "not JSON: byte",
		`{"Records":[` + one + "]}\x00":          "not JSON: byte",
		`{"Records":[` + one + `,"x"]}`:          "record 1: want an object, have",
		`{"Records":[` + one + `],"Records":[]}`: "it has Records twice",
		`{"Records":[{"eventSource":"aws:kinesis","kinesis":5}]}`:                                    "record 0: it has no sequence number",
		`{"Records":[{"eventSource":5}]}`:                                                            `record 0: its eventSource is ""`,
		`{"Records":[` + kinesis("1", "\"Y\nQ==\"") + `]}`:                                           "not JSON: byte",
		`{"Records":[` + one + `,{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":"1"}}]}`: "record 1: it is from aws:dynamodb, the ones before it from aws:kinesis",
	} {
		_, err := read(payload)
		require.ErrorContains(t, err, want, payload)
	}
}

// One buffer serves all records of an invocation.
func TestScanningAllocatesOneBuffer(t *testing.T) {
	payload := []byte(`{"Records":[` + strings.Repeat(kinesis("1", `"YWFhYWFhYWFhYWFhYWFhYWFhYWFh"`)+",", 99) + kinesis("1", `"YQ=="`) + `]}`)
	require.LessOrEqual(t, testing.AllocsPerRun(10, func() {
		var r Record
		s := New(payload)
		for s.Next(&r) {
		}
	}), 4.0) // the scanner, the buffer, the stream, the shard
}

// base64Same compares decodeBase64 with the standard library.
func base64Same(t *testing.T, text []byte) {
	want := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(want, text)
	dst := make([]byte, len(want))
	got, ok := decodeBase64(dst, text)
	require.Equal(t, err == nil && !bytes.ContainsAny(text, "\r\n"), ok, "%q", text)
	if ok {
		require.Equal(t, string(want[:n]), string(dst[:got]), "%q", text)
	}
}

func TestBase64IsTheStandardLibrarys(t *testing.T) {
	for n := range 100 {
		data := bytes.Repeat([]byte{0xfb, 0xff, 0x00, 0x3e, 0x3f}, 20)[:n]
		text := base64.StdEncoding.EncodeToString(data)
		base64Same(t, []byte(text))
		for i := range text {
			for _, b := range []byte("A=\n\\-\xff") {
				broken := []byte(text)
				broken[i] = b
				base64Same(t, broken)
			}
			base64Same(t, []byte(text[:i]))
		}
	}
}

func FuzzBase64(f *testing.F) {
	f.Add([]byte("YWFhYWFhYWFhYWFhYWE="))
	f.Add([]byte("YWFhYWFhYWFhYWFh\nYWE="))
	f.Fuzz(base64Same)
}

func TestAnswer(t *testing.T) {
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(Answer("")))
	require.JSONEq(t, `{"batchItemFailures":[{"itemIdentifier":"a\"b"}]}`, string(Answer(`a"b`)))
}

// FuzzScanner compares the Scanner with encoding/json into structs, for invocations in which no name comes twice.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(`{"Records":[` + kinesis("1", `"YQ=="`) + "," + kinesis("2", `"Y\/8="`) + `]}`))
	f.Add([]byte(`{"Records":[` + kinesis("1", `""`) + `]}`)) // was once taken for no data at all
	f.Add([]byte(`{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":"1"}}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		got, err := read(string(payload))
		require.Equal(t, before, payload)
		if !json.Valid(payload) {
			require.Error(t, err)
			return
		}
		if err != nil {
			return // the error is tested above
		}
		type object = map[string]json.RawMessage
		var top object
		require.NoError(t, json.Unmarshal(payload, &top))
		var records []object
		require.NoError(t, json.Unmarshal(top["Records"], &records))
		require.Len(t, got, len(records))
		for i, r := range records {
			str := func(raw json.RawMessage) (s string) {
				_ = json.Unmarshal(raw, &s)
				return s
			}
			if str(r["eventSource"]) != Kinesis {
				continue
			}
			var inner object
			require.NoError(t, json.Unmarshal(r["kinesis"], &inner))
			require.Contains(t, got[i], " "+str(inner["sequenceNumber"])+" ")
			if data, err := base64.StdEncoding.DecodeString(str(inner["data"])); err == nil && len(inner["data"]) > 0 && inner["data"][0] == '"' {
				require.True(t, strings.HasSuffix(got[i], " "+string(data)), "record %d: %q, want the data %q", i, got[i], data)
			}
		}
	})
}
