package dynamo_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func (w *world) byIndex(index, condition string, values item, options ...func(*dynamodb.QueryInput)) *dynamodb.QueryOutput {
	w.t.Helper()
	in := &dynamodb.QueryInput{TableName: aws.String("rows"), IndexName: &index, KeyConditionExpression: &condition, ExpressionAttributeValues: values}
	for _, o := range options {
		o(in)
	}
	out, err := w.Query(w.t.Context(), in)
	require.NoError(w.t, err)
	return out
}

func TestGlobalIndex(t *testing.T) {
	w := indexed(t)
	for i, r := range []string{"10", "9", "-1", "100"} {
		w.put("rows", item{"pk": s("a"), "sk": n(strconv.Itoa(i)), "g": s("x"), "r": n(r), "v": n("7"), "u": n("8")})
	}
	w.put("rows", item{"pk": s("b"), "sk": n("0"), "g": s("x"), "r": n("9"), "v": n("7")})
	w.put("rows", item{"pk": s("c"), "sk": n("0"), "g": s("x")})
	w.put("rows", item{"pk": s("c"), "sk": n("1"), "r": n("1")})

	x := item{":g": s("x")}
	require.Equal(t, []string{"-1", "9", "9", "10", "100"}, texts(w.byIndex("all", "g = :g", x).Items, "r"), "sparse, in numeric order")
	require.Equal(t, []string{"10", "100"}, texts(w.byIndex("all", "g = :g AND r > :r", item{":g": s("x"), ":r": n("9")}).Items, "r"))
	require.Len(t, w.byIndex("keys", "g = :g", x).Items, 6)
	for _, it := range w.byIndex("keys", "g = :g", x).Items {
		require.Len(t, it, 3, "pk, sk and g alone")
	}
	require.Len(t, w.byIndex("some", "g = :g", x).Items[0], 4)

	// Pages go on after entries with the same index key.
	var seen []string
	var start item
	for {
		out := w.byIndex("keys", "g = :g", x, func(in *dynamodb.QueryInput) { in.Limit, in.ExclusiveStartKey = aws.Int32(1), start })
		for _, it := range out.Items {
			seen = append(seen, fmt.Sprint(texts([]item{it}, "pk"), texts([]item{it}, "sk")))
		}
		if start = out.LastEvaluatedKey; start == nil {
			break
		}
		require.Len(t, start, 3)
	}
	slices.Sort(seen)
	require.Len(t, slices.Compact(seen), 6)

	scan, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), IndexName: aws.String("all")})
	require.NoError(t, err)
	require.Len(t, scan.Items, 5)

	// Moving, leaving and deleting.
	update := func(expression string, values item) {
		_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("rows"), Key: item{"pk": s("a"), "sk": n("0")},
			UpdateExpression: &expression, ExpressionAttributeValues: values})
		require.NoError(t, err)
	}
	update("SET g = :g", item{":g": s("y")})
	require.Len(t, w.byIndex("all", "g = :g", x).Items, 4)
	require.Len(t, w.byIndex("all", "g = :g", item{":g": s("y")}).Items, 1)
	update("REMOVE g", nil)
	require.Empty(t, w.byIndex("all", "g = :g", item{":g": s("y")}).Items)
}

func TestLocalIndex(t *testing.T) {
	w := indexed(t)
	for i, z := range []string{"c", "a", "b"} {
		w.put("rows", item{"pk": s("a"), "sk": n(strconv.Itoa(i)), "z": s(z), "v": n("1")})
	}
	w.put("rows", item{"pk": s("a"), "sk": n("9")})
	out := w.byIndex("local", "pk = :p", item{":p": s("a")}, func(in *dynamodb.QueryInput) { in.ConsistentRead = aws.Bool(true) })
	require.Equal(t, []string{"a", "b", "c"}, texts(out.Items, "z"))
	require.Len(t, out.Items[0], 3)
	out = w.byIndex("local", "pk = :p AND z BETWEEN :a AND :b", item{":p": s("a"), ":a": s("aa"), ":b": s("c")}, func(in *dynamodb.QueryInput) {
		in.Select = types.SelectAllAttributes
		in.ReturnConsumedCapacity = types.ReturnConsumedCapacityIndexes
	})
	require.Equal(t, []string{"b", "c"}, texts(out.Items, "z"))
	require.Len(t, out.Items[0], 4, "a local index fetches what it does not carry")
	require.Equal(t, 1.0, *out.ConsumedCapacity.Table.CapacityUnits)
	require.Equal(t, 0.5, *out.ConsumedCapacity.LocalSecondaryIndexes["local"].CapacityUnits)
}

