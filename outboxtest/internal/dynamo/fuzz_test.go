package dynamo_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// FuzzDo sends arbitrary bodies to every operation: none may panic, and what fails is an error of
// the service that can be written.
func FuzzDo(f *testing.F) {
	for _, body := range []string{
		``, `null`, `{}`, `{"TableName":"rows"}`, `{"TableName":"rows","Key":{"pk":null}}`, `{"TableName":"rows","Item":{"pk":{"S":"a"},"x":{"M":{"y":null}}}}`,
		`{"TableName":"more","AttributeDefinitions":[null],"KeySchema":[null],"BillingMode":"PAY_PER_REQUEST"}`,
		`{"TableName":"more","AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}],"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],` +
			`"BillingMode":"PAY_PER_REQUEST","GlobalSecondaryIndexes":[null],"Tags":[null],"StreamSpecification":{"StreamEnabled":true}}`,
		`{"TableName":"more","AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}],"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],` +
			`"BillingMode":"PAY_PER_REQUEST","LocalSecondaryIndexes":[null]}`,
		`{"TransactItems":[null]}`, `{"TransactItems":[{"Put":{"TableName":"rows","Item":{"pk":{"S":"a"}},"ConditionExpression":"a = :v"}}],"ClientRequestToken":"t"}`,
		`{"TransactItems":[{"Put":null,"Update":{"TableName":"rows","Key":{"pk":{"S":"a"}},"UpdateExpression":"SET a = :v","ExpressionAttributeValues":{":v":null}}}]}`,
		`{"TableName":"rows","KeyConditions":{"pk":null}}`, `{"TableName":"rows","ScanFilter":{"pk":null}}`, `{"TableName":"rows","Segment":0,"TotalSegments":3}`,
		`{"TableName":"rows","QueryFilter":{"pk":null},"KeyConditions":{"pk":{"ComparisonOperator":"EQ","AttributeValueList":[null]}}}`,
		`{"TableName":"rows","Key":{"pk":{"S":"a"}},"AttributeUpdates":{"a":null},"Expected":{"b":null}}`,
		`{"TableName":"rows","Key":{"pk":{"S":"a"}},"AttributeUpdates":{"a":{"Action":"ADD","Value":{"N":"1"}}}}`,
		`{"TableName":"rows","Key":{"pk":{"S":"a"}},"AttributesToGet":[null]}`,
		`{"TableName":"rows","TimeToLiveSpecification":{"Enabled":true,"AttributeName":"ttl"}}`, `{"Limit":1,"ExclusiveStartTableName":"abc"}`,
		`{"TableName":"rows","StreamArn":"arn:aws:kinesis:us-east-1:000000000000:stream/s","EnableKinesisStreamingConfiguration":null}`,
		`{"TableName":"rows","KeyConditionExpression":"pk = :v","ExpressionAttributeValues":{":v":{"S":"a"}},"ExclusiveStartKey":{"pk":{"S":"a"}}}`,
		`{"TableName":"rows","Item":{"pk":{"S":"a"},"n":{"N":"1e999999999999"},"s":{"NS":["1",null]}}}`,
	} {
		f.Add([]byte(body))
	}
	operations := []string{
		"CreateTable", "DescribeTable", "ListTables", "PutItem", "GetItem", "UpdateItem", "Query", "Scan", "TransactWriteItems",
		"EnableKinesisStreamingDestination", "DescribeKinesisStreamingDestination", "UpdateKinesisStreamingDestination",
		"DisableKinesisStreamingDestination", "UpdateTimeToLive", "DescribeTimeToLive", "DeleteItem", "DeleteTable", "Nonsense",
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		db := dynamo.New(dynamo.Config{})
		_, err := db.Do(t.Context(), "CreateTable", []byte(`{"TableName":"rows","BillingMode":"PAY_PER_REQUEST",`+
			`"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}],"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}]}`))
		require.NoError(t, err)
		for _, operation := range operations {
			result, err := db.Do(t.Context(), operation, body)
			if err != nil {
				var e *wire.Error
				require.True(t, errors.As(err, &e), "%s: %v", operation, err)
				require.NotEqual(t, wire.CodeInternal, e.Code, "%s: %v", operation, err)
				continue
			}
			_, err = wire.Marshal(result)
			require.NoError(t, err, operation)
			db.ExpireTTL()
		}
	})
}
