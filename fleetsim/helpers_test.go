package fleetsim

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// values is a row of a table.
type values = map[string]types.AttributeValue

// orderCreated is the event that all Workers of a simulation handle.
type orderCreated struct {
	OrderID string `json:"orderId"`
}

func (orderCreated) EventType() string { return "ORDER_CREATED" }

// simSleep reports whether the time passed before the context ended.
func simSleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// simNumber reads a number from the environment.
func simNumber(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// simRow is the part of a row that the checks need.
type simRow struct {
	owner, checkpoint           string
	fence, beat                 int64
	isDead, drains, unable, was bool
	holes                       map[string]bool
}

// readRow reads a row of a worker or a lease.
func readRow(row values) (r simRow) {
	text := func(name string) string {
		if s, ok := row[name].(*types.AttributeValueMemberS); ok {
			return s.Value
		}
		return ""
	}
	number := func(name string) int64 {
		if n, ok := row[name].(*types.AttributeValueMemberN); ok {
			v, _ := strconv.ParseInt(n.Value, 10, 64)
			return v
		}
		return 0
	}
	flag := func(name string) bool {
		b, ok := row[name].(*types.AttributeValueMemberBOOL)
		return ok && b.Value
	}
	holes := map[string]bool{}
	if unfinished, ok := row["unfinished"].(*types.AttributeValueMemberM); ok {
		for sequence := range unfinished.Value {
			holes[sequence] = true
		}
	}
	return simRow{text("owner"), text("checkpoint"), number("fence"), number("beat"), flag("dead"), flag("draining"), flag("unable"), row != nil, holes}
}

// shardOf returns the shard of a lease's row, or "".
func shardOf(id string) string {
	_, shard, _ := strings.Cut(id, "#L#")
	return shard
}
