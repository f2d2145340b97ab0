package outboxtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func (e event) id(data string) string {
	for _, r := range e.Records {
		if string(r.Kinesis.Data) == data {
			return r.Kinesis.SequenceNumber
		}
	}
	return "4" // in no batch
}

// failing answers that the records are failed.
func failing(e event, data ...string) string {
	var items []string
	for _, d := range data {
		items = append(items, fmt.Sprintf(`{"itemIdentifier":%q}`, e.id(d)))
	}
	return `{"batchItemFailures":[` + strings.Join(items, ",") + `]}`
}

func TestWhatAnAnswerMeans(t *testing.T) {
	boom := errors.New("boom")
	once := func(body string, err error) func(int, event) (string, error) {
		return func(n int, _ event) (string, error) {
			if n == 0 {
				return body, err
			}
			return "", nil
		}
	}
	failOnce := func(data ...string) func(int, event) (string, error) {
		return func(n int, e event) (string, error) {
			if n == 0 {
				return failing(e, data...), nil
			}
			return "", nil
		}
	}
	again := batches("0 1 2 3", "0 1 2 3")
	success := batches("0 1 2 3")
	for _, c := range []struct {
		name    string
		partial bool
		answer  func(int, event) (string, error)
		want    [][]string
	}{
		{"nothing", true, once("", nil), success},
		{"null", true, once("null", nil), success},
		{"an empty object", true, once("{}", nil), success},
		{"an empty text", true, once(`""`, nil), success},
		{"an empty list", true, once(" [] ", nil), success},
		{"no failures", true, once(`{"batchItemFailures":[]}`, nil), success},
		{"null failures", true, once(`{"batchItemFailures":null}`, nil), success},
		{"something else", true, once(`{"statusCode":200}`, nil), success},
		{"the first failed", true, failOnce("0"), again},
		{"one failed", true, failOnce("2"), batches("0 1 2 3", "2 3")},
		{"the last failed", true, failOnce("3"), batches("0 1 2 3", "3")},
		{"the lowest wins", true, failOnce("3", "1", "2"), batches("0 1 2 3", "1 2 3")},
		{"an empty identifier", true, once(`{"batchItemFailures":[{"itemIdentifier":""}]}`, nil), again},
		{"a null identifier", true, once(`{"batchItemFailures":[{"itemIdentifier":null}]}`, nil), again},
		{"a number for an identifier", true, once(`{"batchItemFailures":[{"itemIdentifier":1}]}`, nil), again},
		{"a bad key", true, once(`{"batchItemFailures":[{"itemIdentifer":"1"}]}`, nil), again},
		{"an unknown identifier", true, failOnce("9"), again},
		{"a known and an unknown identifier", true, failOnce("2", "9"), again},
		{"an identifier's name is another", true, once(`{"batchItemFailures":[{"foo":null}]}`, nil), again},
		{"not JSON", true, once("ok", nil), again},
		{"an error", true, once("", boom), again},
		{"an error with an answer", true, once(`{"batchItemFailures":[]}`, boom), again},
		{"failures nobody reads", false, failOnce("2"), success},
		{"an error without partial failures", false, once("", boom), again},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen, failed := run(t, outboxtest.EventSource{ReportBatchItemFailures: c.partial}, 4, c.answer)
			require.Equal(t, c.want, seen)
			require.Empty(t, failed)
		})
	}
}

