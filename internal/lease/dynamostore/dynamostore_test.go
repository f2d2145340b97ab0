package dynamostore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
	"github.com/seed-1b628d3f/outbox/internal/lease/leasetest"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestStore(t *testing.T) {
	leasetest.Conform(t, func(t *testing.T) lease.Store { return store(t, start(t).DynamoDB, "orders", "changes") })
}

func TestGroupsAndStreamsAreSeparate(t *testing.T) {
	a := start(t)
	one := store(t, a.DynamoDB, "orders", "changes")
	require.NoError(t, one.Register(t.Context(), "w", time.Second))
	require.NoError(t, one.Ensure(t.Context(), lease.Shard{ID: "s"}, "1"))
	for _, other := range []*dynamostore.Store{store(t, a.DynamoDB, "mails", "changes"), store(t, a.DynamoDB, "orders", "change"), store(t, a.DynamoDB, "orders", "changes2")} {
		v, err := other.View(t.Context())
		require.NoError(t, err)
		require.Equal(t, lease.View{}, v)
	}
	for _, name := range []string{"", "a#b"} {
		_, err := dynamostore.New(a.DynamoDB, "leases", name, "changes")
		require.Error(t, err)
		_, err = dynamostore.New(a.DynamoDB, "leases", "orders", name)
		require.Error(t, err)
	}
}

func TestLeasesComeBeforeWorkers(t *testing.T) {
	a := start(t)
	s := store(t, a.DynamoDB, "orders", "changes")
	require.NoError(t, s.Register(t.Context(), "a", time.Second))
	require.NoError(t, s.Ensure(t.Context(), lease.Shard{ID: "z"}, "1"))
	out, err := a.DynamoDB.Query(t.Context(), &dynamodb.QueryInput{
		TableName: aws.String("leases"), KeyConditionExpression: aws.String("#g = :g"), ExpressionAttributeNames: map[string]string{"#g": "group"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":g": &types.AttributeValueMemberS{Value: "orders"}},
	})
	require.NoError(t, err)
	require.Equal(t, &types.AttributeValueMemberS{Value: "changes#L#z"}, out.Items[0]["id"])
	require.Equal(t, &types.AttributeValueMemberS{Value: "changes#W#a"}, out.Items[1]["id"])
	require.NotNil(t, out.Items[1]["ttl"], "a worker's row must expire")
	require.Nil(t, out.Items[0]["ttl"], "a lease must not expire while its shard exists")
}

// pager cuts every Query into pages of one row.
type pager struct {
	*dynamodb.Client
	queries int
}

func (p *pager) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	p.queries++
	in.Limit = aws.Int32(1)
	return p.Client.Query(ctx, in, opts...)
}

func TestViewReadsEveryPage(t *testing.T) {
	p := &pager{Client: start(t).DynamoDB}
	s := store(t, p, "orders", "changes")
	require.NoError(t, s.Register(t.Context(), "a", time.Second))
	for _, id := range []string{"x", "y", "z"} {
		require.NoError(t, s.Ensure(t.Context(), lease.Shard{ID: id}, "1"))
	}
	v, err := s.View(t.Context())
	require.NoError(t, err)
	require.Len(t, v.Leases, 3)
	require.Len(t, v.Workers, 1)
	require.GreaterOrEqual(t, p.queries, 4)
}

// asked notes the queries.
type asked struct {
	*dynamodb.Client
	queries []*dynamodb.QueryInput
}

func (a *asked) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	a.queries = append(a.queries, in)
	return a.Client.Query(ctx, in, opts...)
}