func TestIndexRefusals(t *testing.T) {
	w := indexed(t)
	_, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: item{"pk": s("a"), "sk": n("1"), "r": s("1")}})
	requireInvalid(t, err, "One or more parameter values were invalid: Type mismatch for Index Key r Expected: N Actual: S IndexName: all")
	_, err = w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: item{"pk": s("a"), "sk": n("1"), "g": s("")}})
	requireInvalid(t, err, "One or more parameter values are not valid. A value specified for a secondary index key is not supported. "+
		"The AttributeValue for a key attribute cannot contain an empty string value. IndexName: all, IndexKey: g")
	update := func(expression string, values item) error {
		_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("rows"), Key: item{"pk": s("a"), "sk": n("1")},
			UpdateExpression: &expression, ExpressionAttributeValues: values})
		return err
	}
	requireInvalid(t, update("SET r = :s", item{":s": s("1")}), "One or more parameter values were invalid: Type mismatch for Index Key r Expected: N Actual: S IndexName: all")
	w.put("rows", item{"pk": s("a"), "sk": n("1"), "v": s("x")})
	requireInvalid(t, update("SET r = v", nil), "The update expression attempted to update the secondary index key to unsupported type")
	requireInvalid(t, update("SET g.x = v", nil), "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: IndexKey: g")
	requireInvalid(t, update("SET v = pk.x", nil), "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: pk")
	query := func(change func(*dynamodb.QueryInput)) error {
		in := &dynamodb.QueryInput{TableName: aws.String("rows"), IndexName: aws.String("keys"), KeyConditionExpression: aws.String("g = :g"), ExpressionAttributeValues: item{":g": s("x")}}
		change(in)
		_, err := w.Query(t.Context(), in)
		return err
	}
	requireInvalid(t, query(func(in *dynamodb.QueryInput) { in.ConsistentRead = aws.Bool(true) }), "Consistent reads are not supported on global secondary indexes")
	requireInvalid(t, query(func(in *dynamodb.QueryInput) { in.Select = types.SelectAllAttributes }),
		"One or more parameter values were invalid: Select type ALL_ATTRIBUTES is not supported for global secondary index keys because its projection type is not ALL")
	requireInvalid(t, query(func(in *dynamodb.QueryInput) { in.ProjectionExpression = aws.String("v") }),
		"One or more parameter values were invalid: Global secondary index keys does not project [v]")
	requireInvalid(t, query(func(in *dynamodb.QueryInput) { in.ExclusiveStartKey = item{"g": s("x")} }), "The provided starting key is invalid")
}

func TestIndexCapacity(t *testing.T) {
	w := indexed(t)
	put := func(it item) *types.ConsumedCapacity {
		out, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: it, ReturnConsumedCapacity: types.ReturnConsumedCapacityIndexes})
		require.NoError(t, err)
		return out.ConsumedCapacity
	}
	base := item{"pk": s("a"), "sk": n("1"), "g": s("x"), "r": n("1"), "v": n("1")}
	require.Equal(t, 4.0, *put(base).CapacityUnits, "the table and three indexes")
	require.Equal(t, 1.0, *put(base).CapacityUnits, "nothing changed in any index")
	c := put(item{"pk": s("a"), "sk": n("1"), "g": s("x"), "r": n("2"), "v": n("1")})
	require.Equal(t, 2.0, *c.GlobalSecondaryIndexes["all"].CapacityUnits, "a move is a delete and an insert")
	require.NotContains(t, c.GlobalSecondaryIndexes, "keys")
	require.Equal(t, 3.0, *c.CapacityUnits)
}

