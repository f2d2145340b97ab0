package fleetsim

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"github.com/seed-1b628d3f/outbox"
)

var (
	errGone      = errors.New("the process is gone, or its network is")
	errThrottled = errors.New("slow down")
	errDenied    = &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not now"}
)

// simLink is everything between one simulated process and the world: its calls, and the effects of its handlers.
type simLink struct {
	sim  *workerSim
	name string

	mu      sync.Mutex
	rng     *rand.Rand
	dead    bool
	trouble float64              // share of calls whose answer is lost, late, doubled or an error
	cut     map[string]time.Time // services that cannot be reached, until when
	paused  time.Time            // until when the process is paused, or was
	missed  int                  // beats in a row without an answer
	good    time.Time            // when the last confirmed beat was sent

	// The process dies before or after its nth call of an operation, or its nth effect of a handler.
	killAt simPoint
	points map[string]int // how many calls there were, by operation
	onKill func()
}

// simPoint is a place where a process may be killed.
type simPoint struct {
	operation string
	n         int
	after     bool
}

func (l *simLink) killed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// point counts a place where the process may be killed. It reports whether the process dies before or after what happens there.
func (l *simLink) point(operation string) (before, after bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return false, false
	}
	l.points[operation]++
	here := l.killAt.operation == operation && l.points[operation] == l.killAt.n
	return here && !l.killAt.after, here && l.killAt.after
}

// die is kill -9, as far as the world can see.
func (l *simLink) die() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.onKill()
}

// gate holds up everything that the process does while it is paused.
func (l *simLink) gate() {
	for {
		l.mu.Lock()
		wait := time.Until(l.paused)
		l.mu.Unlock()
		if wait <= 0 {
			return
		}
		time.Sleep(wait)
	}
}

func (l *simLink) pause(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := time.Now().Add(d); until.After(l.paused) {
		l.paused = until
	}
}

// pausedSince returns for how long the process was paused after a time.
func (l *simLink) pausedSince(t time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.paused.Sub(t))
}

// mayBeLate reports whether the process is paused, or was until just now. It cannot know yet how late it is.
func (l *simLink) mayBeLate() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.paused) <= simNotice
}

func (l *simLink) partition(service string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[service] = time.Now().Add(d)
}

func (l *simLink) isCut(service string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.cut[service])
}

// heal ends all trouble of a living process.
func (l *simLink) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.cut)
	l.trouble = 0
}

func (l *simLink) setGood(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good = t
}

func (l *simLink) lastGood() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good
}

// simFate is what happens to a call.
type simFate struct {
	kind                       string
	there, back, again, silent time.Duration
}

func (l *simLink) strike(operation string) simFate {
	l.mu.Lock()
	defer l.mu.Unlock()
	upTo := func(d time.Duration) time.Duration { return time.Duration(l.rng.Int64N(int64(d))) }
	f := simFate{there: upTo(5 * time.Millisecond), back: upTo(5 * time.Millisecond), silent: upTo(4 * time.Second)}
	switch l.rng.IntN(20) { // some calls take long, but not too long
	case 0:
		f.there = upTo(900 * time.Millisecond)
	case 1:
		f.back = upTo(900 * time.Millisecond)
	}
	if l.rng.Float64() >= l.trouble {
		l.missed = 0
		return f
	}
	if operation == "Beat" { // two lost beats in a row cost no lease, so that I12 can be checked
		if l.missed++; l.missed > 2 {
			l.missed = 0
			return f
		}
	}
	kinds := []string{"throttle", "broken", "lost", "slow", "late", "late", "double", "double"}
	switch operation {
	case "View", "ListShards", "GetShardIterator":
		kinds = kinds[:4] // asking once more changes nothing
	case "GetRecords":
		kinds = append(kinds[:4:4], "expired")
	}
	f.kind, f.again = kinds[l.rng.IntN(len(kinds))], upTo(time.Second)
	if l.rng.IntN(2) == 0 {
		f.again = upTo(15 * time.Second)
	}
	if f.kind == "slow" {
		f.there += upTo(3 * time.Second)
	}
	return f
}