// A look reads the rows of the workers only, for half a unit each 4 KB.
func TestALookReadsTheWorkersOnly(t *testing.T) {
	a := &asked{Client: start(t).DynamoDB}
	s := store(t, a, "orders", "changes")
	require.NoError(t, s.Register(t.Context(), "a", time.Second))
	require.NoError(t, store(t, a, "orders", "others").Register(t.Context(), "b", time.Second))
	require.NoError(t, s.Ensure(t.Context(), lease.Shard{ID: "x"}, "1"))
	looked, err := s.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, []lease.Worker{{ID: "a", Moves: 1, Duration: time.Second}}, looked)
	require.Len(t, a.queries, 1)
	require.False(t, aws.ToBool(a.queries[0].ConsistentRead))
	require.Equal(t, &types.AttributeValueMemberS{Value: "changes#W#"}, a.queries[0].ExpressionAttributeValues[":prefix"])
	_, err = s.View(t.Context())
	require.NoError(t, err)
	require.True(t, aws.ToBool(a.queries[1].ConsistentRead), "a view decides")
}

func TestCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t, outboxtest.WithDelays(3*time.Second))
		began := time.Now()
		var errs [3]error
		done := make(chan int)
		for i := range errs {
			go func() { errs[i] = dynamostore.Create(t.Context(), a.DynamoDB, "leases"); done <- i }()
		}
		for range errs {
			<-done
		}
		require.NoError(t, errors.Join(errs[:]...))
		require.Less(t, time.Since(began), 10*time.Second)
		require.NoError(t, dynamostore.Create(t.Context(), a.DynamoDB, "leases"))
		ttl, err := a.DynamoDB.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: aws.String("leases")})
		require.NoError(t, err)
		require.Equal(t, "ttl", aws.ToString(ttl.TimeToLiveDescription.AttributeName))
		d, err := a.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("leases")})
		require.NoError(t, err)
		require.Equal(t, types.BillingModePayPerRequest, d.Table.BillingModeSummary.BillingMode)
	})
}

func TestCreateRefusesAnotherKindOfTable(t *testing.T) {
	a := outboxtest.Start(t)
	_, err := a.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("leases"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("eventId"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("eventId"), KeyType: types.KeyTypeHash}},
	})
	require.NoError(t, err)
	require.ErrorContains(t, dynamostore.Create(t.Context(), a.DynamoDB, "leases"), "another kind of table")
}

// A missing table is waited for: it may come minutes after the worker. A wrong name must not look like a worker without work, so it is told.
func TestAMissingTableIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		ctx, cancel := context.WithCancel(t.Context())
		health, done, reading := new(lease.Health), make(chan error, 1), make(chan struct{})
		go func() {
			done <- lease.Run(ctx, lease.Config{
				Store:  store(t, a.DynamoDB, "orders", "changes"),
				Shards: func(context.Context) ([]lease.Shard, error) { return []lease.Shard{{ID: "s"}}, nil },
				Consume: func(_ context.Context, h *lease.Held) error {
					close(reading)
					<-h.Stop()
					return nil
				},
				Health: health,
			})
		}()
		time.Sleep(5 * time.Minute)
		err := errors.Join(health.Problems()...)
		var missing *types.ResourceNotFoundException
		require.ErrorAs(t, err, &missing)
		require.ErrorContains(t, err, "lease table leases, group orders")
		require.NoError(t, dynamostore.Create(t.Context(), a.DynamoDB, "leases"))
		<-reading
		cancel()
		require.NoError(t, <-done)
	})
}

// A table of another form never becomes a lease table: Run ends.
func TestATableOfAnotherFormEndsRun(t *testing.T) {
	a := outboxtest.Start(t)
	a.CreateTable(t, "leases", "eventId")
	err := lease.Run(t.Context(), lease.Config{
		Store:   store(t, a.DynamoDB, "orders", "changes"),
		Shards:  func(context.Context) ([]lease.Shard, error) { return []lease.Shard{{ID: "s"}}, nil },
		Consume: func(context.Context, *lease.Held) error { return nil },
	})
	require.ErrorContains(t, err, "ValidationException")
	require.ErrorContains(t, err, "lease table leases, group orders")
}

