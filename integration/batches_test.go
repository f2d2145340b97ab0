package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func batchDelete(key string) types.WriteRequest {
	return types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: item{"pk": s(key)}}}
}

func batchKeys(count int) []item {
	var out []item
	for i := range count {
		out = append(out, item{"pk": s(strconv.Itoa(i))})
	}
	return out
}

var batchCases = []testCase{
	{"batches: puts and deletes, over two tables", onTables, func(t *trial, c clients) {
		one, two := c.table(t, "pk:S"), c.table(t, "pk:S")
		c.put(t, one, item{"pk": s("old")})
		_, err := c.DynamoDB.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{
			one: append(batchPuts(0, 20), batchDelete("old"), batchDelete("nothing")), two: batchPuts(0, 3)}})
		require.NoError(t, err)
		require.Len(t, c.all(t, one), 20)
		require.Len(t, c.all(t, two), 3)
		require.Nil(t, c.get(t, one, item{"pk": s("old")}))
	}},
	{"batches: 25 writes are taken, 26 and none are refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		requireCode(t, c.batchWrite(t, table, batchPuts(0, 26)), "ValidationException")
		requireCode(t, c.batchWrite(t, table, []types.WriteRequest{}), "ValidationException")
		require.Empty(t, c.all(t, table))
		require.NoError(t, c.batchWrite(t, table, batchPuts(0, 25)))
		require.Len(t, c.all(t, table), 25)
	}},
	{"batches: one item twice is refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		requireCode(t, c.batchWrite(t, table, append(batchPuts(0, 3), batchDelete("1"))), "ValidationException")
		require.Empty(t, c.all(t, table))
	}},
	{"batches: one bad write spoils all", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		bad := types.WriteRequest{PutRequest: &types.PutRequest{Item: item{"no": s("key")}}}
		requireCode(t, c.batchWrite(t, table, append(batchPuts(0, 3), bad)), "ValidationException")
		require.Empty(t, c.all(t, table))
		requireCode(t, c.batchWrite(t, missing, batchPuts(0, 1)), "ResourceNotFoundException")
	}},
	{"batches: reads leave out what is missing", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("0"), "v": n(0), "w": n(0)}, item{"pk": s("2"), "v": n(2), "w": n(2)})
		out, err := c.DynamoDB.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			table: {Keys: batchKeys(4), ProjectionExpression: aws.String("#v"), ExpressionAttributeNames: map[string]string{"#v": "v"}}}})
		require.NoError(t, err)
		require.ElementsMatch(t, []item{{"v": n(0)}, {"v": n(2)}}, out.Responses[table])
		require.Empty(t, out.UnprocessedKeys)
	}},
	{"batches: 100 keys are read, 101 and one twice are refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for i := 0; i < 100; i += 25 {
			require.NoError(t, c.batchWrite(t, table, batchPuts(i, i+25)))
		}
		get := func(keys []item) (int, error) {
			out, err := c.DynamoDB.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{table: {Keys: keys}}})
			if err != nil {
				return 0, err
			}
			return len(out.Responses[table]), nil
		}
		count, err := get(batchKeys(100))
		require.NoError(t, err)
		require.Equal(t, 100, count)
		_, err = get(batchKeys(101))
		requireCode(t, err, "ValidationException")
		_, err = get(append(batchKeys(2), item{"pk": s("0")}))
		requireCode(t, err, "ValidationException")
	}},
	{"batches: a read of more than 16 MB leaves keys unprocessed", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for i := range 43 {
			c.put(t, table, item{"pk": s(strconv.Itoa(i)), "v": s(filler(399 << 10))})
		}
		out, err := c.DynamoDB.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{table: {Keys: batchKeys(43)}}})
		require.NoError(t, err)
		require.NotEmpty(t, out.UnprocessedKeys[table].Keys, "everything came at once")
		seen := map[string]bool{}
		for _, key := range append(column(out.Responses[table], "pk"), column(out.UnprocessedKeys[table].Keys, "pk")...) {
			seen[key] = true
		}
		require.Len(t, seen, 43)
		require.Len(t, out.Responses[table], 43-len(out.UnprocessedKeys[table].Keys))
	}},
}

