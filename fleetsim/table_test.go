package fleetsim

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
	"github.com/seed-1b628d3f/outbox/internal/lease/leasetest"
)

// simTable is a lease table behind the SDK's interface, without requests on a wire, so a schedule is cheap. It knows the
// expressions that lease tables are written with, and panics at any other. outboxtest and simTable pass the same suite.
type simTable struct {
	mu   sync.Mutex
	rows map[string]values // a row is replaced, never changed
	past map[string]simPast
	// stale, if not nil, says whether a read that need not be consistent gets the row from before its last write, if this was
	// less than a second ago.
	stale func() bool
	// condition, if not nil, replaces a condition: a bug to plant.
	condition func(operation, condition string) string
	// lose, if not nil, says which operations on a row are acknowledged without being done: another bug to plant.
	lose func(operation, id string) bool
	// rewrite, if not nil, changes a row that an operation writes: another bug to plant.
	rewrite func(operation string, row values)
	// wrote is told of each row that an operation of a process has written, with the lock held.
	wrote func(actor *simLink, operation, id string, before, after values)
}

// simPast is a row before its last write.
type simPast struct {
	until time.Time
	row   values // nil: there was no row
}

func newSimTable() *simTable {
	return &simTable{rows: map[string]values{}, past: map[string]simPast{}}
}

func keyOf(key values) string { return key["id"].(*types.AttributeValueMemberS).Value }

// topLevel cuts an expression at a separator, outside parentheses.
func topLevel(expression, separator string) (parts []string) {
	depth, from := 0, 0
	for i := range len(expression) {
		switch expression[i] {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth == 0 && strings.HasPrefix(expression[i:], separator) {
			parts, from = append(parts, expression[from:i]), i+len(separator)
		}
	}
	return append(parts, expression[from:])
}

// simExpression is what an expression's names and values stand for.
type simExpression struct {
	names  map[string]string
	values values
}

func (x simExpression) holds(row values, condition string) bool {
	condition = strings.TrimSpace(condition)
	if any := topLevel(condition, " OR "); len(any) > 1 {
		return slices.ContainsFunc(any, func(c string) bool { return x.holds(row, c) })
	}
	if all := topLevel(condition, " AND "); len(all) > 1 {
		return !slices.ContainsFunc(all, func(c string) bool { return !x.holds(row, c) })
	}
	if inner, ok := strings.CutPrefix(condition, "("); ok {
		return x.holds(row, strings.TrimSuffix(inner, ")"))
	}
	if call, rest, ok := strings.Cut(condition, "("); ok {
		_, exists := row[x.name(strings.TrimSuffix(rest, ")"))]
		switch call {
		case "attribute_exists":
			return exists
		case "attribute_not_exists":
			return !exists
		}
		panic("unknown function in " + condition)
	}
	f := strings.Fields(condition)
	if len(f) != 3 {
		panic("unknown condition " + condition)
	}
	left, right := row[x.name(f[0])], x.value(f[2])
	if left == nil {
		return f[1] == "<>"
	}
	order := compareSim(left, right)
	switch f[1] {
	case "=":
		return order == 0
	case "<>":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	}
	panic("unknown operator in " + condition)
}

func (x simExpression) name(alias string) string {
	if name, ok := x.names[alias]; ok {
		return name
	}
	panic("no name for " + alias)
}

func (x simExpression) value(alias string) types.AttributeValue {
	if v, ok := x.values[alias]; ok {
		return v
	}
	panic("no value for " + alias)
}

func compareSim(a, b types.AttributeValue) int {
	switch a := a.(type) {
	case *types.AttributeValueMemberS:
		return strings.Compare(a.Value, b.(*types.AttributeValueMemberS).Value)
	case *types.AttributeValueMemberN:
		m, _ := new(big.Int).SetString(a.Value, 10)
		n, _ := new(big.Int).SetString(b.(*types.AttributeValueMemberN).Value, 10)
		return m.Cmp(n)
	case *types.AttributeValueMemberBOOL:
		if a.Value == b.(*types.AttributeValueMemberBOOL).Value {
			return 0
		}
		return 1
	}
	panic(fmt.Sprintf("%T is not compared", a))
}

// update returns the row that an update expression makes of a row.
func (x simExpression) update(row, key values, expression string) values {
	after := maps.Clone(row)
	if after == nil {
		after = maps.Clone(key)
	}
	set, remove, _ := strings.Cut(expression, "REMOVE ")
	if set, ok := strings.CutPrefix(strings.TrimSpace(set), "SET "); ok {
		for _, one := range topLevel(set, ",") {
			target, source, _ := strings.Cut(strings.TrimSpace(one), " = ")
			if call, ok := strings.CutPrefix(source, "if_not_exists("); ok {
				path, otherwise, _ := strings.Cut(strings.TrimSuffix(call, ")"), ", ") // a value or a path
				if v, exists := row[x.name(path)]; exists {
					after[x.name(target)] = v
					continue
				}
				source = otherwise
			}
			if strings.HasPrefix(source, "#") {
				after[x.name(target)] = row[x.name(source)]
				continue
			}
			after[x.name(target)] = x.value(source)
		}
	}
	if remove != "" {
		for _, path := range strings.Split(remove, ",") {
			delete(after, x.name(strings.TrimSpace(path)))
		}
	}
	return after
}

func (t *simTable) holds(x simExpression, row values, update string, condition *string) bool {
	if condition == nil {
		return true
	}
	c := *condition
	if t.condition != nil {
		c = t.condition(leaseOperation(update, c), c)
	}
	return x.holds(row, c)
}

func (t *simTable) apply(ctx context.Context, operation, id string, before, after values) {
	if t.lose != nil && t.lose(operation, id) {
		return
	}
	if t.rewrite != nil && after != nil {
		t.rewrite(operation, after)
	}
	t.past[id] = simPast{time.Now(), before}
	if after == nil {
		delete(t.rows, id)
	} else {
		t.rows[id] = after
	}
	if t.wrote != nil {
		actor, _ := ctx.Value(simActor{}).(*simLink)
		t.wrote(actor, operation, id, before, after)
	}
}

func (t *simTable) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x, id := simExpression{in.ExpressionAttributeNames, in.ExpressionAttributeValues}, keyOf(in.Key)
	row := t.rows[id]
	if !t.holds(x, row, *in.UpdateExpression, in.ConditionExpression) {
		return nil, &types.ConditionalCheckFailedException{Item: maps.Clone(row)}
	}
	after := x.update(row, in.Key, *in.UpdateExpression)
	t.apply(ctx, leaseOperation(*in.UpdateExpression, *in.ConditionExpression), id, row, after)
	return &dynamodb.UpdateItemOutput{Attributes: after}, nil
}

