package txtoken

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func s(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }

type item = map[string]types.AttributeValue

func put(it item) []types.TransactWriteItem {
	return []types.TransactWriteItem{{Put: &types.Put{TableName: aws.String("t"), Item: it}}}
}

func TestEveryDifferenceGivesAnotherToken(t *testing.T) {
	b := func(v ...byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: v} }
	transactions := [][]types.TransactWriteItem{
		put(item{"a": s("1")}),
		put(item{"a": s("2")}),
		put(item{"b": s("1")}),
		put(item{"a": &types.AttributeValueMemberN{Value: "1"}}),
		put(item{"a": b('1')}),
		put(item{"a": s("1"), "b": s("")}),
		put(item{"a": s("1b")}),
		put(item{"a": &types.AttributeValueMemberL{Value: []types.AttributeValue{s("1"), s("2")}}}),
		put(item{"a": &types.AttributeValueMemberL{Value: []types.AttributeValue{s("2"), s("1")}}}),
		put(item{"a": &types.AttributeValueMemberL{Value: []types.AttributeValue{s("12")}}}),
		put(item{"a": &types.AttributeValueMemberSS{Value: []string{"1", "2"}}}),
		put(item{"a": &types.AttributeValueMemberNS{Value: []string{"1", "2"}}}),
		put(item{"a": &types.AttributeValueMemberBS{Value: [][]byte{{'1'}, {'2'}}}}),
		put(item{"a": &types.AttributeValueMemberM{Value: item{"1": s("2")}}}),
		put(item{"a": &types.AttributeValueMemberBOOL{Value: true}}),
		put(item{"a": &types.AttributeValueMemberBOOL{}}),
		put(item{"a": &types.AttributeValueMemberNULL{Value: true}}),
		append(put(item{"a": s("1")}), put(item{"a": s("1")})...),
		{{Put: &types.Put{TableName: aws.String("u"), Item: item{"a": s("1")}}}},
		{{Put: &types.Put{TableName: aws.String("t"), Item: item{"a": s("1")}, ConditionExpression: aws.String("x")}}},
		{{Put: &types.Put{TableName: aws.String("t"), Item: item{"a": s("1")}, ExpressionAttributeNames: map[string]string{"#x": "y"}}}},
		{{Put: &types.Put{TableName: aws.String("t"), Item: item{"a": s("1")}, ExpressionAttributeValues: item{":x": s("y")}}}},
		{{Put: &types.Put{TableName: aws.String("t"), Item: item{"a": s("1")}, ReturnValuesOnConditionCheckFailure: "ALL_OLD"}}},
		{{Update: &types.Update{TableName: aws.String("t"), Key: item{"a": s("1")}}}},
		{{Update: &types.Update{TableName: aws.String("t"), Key: item{"a": s("1")}, UpdateExpression: aws.String("x")}}},
		{{Update: &types.Update{TableName: aws.String("t"), Key: item{"a": s("1")}, ConditionExpression: aws.String("x")}}},
		{{Delete: &types.Delete{TableName: aws.String("t"), Key: item{"a": s("1")}}}},
		{{ConditionCheck: &types.ConditionCheck{TableName: aws.String("t"), Key: item{"a": s("1")}}}},
	}
	seen := map[string]int{}
	for i, transaction := range transactions {
		token := Of(transaction)
		require.LessOrEqual(t, len(token), 36)
		other, twice := seen[token]
		require.Falsef(t, twice, "transactions %d and %d have the same token", other, i)
		seen[token] = i
	}
}

func TestEqualItemsHaveOneToken(t *testing.T) {
	big := item{}
	for _, name := range []string{"q", "w", "e", "r", "t", "y"} {
		big[name] = s(name)
	}
	want := Of(put(big))
	for range 50 { // a map's order is random
		require.Equal(t, want, Of(put(big)))
	}
}

// Whether DynamoDB takes these for one request is not documented, so they must not have one token.
func TestSetsInAnotherOrderAreAnotherRequest(t *testing.T) {
	for _, sets := range [][2]types.AttributeValue{
		{&types.AttributeValueMemberSS{Value: []string{"1", "2"}}, &types.AttributeValueMemberSS{Value: []string{"2", "1"}}},
		{&types.AttributeValueMemberNS{Value: []string{"1", "2"}}, &types.AttributeValueMemberNS{Value: []string{"2", "1"}}},
		{&types.AttributeValueMemberBS{Value: [][]byte{{1}, {2}}}, &types.AttributeValueMemberBS{Value: [][]byte{{2}, {1}}}},
	} {
		require.NotEqual(t, Of(put(item{"a": sets[0]})), Of(put(item{"a": sets[1]})))
	}
}

func TestOtherParametersCount(t *testing.T) {
	seen := map[string]bool{}
	for _, parameters := range [][]string{nil, {""}, {"TOTAL"}, {"TOTAL", ""}, {"TO", "TAL"}} {
		seen[Of(put(item{"a": s("1")}), parameters...)] = true
	}
	require.Len(t, seen, 5)
}
