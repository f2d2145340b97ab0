package main

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// eventRow is an event row as a struct for attributevalue.
type eventRow struct {
	ID          string `dynamodbav:"eventId"`
	Type        string `dynamodbav:"type"`
	AggregateID string `dynamodbav:"aggregateId"`
	Timestamp   int64  `dynamodbav:"timestamp"`
	Sequence    int64  `dynamodbav:"sequence"`
	Payload     string `dynamodbav:"payload"`
}

// today is what users write: encoding/json into aws-lambda-go's record, by hand to the SDK's attribute values, and
// attributevalue into a struct.
func today(data []byte) (eventRow, error) {
	var row eventRow
	var r events.DynamoDBEventRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return row, err
	}
	if r.EventName != "INSERT" {
		return row, errNotInsert
	}
	image := make(map[string]types.AttributeValue, len(r.Change.NewImage))
	for name, v := range r.Change.NewImage {
		image[name] = sdkValue(v)
	}
	return row, attributevalue.UnmarshalMap(image, &row)
}

var errNotInsert = fmt.Errorf("not an INSERT")

// sdkValue turns aws-lambda-go's attribute value into the SDK's, as everybody does by hand.
func sdkValue(v events.DynamoDBAttributeValue) types.AttributeValue {
	switch v.DataType() {
	case events.DataTypeString:
		return &types.AttributeValueMemberS{Value: v.String()}
	case events.DataTypeNumber:
		return &types.AttributeValueMemberN{Value: v.Number()}
	case events.DataTypeBinary:
		return &types.AttributeValueMemberB{Value: v.Binary()}
	case events.DataTypeBoolean:
		return &types.AttributeValueMemberBOOL{Value: v.Boolean()}
	case events.DataTypeStringSet:
		return &types.AttributeValueMemberSS{Value: v.StringSet()}
	case events.DataTypeNumberSet:
		return &types.AttributeValueMemberNS{Value: v.NumberSet()}
	case events.DataTypeBinarySet:
		return &types.AttributeValueMemberBS{Value: v.BinarySet()}
	case events.DataTypeMap:
		m := make(map[string]types.AttributeValue, len(v.Map()))
		for name, inner := range v.Map() {
			m[name] = sdkValue(inner)
		}
		return &types.AttributeValueMemberM{Value: m}
	case events.DataTypeList:
		l := make([]types.AttributeValue, 0, len(v.List()))
		for _, inner := range v.List() {
			l = append(l, sdkValue(inner))
		}
		return &types.AttributeValueMemberL{Value: l}
	}
	return &types.AttributeValueMemberNULL{Value: true}
}

// todayTyped is today, and the payload into its struct.
func todayTyped(data []byte) (o order, err error) {
	row, err := today(data)
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal([]byte(row.Payload), &o)
}

// todayInvoke is a Lambda function that does so.
func todayInvoke(payload []byte, handle func(order) error) error {
	var e events.KinesisEvent
	if err := json.Unmarshal(payload, &e); err != nil {
		return err
	}
	for _, r := range e.Records {
		o, err := todayTyped(r.Kinesis.Data)
		if err != nil {
			return err
		}
		if err := handle(o); err != nil {
			return err
		}
	}
	return nil
}

// mapJSON is the SDK's way from JSON: the envelope by encoding/json, the image by attributevalue.UnmarshalMapJSON.
func mapJSON(data []byte) (row eventRow, err error) {
	var r struct {
		EventName string `json:"eventName"`
		Dynamodb  struct {
			NewImage json.RawMessage
		} `json:"dynamodb"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return row, err
	}
	image, err := attributevalue.UnmarshalMapJSON(r.Dynamodb.NewImage)
	if err != nil {
		return row, err
	}
	return row, attributevalue.UnmarshalMap(image, &row)
}

// mirror is encoding/json into structs made for this one row.
func mirror(data []byte) (row eventRow, err error) {
	type str struct{ S string }
	type num struct{ N json.Number }
	var r struct {
		EventName string `json:"eventName"`
		Dynamodb  struct {
			NewImage struct {
				EventID     str `json:"eventId"`
				Type        str `json:"type"`
				AggregateID str `json:"aggregateId"`
				Timestamp   num `json:"timestamp"`
				Sequence    num `json:"sequence"`
				Payload     str `json:"payload"`
			}
		} `json:"dynamodb"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return row, err
	}
	image := &r.Dynamodb.NewImage
	at, err := image.Timestamp.N.Int64()
	if err != nil {
		return row, err
	}
	sequence, err := image.Sequence.N.Int64()
	return eventRow{image.EventID.S, image.Type.S, image.AggregateID.S, at, sequence, image.Payload.S}, err
}