// The SDK repeats a request without an answer by itself. The second answer is a failed condition.
func TestSDKRetriesAreNoRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t)
		s := store(t, a.DynamoDB, "orders", "changes")
		a.SetFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "UpdateItem", Probability: 0.3},
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "TransactWriteItems", Probability: 0.3})
		do := func(f func() error) {
			for {
				err := f()
				require.NotErrorIs(t, err, lease.ErrRefused)
				if err == nil {
					return
				}
			}
		}
		do(func() error { return s.Register(t.Context(), "a", time.Second) })
		do(func() error { return s.Beat(t.Context(), lease.Worker{ID: "a", Beat: 1, Moves: 1}) })
		for i := range 30 {
			id := string(rune('A' + i))
			do(func() error { return s.Ensure(t.Context(), lease.Shard{ID: id}, "1") })
			var l lease.Lease
			do(func() (err error) {
				l, err = s.Acquire(t.Context(), lease.Lease{Shard: lease.Shard{ID: id}}, "a")
				return err
			})
			do(func() error { return s.Want(t.Context(), l, "b") })
			do(func() error { return s.Save(t.Context(), l.Key(), 1, lease.Progress{Checkpoint: "2"}) })
			if i%2 == 0 {
				do(func() error { return s.Release(t.Context(), l.Key(), "b") })
			} else {
				do(func() error { return s.End(t.Context(), l.Key(), 9, nil, nil) })
			}
		}
	})
}

// Four workers share the shards of a table that throttles, is slow and loses answers. One worker leaves.
func TestAFleetOnDynamoDB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t)
		require.NoError(t, a.SetFaults(
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.Throttle, Service: "DynamoDB", Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.ServerError, Service: "DynamoDB", Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.Latency, Service: "DynamoDB", Probability: 0.2, Duration: 100 * time.Millisecond},
		))
		var shards []lease.Shard
		for i := range 12 {
			shards = append(shards, lease.Shard{ID: string(rune('a' + i))})
		}
		// Without the SDK's retries: a retry after a lost answer of a release may meet the next owner, and tell of a lost lease.
		client := dynamodb.NewFromConfig(a.Config(), func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} })
		s := store(t, client, "orders", "changes")
		var stops []func()
		for range 4 {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() {
				done <- lease.Run(ctx, lease.Config{
					Store:  s,
					Shards: func(context.Context) ([]lease.Shard, error) { return shards, nil },
					Consume: func(ctx context.Context, h *lease.Held) error {
						if h.Shard().ID == "a" && h.Progress().Checkpoint == "7" {
							return h.End(ctx, nil, []lease.Shard{{ID: "z", Parents: []string{"a"}}})
						}
						select {
						case <-h.Stop():
							return h.Save(ctx, lease.Progress{Checkpoint: "7"})
						case <-ctx.Done():
							return ctx.Err()
						}
					},
					Hooks: lease.Hooks{Lost: func(shard string, _ int64, err error) {
						require.Fail(t, "a lost answer has cost a lease", "%s: %v", shard, err)
					}},
				})
			}()
			stops = append(stops, func() { cancel(); require.NoError(t, <-done) })
			time.Sleep(3 * time.Second)
		}
		owners := func() map[string]int {
			v, err := s.View(t.Context())
			require.NoError(t, err)
			has := map[string]int{}
			for _, l := range v.Leases {
				if l.Checkpoint != lease.ShardEnd {
					has[l.Owner]++
				}
			}
			return has
		}
		time.Sleep(10 * time.Second)
		stops[0]()
		time.Sleep(10 * time.Second)
		a.StopFaults()
		has := owners()
		require.Len(t, has, 3)
		for id, n := range has {
			require.NotEmpty(t, id)
			require.InDelta(t, 4, n, 0.5, "%v", has)
		}
		for _, stop := range stops[1:] {
			stop()
		}
		require.Equal(t, map[string]int{"": 12}, owners())
	})
}
