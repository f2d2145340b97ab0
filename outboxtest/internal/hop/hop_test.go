package hop

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/fault"
)

func item(t *testing.T, text string) attr.Item {
	t.Helper()
	var out attr.Item
	require.NoError(t, json.Unmarshal([]byte(text), &out))
	return out
}

func TestTheChangeRecord(t *testing.T) {
	at := time.UnixMicro(1719347890250647)
	keys := item(t, `{"eventId":{"S":"01J"}}`)
	oldItem := item(t, `{"eventId":{"S":"01J"},"n":{"N":"1"}}`)
	newItem := item(t, `{"b":{"B":"MTMyMQ=="},"bs":{"BS":["MTMyMQ=="]},"eventId":{"S":"01J"},"l":{"L":[{"S":"<x>"},{"N":"13"}]},`+
		`"m":{"M":{"a":{"S":"x"}}},"n":{"N":"10"},"nil":{"NULL":true},"ns":{"NS":["0","1"]},"ok":{"BOOL":false},"ss":{"SS":["a"]}}`)
	images := func(old, new bool) string {
		out := ""
		if new {
			out += `"NewImage":{"b":{"B":"MTMyMQ=="},"bs":{"BS":["MTMyMQ=="]},"eventId":{"S":"01J"},"l":{"L":[{"S":"<x>"},{"N":"13"}]},` +
				`"m":{"M":{"a":{"S":"x"}}},"n":{"N":"10"},"nil":{"NULL":true},"ns":{"NS":["0","1"]},"ok":{"BOOL":false},"ss":{"SS":["a"]}},`
		}
		if old {
			out += `"OldImage":{"eventId":{"S":"01J"},"n":{"N":"1"}},`
		}
		return out
	}
	for _, c := range []struct {
		name, precision string
		change          dynamo.Change
		want            string
	}{
		{"an insert in milliseconds", "MILLISECOND", dynamo.Change{Kind: dynamo.Insert, New: newItem},
			`"eventName":"INSERT","userIdentity":null,"recordFormat":"application/json","tableName":"events","dynamodb":{` +
				`"ApproximateCreationDateTime":1719347890250,"Keys":{"eventId":{"S":"01J"}},` + images(false, true) + `"SizeBytes":198},"eventSource":"aws:dynamodb"}`},
		{"a change in microseconds", "MICROSECOND", dynamo.Change{Kind: dynamo.Modify, New: newItem, Old: oldItem},
			`"eventName":"MODIFY","userIdentity":null,"recordFormat":"application/json","tableName":"events","dynamodb":{` +
				`"ApproximateCreationDateTime":1719347890250647,"Keys":{"eventId":{"S":"01J"}},` + images(true, true) +
				`"SizeBytes":198,"ApproximateCreationDateTimePrecision":"MICROSECOND"},"eventSource":"aws:dynamodb"}`},
		{"a removal by TTL", "MILLISECOND", dynamo.Change{Kind: dynamo.Remove, Old: oldItem, ByTTL: true},
			`"eventName":"REMOVE","userIdentity":{"type":"Service","principalId":"dynamodb.amazonaws.com"},"recordFormat":"application/json",` +
				`"tableName":"events","dynamodb":{"ApproximateCreationDateTime":1719347890250,"Keys":{"eventId":{"S":"01J"}},` + images(true, false) +
				`"SizeBytes":198},"eventSource":"aws:dynamodb"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.change.Table, c.change.Keys, c.change.At, c.change.SizeBytes = "events", keys, at, 198
			got, err := Encode(c.change, "eu-west-1", c.precision)
			require.NoError(t, err)
			id := regexp.MustCompile(`"eventID":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",`)
			require.Regexp(t, id, string(got))
			require.Equal(t, `{"awsRegion":"eu-west-1",`+c.want, id.ReplaceAllString(string(got), ""))
		})
	}
}

func TestThePartitionKeyIsOfTheItem(t *testing.T) {
	key := func(table, keys string) string {
		return PartitionKey(dynamo.Change{TableARN: "arn:" + table, Keys: item(t, keys)})
	}
	one := key("events", `{"pk":{"S":"a"},"sk":{"S":"1"}}`)
	require.Regexp(t, `^[0-9A-F]{32}$`, one)
	for range 50 { // Go's maps have no order
		require.Equal(t, one, key("events", `{"sk":{"S":"1"},"pk":{"S":"a"}}`))
	}
	for _, other := range []string{
		key("events", `{"pk":{"S":"a"},"sk":{"S":"2"}}`), key("orders", `{"pk":{"S":"a"},"sk":{"S":"1"}}`), key("events", `{"pk":{"S":"a"}}`),
	} {
		require.NotEqual(t, one, other)
	}
}

// sink is a stream that notes what was put.
type sink struct {
	mu  sync.Mutex
	got []string
}

