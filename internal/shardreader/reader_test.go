package shardreader

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

func TestCompareSequence(t *testing.T) {
	const long = "49590338271490256608559692538361571095921575989136588898"
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"1", "1", 0}, {"9", "10", -1}, {"10", "9", 1}, {"19", "21", -1}, {"21", "19", 1},
		{long, long, 0}, {long, long[:55], 1}, {long[:55] + "7", long, -1}, {"100000000000000000001", "99999999999999999999", 1},
	} {
		require.Equal(t, c.want, CompareSequence(c.a, c.b), "%s and %s", c.a, c.b)
	}
}

func TestPositions(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	require.Equal(t, Position("AT_TIMESTAMP:1700000000123"), At(at))
	back, ok := At(at).time()
	require.True(t, ok)
	require.True(t, at.Equal(back))
	for _, wrong := range []Position{"", "LATEST", "SHARD_END", "AT_TIMESTAMP:", "AT_TIMESTAMP:x", "12a", "-1"} {
		s := &script{}
		r := newReading(s).read(t, wrong)
		var stop *StopError
		require.ErrorAs(t, r.err, &stop, "%q", wrong)
		require.Empty(t, s.log, "nothing is asked for")
	}
}

func TestEmptyButBehindPollsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behind := Batch{Behind: time.Hour}
		r := play(t, Oldest, behind, behind, behind, behind, Batch{Records: records("1"), Behind: time.Hour}, behind, behind)
		require.Equal(t, []int{0, 200, 400, 600, 800, 1000, 1200, 1400}, r.gets(), "five a second, however long nothing comes")
		require.Equal(t, []string{"1"}, r.got)
		require.Equal(t, 8, r.batches, "empty answers are told, too: they say how far behind the reader is")
	})
}

func TestLargeAnswersArePaidOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mb = 1 << 20
		r := play(t, Oldest, Batch{Bytes: 10 * mb, Records: records("1"), Behind: 1}, Batch{Bytes: mb, Records: records("2"), Behind: 1},
			Batch{Bytes: mb / 10, Records: records("3"), Behind: 1})
		require.Equal(t, []int{0, 5000, 5500, 5700}, r.gets(), "2 MiB a second, and 5 requests")
	})
}

func TestAnIdleShardCostsOnePollASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var empty Batch
		r := play(t, Oldest, empty, empty, empty, empty, empty, Batch{Records: records("1")}, Batch{Records: records("2")}, empty, empty, empty)
		require.Equal(t, []int{0, 200, 600, 1400, 2400, 3400, 3600, 3800, 4000, 4400, 5200}, r.gets())

		unknown := Batch{Behind: -1} // DynamoDB Streams does not say
		r = play(t, Oldest, slices.Repeat([]any{unknown}, 13)...)
		require.Equal(t, []int{0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000, 2400, 3200, 4200}, r.gets(), "the first ten may be on the way")

		fresh := Batch{Behind: -1, Records: records("1")}
		fresh.Records[0].ArrivedAt = time.Now()
		r = play(t, Oldest, fresh, unknown, unknown, unknown)
		require.Equal(t, []int{0, 200, 400, 800, 1600}, r.gets(), "behind a new record is the tip")

		s := &script{get: in(empty, empty, empty, empty, Batch{Records: records("1")})}
		slow := newReading(s)
		slow.Poll, slow.Idle = 500*time.Millisecond, 3*time.Second
		require.Equal(t, []int{0, 500, 1500, 3500, 6500, 7000}, slow.read(t, Oldest).gets())
		s = &script{get: in(empty, empty)}
		hasty := newReading(s)
		hasty.Poll, hasty.Idle = time.Millisecond, time.Millisecond
		require.Equal(t, []int{0, 200, 400}, hasty.read(t, Oldest).gets(), "the service's limit stands")
	})
}

