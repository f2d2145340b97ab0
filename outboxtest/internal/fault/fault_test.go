package fault

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func decisions(in *Injector, service, operation string, n int) (out string) {
	for range n {
		if in.Request(service, operation).Kind == Throttle {
			out += "x"
		} else {
			out += "."
		}
	}
	return out
}

func TestTheNthCall(t *testing.T) {
	in := New(0, Rule{Kind: Throttle, Service: "DynamoDB", Operation: "PutItem", Calls: []int{2, 4}})
	require.Equal(t, ".x.x..", decisions(in, "DynamoDB", "PutItem", 6))
	require.Equal(t, "....", decisions(in, "DynamoDB", "GetItem", 4))
	require.Equal(t, "....", decisions(in, "Kinesis", "PutItem", 4))
	in.Set(Rule{Kind: Throttle, Calls: []int{1}})
	require.Equal(t, "x.", decisions(in, "DynamoDB", "PutItem", 2), "counts start anew")
	require.Equal(t, "x.", decisions(in, "DynamoDB", "GetItem", 2), "operations are counted apart")
	in.Set()
	require.Equal(t, "....", decisions(in, "DynamoDB", "PutItem", 4))
}

func TestProbabilityAndSeed(t *testing.T) {
	rule := Rule{Kind: Throttle, Probability: 0.25}
	hits := 0
	in := New(42, rule)
	for range 10000 {
		if in.Request("DynamoDB", "PutItem").Kind == Throttle {
			hits++
		}
	}
	require.InDelta(t, 2500, hits, 200)
	one, again, other := New(42, rule), New(42, rule), New(43, rule)
	a := decisions(one, "DynamoDB", "PutItem", 100)
	// Traffic beside it does not change what happens to the nth call.
	decisions(again, "Kinesis", "GetRecords", 57)
	require.Equal(t, a, decisions(again, "DynamoDB", "PutItem", 100))
	require.NotEqual(t, a, decisions(other, "DynamoDB", "PutItem", 100))
	require.NotEqual(t, a, decisions(New(42, Rule{Kind: Latency, Probability: 1, Duration: 1}, rule), "DynamoDB", "PutItem", 100),
		"rules decide independently of each other")
}

func TestWhatStrikesWhat(t *testing.T) {
	in := New(0, Rule{Kind: TransactionInProgress, Probability: 1})
	require.Equal(t, TransactionInProgress, in.Request("DynamoDB", "TransactWriteItems").Kind)
	require.Empty(t, in.Request("DynamoDB", "PutItem").Kind)
	in = New(0, Rule{Kind: TransactionConflict, Probability: 1})
	require.Equal(t, TransactionConflict, in.Request("DynamoDB", "UpdateItem").Kind)
	require.Empty(t, in.Request("DynamoDB", "Query").Kind)
	require.Empty(t, in.Request("Kinesis", "PutItem").Kind)
	in = New(0, Rule{Kind: Latency, Duration: time.Second, Probability: 1}, Rule{Kind: LoseAnswer, Probability: 1},
		Rule{Kind: Throttle, Probability: 1}, Rule{Kind: ServerError, Probability: 1}, Rule{Kind: DropRecord, Probability: 1})
	require.Equal(t, Request{Latency: time.Second, LoseAnswer: true, Kind: Throttle}, in.Request("Kinesis", "PutRecord"), "the first error wins")
	require.Equal(t, Record{Drop: true}, in.Record("events"))
}

func TestWhatHasStruckIsCounted(t *testing.T) {
	in := New(0, Rule{Kind: Latency, Duration: 1, Calls: []int{1, 2}}, Rule{Kind: LoseAnswer, Calls: []int{1, 3}}, Rule{Kind: Throttle, Calls: []int{1}},
		Rule{Kind: CutNetwork, Calls: []int{1}}, Rule{Kind: ThrottleEntry, Calls: []int{2}})
	require.Empty(t, in.Struck())
	for range 4 {
		in.Request("Kinesis", "PutRecords")
		in.Entry()
	}
	want := map[Kind]int{Latency: 2, Throttle: 1, LoseAnswer: 1, ThrottleEntry: 1}
	require.Equal(t, want, in.Struck(), "of the first request only the throttling arrives")
	in.Set(Rule{Kind: DropRecord, Calls: []int{1}}, Rule{Kind: DuplicateRecord, Calls: []int{1, 2}}, Rule{Kind: DelayRecord, Duration: 1, Calls: []int{2}},
		Rule{Kind: ReorderRecord, Calls: []int{2, 3}})
	for range 4 {
		in.Record("events")
	}
	for _, kind := range []Kind{DropRecord, DuplicateRecord, DelayRecord, ReorderRecord} {
		want[kind] = 1
	}
	require.Equal(t, want, in.Struck(), "other rules do not start the counts anew")
}

func TestRulesThatCannotBe(t *testing.T) {
	for want, r := range map[string]Rule{
		`unknown kind "Nonsense"`:       {Kind: "Nonsense", Probability: 1},
		"it never happens":              {Kind: Throttle},
		"between 0 and 1, not 1.5":      {Kind: Throttle, Probability: 1.5},
		"between 0 and 1, not -1":       {Kind: Throttle, Probability: -1},
		"counted from 1, not 0":         {Kind: Throttle, Calls: []int{0}},
		"the duration must be positive": {Kind: Latency, Probability: 1},
		"only DynamoDB has":             {Kind: TransactionConflict, Service: "Kinesis", Probability: 1},
		"PutItem cannot meet it":        {Kind: TransactionInProgress, Operation: "PutItem", Probability: 1},
		"only PutRecords of Kinesis":    {Kind: ThrottleEntry, Operation: "PutRecord", Probability: 1},
		"which have no operation":       {Kind: DropRecord, Operation: "PutItem", Probability: 1},
	} {
		require.ErrorContains(t, r.Validate(), want, fmt.Sprint(r))
	}
	require.NoError(t, Rule{Kind: DelayRecord, Duration: 1, Probability: 1}.Validate())
}