// carry lets a call of a process happen, or not. do is the call. It may happen twice, late, or after its caller has gone.
func carry[T any](ctx context.Context, l *simLink, service, operation string, do func() (T, error), throttled error) (T, error) {
	var none T
	l.gate()
	before, after := l.point(operation)
	if before {
		l.die()
	}
	if l.killed() {
		return none, errGone
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	f, sent := l.strike(operation), time.Now()
	if l.isCut(service + " policy") { // the request arrives and is refused, so the reading stops and begins anew
		f.kind = "denied"
	}
	if l.isCut(service) { // refused at once, or no answer for a while
		if f.silent < 3*time.Second {
			simSleep(ctx, f.silent)
		}
		return none, errGone
	}
	later := func(d time.Duration) { // a copy that the network kept, arriving when the caller may have gone on
		l.sim.others.Go(func() {
			time.Sleep(d)
			_, _ = do()
		})
	}
	switch f.kind {
	case "broken":
		return none, errGone
	case "throttle":
		return none, throttled
	case "denied":
		return none, errDenied
	case "expired":
		return none, &ktypes.ExpiredIteratorException{}
	case "late":
		later(f.again)
		return none, errGone
	case "double":
		later(f.again)
	}
	if !simSleep(ctx, f.there) { // the caller goes away, its request does not
		later(f.there - time.Since(sent))
		return none, context.Cause(ctx)
	}
	out, err := do()
	if after {
		l.die()
	}
	ended := !simSleep(ctx, f.back)
	l.gate()
	switch {
	case f.kind == "lost", l.isCut(service), l.killed():
		return none, errGone
	case ended:
		return none, context.Cause(ctx)
	}
	if (operation == "Beat" || operation == "Register") && isGood(err) {
		l.setGood(sent)
	}
	return out, err
}

// isGood reports whether a beat or a registration has been applied, perhaps by a copy that the network made.
func isGood(err error) bool {
	if refused := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &refused) {
		return refused.Item != nil && !readRow(refused.Item).isDead
	}
	return err == nil
}

var leaseOperations = []struct{ prefix, name string }{
	{"SET #beat = :beat", "Beat"}, {"SET #checkpoint = :checkpoint", "Save"}, {"SET #beat = :zero", "Register"},
	{"SET #checkpoint = if_not_exists", "Ensure"}, {"SET #owner = :me", "Acquire"}, {"SET #want", "Want"}, {"REMOVE #owner", "Release"}, {"REMOVE #unfinished", "Finish"},
	{"SET #owner = :to", "HandOver"}, {"SET #checkpoint = :end", "End"}, {"SET #ttl", "Gone"}, {"SET #missing", "Miss"}, {"REMOVE #ttl", "Revive"}, {"SET #checkpoint = #last", "Reopen"}, {"SET #checkpoint = :oldest", "Reopen"}, {"SET #position", "Begin"},
}

// leaseOperation names a write by its expressions.
func leaseOperation(update, condition string) string {
	for _, o := range leaseOperations {
		if strings.HasPrefix(update, o.prefix) {
			return o.name
		}
	}
	switch {
	case strings.HasPrefix(update, "SET #dead") && strings.HasPrefix(condition, "#beat"):
		return "MarkDead"
	case strings.HasPrefix(update, "SET #dead"):
		return "Retire"
	case update == "":
		return "ForgetWorker"
	}
	panic("unknown update " + update)
}

type simActor struct{}

// detached is a context for a request that goes on when its caller has gone. It says which process sent the request.
func (l *simLink) detached() context.Context {
	return context.WithValue(context.Background(), simActor{}, l)
}

// simLeases is a process's way to the simulated table.
type simLeases struct {
	outbox.LeaseClient // to create a table
	l                  *simLink
	t                  *simTable
}

var tableThrottled = &types.ProvisionedThroughputExceededException{}

func (c simLeases) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return carry(ctx, c.l, "DynamoDB", "View", func() (*dynamodb.QueryOutput, error) { return c.t.Query(c.l.detached(), in) }, tableThrottled)
}

func (c simLeases) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return carry(ctx, c.l, "DynamoDB", leaseOperation(*in.UpdateExpression, *in.ConditionExpression),
		func() (*dynamodb.UpdateItemOutput, error) { return c.t.UpdateItem(c.l.detached(), in) }, tableThrottled)
}

func (c simLeases) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return carry(ctx, c.l, "DynamoDB", "ForgetWorker", func() (*dynamodb.DeleteItemOutput, error) { return c.t.DeleteItem(c.l.detached(), in) }, tableThrottled)
}

func (c simLeases) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return carry(ctx, c.l, "DynamoDB", "End", func() (*dynamodb.TransactWriteItemsOutput, error) { return c.t.TransactWriteItems(c.l.detached(), in) }, tableThrottled)
}

// simReads is a process's way to the simulated stream.
type simReads struct {
	l *simLink
	s *simStream
}

var streamThrottled = &ktypes.ProvisionedThroughputExceededException{}

func (c simReads) ListShards(ctx context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	return carry(ctx, c.l, "Kinesis", "ListShards", func() (*kinesis.ListShardsOutput, error) { return c.s.ListShards(context.Background(), in) }, streamThrottled)
}

func (c simReads) GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	return carry(ctx, c.l, "Kinesis", "GetShardIterator", func() (*kinesis.GetShardIteratorOutput, error) {
		return c.s.GetShardIterator(context.Background(), in)
	}, streamThrottled)
}

func (c simReads) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	return carry(ctx, c.l, "Kinesis", "GetRecords", func() (*kinesis.GetRecordsOutput, error) { return c.s.GetRecords(context.Background(), in) }, streamThrottled)
}