// TestFailuresThatPassKeepThePlace also shows that the pauses are spread evenly up to a bound that doubles.
func TestFailuresThatPassKeepThePlace(t *testing.T) {
	status := func(code int, err error) error {
		return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}}, Err: err}
	}
	for name, c := range map[string]struct {
		err       error
		throttled bool
	}{
		"throttled":           {&types.ProvisionedThroughputExceededException{}, true},
		"limit":               {code("LimitExceededException"), true},
		"KMS throttled":       {code("KMSThrottlingException"), true},
		"429":                 {status(429, errors.New("a proxy")), true},
		"429 with a code":     {status(429, code("Whatever")), true},
		"500":                 {&types.InternalFailureException{}, false},
		"500, another code":   {status(500, code("Whatever")), false},
		"503 of a proxy":      {status(503, errors.New("not JSON")), false},
		"streams 500":         {code("InternalServerError"), false},
		"the service's fault": {&smithy.GenericAPIError{Code: "Whatever", Fault: smithy.FaultServer}, false},
		"connection":          {errors.New("connection reset by peer"), false},
		"expired credentials": {code("ExpiredTokenException"), false},
		"clock":               {code("RequestTimeTooSkewed"), false},
	} {
		synctest.Test(t, func(t *testing.T) {
			answers := []any{Batch{Records: records("1")}}
			for range 8 {
				answers = append(answers, c.err)
			}
			answers = append(answers, Batch{Records: records("2")}, c.err)
			r := play(t, Oldest, answers...)
			require.Equal(t, []string{"1", "2"}, r.got, name)
			require.Len(t, r.retries, 9, name)
			bound := 200 * time.Millisecond
			at := r.gets()
			for i, again := range r.retries[:8] {
				require.Equal(t, i+1, again.Failures)
				require.Equal(t, c.throttled, again.Throttled, name)
				require.Equal(t, "shard", again.Shard)
				require.Equal(t, "GetRecords", again.Operation)
				require.ErrorIs(t, again.Err, c.err)
				require.GreaterOrEqual(t, again.Pause, 200*time.Millisecond, "five requests a second")
				require.LessOrEqual(t, again.Pause, min(bound, 10*time.Second), name)
				require.InDelta(t, again.Pause.Milliseconds(), at[i+2]-at[i+1], 1)
				bound *= 2
			}
			require.Equal(t, 1, r.retries[8].Failures, "a success makes an end of the row")
			for _, line := range r.log {
				require.NotContains(t, line[1:], "iterator shard 1", "no new iterator is needed")
			}
			require.Equal(t, 9, strings.Count(strings.Join(r.log, "\n"), "get next1\n"), "the same place, again")
		})
	}
}

func TestPausesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		low, high := time.Hour, time.Duration(0)
		for range 100 {
			answers := make([]any, 8)
			for i := range answers {
				answers[i] = code("LimitExceededException")
			}
			pause := play(t, Oldest, answers...).retries[7].Pause
			low, high = min(low, pause), max(high, pause)
		}
		require.Less(t, low, 2*time.Second, "full jitter")
		require.Greater(t, high, 8*time.Second)
	})
}

func TestAnExpiredIteratorIsReplacedAfterTheLastDeliveredRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := play(t, Oldest, code("ExpiredIteratorException"), Batch{Records: records("8", "9")},
			&types.ExpiredIteratorException{}, Batch{Records: records("9", "10")}, Batch{Records: records("11")})
		require.Equal(t, []string{
			"0 iterator shard TRIM_HORIZON", "0 get it@TRIM_HORIZON", // nothing delivered yet: from the start again
			"200 iterator shard TRIM_HORIZON", "200 get it@TRIM_HORIZON",
			"400 get next2", "400 iterator shard 9", "600 get it@9",
			"800 get next4", "1000 get next5",
		}, r.log)
		require.Equal(t, []string{"8", "9", "10", "11"}, r.got)
		require.Empty(t, r.trimmed)
		require.Empty(t, r.retries, "the remedy is at hand")
	})
}

// TestIteratorsAreMadeFiveTimesASecond has iterators that die at once.
func TestIteratorsAreMadeFiveTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make([]any, 30)
		for i := range answers {
			answers[i] = code("ExpiredIteratorException")
		}
		r := play(t, Oldest, answers...)
		require.Len(t, r.retries, 29, "that does not look right, and is told")
		last := -200
		for _, line := range r.log {
			var at int
			if _, err := fmt.Sscanf(line, "%d iterator", &at); err == nil && strings.Contains(line, "iterator") {
				require.GreaterOrEqual(t, at-last, 200, line)
				last = at
			}
		}
	})
}

func TestFailingIteratorsAreMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := &script{get: in(Batch{Records: records("7")})}
		s.iterator = func(Position) (string, error) {
			switch n++; n {
			case 1:
				return "", code("ProvisionedThroughputExceededException")
			case 2:
				return "", nil // an empty iterator need not mean the end
			}
			return "it", nil
		}
		r := newReading(s).read(t, Oldest)
		require.NoError(t, r.err)
		require.Equal(t, []string{"7"}, r.got)
		require.Len(t, r.retries, 2)
		require.True(t, r.retries[0].Throttled)
		require.Equal(t, "GetShardIterator", r.retries[0].Operation)
		require.ErrorContains(t, r.retries[1].Err, "no iterator")
	})
}

func TestATimeInTheFutureIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := At(time.Now())
		s := &script{get: in(Batch{Records: []Record{{SequenceNumber: "7", Data: []byte("data"), ArrivedAt: time.Now()}}})}
		s.iterator = func(Position) (string, error) {
			if time.Since(s.begin) < 5*time.Second { // the service's clock is five seconds behind
				return "", code("InvalidArgumentException")
			}
			return "it", nil
		}
		r := newReading(s).read(t, start)
		require.NoError(t, r.err)
		require.Equal(t, []string{"7"}, r.got)
		require.NotEmpty(t, r.retries)

		s.iterator = func(Position) (string, error) { return "", code("InvalidArgumentException") }
		var stop *StopError
		require.ErrorAs(t, newReading(s).read(t, At(time.Now().Add(-2*time.Hour))).err, &stop)
	})
}

func TestWhatDoesNotGoAwayStopsTheShard(t *testing.T) {
	for _, err := range []error{
		&types.ResourceNotFoundException{}, &types.AccessDeniedException{}, &types.InvalidArgumentException{}, &types.KMSAccessDeniedException{},
		&types.KMSDisabledException{}, &types.KMSNotFoundException{}, &types.KMSOptInRequired{}, &types.KMSInvalidStateException{},
		code("AccessDeniedException"), code("UnrecognizedClientException"), code("ValidationException"), code("SomethingNew"),
	} {
		synctest.Test(t, func(t *testing.T) {
			for _, place := range []string{"GetShardIterator", "GetRecords", "listing the children"} {
				s := &script{get: in(Batch{Records: records("1")})}
				switch place {
				case "GetShardIterator":
					s.iterator = func(Position) (string, error) { return "", err }
				case "GetRecords":
					s.get = in(Batch{Records: records("1")}, err)
				default:
					s.get = func(string) (Batch, error) { return Batch{}, nil }
					s.shards = func() ([]Shard, error) { return nil, err }
				}
				r := newReading(s).read(t, Oldest)
				var stop *StopError
				require.ErrorAs(t, r.err, &stop)
				require.ErrorIs(t, r.err, err)
				require.Equal(t, "shard", stop.Shard)
				require.Equal(t, place, stop.Operation)
				require.ErrorContains(t, r.err, "shard shard cannot be read, "+place+": ")
				require.Empty(t, r.children)
				require.Empty(t, r.retries)
			}
		})
	}
}

func TestTheEndOfAShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Kinesis names the children; the last answer may hold records.
		named := []Shard{{ID: "left", Parents: []string{"shard"}}, {ID: "right", Parents: []string{"shard"}}}
		s := &script{get: func(string) (Batch, error) { return Batch{Records: records("1"), Children: named}, nil }}
		r := newReading(s).read(t, Oldest)
		require.NoError(t, r.err)
		require.Equal(t, named, r.children)
		require.Equal(t, []string{"1"}, r.got, "what comes with the end is delivered")

		// DynamoDB Streams does not, and its listing may be late.
		failures := 3
		s = &script{get: func(string) (Batch, error) { return Batch{Behind: -1}, nil }}
		s.shards = func() ([]Shard, error) {
			if failures--; failures > 0 {
				return nil, code("LimitExceededException")
			}
			return []Shard{{ID: "shard", Parents: []string{"grandparent"}}, {ID: "child", Parents: []string{"shard"}}, {ID: "cousin", Parents: []string{"uncle"}},
				{ID: "merged", Parents: []string{"uncle", "shard"}}}, nil
		}
		r = newReading(s).read(t, Oldest)
		require.NoError(t, r.err)
		require.Equal(t, []Shard{{ID: "child", Parents: []string{"shard"}}, {ID: "merged", Parents: []string{"uncle", "shard"}}}, r.children)
		require.Len(t, r.retries, 2)
		require.Equal(t, "listing the children", r.retries[1].Operation)

		s.shards = func() ([]Shard, error) { return []Shard{{ID: "shard", Closed: true}}, nil }
		r = newReading(s).read(t, Oldest)
		require.NoError(t, r.err, "a stream that was disabled has no more shards")
		require.Empty(t, r.children)
	})
}

func TestDeliveryHoldsFetchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{get: in(Batch{Records: records("1")}, Batch{Records: records("2")}, Batch{Records: records("3")})}
		r := newReading(s)
		_, err := r.Read(t.Context(), "shard", Oldest, func(b Batch) error {
			before := len(s.log)
			time.Sleep(3 * time.Second)
			require.Len(t, s.log, before, "nothing is fetched while a batch is being delivered")
			return r.deliver(b)
		})
		require.NoError(t, err)
		require.Equal(t, []int{0, 3000, 6000, 9000}, r.gets(), "and no pause is added to it")

		broken := errors.New("the handler is broken")
		_, err = newReading(&script{get: in(Batch{Records: records("1")})}).Read(t.Context(), "shard", Oldest, func(Batch) error { return broken })
		require.ErrorIs(t, err, broken)
	})
}

func TestAnEndedContextEndsTheReading(t *testing.T) {
	stopped := errors.New("stopped")
	for name, c := range map[string]struct {
		after time.Duration
		s     *script
	}{
		"before":                   {0, &script{get: in()}},
		"in a pause":               {500 * time.Millisecond, &script{get: in(Batch{}, Batch{}, Batch{}, Batch{})}},
		"in a request":             {500 * time.Millisecond, &script{get: in(), wait: 10 * time.Second}},
		"in a pause for a failure": {time.Second, &script{get: func(string) (Batch, error) { return Batch{}, errors.New("connection refused") }}},
		"in a pause for an iterator": {time.Second, &script{get: in(), iterator: func(Position) (string, error) {
			return "", errors.New("connection refused")
		}}},
		"at the listing": {time.Second, &script{get: func(string) (Batch, error) { return Batch{}, nil }, shards: func() ([]Shard, error) {
			return nil, errors.New("connection refused")
		}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			if c.after == 0 {
				stop(stopped)
			}
			defer time.AfterFunc(c.after, func() { stop(stopped) }).Stop()
			r := newReading(c.s)
			_, err := r.Read(ctx, "shard", Oldest, r.deliver)
			require.ErrorIs(t, err, stopped, name)
			require.Equal(t, c.after, time.Since(r.begin), "at once")
			if c.after == 0 {
				require.Empty(t, r.log)
			}
		})
	}
	// The batch that is being delivered is waited for, and the end of the shard that it reached is kept.
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		s := &script{get: func(string) (Batch, error) {
			return Batch{Records: records("1"), Children: theChild}, nil
		}}
		children, err := newReading(s).Read(ctx, "shard", Oldest, func(Batch) error {
			stop(stopped)
			time.Sleep(time.Second)
			return nil
		})
		require.NoError(t, err)
		require.Len(t, children, 1)
	})
}

func TestAHangingRequestIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{wait: time.Hour}
		n := 0
		s.get = in(Batch{Records: records("1")})
		r := newReading(s)
		r.OnRetry = func(again Retry) {
			n++
			require.ErrorIs(t, again.Err, context.DeadlineExceeded)
			require.ErrorContains(t, again.Err, "given up after 5m0s without progress")
			require.Equal(t, time.Duration(n)*5*time.Minute, (time.Since(s.begin)).Truncate(5*time.Minute), "nobody has seen the answer coming")
			if n == 2 {
				s.wait = 0
			}
		}
		r.read(t, Oldest)
		require.NoError(t, r.err)
		require.Equal(t, 2, n)
		require.Equal(t, []string{"1"}, r.got)
	})
}
