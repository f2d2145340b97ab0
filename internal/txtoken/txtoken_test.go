package txtoken

import (
	"reflect"
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

// Every field that the SDK's types have counts, also those that they get one day: a field that is forgotten here would let
// two different requests have one token.
func TestEveryFieldOfEveryOperationCounts(t *testing.T) {
	fields := 0
	for kind := range reflect.TypeFor[types.TransactWriteItem]().NumField() {
		operation := reflect.TypeFor[types.TransactWriteItem]().Field(kind)
		if !operation.IsExported() {
			continue
		}
		for i := range operation.Type.Elem().NumField() {
			field := operation.Type.Elem().Field(i)
			if !field.IsExported() {
				continue
			}
			fields++
			var with, without types.TransactWriteItem
			for _, item := range []*types.TransactWriteItem{&with, &without} {
				reflect.ValueOf(item).Elem().Field(kind).Set(reflect.New(operation.Type.Elem()))
			}
			value := reflect.ValueOf(&with).Elem().Field(kind).Elem().Field(i)
			switch {
			case field.Type.Kind() == reflect.Pointer:
				value.Set(reflect.ValueOf(aws.String("x")))
			case field.Type.Kind() == reflect.String:
				value.SetString("x")
			case field.Type == reflect.TypeFor[map[string]string]():
				value.Set(reflect.ValueOf(map[string]string{"x": "y"}))
			default:
				value.Set(reflect.ValueOf(item{"x": s("y")}))
			}
			require.NotEqualf(t, Of([]types.TransactWriteItem{without}), Of([]types.TransactWriteItem{with}), "%s.%s", operation.Name, field.Name)
		}
	}
	require.GreaterOrEqual(t, fields, 25)
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