func (s *sink) put(stream, key string, data []byte) error {
	var r struct {
		EventID  string
		DynamoDB struct {
			Keys struct{ ID struct{ S string } }
		}
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	if len(key) != 32 {
		return errors.New("no partition key")
	}
	if len(data) > 1<<20 {
		return errors.New("too large")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r.DynamoDB.Keys.ID.S)
	return nil
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.got, " ")
}

// deliver queues n inserts and returns the order of their arrival.
func deliver(t *testing.T, n int, seed uint64, rules ...fault.Rule) (order string, failed int) {
	t.Helper()
	s := &sink{}
	h := New(Config{Region: "r", Put: s.put, Faults: fault.New(seed, rules...), OnProgress: func() {}})
	for i := range n {
		h.Queue(change(t, fmt.Sprint(i)))
	}
	for h.Pending() != "" {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	h.Close()
	failed, _ = h.Failed("events")
	return s.text(), failed
}

func change(t *testing.T, id string) dynamo.Change {
	t.Helper()
	keys := item(t, `{"id":{"S":"`+id+`"}}`)
	return dynamo.Change{Table: "events", Kind: dynamo.Insert, Keys: keys, New: keys,
		Destinations: []dynamo.Destination{{StreamARN: "s", Precision: "MILLISECOND"}}}
}

func TestDelivery(t *testing.T) {
	for _, c := range []struct {
		name   string
		rules  []fault.Rule
		want   string
		failed int
	}{
		{"in order without faults", nil, "0 1 2 3 4", 0},
		{"a duplicate", []fault.Rule{{Kind: fault.DuplicateRecord, Calls: []int{2}}}, "0 1 1 2 3 4", 0},
		{"a lost record is counted", []fault.Rule{{Kind: fault.DropRecord, Calls: []int{1, 5}}}, "1 2 3", 2},
		{"the next one overtakes", []fault.Rule{{Kind: fault.ReorderRecord, Calls: []int{2}}}, "0 2 1 3 4", 0},
		{"with nothing to overtake it, it goes", []fault.Rule{{Kind: fault.ReorderRecord, Calls: []int{5}}}, "0 1 2 3 4", 0},
		{"a delayed one comes late", []fault.Rule{{Kind: fault.DelayRecord, Duration: time.Minute, Calls: []int{1, 3}}}, "1 3 4 0 2", 0},
		{"another table's faults are no matter", []fault.Rule{{Kind: fault.DropRecord, Service: "orders", Probability: 1}}, "0 1 2 3 4", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				order, failed := deliver(t, 5, 1, c.rules...)
				require.Equal(t, c.want, order)
				require.Equal(t, c.failed, failed)
			})
		})
	}
}

func TestTheSameSeedMakesTheSameMess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := []fault.Rule{
			{Kind: fault.DuplicateRecord, Probability: 0.2}, {Kind: fault.ReorderRecord, Probability: 0.3},
			{Kind: fault.DropRecord, Probability: 0.1}, {Kind: fault.DelayRecord, Probability: 0.2, Duration: time.Minute},
		}
		one, _ := deliver(t, 100, 7, rules...)
		again, _ := deliver(t, 100, 7, rules...)
		other, _ := deliver(t, 100, 8, rules...)
		require.Equal(t, one, again)
		require.NotEqual(t, one, other)
	})
}

func TestARecordThatDoesNotFitIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		h := New(Config{Put: s.put, Faults: fault.New(0), OnProgress: func() {}})
		big := change(t, "big")
		big.New = item(t, `{"id":{"S":"big"},"x":{"S":"`+strings.Repeat("x", 1<<20)+`"}}`)
		h.Queue(big)
		h.Queue(change(t, "small"))
		synctest.Wait()
		h.Close()
		n, err := h.Failed("events")
		require.Equal(t, 1, n)
		require.EqualError(t, err, "too large")
		require.Equal(t, "small", s.text())
		h.Queue(change(t, "late"))
		require.Empty(t, h.Pending(), "a closed hop takes nothing")
	})
}

// TestDuplicatesKeepTheirEventIDOrNot: what AWS does is not documented, so a
// consumer must be right with either.
func TestDuplicatesKeepTheirEventIDOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := make(map[string][]string) // by item
		h := New(Config{OnProgress: func() {}, Faults: fault.New(1, fault.Rule{Kind: fault.DuplicateRecord, Probability: 1}),
			Put: func(_, key string, data []byte) error {
				var r struct{ EventID string }
				err := json.Unmarshal(data, &r)
				ids[key] = append(ids[key], r.EventID)
				return err
			}})
		for i := range 50 {
			h.Queue(change(t, fmt.Sprint(i)))
		}
		synctest.Wait()
		h.Close()
		require.Len(t, ids, 50)
		same := 0
		for key, pair := range ids {
			require.Len(t, pair, 2, key)
			if pair[0] == pair[1] {
				same++
			}
		}
		require.NotZero(t, same)
		require.Less(t, same, 50)
	})
}
