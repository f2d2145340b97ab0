package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// service answers with what it is told to.
type service func(operation string, body []byte) (any, error)

func (s service) Do(_ context.Context, operation string, body []byte) (any, error) {
	return s(operation, body)
}

func post(t *testing.T, s service, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", target)
	w := httptest.NewRecorder()
	wire.DynamoDB().Handler(s).ServeHTTP(w, r)
	require.Equal(t, "application/x-amz-json-1.0", w.Header().Get("Content-Type"))
	require.Equal(t, strconv.FormatUint(uint64(crc32.ChecksumIEEE(w.Body.Bytes())), 10), w.Header().Get("X-Amz-Crc32"))
	require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
	require.Len(t, w.Header().Get("X-Amzn-Requestid"), 52)
	return w
}

func TestAnswers(t *testing.T) {
	const own = "com.amazonaws.dynamodb.v20120810#"
	for name, c := range map[string]struct {
		result any
		err    error
		status int
		body   string
	}{
		"a result":       {map[string]any{"A": "<&>", "At": wire.Epoch(time.UnixMilli(1719347890250))}, nil, 200, `{"A":"<&>","At":1719347890.25}`},
		"an empty one":   {struct{}{}, nil, 200, `{}`},
		"no result":      {nil, nil, 200, ""},
		"a service's":    {nil, wire.Errorf("ResourceNotFoundException", "no %s", "table"), 400, `{"__type":"` + own + `ResourceNotFoundException","message":"no table"}`},
		"with a status":  {nil, &wire.Error{Code: "InternalServerError", Message: "x", Status: 500}, 500, `{"__type":"` + own + `InternalServerError","message":"x"}`},
		"with members":   {nil, &wire.Error{Code: "X", Fields: map[string]any{"Item": 1}}, 400, `{"__type":"` + own + `X","Item":1}`},
		"a validation":   {nil, wire.Validation("bad"), 400, `{"__type":"com.amazon.coral.validate#ValidationException","message":"bad"}`},
		"no JSON":        {nil, wire.Serialization(""), 400, `{"__type":"com.amazon.coral.service#SerializationException"}`},
		"a wrong type":   {nil, wire.Serialization("bad"), 400, `{"__type":"com.amazon.coral.service#SerializationException","Message":"bad"}`},
		"a transaction":  {nil, &wire.Error{Code: "TransactionCanceledException", Message: "no"}, 400, `{"__type":"` + own + `TransactionCanceledException","Message":"no"}`},
		"somebody's":     {nil, errors.New("broken"), 500, `{"__type":"` + own + `InternalServerError","message":"broken"}`},
		"not encodable":  {func() {}, nil, 500, `{"__type":"` + own + `InternalServerError","message":"json: unsupported type: func()"}`},
		"a wrapped one":  {nil, errors.Join(wire.Validation("bad")), 400, `{"__type":"com.amazon.coral.validate#ValidationException","message":"bad"}`},
		"an unknown one": {nil, wire.UnknownOperation("ExecuteStatement"), 400, `{"__type":"com.amazon.coral.service#UnknownOperationException","message":"outboxtest does not emulate ExecuteStatement"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := post(t, func(operation string, body []byte) (any, error) {
				require.Equal(t, "PutItem", operation)
				require.Equal(t, "{}", string(body))
				return c.result, c.err
			}, "DynamoDB_20120810.PutItem", "{}")
			require.Equal(t, c.status, w.Code)
			if c.body == "" {
				require.Empty(t, w.Body.String())
				return
			}
			require.JSONEq(t, c.body, w.Body.String())
		})
	}
}

func TestRequestsThatReachNoService(t *testing.T) {
	never := func(string, []byte) (any, error) { panic("not to be called") }
	for _, target := range []string{"", "DynamoDB_20120810", "DynamoDB_20120810.", ".PutItem", "DynamoDB_20120810.Put.Item", "Kinesis_20131202.PutRecord"} {
		w := post(t, never, target, "{}")
		require.Equal(t, 400, w.Code, target)
		require.JSONEq(t, `{"__type":"com.amazon.coral.service#UnknownOperationException","message":"outboxtest does not emulate `+target+`"}`, w.Body.String(), target)
	}
	w := post(t, never, "DynamoDB_20120810.PutItem", strings.Repeat(" ", wire.MaxRequestBytes+1))
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Contains(t, w.Body.String(), "RequestEntityTooLargeException")
}

type part struct {
	Name  *string `wire:"required,name,min=3,max=5"`
	Count *int32  `wire:"min=1,max=9"`
}

type input struct {
	Text  *string `wire:"enum=A|B"`
	Flag  *bool
	Big   *int64
	Ratio *float64
	Data  []byte
	Parts []part `wire:"min=1,max=2"`
	Named map[string]part
	One   *part
}

func bind(body string) (*input, error) {
	in := new(input)
	err := wire.DynamoDB().Bind([]byte(body), in)
	return in, err
}

func TestBind(t *testing.T) {
	in, err := bind(`{"Text":"A","Flag":true,"Big":9007199254740993,"Ratio":0.5,"Data":"AAEC","Parts":[{"Name":"abc","Count":3.9}],
		"Named":{"k":{"Name":"abc"}},"One":{"Name":"a-c_d"},"Unknown":[{}]}`)
	require.NoError(t, err)
	require.Equal(t, int64(9007199254740993), *in.Big)
	require.Equal(t, []byte{0, 1, 2}, in.Data)
	require.Equal(t, int32(3), *in.Parts[0].Count)
	require.Equal(t, "a-c_d", *in.One.Name)
	in, err = bind(`{"Text":null,"Parts":null,"One":null}`)
	require.NoError(t, err)
	require.Equal(t, &input{}, in)
}

func TestBindRefuses(t *testing.T) {
	const serialization, validation = wire.CodeSerialization, wire.CodeValidation
	for body, want := range map[string]*wire.Error{
		`{"Text":1}`:           {Code: serialization, Message: "NUMBER_VALUE cannot be converted to String"},
		`{"Text":true}`:        {Code: serialization, Message: "TRUE_VALUE cannot be converted to String"},
		`{"Text":[]}`:          {Code: serialization, Message: "Unrecognized collection type class java.lang.String"},
		`{"Text":{}}`:          {Code: serialization, Message: "Start of structure or map found where not expected"},
		`{"Flag":"maybe"}`:     {Code: serialization, Message: "Unexpected token received from parser"},
		`{"Big":"1"}`:          {Code: serialization, Message: "STRING_VALUE cannot be converted to Long"},
		`{"Data":"abc"}`:       {Code: serialization, Message: "Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
		`{"Data":"+/+="}`:      {Code: serialization, Message: "Invalid last non-pad Base64 character dectected"},
		`{"Parts":{}}`:         {Code: serialization, Message: "Start of structure or map found where not expected"},
		`{"Parts":"x"}`:        {Code: serialization, Message: "Unexpected field type"},
		`{"Parts":["x"]}`:      {Code: serialization, Message: "Unexpected value type in payload"},
		`{"One":[]}`:           {Code: serialization, Message: "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.Part"},
		`[]`:                   {Code: serialization},
		`{"Text":"A"}{}`:       {Code: serialization},
		`{"Text":"A"`:          {Code: serialization},
		`{"Text":"C"}`:         {Code: validation, Message: "1 validation error detected: Value 'C' at 'text' failed to satisfy constraint: Member must satisfy enum value set: [A, B]"},
		`{"Parts":[]}`:         {Code: validation, Message: "1 validation error detected: Value '[]' at 'parts' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		`{"Parts":[null]}`:     {Code: validation, Message: "1 validation error detected: Value null at 'parts.1.member.name' failed to satisfy constraint: Member must not be null"},
		`{"Named":{"k":null}}`: {Code: validation, Message: "1 validation error detected: Value null at 'named.k.member.name' failed to satisfy constraint: Member must not be null"},
		`{"One":{"Name":"a!","Count":0}}`: {Code: validation, Message: "3 validation errors detected: " +
			"Value 'a!' at 'one.name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; " +
			"Value 'a!' at 'one.name' failed to satisfy constraint: Member must have length greater than or equal to 3; " +
			"Value '0' at 'one.count' failed to satisfy constraint: Member must have value greater than or equal to 1"},
	} {
		_, err := bind(body)
		require.Error(t, err, body)
		require.Equal(t, want, wire.AsError(err), body)
	}
}

// FuzzBind binds arbitrary bodies: they fit, or the error is AWS's.
func FuzzBind(f *testing.F) {
	for _, body := range []string{`{}`, `null`, `{"Parts":[null]}`, `{"Big":1e999}`, `{"Big":-1e30,"Ratio":1e999}`, `{"Named":{"":{}}}`, `{"Text":"\ud800"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := new(input)
		err := wire.DynamoDB().Bind(body, in)
		if err == nil {
			require.True(t, json.Valid(body))
			return
		}
		e := wire.AsError(err)
		require.Contains(t, []string{wire.CodeSerialization, wire.CodeValidation}, e.Code)
	})
}
