package dynamo

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// The shapes of requests and responses that several operations share. Field and type names are the
// API's: they appear on the wire and in AWS's complaints.

type attributeDefinition struct {
	AttributeName *string `wire:"required,min=1,max=255"`
	AttributeType *string `wire:"required,enum=B|N|S"`
}

type keySchemaElement struct {
	AttributeName *string `wire:"required,min=1,max=255"`
	KeyType       *string `wire:"required,enum=HASH|RANGE"`
}

type projection struct {
	ProjectionType   *string  `json:",omitempty" wire:"enum=ALL|INCLUDE|KEYS_ONLY"`
	NonKeyAttributes []string `json:",omitempty" wire:"min=1,members=1|255"`
}

type provisionedThroughput struct {
	WriteCapacityUnits *int64 `wire:"required,min=1"`
	ReadCapacityUnits  *int64 `wire:"required,min=1"`
}

type onDemandThroughput struct {
	MaxReadRequestUnits  *int64 `json:",omitempty"`
	MaxWriteRequestUnits *int64 `json:",omitempty"`
}

type tag struct {
	Key   *string `wire:"required"`
	Value *string `wire:"required"`
}

// expressions are the parameters that expressions bring along.
type expressions struct {
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues map[string]attr.Raw
}

// conditional is a condition on a write.
type conditional struct {
	ConditionExpression                 *string
	ReturnValuesOnConditionCheckFailure *string `wire:"enum=ALL_OLD|NONE"`
	expressions
}

// accounting says what the response shall tell about costs.
type accounting struct {
	ReturnConsumedCapacity *string `wire:"enum=INDEXES|TOTAL|NONE"`
}

// collections says whether the response shall tell the size of item collections.
type collections struct {
	ReturnItemCollectionMetrics *string `wire:"enum=SIZE|NONE"`
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func isTrue(b *bool) bool { return b != nil && *b }

// bind reads a request.
func bind[In any](body []byte) (*In, error) {
	in := new(In)
	if err := wire.DynamoDB().Bind(body, in); err != nil {
		return nil, err
	}
	return in, nil
}

// adminName is the check of a table's name that operations on tables make before all others.
func adminName(tree map[string]any) error {
	name, ok := tree["TableName"].(string)
	if !ok {
		if tree["TableName"] != nil {
			return nil // the wrong type, which the binding reports
		}
		return wire.Validation("The parameter 'TableName' is required but was not present in the request")
	}
	if isARN(name) {
		return nil
	}
	if len(name) < 3 || len(name) > 255 {
		return wire.Validation("TableName must be at least 3 characters long and at most 255 characters long")
	}
	return nil
}

// writeOrder is what AWS's newer validation looks at first in the write of one item that has its
// required member: one fault ends it.
func writeOrder(tree map[string]any, required string) error {
	if tree[required] == nil {
		return nil
	}
	if tree["TableName"] == "" {
		return wire.Validation(envelope + "Value at 'TableName' failed to satisfy constraint: Member must have length greater than or equal to 1")
	}
	switch v, given := tree["ReturnValues"].(string); v {
	case "ALL_OLD", "UPDATED_OLD", "ALL_NEW", "UPDATED_NEW", "NONE":
	default:
		if given {
			// AWS's spelling.
			return wire.Validation(envelope + "Failed to satisfy constraint: Member must satisfy enum value set: [ALL_OLD, UPDATED_OLD, ALL_NEW, UPDATE_NEW, NONE]")
		}
	}
	return nil
}

type tableNameOnly struct {
	TableName *string `wire:"table"`
}

// Precheck checks the name before anything else.
func (*tableNameOnly) Precheck(tree map[string]any) error { return adminName(tree) }