func TestUpdateTable(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	for i := range 20 {
		w.put("rows", item{"pk": s(strconv.Itoa(i)), "g": s(strconv.Itoa(i % 3))})
	}
	update := func(change func(*dynamodb.UpdateTableInput)) (*dynamodb.UpdateTableOutput, error) {
		in := &dynamodb.UpdateTableInput{TableName: aws.String("rows")}
		change(in)
		return w.UpdateTable(t.Context(), in)
	}
	create := func(in *dynamodb.UpdateTableInput) {
		in.AttributeDefinitions = defsOf("g:S")
		in.GlobalSecondaryIndexUpdates = []types.GlobalSecondaryIndexUpdate{{Create: &types.CreateGlobalSecondaryIndexAction{
			IndexName: aws.String("byG"), KeySchema: keysOf("g", ""), Projection: projectionOf(types.ProjectionTypeAll)}}}
	}
	out, err := update(create)
	require.NoError(t, err)
	require.Equal(t, types.TableStatusUpdating, out.TableDescription.TableStatus)
	require.Equal(t, types.IndexStatusCreating, out.TableDescription.GlobalSecondaryIndexes[0].IndexStatus)
	require.Len(t, w.byIndex("byG", "g = :g", item{":g": s("0")}).Items, 7, "a new index holds what is there")
	described, err := w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")})
	require.NoError(t, err)
	require.Equal(t, types.IndexStatusActive, described.Table.GlobalSecondaryIndexes[0].IndexStatus)
	require.Equal(t, int64(20), *described.Table.GlobalSecondaryIndexes[0].ItemCount)
	require.Len(t, described.Table.AttributeDefinitions, 2)
	_, err = update(create)
	requireInvalid(t, err, "Attempting to create an index which already exists")

	out, err = update(func(in *dynamodb.UpdateTableInput) {
		in.GlobalSecondaryIndexUpdates = []types.GlobalSecondaryIndexUpdate{{Delete: &types.DeleteGlobalSecondaryIndexAction{IndexName: aws.String("byG")}}}
	})
	require.NoError(t, err)
	require.Empty(t, out.TableDescription.GlobalSecondaryIndexes)
	require.Len(t, out.TableDescription.AttributeDefinitions, 1, "an attribute that is no key any more is not defined")

	_, err = update(func(*dynamodb.UpdateTableInput) {})
	requireInvalid(t, err, "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required")
	throughput := func(in *dynamodb.UpdateTableInput) {
		in.ProvisionedThroughput = &types.ProvisionedThroughput{ReadCapacityUnits: aws.Int64(2), WriteCapacityUnits: aws.Int64(3)}
	}
	_, err = update(throughput)
	requireInvalid(t, err, "One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
	out, err = update(func(in *dynamodb.UpdateTableInput) { throughput(in); in.BillingMode = types.BillingModeProvisioned })
	require.NoError(t, err)
	require.Equal(t, types.BillingModeProvisioned, out.TableDescription.BillingModeSummary.BillingMode)
	require.Equal(t, int64(3), *out.TableDescription.ProvisionedThroughput.WriteCapacityUnits)
	_, err = update(throughput)
	require.ErrorContains(t, err, "The provisioned throughput for the table will not change.")

	enable := func(in *dynamodb.UpdateTableInput) {
		in.StreamSpecification = &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeKeysOnly}
	}
	_, err = update(enable)
	require.NoError(t, err)
	w.taken()
	w.put("rows", item{"pk": s("streamed")})
	require.Equal(t, "KEYS_ONLY", w.taken()[0].StreamView)
	_, err = update(enable)
	requireInvalid(t, err, "Table already has an enabled stream: TableName: rows")
	_, err = update(func(in *dynamodb.UpdateTableInput) {
		in.StreamSpecification = &types.StreamSpecification{StreamEnabled: aws.Bool(false)}
	})
	require.NoError(t, err)
	w.put("rows", item{"pk": s("silent")})
	require.Empty(t, w.taken()[0].StreamView)

	_, err = update(func(in *dynamodb.UpdateTableInput) { in.DeletionProtectionEnabled = aws.Bool(true) })
	require.NoError(t, err)
	_, err = w.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String("rows")})
	require.ErrorContains(t, err, "protected against deletion")
}

