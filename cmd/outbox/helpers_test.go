package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// world is an AWS on a port of the loopback interface, which the SDK's configuration leads to.
type world struct {
	*outboxtest.Server
	dynamodb *dynamodb.Client
	kinesis  *kinesis.Client

	mu       sync.Mutex
	refused  map[string]bool // operations
	broken   string          // an operation that fails
	mappings string          // what Lambda answers
	records  string          // what GetRecords answers in the stream's place, if it is not empty
	alarms   []*cloudwatch.DescribeAlarmsOutput
	edits    map[string]func(request, answer map[string]any) // by operation: what is changed in an answer
	command  string                                          // that runs
	// intercept answers in the server's place if it returns true.
	intercept func(operation string, out http.ResponseWriter, in *http.Request) bool
	calls     map[string]map[string]bool // the actions that each command has needed
}

// newWorld makes a world without tables, and leads the environment to it.
func newWorld(t testing.TB, opts ...outboxtest.Option) *world {
	w := &world{Server: outboxtest.New(opts...), refused: map[string]bool{}, mappings: `{"EventSourceMappings":[]}`}
	t.Cleanup(w.Close)
	listening := httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(listening.Close)
	w.dynamodb, w.kinesis = dynamodb.NewFromConfig(w.Config()), kinesis.NewFromConfig(w.Config())
	nowhere := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": listening.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_EC2_METADATA_DISABLED": "true", "NO_COLOR": "", "TERM": "xterm",
		"AWS_MAX_ATTEMPTS": "2",
	} {
		if t, ok := t.(*testing.T); ok {
			t.Setenv(name, value)
		}
	}
	return w
}

// serve answers for the services that outboxtest does not have, and refuses what it is told to.
func (w *world) serve(out http.ResponseWriter, in *http.Request) {
	_, operation, _ := strings.Cut(in.Header.Get("X-Amz-Target"), ".")
	if strings.HasPrefix(in.URL.Path, "/2015-03-31/event-source-mappings") {
		operation = "ListEventSourceMappings"
	}
	if strings.HasSuffix(in.URL.Path, "/concurrency") {
		operation = "GetFunctionConcurrency"
	}
	w.note(operation, in)
	w.mu.Lock()
	refused, mappings, records, broken := w.refused[operation], w.mappings, w.records, operation != "" && operation == w.broken
	intercept, edit := w.intercept, w.edits[operation]
	w.mu.Unlock()
	if intercept != nil && intercept(operation, out, in) {
		return
	}
	if edit != nil && !refused {
		request, _ := io.ReadAll(in.Body)
		in.Body = io.NopCloser(bytes.NewReader(request))
		original, recorder := out, httptest.NewRecorder()
		out = recorder
		defer func() { edited(original, recorder, request, edit) }()
	}
	answer := func(status int, body string) {
		_, _ = io.Copy(io.Discard, in.Body)
		out.Header().Set("Content-Type", "application/x-amz-json-1.0")
		out.WriteHeader(status)
		fmt.Fprint(out, body)
	}
	switch {
	case refused:
		answer(400, `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"User is not authorized"}`)
	case broken:
		answer(400, `{"__type":"com.amazon.coral.service#InternalServerError","message":"broken"}`)
	case operation == "ListEventSourceMappings":
		answer(200, mappings)
	case operation == "GetFunctionConcurrency":
		answer(200, `{}`)
	case operation == "DescribeKey":
		answer(200, `{"KeyMetadata":{"KeyId":"key","KeyManager":"CUSTOMER","KeyState":"Enabled","Enabled":true}}`)
	case operation == "GetRecords" && records != "":
		answer(200, records)
	default:
		w.ServeHTTP(out, in)
	}
}

// edited passes an answer on with what edit changes in it.
func edited(to http.ResponseWriter, from *httptest.ResponseRecorder, request []byte, edit func(request, answer map[string]any)) {
	var asked, answer map[string]any
	_ = json.Unmarshal(request, &asked)
	body := from.Body.Bytes()
	if json.Unmarshal(body, &answer) == nil && from.Code == http.StatusOK {
		edit(asked, answer)
		body, _ = json.Marshal(answer)
	}
	to.Header().Set("Content-Type", from.Header().Get("Content-Type"))
	to.WriteHeader(from.Code)
	_, _ = to.Write(body)
}

// edit has every answer of an operation changed.
func (w *world) edit(operation string, change func(request, answer map[string]any)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.edits == nil {
		w.edits = map[string]func(request, answer map[string]any){}
	}
	w.edits[operation] = change
}

