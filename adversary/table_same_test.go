package adversary

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// TestTheTableAnswersLikeDynamoDB sends the same requests to the table of this world and to that of outboxtest, whose answers are compared with
// those of other servers (integration).
func TestTheTableAnswersLikeDynamoDB(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "leases", "group", "id")
	ours, theirs := outbox.DeadLetterClient(existing{database: newDatabase()}), outbox.DeadLetterClient(cloud.DynamoDB)
	random := rand.New(rand.NewPCG(7, 7))
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	s := func(text string) types.AttributeValue { return &types.AttributeValueMemberS{Value: text} }
	n := func(number int) types.AttributeValue { return &types.AttributeValueMemberN{Value: fmt.Sprint(number)} }
	refusals := 0
	for i := range 3000 {
		key := item{"group": s(pick("g", "h")), "id": s(pick("a", "b", "ba", "c"))}
		condition := pick("attribute_not_exists(#o)", "attribute_exists(id)", "#o = :o AND (fence < :n OR attribute_not_exists(fence))", "NOT #o <> :o", "fence BETWEEN :n AND :n",
			"size(#o) > :n OR contains(parents, :o)", "begins_with(id, :b)", "m.x = :o", "#o IN (:o, :b)", "attribute_type(fence, :t)")
		update := pick("SET #o = :o, fence = if_not_exists(fence, :n) + :n", "SET fence = :n REMOVE #o", "ADD fence :n, parents :ss", "REMOVE m", "SET m = :m", "SET m.x = :o", "DELETE parents :ss")
		names := map[string]string{"#o": "owner"}
		values := item{":o": s(pick("w1", "w2")), ":n": n(random.IntN(4)), ":ss": &types.AttributeValueMemberSS{Value: []string{pick("p1", "p2"), "p3"}}, ":b": s("b"), ":t": s("N"),
			":m": &types.AttributeValueMemberM{Value: item{"x": s("w1"), "y": n(1)}}}
		// The real table refuses names and values that no expression uses: each request uses all of them.
		condition += " OR (#o = :no AND #o = :o AND #o = :n AND #o = :ss AND #o = :b AND #o = :t AND #o = :m)"
		values[":no"] = s("nobody")
		want := pick(string(types.ReturnValueNone), string(types.ReturnValueAllNew), string(types.ReturnValueAllOld))
		onFailure := types.ReturnValuesOnConditionCheckFailureAllOld
		both := func(do func(outbox.DeadLetterClient) (item, error)) {
			t.Helper()
			a, errA := safely(func() (item, error) { return do(ours) })
			b, errB := do(theirs)
			require.Equal(t, code(errB), code(errA), "request %d: %s WHEN %s of %v: have %v, want %v", i, update, condition, key, errA, errB)
			require.Equal(t, plain(b), plain(a), "request %d: %s WHEN %s", i, update, condition)
			if errB != nil {
				refusals++
			}
		}
		switch random.IntN(5) {
		case 0, 1:
			both(func(c outbox.DeadLetterClient) (item, error) {
				out, err := c.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("leases"), Key: key, UpdateExpression: &update, ConditionExpression: &condition,
					ExpressionAttributeNames: names, ExpressionAttributeValues: values, ReturnValues: types.ReturnValue(want), ReturnValuesOnConditionCheckFailure: onFailure})
				if err != nil {
					return nil, err
				}
				return out.Attributes, nil
			})
		case 2:
			both(func(c outbox.DeadLetterClient) (item, error) {
				_, err := c.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
					{Update: &types.Update{TableName: aws.String("leases"), Key: key, UpdateExpression: &update, ConditionExpression: &condition, ExpressionAttributeNames: names,
						ExpressionAttributeValues: values}},
					{Put: &types.Put{TableName: aws.String("leases"), Item: item{"group": s("other"), "id": s("a"), "fence": n(i)}}}}})
				return nil, err
			})
		case 3:
			both(func(c outbox.DeadLetterClient) (item, error) {
				_, err := c.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("leases"), Key: key, ConditionExpression: &condition,
					ExpressionAttributeNames: names, ExpressionAttributeValues: values})
				return nil, err
			})
		default:
			prefix := s(pick("b", "a"))
			both(func(c outbox.DeadLetterClient) (item, error) {
				out, err := c.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("leases"), KeyConditionExpression: aws.String("#g = :g AND begins_with(id, :b)"), ConsistentRead: aws.Bool(true),
					ExpressionAttributeNames: map[string]string{"#g": "group"}, ExpressionAttributeValues: item{":g": key["group"], ":b": prefix}, Limit: aws.Int32(1)})
				if err != nil {
					return nil, err
				}
				all := item{"count": n(int(out.Count)), "more": &types.AttributeValueMemberM{Value: out.LastEvaluatedKey}}
				for _, row := range out.Items {
					all["row"+row["id"].(*types.AttributeValueMemberS).Value] = &types.AttributeValueMemberM{Value: row}
				}
				return all, nil
			})
		}
	}
	require.NotZero(t, refusals)
}

// existing is the database with the methods for creating tables, which nobody calls.
type existing struct {
	*database
	creation
}

type creation struct{ outbox.DeadLetterClient }

// code is the error's name, and of a transaction the names of the reasons.
func code(err error) string {
	if err != nil && strings.Contains(err.Error(), "ValidationE") {
		return "invalid" // the table of this world says so in one way only
	}
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) {
		text := "cancelled"
		for _, r := range cancelled.CancellationReasons {
			text += " " + aws.ToString(r.Code)
		}
		return text
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// safely turns what the parser or the evaluation refuses into DynamoDB's error.
func safely(do func() (item, error)) (got item, err error) {
	defer func() {
		if r := recover(); r != nil {
			got, err = nil, &smithy.GenericAPIError{Code: "ValidationException", Message: fmt.Sprint(r)}
		}
	}()
	return do()
}

// plain makes items comparable: sets are sorted, and an empty map is none.
func plain(of item) string {
	var names []string
	for name := range of {
		names = append(names, name)
	}
	sort.Strings(names)
	text := ""
	for _, name := range names {
		switch v := of[name].(type) {
		case *types.AttributeValueMemberM:
			text += name + "={" + plain(v.Value) + "} "
		case *types.AttributeValueMemberSS:
			all := append([]string(nil), v.Value...)
			sort.Strings(all)
			text += fmt.Sprintf("%s=%v ", name, all)
		default:
			text += fmt.Sprintf("%s=%v ", name, scalar(v))
		}
	}
	return text
}
