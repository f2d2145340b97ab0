package shardreader

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestATrimmedCheckpointOfKinesis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		later := records("110", "111")
		later[0].ArrivedAt = at
		for _, c := range []struct {
			name    string
			answers []any
			got     []string
			trimmed []Trimmed
		}{
			{"it is still there", []any{Batch{Records: records("99", "110", "111")}}, []string{"110", "111"}, nil},
			{"it is the last one", []any{Batch{Records: records("99")}, Batch{Records: records("110", "111")}}, []string{"110", "111"}, nil},
			{"an emulator starts too early", []any{Batch{Records: records("98", "99", "110")}}, []string{"110"}, nil},
			{"it comes after empty answers", []any{Batch{Behind: 1}, Batch{Behind: -1}, Batch{Records: records("99", "110")}}, []string{"110"}, nil},
			{"expired", []any{Batch{Records: later}}, []string{"110", "111"}, []Trimmed{{"shard", "99", "110", at}}},
			{"expired, and behind", []any{Batch{Behind: 1}, Batch{Records: later}}, []string{"110", "111"}, []Trimmed{{"shard", "99", "110", at}}},
			{"expired, and an expired iterator", []any{Batch{Behind: 1}, code("ExpiredIteratorException"), Batch{Records: later}},
				[]string{"110", "111"}, []Trimmed{{"shard", "99", "110", at}}},
			{"expired, and nothing there yet", []any{Batch{}, Batch{Records: later}}, []string{"110", "111"}, []Trimmed{{"shard", "99", "110", at}}},
			{"an empty answer at the tip", []any{Batch{}, Batch{Records: records("99")}, Batch{}, Batch{Records: records("110")}}, []string{"110"}, nil},
			{"an emulator starts too early, with a short answer", []any{Batch{Records: records("98")}, Batch{Records: records("99", "110")}}, []string{"110"}, nil},
			{"expired, and the shard has ended", nil, nil, []Trimmed{{"shard", "99", "", time.Time{}}}},
		} {
			r := play(t, "99", c.answers...)
			require.Equal(t, c.got, r.got, c.name)
			require.Equal(t, c.trimmed, r.trimmed, c.name)
		}
	})
}

func TestATrimmedCheckpointOfDynamoDBStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := code("TrimmedDataAccessException")
		s := &script{get: in(Batch{Behind: -1}, Batch{Records: records("110"), Behind: -1}, Batch{Records: records("111"), Behind: -1})}
		s.iterator = func(from Position) (string, error) {
			if from == "99" {
				return "", gone
			}
			return "it", nil
		}
		r := newReading(s).read(t, "99")
		require.NoError(t, r.err)
		require.Equal(t, []string{"110", "111"}, r.got)
		require.Equal(t, []Trimmed{{Shard: "shard", After: "99", Oldest: "110"}}, r.trimmed)
		require.Empty(t, r.retries)

		// The record after the last one expires while an iterator stands before it.
		r = play(t, Oldest, Batch{Records: records("5"), Behind: -1}, gone, Batch{Records: records("8"), Behind: -1})
		require.Equal(t, []string{"5", "8"}, r.got)
		require.Equal(t, []Trimmed{{Shard: "shard", After: "5", Oldest: "8"}}, r.trimmed)
		// The same again, before another record has come.
		r = play(t, "5", gone, gone, Batch{Records: records("8"), Behind: -1})
		require.Equal(t, []string{"8"}, r.got)
		require.Equal(t, []Trimmed{{Shard: "shard", After: "5", Oldest: "8"}}, r.trimmed)
		require.Len(t, r.retries, 1)
	})
}

// If the record at an iterator has expired, Kinesis silently goes on at the oldest record.
func TestAReaderThatIsAboutToBeOvertakenLooksBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const near = 24*time.Hour - time.Minute
		answers := []any{Batch{Records: records("1"), Behind: time.Hour}, Batch{Records: records("2"), Behind: near},
			Batch{Records: records("2"), Behind: near}, Batch{Behind: near}, Batch{Records: records("3"), Behind: near},
			Batch{Records: records("7"), Behind: near}, Batch{Records: records("7", "8"), Behind: time.Hour}}
		s := &script{get: in(answers...)}
		r := newReading(s)
		r.read(t, Oldest)
		require.Equal(t, []string{"1", "2", "3", "7", "8"}, r.got)
		require.Equal(t, []Trimmed{{Shard: "shard", After: "3", Oldest: "7"}}, r.trimmed)
		require.Equal(t, 1, strings.Count(strings.Join(r.log, "\n"), "iterator shard 2\n"), "it looks back once for each step forward")
	})
}

func TestWhatIsOlderThanTheStartIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().Add(1500 * time.Millisecond)
		at := func(number string, t time.Time) Record {
			return Record{SequenceNumber: number, Data: []byte("data"), ArrivedAt: t.Truncate(time.Second)}
		}
		r := play(t, At(start), Batch{Records: []Record{at("1", start.Add(-time.Hour)), at("2", start.Add(-time.Hour))}},
			code("ExpiredIteratorException"),
			Batch{Records: []Record{at("2", start.Add(-time.Hour)), at("3", start.Add(-time.Minute)), at("4", start), at("5", start.Add(-time.Minute)), at("6", start)}},
			Batch{Records: []Record{at("7", start.Add(-time.Minute))}})
		require.Equal(t, []string{"4", "5", "6", "7"}, r.got, "the first that is not older ends that: times are approximate")
		require.Contains(t, strings.Join(r.log, "\n"), "iterator shard 2\n", "what is left out need not be read again")
		require.Empty(t, r.trimmed)
	})
}

// TestNothingIsLostWhateverFails reads a shard of numbered records through a source that fails at random.
func TestNothingIsLostWhateverFails(t *testing.T) {
	failures := []error{code("ExpiredIteratorException"), code("ProvisionedThroughputExceededException"), errors.New("connection reset"), code("InternalFailure")}
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			const last = 200
			s := &script{}
			fail := func() error {
				if rng.IntN(3) == 0 {
					return failures[rng.IntN(len(failures))]
				}
				return nil
			}
			s.iterator = func(from Position) (string, error) {
				n := 1
				if number, ok := from.sequence(); ok {
					_, _ = fmt.Sscan(number, &n)
				}
				return fmt.Sprint(n), fail()
			}
			s.get = func(iterator string) (Batch, error) {
				if err := fail(); err != nil {
					return Batch{}, err
				}
				var n int
				_, _ = fmt.Sscan(iterator, &n)
				b := Batch{Behind: time.Second}
				for range rng.IntN(9) {
					if n <= last {
						b.Records = append(b.Records, records(fmt.Sprint(n))...)
						n++
					}
				}
				if b.Next = fmt.Sprint(n); len(b.Records) == 0 && n > last {
					b.Next, b.Children = "", theChild
				}
				return b, nil
			}
			r := newReading(s)
			from := Oldest
			for {
				// Now and again the delivery fails, and another reader begins after what was delivered.
				broken := errors.New("broken")
				_, err := r.Read(t.Context(), "shard", from, func(b Batch) error {
					if rng.IntN(20) == 0 {
						return broken
					}
					return r.deliver(b)
				})
				if err == nil {
					break
				}
				require.ErrorIs(t, err, broken)
				if len(r.got) > 0 {
					from = Position(r.got[len(r.got)-1])
				}
			}
			want := make([]string, last)
			for i := range want {
				want[i] = fmt.Sprint(i + 1)
			}
			require.Equal(t, want, r.got, "seed %d", seed)
			require.Empty(t, r.trimmed, "seed %d", seed)
		})
	}
}