func TestWaitersAndTags(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	arn := aws.String("arn:aws:dynamodb:us-east-1:000000000000:table/rows")
	_, err := w.TagResource(t.Context(), &dynamodb.TagResourceInput{ResourceArn: arn, Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}, {Key: aws.String("a"), Value: aws.String("1")}}})
	require.NoError(t, err)
	_, err = w.UntagResource(t.Context(), &dynamodb.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"b", "c"}})
	require.NoError(t, err)
	tags, err := w.ListTagsOfResource(t.Context(), &dynamodb.ListTagsOfResourceInput{ResourceArn: arn})
	require.NoError(t, err)
	require.Equal(t, []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}, tags.Tags)
	_, err = w.ListTagsOfResource(t.Context(), &dynamodb.ListTagsOfResourceInput{ResourceArn: aws.String(*arn + "x")})
	requireError(t, err, "ResourceNotFoundException", "Requested resource not found: ResourcArn: "+*arn+"x not found")

	_, err = w.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String("rows")})
	require.NoError(t, err)
	require.NoError(t, dynamodb.NewTableNotExistsWaiter(w.Client).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")}, time.Minute))
	_, err = w.DescribeLimits(t.Context(), &dynamodb.DescribeLimitsInput{})
	require.NoError(t, err)
}

// TestIndexesFollowTheTable is a property: after any writes, every index holds exactly the items
// that have its key, in the order of its key, and pages give the same as one query.
func TestIndexesFollowTheTable(t *testing.T) {
	w := indexed(t)
	r := rand.New(rand.NewPCG(3, 4))
	model := make(map[string]item)
	for step := range 600 {
		key := item{"pk": s(strconv.Itoa(r.IntN(4))), "sk": n(strconv.Itoa(r.IntN(12)))}
		id := fmt.Sprint(texts([]item{key}, "pk"), texts([]item{key}, "sk"))
		if r.IntN(4) == 0 {
			_, err := w.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("rows"), Key: key})
			require.NoError(t, err)
			delete(model, id)
			continue
		}
		it := item{"pk": key["pk"], "sk": key["sk"], "step": n(strconv.Itoa(step))}
		if r.IntN(3) > 0 {
			it["g"] = s(strconv.Itoa(r.IntN(2)))
		}
		if r.IntN(3) > 0 {
			it["r"] = n(strconv.Itoa(r.IntN(2001) - 1000))
		}
		w.put("rows", it)
		model[id] = it
	}
	for g := range 2 {
		var want []int
		for _, it := range model {
			if got := texts([]item{it}, "g"); len(got) == 1 && got[0] == strconv.Itoa(g) {
				if r := texts([]item{it}, "r"); len(r) == 1 {
					v, err := strconv.Atoi(r[0])
					require.NoError(t, err)
					want = append(want, v)
				}
			}
		}
		slices.Sort(want)
		values := item{":g": s(strconv.Itoa(g))}
		var whole, paged []int
		number := func(items []item) (out []int) {
			for _, text := range texts(items, "r") {
				v, err := strconv.Atoi(text)
				require.NoError(t, err)
				out = append(out, v)
			}
			return out
		}
		whole = number(w.byIndex("all", "g = :g", values).Items)
		require.Equal(t, want, whole)
		in := &dynamodb.QueryInput{TableName: aws.String("rows"), IndexName: aws.String("all"), KeyConditionExpression: aws.String("g = :g"),
			ExpressionAttributeValues: values, Limit: aws.Int32(3), ScanIndexForward: aws.Bool(false)}
		for p := dynamodb.NewQueryPaginator(w.Client, in); p.HasMorePages(); {
			page, err := p.NextPage(t.Context())
			require.NoError(t, err)
			paged = append(paged, number(page.Items)...)
		}
		slices.Reverse(paged)
		require.Equal(t, want, paged)
	}
	out, err := w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")})
	require.NoError(t, err)
	require.Equal(t, int64(len(model)), *out.Table.ItemCount)
}