func (t *simTable) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	id := keyOf(in.Key)
	row := t.rows[id]
	if !t.holds(simExpression{in.ExpressionAttributeNames, in.ExpressionAttributeValues}, row, "", in.ConditionExpression) {
		return nil, &types.ConditionalCheckFailedException{}
	}
	if row != nil {
		t.apply(ctx, "ForgetWorker", id, row, nil)
	}
	return &dynamodb.DeleteItemOutput{}, nil
}

func (t *simTable) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	reasons, failed := make([]types.CancellationReason, len(in.TransactItems)), false
	for i, item := range in.TransactItems {
		u := item.Update
		row := t.rows[keyOf(u.Key)]
		reasons[i].Code = aws.String("None")
		if !t.holds(simExpression{u.ExpressionAttributeNames, u.ExpressionAttributeValues}, row, *u.UpdateExpression, u.ConditionExpression) {
			reasons[i], failed = types.CancellationReason{Code: aws.String("ConditionalCheckFailed"), Item: maps.Clone(row)}, true
		}
	}
	if failed {
		return nil, &types.TransactionCanceledException{CancellationReasons: reasons}
	}
	type change struct {
		id            string
		before, after values
	}
	var changes []change
	for _, item := range in.TransactItems {
		u := item.Update
		id := keyOf(u.Key)
		before := t.rows[id]
		after := simExpression{u.ExpressionAttributeNames, u.ExpressionAttributeValues}.update(before, u.Key, *u.UpdateExpression)
		changes = append(changes, change{id, before, after})
	}
	for _, c := range slices.Backward(changes) { // the children first, so that the range of hash keys is never seen uncovered
		operation := "End"
		if c.id != changes[0].id {
			operation = "EndChild"
		}
		t.apply(ctx, operation, c.id, c.before, c.after)
	}
	return &dynamodb.TransactWriteItemsOutput{}, nil
}

// Query returns the rows with a prefix: "group = :group AND begins_with(id, :prefix)".
func (t *simTable) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	prefix := in.ExpressionAttributeValues[":prefix"].(*types.AttributeValueMemberS).Value
	rows := t.rows
	if !aws.ToBool(in.ConsistentRead) && t.stale != nil {
		rows = maps.Clone(rows)
		for _, id := range slices.Sorted(maps.Keys(t.past)) {
			if past := t.past[id]; time.Since(past.until) >= time.Second || !t.stale() {
				continue
			} else if rows[id] = past.row; past.row == nil {
				delete(rows, id)
			}
		}
	}
	out := &dynamodb.QueryOutput{}
	for id, row := range rows {
		if strings.HasPrefix(id, prefix) {
			out.Items = append(out.Items, row)
		}
	}
	slices.SortFunc(out.Items, func(a, b values) int { return cmp.Compare(keyOf(a), keyOf(b)) })
	return out, nil
}

func TestTheSimulatedTableIsALeaseTable(t *testing.T) {
	leasetest.Conform(t, func(t *testing.T) lease.Store {
		s, err := dynamostore.New(newSimTable(), "leases", "mails", "events")
		require.NoError(t, err)
		return s
	})
}
