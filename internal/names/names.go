// Package names checks names and ARNs of tables and streams before the first call. A name that can never work would otherwise be refused by AWS
// again and again. It knows AWS's rules for names, and makes no call.
package names

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

var (
	// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateStream.html
	streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
	tableName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,255}$`)
	partition = regexp.MustCompile(`^aws[a-z0-9-]*$`) // aws, aws-cn, aws-us-gov, and those to come
	region    = regexp.MustCompile(`^[a-z0-9-]+$`)    // also that of a server of somebody else's
	account   = regexp.MustCompile(`^[0-9]{12}$`)
	label     = regexp.MustCompile(`^[0-9TZ:.-]+$`)
)

// KinesisName returns what is wrong with the name of a Kinesis stream, or nil.
func KinesisName(name string) error {
	if streamName.MatchString(name) {
		return nil
	}
	return wrong(name, "the name of a Kinesis stream: 1 to 128 letters, digits, '_', '.' or '-'")
}

// KinesisStream returns what is wrong with the name or the ARN of a Kinesis stream, or nil.
func KinesisStream(nameOrARN string) error {
	if streamName.MatchString(nameOrARN) || kindOf(nameOrARN) == kinesisStream {
		return nil
	}
	return wrong(nameOrARN, "a Kinesis stream by name (1 to 128 letters, digits, '_', '.' or '-') or ARN (arn:aws:kinesis:<region>:<account>:stream/<name>)")
}

// DynamoDBStream returns what is wrong with the ARN of a DynamoDB stream, or nil.
func DynamoDBStream(streamARN string) error {
	if kindOf(streamARN) == dynamoDBStream {
		return nil
	}
	return wrong(streamARN, "the ARN of a DynamoDB stream (arn:aws:dynamodb:<region>:<account>:table/<name>/stream/<time>), the LatestStreamArn of DescribeTable")
}

// IsTableName reports whether a table can have the name. An ARN is no name.
func IsTableName(name string) bool { return tableName.MatchString(name) }

// Table returns what is wrong with the name or the ARN of a table, or nil.
func Table(nameOrARN string) error {
	if IsTableName(nameOrARN) || kindOf(nameOrARN) == table {
		return nil
	}
	return wrong(nameOrARN, "a DynamoDB table by name (3 to 255 letters, digits, '_', '.' or '-') or ARN (arn:aws:dynamodb:<region>:<account>:table/<name>)")
}

// OfTable returns the name in a table's name or ARN.
func OfTable(nameOrARN string) string { return nameOrARN[strings.LastIndexByte(nameOrARN, '/')+1:] }

func wrong(have, want string) error {
	if have == "" {
		return errors.New("it is empty: want " + want)
	}
	const most = 200
	shown := have
	if len(shown) > most {
		shown = strings.ToValidUTF8(shown[:most], "") + "..."
	}
	is := ""
	if kind := kindOf(have); kind != "" {
		is = " is the ARN of " + kind
	} else if strings.HasPrefix(have, "arn:") {
		is = " is no ARN that AWS gives"
	}
	return fmt.Errorf("%q%s: want %s", shown, is, want)
}

// Kinds of ARNs.
const (
	table          = "a DynamoDB table"
	dynamoDBStream = "a DynamoDB stream"
	kinesisStream  = "a Kinesis stream"
)

// kindOf says what an ARN names, or "" if it is no ARN that AWS gives.
func kindOf(text string) string {
	a, err := arn.Parse(text)
	if err != nil || !utf8.ValidString(text) || !partition.MatchString(a.Partition) {
		return ""
	}
	if a.Service != "dynamodb" && a.Service != "kinesis" {
		return "the service " + a.Service
	}
	if !region.MatchString(a.Region) || !account.MatchString(a.AccountID) {
		return ""
	}
	parts := strings.SplitN(a.Resource, "/", 4)
	switch what, name := parts[0], parts[min(1, len(parts)-1)]; {
	case a.Service == "kinesis" && what == "stream" && len(parts) == 2 && streamName.MatchString(name):
		return kinesisStream
	case a.Service == "kinesis" && what == "stream" && len(parts) == 4 && parts[2] == "consumer":
		return "an enhanced fan-out consumer, which takes SubscribeToShard"
	case a.Service == "dynamodb" && what == "table" && len(parts) == 2 && tableName.MatchString(name):
		return table
	case a.Service == "dynamodb" && what == "table" && len(parts) == 4 && parts[2] == "stream" && tableName.MatchString(name) && label.MatchString(parts[3]):
		return dynamoDBStream
	case a.Service == "dynamodb" && what == "table" && len(parts) == 4 && parts[2] == "index":
		return "an index"
	}
	return ""
}
