package kinesis

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// FuzzDo throws requests at every operation: whatever comes, the
// answer is JSON or a client's error.
func FuzzDo(f *testing.F) {
	for _, body := range []string{
		`{}`, `{`, `{"StreamName":"s","ShardCount":2}`, `{"StreamName":"s","PartitionKey":"k","Data":"eA==","ExplicitHashKey":"0"}`,
		`{"StreamName":"s","Records":[{"PartitionKey":"k","Data":"eA=="},null]}`, `{"StreamName":"s","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`,
		`{"StreamName":"s","ShardToSplit":"0","NewStartingHashKey":"170141183460469231731687303715884105728"}`,
		`{"StreamName":"s","ShardToMerge":"shardId-000000000000","AdjacentShardToMerge":"1"}`, `{"StreamName":"s","ShardFilter":{"Type":"AT_LATEST"}}`,
		`{"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_TIMESTAMP","Timestamp":1e300}`, `{"ShardIterator":"AAAA","Limit":1}`,
		`{"StreamARN":"arn:aws:kinesis:r:000000000000:stream/s","Tags":{"a":null},"StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`,
		`{"NextToken":"MC9zL2EvYi9jLzA="}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e := New(Config{Now: time.Now, Region: "r", Account: "000000000000"})
		if _, err := e.Do(t.Context(), "CreateStream", []byte(`{"StreamName":"s","ShardCount":2}`)); err != nil {
			t.Fatal(err)
		}
		for name := range e.operations {
			result, err := e.Do(t.Context(), name, body)
			var failure *wire.Error
			switch {
			case err == nil:
				if _, err := json.Marshal(result); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			case !errors.As(err, &failure) || failure.HTTPStatus() != 400 || failure.Code == "":
				t.Fatalf("%s: %v", name, err)
			}
		}
	})
}