var tableCases = []testCase{
	{"tables: a new one becomes ACTIVE and is described as it was made", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:N", index("byWhen", "status:S", "when:N"))
		out, err := c.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &table})
		require.NoError(t, err)
		d := out.Table
		require.Equal(t, types.TableStatusActive, d.TableStatus)
		require.Regexp(t, `^arn:aws:dynamodb:[a-z0-9-]+:[0-9]{12}:table/`+table+"$", aws.ToString(d.TableArn))
		require.WithinDuration(t, time.Now(), aws.ToTime(d.CreationDateTime), time.Hour)
		require.Equal(t, []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}, {AttributeName: aws.String("sk"), KeyType: types.KeyTypeRange}}, d.KeySchema)
		require.Len(t, d.AttributeDefinitions, 4)
		require.NotNil(t, d.BillingModeSummary)
		require.Equal(t, types.BillingModePayPerRequest, d.BillingModeSummary.BillingMode)
		require.Len(t, d.GlobalSecondaryIndexes, 1)
		require.Equal(t, types.IndexStatusActive, d.GlobalSecondaryIndexes[0].IndexStatus)
	}},
	{"tables: the SDK's waiters see one come and go", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		fast := func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay, o.MaxDelay = 20*time.Millisecond, time.Second }
		require.NoError(t, dynamodb.NewTableExistsWaiter(c.DynamoDB, fast).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: &table}, 30*time.Second))
		_, err := c.DynamoDB.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &table})
		require.NoError(t, err)
		gone := func(o *dynamodb.TableNotExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = 20*time.Millisecond, time.Second
		}
		require.NoError(t, dynamodb.NewTableNotExistsWaiter(c.DynamoDB, gone).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: &table}, 30*time.Second))
	}},
	{"tables: a name is taken once", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		in := &dynamodb.CreateTableInput{TableName: &table, BillingMode: types.BillingModePayPerRequest}
		in.KeySchema = keySchema(in, "pk:S", "")
		_, err := c.DynamoDB.CreateTable(t.Context(), in)
		requireCode(t, err, "ResourceInUseException")
	}},
	{"tables: a deleted one is gone with its items", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1")})
		_, err := c.DynamoDB.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &table})
		require.NoError(t, err)
		t.eventually("the table is still there", func() bool {
			_, err := c.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &table})
			return errorCode(err) == "ResourceNotFoundException"
		})
		_, err = c.DynamoDB.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &table})
		requireCode(t, err, "ResourceNotFoundException")
	}},
	{"tables: bad definitions are refused", onTables, func(t *trial, c clients) {
		for what, spoil := range map[string]func(*dynamodb.CreateTableInput){
			"key not defined":    func(in *dynamodb.CreateTableInput) { in.AttributeDefinitions[0].AttributeName = aws.String("other") },
			"attribute not used": func(in *dynamodb.CreateTableInput) { define(in, "more:S") },
			"two hash keys": func(in *dynamodb.CreateTableInput) {
				in.KeySchema = keySchema(in, "pk:S", "sk:S")
				in.KeySchema[1].KeyType = types.KeyTypeHash
			},
			"index without capacity": func(in *dynamodb.CreateTableInput) { in.BillingMode = types.BillingModeProvisioned },
			"short name":             func(in *dynamodb.CreateTableInput) { in.TableName = aws.String("ab") },
			"bad name":               func(in *dynamodb.CreateTableInput) { in.TableName = aws.String("a b c") },
		} {
			in := &dynamodb.CreateTableInput{TableName: aws.String(unique("bad")), BillingMode: types.BillingModePayPerRequest}
			in.KeySchema = keySchema(in, "pk:S", "")
			spoil(in)
			_, err := c.DynamoDB.CreateTable(t.Context(), in)
			if err == nil {
				t.Cleanup(func(ctx context.Context) {
					_, _ = c.DynamoDB.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: in.TableName})
				})
			}
			refused(t, what, err, "ValidationException")
		}
	}},
	{"tables: lists come in pages, in order", onTables, func(t *trial, c clients) {
		prefix := unique("list")
		var names []string
		for i := range 4 {
			names = append(names, c.tableNamed(t, fmt.Sprint(prefix, i), "pk:S")) // neighbours, whatever other cases make
		}
		out, err := c.DynamoDB.ListTables(t.Context(), &dynamodb.ListTablesInput{ExclusiveStartTableName: &names[0], Limit: aws.Int32(2)})
		require.NoError(t, err)
		require.Equal(t, names[1:3], out.TableNames)
		require.Equal(t, names[2], aws.ToString(out.LastEvaluatedTableName))
	}},
	{"tables: a list may start after a name that is not there", onTables, func(t *trial, c clients) {
		prefix := unique("list")
		c.tableNamed(t, prefix+"0", "pk:S")
		c.tableNamed(t, prefix+"2", "pk:S")
		out, err := c.DynamoDB.ListTables(t.Context(), &dynamodb.ListTablesInput{ExclusiveStartTableName: aws.String(prefix + "1"), Limit: aws.Int32(1)})
		require.NoError(t, err)
		require.Equal(t, []string{prefix + "2"}, out.TableNames)
	}},
	{"time to live: off, on, and not on twice", []service{tables, timeToLive}, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		status := func() types.TimeToLiveStatus {
			out, err := c.DynamoDB.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &table})
			require.NoError(t, err)
			require.NotNil(t, out.TimeToLiveDescription)
			if s := out.TimeToLiveDescription.TimeToLiveStatus; s == types.TimeToLiveStatusEnabled {
				require.Equal(t, "expiresAt", aws.ToString(out.TimeToLiveDescription.AttributeName))
			}
			return out.TimeToLiveDescription.TimeToLiveStatus
		}
		enable := func(on bool, attribute string) error {
			out, err := c.DynamoDB.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: &table,
				TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &attribute, Enabled: &on}})
			if err == nil && (out.TimeToLiveSpecification == nil || aws.ToString(out.TimeToLiveSpecification.AttributeName) != attribute) {
				return errors.New("the answer does not repeat the specification")
			}
			return err
		}
		require.Equal(t, types.TimeToLiveStatusDisabled, status())
		refused(t, "off while off", enable(false, "expiresAt"), "ValidationException")
		require.NoError(t, enable(true, "expiresAt"))
		t.eventually("time to live is not ENABLED", func() bool { return status() == types.TimeToLiveStatusEnabled })
		refused(t, "on while on", enable(true, "expiresAt"), "ValidationException")
		refused(t, "another attribute", enable(true, "other"), "ValidationException")
	}},
	{"time to live: an item in use keeps its time and is not gone early", []service{tables, timeToLive}, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		_, err := c.DynamoDB.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: &table,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("expiresAt"), Enabled: aws.Bool(true)}})
		require.NoError(t, err)
		in := item{"pk": s("1"), "expiresAt": n(time.Now().Add(time.Hour).Unix())}
		c.put(t, table, in, item{"pk": s("2"), "expiresAt": s("no number, no expiry")})
		require.Equal(t, in, c.get(t, table, item{"pk": s("1")}))
		require.Len(t, c.all(t, table), 2)
	}},
}