func TestGivingUp(t *testing.T) {
	boom := errors.New("boom")
	poison := func(bad ...string) func(int, event) (string, error) {
		return func(_ int, e event) (string, error) {
			if slices.ContainsFunc(e.data(), func(d string) bool { return slices.Contains(bad, d) }) {
				return "", boom
			}
			return "", nil
		}
	}
	report := func(bad string) func(int, event) (string, error) {
		return func(_ int, e event) (string, error) {
			if slices.Contains(e.data(), bad) {
				return failing(e, bad), nil
			}
			return "", nil
		}
	}
	for _, c := range []struct {
		name    string
		src     outboxtest.EventSource
		answer  func(int, event) (string, error)
		want    [][]string
		dropped [][2]string // condition, number of records x attempts
	}{
		{"after the last attempt the next batch goes on",
			outboxtest.EventSource{BatchSize: 2, MaxAttempts: 3}, poison("1"),
			batches("0 1", "0 1", "0 1", "2 3"), [][2]string{{"RetryAttemptsExhausted", "2x3"}}},
		{"one attempt means no retry",
			outboxtest.EventSource{MaxAttempts: 1}, poison("1"), batches("0 1 2 3"), [][2]string{{"RetryAttemptsExhausted", "4x1"}}},
		{"bisecting isolates the poison and does not count",
			outboxtest.EventSource{MaxAttempts: 1, BisectOnError: true}, poison("2"),
			batches("0 1 2 3", "0 1", "2 3", "2", "3"), [][2]string{{"RetryAttemptsExhausted", "1x1"}}},
		{"bisecting retries the single record",
			outboxtest.EventSource{MaxAttempts: 2, BisectOnError: true}, poison("0", "3"),
			batches("0 1 2 3", "0 1", "0", "0", "1", "2 3", "2", "3", "3"),
			[][2]string{{"RetryAttemptsExhausted", "1x2"}, {"RetryAttemptsExhausted", "1x2"}}},
		{"partial progress starts the count anew",
			outboxtest.EventSource{MaxAttempts: 2, ReportBatchItemFailures: true}, report("2"),
			batches("0 1 2 3", "2 3", "2 3"), [][2]string{{"RetryAttemptsExhausted", "2x2"}}},
		{"a reported record is retried from there, not bisected",
			outboxtest.EventSource{MaxAttempts: 2, ReportBatchItemFailures: true, BisectOnError: true}, report("1"),
			batches("0 1 2 3", "1 2 3", "1 2 3"), [][2]string{{"RetryAttemptsExhausted", "3x2"}}},
		{"old records are given up, younger ones not",
			outboxtest.EventSource{MaxAge: 10 * time.Second}, func(_ int, e event) (string, error) {
				time.Sleep(4 * time.Second)
				return "", boom
			},
			batches("0 1 2 3", "0 1 2 3", "0 1 2 3"), [][2]string{{"RecordAgeExceeded", "4x3"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen, failed := run(t, c.src, 4, c.answer)
			require.Equal(t, c.want, seen)
			require.Len(t, failed, len(c.dropped))
			for i, f := range failed {
				require.Equal(t, c.dropped[i], [2]string{f.Condition, fmt.Sprintf("%dx%d", f.Size, f.Attempts)})
				require.Equal(t, first, f.ShardID)
				require.Equal(t, "arn:aws:kinesis:us-east-1:000000000000:stream/changes", f.StreamARN)
				require.Error(t, f.Err)
				require.Contains(t, string(f.Message), fmt.Sprintf(`"condition":%q,"approximateInvokeCount":%d}`, f.Condition, f.Attempts))
				e := parse(t, f.Payload)
				require.Len(t, e.Records, f.Size)
				require.Equal(t, e.Records[0].Kinesis.SequenceNumber, f.FirstSequenceNumber)
				require.Equal(t, e.Records[f.Size-1].Kinesis.SequenceNumber, f.LastSequenceNumber)
			}
		})
	}
}

// keptLog is a test that keeps its log.
type keptLog struct {
	*testing.T
	mu   sync.Mutex
	said []string
}

func (l *keptLog) Logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, fmt.Sprintf(format, args...))
}

// A mapping that was made without ReportBatchItemFailures loses what the function could not handle. That is told, once.
func TestIgnoredFailuresAreWarnedOf(t *testing.T) {
	for name, c := range map[string]struct {
		source outboxtest.EventSource
		answer string
		warned int
	}{
		"in vain":              {outboxtest.EventSource{}, "", 1},
		"reported":             {outboxtest.EventSource{ReportBatchItemFailures: true}, "", 0},
		"no failure":           {outboxtest.EventSource{}, `{"batchItemFailures":[]}`, 0},
		"something else":       {outboxtest.EventSource{}, `"done"`, 0},
		"nothing that is JSON": {outboxtest.EventSource{}, `{"batchItemFailures":[{`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := &keptLog{T: t}
			a := outboxtest.Start(l)
			stream(t, a, "changes", 1)
			c.source.Stream, c.source.BatchSize = "changes", 1
			failed := map[string]bool{}
			f := &function{answer: func(_ int, e event) (string, error) {
				data := e.data()[0]
				if c.answer != "" || failed[data] {
					return c.answer, nil
				}
				failed[data] = true
				return failing(e, data), nil
			}}
			_, err := a.Map(c.source, f.Invoke)
			require.NoError(t, err)
			for _, data := range []string{"1", "2", "3"} {
				put(t, a, &c.source.Stream, "k", data)
			}
			require.NoError(t, a.Drain(deadline(t)))
			a.Close()
			require.Len(t, l.said, c.warned)
			if c.warned > 0 {
				require.Contains(t, l.said[0], "the mapping of arn:aws:kinesis:us-east-1:000000000000:stream/changes has answered with batchItemFailures, which are ignored")
				require.Contains(t, l.said[0], "no ReportBatchItemFailures")
			}
		})
	}
}
