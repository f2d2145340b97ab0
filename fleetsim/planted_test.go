package fleetsim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

// plantedBugs are bugs of the Worker as they look from outside: a write whose condition is too weak, a write that is taken for
// made, a stream that is read wrongly, a handler that is not waited for. Production code has no switch for them.
var plantedBugs = []struct {
	bug   string
	kind  string // of the schedule
	says  string // the invariant that is broken
	plant func(*workerSim)
}{
	{"a save without a fence", "storm", "I1", weak("Save", "attribute_exists(#checkpoint)")},
	{"a save without an owner", "storm", "I1", weak("Save", "#fence = :fence")},
	{"a save that is late", "answers", "I2", weak("Save", "#fence = :fence AND #owner = :owner")},
	{"an acquisition of what somebody has", "storm", "I1", weak("Acquire", "attribute_exists(#fence)")},
	{"a release of what another one has", "stale", "I15", weak("Release", "attribute_exists(#owner)")},
	{"a handover of what another one has", "stale", "I1", weak("HandOver", "attribute_exists(#owner)")},
	{"a beat of the dead", "storm", "I15", weak("Beat", "attribute_exists(#beat)")},
	{"a mark that was not made", "crash", "I15", lost("MarkDead")},
	{"a checkpoint that was not stored", "clean", "I6", lost("Save")},
	{"beats that are not made any more", "clean", "I13", func(s *workerSim) {
		s.slow = time.Second
		beats, victim := 0, ""
		s.table().lose = func(o, id string) bool {
			if o != "Beat" {
				return false
			}
			if beats++; beats == 6 {
				victim = id // if all lost their beats, nobody would believe a view
			}
			return id == victim
		}
	}},
	{"children without a lease", "reshard", "I4", lost("EndChild")},
	{"a wish that is not heard", "clean", "I8", lost("Want")},
	{"leases that are not given up", "clean", "I14", lost("Release", "Retire")},
	{"a lost answer that costs a lease", "answers", "I12", func(s *workerSim) {
		saves := 0
		s.table().condition = func(operation, condition string) string {
			if operation == "Save" {
				if saves++; saves%8 == 0 {
					return "attribute_not_exists(#checkpoint)"
				}
			}
			return condition
		}
	}},
	{"a record that is passed over", "clean", "I5", func(s *workerSim) {
		s.stream().answer = func(_ *simShard, _ int, out *kinesis.GetRecordsOutput) {
			if len(out.Records) > 2 {
				out.Records = append(out.Records[:1], out.Records[2:]...)
			}
		}
	}},
	{"an event that is handled twice", "clean", "I6", func(s *workerSim) {
		s.effect = func(ctx context.Context, run func(context.Context) error) error {
			return errors.Join(run(ctx), run(ctx))
		}
	}},
	{"an end that is none", "reshard", "I2", func(s *workerSim) {
		s.stream().answer = func(sh *simShard, _ int, out *kinesis.GetRecordsOutput) {
			if sh.closed && len(out.Records) < 4 {
				out.NextShardIterator = nil
			}
		}
	}},
	{"a child before its parents", "reshard", "I3", func(s *workerSim) {
		s.stream().describe = func(sh *ktypes.Shard) { sh.ParentShardId, sh.AdjacentParentShardId = nil, nil }
	}},
	{"a hole that is forgotten at a handover", "waiting", "I5", func(s *workerSim) {
		s.table().rewrite = func(o string, row values) {
			if o == "HandOver" {
				delete(row, "unfinished")
			}
		}
	}},
	{"a hole without its aggregate, and later events overtake it", "waiting", "I7", func(s *workerSim) { s.table().rewrite = forgetKeys("Save") }},
	{"a shard that ends with a hole without its aggregate, and its child overtakes it", "waiting", "I17", func(s *workerSim) {
		s.table().rewrite = forgetKeys("End", "Save")
	}},
	{"two events of an aggregate at once", "clean", "I7", func(s *workerSim) {
		s.effect = func(ctx context.Context, run func(context.Context) error) error {
			s.others.Go(func() { _ = run(context.WithoutCancel(ctx)) })
			return nil
		}
	}},
	{"a failure that is taken for success", "handlers", "I2", func(s *workerSim) {
		s.effect = func(ctx context.Context, run func(context.Context) error) error {
			_ = run(ctx)
			return nil
		}
	}},
	{"a handler that runs on after its lease", "partition", "I13", func(s *workerSim) {
		s.slow = 2 * time.Second
		s.effect = func(ctx context.Context, run func(context.Context) error) error {
			return run(context.WithoutCancel(ctx))
		}
	}},
}

// forgetKeys leaves the keys out of the holes that an operation stores.
func forgetKeys(operations ...string) func(string, values) {
	return func(o string, row values) {
		unfinished, ok := row["unfinished"].(*types.AttributeValueMemberM)
		if !ok || !slices.Contains(operations, o) {
			return
		}
		without := values{}
		for sequence := range unfinished.Value {
			without[sequence] = &types.AttributeValueMemberM{Value: values{"attempts": &types.AttributeValueMemberN{Value: "0"}}}
		}
		row["unfinished"] = &types.AttributeValueMemberM{Value: without}
	}
}

func (s *workerSim) table() *simTable   { return s.simCloud.(*cheapCloud).table }
func (s *workerSim) stream() *simStream { return s.simCloud.(*cheapCloud).stream }

// weak replaces the condition of an operation.
func weak(operation, condition string) func(*workerSim) {
	return func(s *workerSim) {
		s.table().condition = func(o, c string) string {
			if o == operation {
				return condition
			}
			return c
		}
	}
}

// lost acknowledges operations without doing them.
func lost(operations ...string) func(*workerSim) {
	return func(s *workerSim) {
		s.table().lose = func(o, _ string) bool { return slices.Contains(operations, o) }
	}
}

// Schedules that find nothing prove something only if they would have found these bugs.
func TestTheWorkerCheckerCatchesBugs(t *testing.T) {
	kinds := append(slices.Clone(simKinds), simKind{name: "stale", events: []string{"stop", "crash"}, trouble: 0.4})
	const seeds = 1000
	for _, test := range plantedBugs {
		t.Run(test.bug, func(t *testing.T) {
			kind := kinds[slices.IndexFunc(kinds, func(k simKind) bool { return k.name == test.kind })]
			var others []string
			for seed := range uint64(seeds) {
				violations, _ := simulate(t, kind, seed, false, test.plant)
				for _, v := range violations {
					if strings.Contains(v, test.says+":") {
						t.Logf("caught with seed %d: %s", seed, v)
						return
					}
				}
				others = append(others, violations...)
			}
			require.Failf(t, "not caught", "%s with %d seeds; but %s", test.says, seeds, strings.Join(others[:min(5, len(others))], "\n"))
		})
	}
	require.GreaterOrEqual(t, len(plantedBugs), 10)
}
