package replay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// cutting is a client that takes something from the answers to searches.
type cutting struct {
	*dynamodb.Client
	cut func(*dynamodb.ScanOutput)
}

func (c *cutting) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	out, err := c.Client.Scan(ctx, in, opts...)
	if err == nil {
		c.cut(out)
	}
	return out, err
}

// A search whose answer lacks something is no search: it is an error, or the rows count as unreadable.
func TestAnAnswerThatIsNotWholeIsNotBelieved(t *testing.T) {
	for name, cut := range map[string]func(*dynamodb.ScanOutput){
		"counts 4 rows and has 0":                             func(out *dynamodb.ScanOutput) { out.Items = []item{} },
		"counts 4 rows and has 2":                             func(out *dynamodb.ScanOutput) { out.Items = out.Items[:2] },
		"counts 0 rows and has 4":                             func(out *dynamodb.ScanOutput) { out.Count = 0 },
		"has no list of rows":                                 func(out *dynamodb.ScanOutput) { out.Items = nil },
		"the answer does not say where the next page begins":  func(out *dynamodb.ScanOutput) { out.LastEvaluatedKey = item{} },
		"a row is empty":                                      func(out *dynamodb.ScanOutput) { out.Items[1] = item{} },
		"a row is null":                                       func(out *dynamodb.ScanOutput) { out.Items[1] = nil },
		"the search has asked for a type, and a row lacks it": func(out *dynamodb.ScanOutput) { delete(out.Items[1], "type") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t)
				defer s.Close()
				s.handles(t, 2) // beside the shop's one
				s.put(t, s.now("lost", ""))
				time.Sleep(time.Hour)
				events, err := replay.New(&cutting{s.DynamoDB, cut}, "events")
				require.NoError(t, err)
				unreadable := 0
				r, err := events.Reconcile(t.Context(), s.consumer(t), replay.ReconcileOptions{Found: func(_ outbox.Record, err error) {
					if err != nil {
						require.ErrorIs(t, err, outbox.ErrNotEvent)
						unreadable++
					}
				}})
				if err == nil {
					require.Equal(t, []int{4, 1, 1}, []int{r.Searched, r.Unreadable, unreadable}, "%+v", r)
					return
				}
				require.ErrorContains(t, err, name)
				require.Zero(t, r.Searched)
				_, err = events.To(t.Context(), replay.Query{Type: "NOTED"}, s.consumer(t), replay.Options{})
				require.ErrorContains(t, err, name)
			})
		})
	}
}
