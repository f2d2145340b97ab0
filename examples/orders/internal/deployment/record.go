package deployment

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/smithy-go/middleware"
)

// Recorder records what a client of the SDK calls, as the permissions that this needs. It is safe for concurrent use.
type Recorder struct {
	mu     sync.Mutex
	used   map[Grant]bool
	stream string // that was last named; GetRecords only has an iterator
}

// Config returns a configuration whose clients are recorded.
func (r *Recorder) Config(cfg aws.Config) aws.Config {
	cfg.APIOptions = append(slices.Clone(cfg.APIOptions), func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("record", func(ctx context.Context, in middleware.InitializeInput,
			next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			r.add(awsmiddleware.GetServiceID(ctx)+" "+awsmiddleware.GetOperationName(ctx), in.Parameters)
			return next.HandleInitialize(ctx, in)
		}), middleware.After)
	})
	return cfg
}

// Used returns what was recorded.
func (r *Recorder) Used() []Grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Keys(r.used), func(a, b Grant) int {
		if a.Action+a.Resource < b.Action+b.Resource {
			return -1
		}
		return 1
	})
}

func (r *Recorder) add(operation string, in any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used == nil {
		r.used = make(map[Grant]bool)
	}
	for _, g := range r.grants(operation, in) {
		r.used[g] = true
	}
}

func onTable(action string, name *string) Grant {
	return Grant{"dynamodb:" + action, arn("dynamodb", "table/"+aws.ToString(name))}
}

// grants says what a call needs. A transaction needs the permission of each of its operations.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html.
func (r *Recorder) grants(operation string, in any) []Grant {
	switch in := in.(type) {
	case *dynamodb.GetItemInput:
		return []Grant{onTable("GetItem", in.TableName)}
	case *dynamodb.PutItemInput:
		return []Grant{onTable("PutItem", in.TableName)}
	case *dynamodb.UpdateItemInput:
		return []Grant{onTable("UpdateItem", in.TableName)}
	case *dynamodb.DeleteItemInput:
		return []Grant{onTable("DeleteItem", in.TableName)}
	case *dynamodb.ScanInput:
		return []Grant{onTable("Scan", in.TableName)}
	case *dynamodb.QueryInput:
		g := onTable("Query", in.TableName)
		if in.IndexName != nil {
			g.Resource += "/index/" + *in.IndexName
		}
		return []Grant{g}
	case *dynamodb.DescribeKinesisStreamingDestinationInput:
		return []Grant{onTable("DescribeKinesisStreamingDestination", in.TableName)}
	case *dynamodb.BatchGetItemInput:
		var all []Grant
		for table := range in.RequestItems {
			all = append(all, onTable("BatchGetItem", &table))
		}
		return all
	case *dynamodb.TransactWriteItemsInput:
		var all []Grant
		for _, item := range in.TransactItems {
			all = append(all, ofTransaction(item)...)
		}
		return all
	case *kinesis.ListShardsInput:
		r.stream = aws.ToString(in.StreamName)
		return []Grant{{"kinesis:ListShards", arn("kinesis", "stream/"+r.stream)}}
	case *kinesis.GetShardIteratorInput:
		return []Grant{{"kinesis:GetShardIterator", arn("kinesis", "stream/"+aws.ToString(in.StreamName))}}
	case *kinesis.GetRecordsInput:
		return []Grant{{"kinesis:GetRecords", arn("kinesis", "stream/"+r.stream)}}
	case *sesv2.SendEmailInput:
		return []Grant{{"ses:SendEmail", arn("ses", "identity/"+aws.ToString(in.FromEmailAddress))}}
	}
	return []Grant{{operation, fmt.Sprintf("what the recorder does not know: %T", in)}}
}

func ofTransaction(item types.TransactWriteItem) (all []Grant) {
	if item.Put != nil {
		all = append(all, onTable("PutItem", item.Put.TableName))
	}
	if item.Update != nil {
		all = append(all, onTable("UpdateItem", item.Update.TableName))
	}
	if item.Delete != nil {
		all = append(all, onTable("DeleteItem", item.Delete.TableName))
	}
	if item.ConditionCheck != nil {
		all = append(all, onTable("ConditionCheckItem", item.ConditionCheck.TableName))
	}
	return all
}