// DescribeAlarms answers in CloudWatch's place, page by page.
func (w *world) DescribeAlarms(_ context.Context, in *cloudwatch.DescribeAlarmsInput, _ ...func(*cloudwatch.Options)) (*cloudwatch.DescribeAlarmsOutput, error) {
	w.note("DescribeAlarms", nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refused["DescribeAlarms"] {
		return nil, &refusal{}
	}
	page := 0
	if in.NextToken != nil {
		fmt.Sscan(*in.NextToken, &page)
	}
	if page >= len(w.alarms) {
		return &cloudwatch.DescribeAlarmsOutput{}, nil
	}
	answer := *w.alarms[page]
	if page+1 < len(w.alarms) {
		next := fmt.Sprint(page + 1)
		answer.NextToken = &next
	}
	return &answer, nil
}

// refuse makes operations fail with AccessDenied.
func (w *world) refuse(operations ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = map[string]bool{}
	for _, o := range operations {
		w.refused[o] = true
	}
}

// app returns the command, as it is run without a terminal.
func (w *world) app(in io.Reader, out, err io.Writer) *app {
	a := newApp(in, out, err)
	a.httpClient, a.alarms, a.pace = outboxtest.BufferedClient(nil), w, time.Millisecond
	return a
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

// run runs a command without a terminal. A command that waits for what never comes ends after a minute, with what it has said until then.
func (w *world) run(t testing.TB, args ...string) result {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return w.runWith(ctx, args...)
}

// runWith runs a command until it ends or the context does.
func (w *world) runWith(ctx context.Context, args ...string) result {
	var out, err bytes.Buffer
	w.mu.Lock()
	w.command = strings.Join(args[:min(len(args), 1)], "")
	if (w.command == "dead" || w.command == "checkpoint" || w.command == "order") && len(args) > 1 {
		w.command += " " + args[1]
	}
	w.mu.Unlock()
	code := w.app(strings.NewReader("y\n"), &out, &err).run(ctx, args)
	return result{code, out.String(), err.String()}
}

// withoutNotes leaves notes out.
func withoutNotes(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "note: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// ok runs a command that must succeed and say nothing but its result, notes aside.
func (w *world) ok(t testing.TB, args ...string) string {
	r := w.run(t, args...)
	r.err = withoutNotes(r.err)
	require.Equal(t, result{0, r.out, ""}, r)
	return r.out
}

// decode reads a result in JSON.
func decode[T any](t testing.TB, text string) T {
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&v), text)
	require.False(t, d.More(), text)
	return v
}

// lines reads JSON lines.
func lines[T any](t testing.TB, text string) []T {
	values := []T{}
	for line := range strings.Lines(text) {
		values = append(values, decode[T](t, line))
	}
	return values
}

// epoch is the time of the first events.
var epoch = time.UnixMilli(1_790_000_000_000).UTC()

// put writes events of an aggregate, a second apart.
func (w *world) put(t testing.TB, aggregate string, n int) (ids []string) {
	writer, err := outbox.NewWriter(w.dynamodb, "events")
	require.NoError(t, err)
	for i := range n {
		r := outbox.Record{ID: fmt.Sprintf("%s-%03d", aggregate, i), Type: "ORDER_CREATED", AggregateID: aggregate, Sequence: int64(i + 1),
			Time: epoch.Add(time.Duration(i) * time.Second), Headers: map[string]string{"trace": "t-1"}, Payload: []byte(`{"secret":"two coffees"}`)}
		require.NoError(t, writer.Transact(t.Context(), nil, r))
		ids = append(ids, r.ID)
	}
	return ids
}

// events returns how many rows the events table has.
func (w *world) events(t testing.TB) int {
	out, err := w.dynamodb.Scan(t.Context(), &dynamodb.ScanInput{TableName: ptr("events")})
	require.NoError(t, err)
	return int(out.Count)
}

// refusal is CloudWatch's AccessDenied.
type refusal struct{}

func (*refusal) ErrorCode() string    { return "AccessDenied" }
func (*refusal) ErrorMessage() string { return "User is not authorized" }
func (*refusal) Error() string        { return "AccessDenied: User is not authorized" }

func (*refusal) ErrorFault() smithy.ErrorFault { return smithy.FaultClient }

// ptr returns a pointer to a copy of v.
func ptr[T any](v T) *T { return &v }

// syncBuffer is written by a command while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await waits until text shows.
func (s *syncBuffer) await(t testing.TB, text string) {
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.String(), text); time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "%q does not show in %q", text, s.String())
	}
}

// waitFor waits until ok, for at most so many milliseconds.
func waitFor(ok func() bool, ms int) {
	for deadline := time.Now().Add(time.Duration(ms) * time.Millisecond); !ok() && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
	}
}

// docs is the page of the commands.
const docs = "../../docs/cli.md"

// orderCreated is the event of the tests.
type orderCreated struct{}

func (orderCreated) EventType() string { return "ORDER_CREATED" }

// statusJSON is what status prints as JSON.
type statusJSON struct {
	Stream, Ended, Group, OldestShard string
	KeepsSeconds                      float64
	LagSeconds                        *float64
	OK, Late                          bool
	Reasons                           []string
	Shards                            []shardJSON
	Workers                           []workerJSON
	Known                             []knownGroup
	DeadLetters                       *deadStatus
}

// workerJSON is what status prints of a worker.
type workerJSON struct {
	Worker, State, Version       string
	Shards                       int
	LeaseSeconds, WatchedSeconds float64
	Unable                       bool
	Refuses                      []string
}

// note keeps which actions of IAM the requests of the commands need.
func (w *world) note(operation string, in *http.Request) {
	actions := []string{operation}
	if operation == "TransactWriteItems" { // needs those of its operations
		body, _ := io.ReadAll(in.Body)
		in.Body = io.NopCloser(bytes.NewReader(body))
		var request struct{ TransactItems []map[string]json.RawMessage }
		_ = json.Unmarshal(body, &request)
		actions = nil
		for _, item := range request.TransactItems {
			for kind := range item {
				actions = append(actions, map[string]string{
					"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem",
				}[kind])
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, action := range actions {
		if action != "" && w.command != "" {
			if w.calls == nil {
				w.calls = map[string]map[string]bool{}
			}
			if w.calls[w.command] == nil {
				w.calls[w.command] = map[string]bool{}
			}
			w.calls[w.command][action] = true
		}
	}
}

// shardJSON is what status prints of a shard.
type shardJSON struct {
	Shard, State, Owner, OwnerState, WantedBy, Checkpoint, Error string
	NextSequenceNumber                                           string
	StartsAt                                                     time.Time
	Fence                                                        int64
	LagSeconds, LagAtMostSeconds                                 *float64
	Waiting                                                      *int
	MoreWaiting, Expired                                         bool
	Next                                                         *eventJSON
	Unfinished                                                   []string
	Attempts                                                     map[string]int
}
