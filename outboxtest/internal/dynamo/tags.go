package dynamo

import (
	"maps"
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const maxTags = 50

type tagResourceInput struct {
	ResourceArn *string `wire:"required,min=1,max=1283"`
	Tags        []tag   `wire:"required"`
}

type untagResourceInput struct {
	ResourceArn *string  `wire:"required,min=1,max=1283"`
	TagKeys     []string `wire:"required"`
}

type listTagsOfResourceInput struct {
	ResourceArn *string `wire:"required,min=1,max=1283"`
	NextToken   *string
}

type listTagsOfResourceOutput struct{ Tags []tag }

// tagged is the table of an ARN.
func (db *DB) tagged(arn string) (*table, error) {
	if !isARN(arn) {
		return nil, wire.Validation("Invalid TableArn: Invalid ResourceArn provided as input " + arn)
	}
	if !strings.HasPrefix(arn, db.arn("")) {
		return nil, wire.Errorf("AccessDeniedException", "User: arn:aws:iam::%s:root is not authorized to perform: dynamodb:TagResource on resource: %s", db.cfg.Account, arn)
	}
	if t, ok := db.find(arn); ok {
		return t, nil
	}
	return nil, wire.Errorf("ResourceNotFoundException", "Requested resource not found: ResourcArn: %s not found", arn)
}

func (db *DB) tagResource(in *tagResourceInput) (any, error) {
	if len(in.Tags) == 0 {
		return nil, wire.Validation("Atleast one Tag needs to be provided as Input.")
	}
	for _, tag := range in.Tags {
		if err := tag.validate(); err != nil {
			return nil, err
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.tagged(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	added := 0
	for _, tag := range in.Tags {
		if _, ok := t.tags[tag.Key]; !ok {
			added++
		}
	}
	if len(t.tags)+added > maxTags {
		return nil, wire.Validationf("One or more parameter values were invalid: Too many Tags: %d. Maximum is %d", len(t.tags)+added, maxTags)
	}
	for _, tag := range in.Tags {
		t.tags[tag.Key] = tag.Value
	}
	return nil, nil
}

func (t tag) validate() error {
	if t.Key == "" || len(t.Key) > 128 {
		return invalid("Tag key must be between 1 and 128 characters")
	}
	if len(t.Value) > 256 {
		return invalid("Tag value must be between 0 and 256 characters")
	}
	return nil
}

func (db *DB) untagResource(in *untagResourceInput) (any, error) {
	if len(in.TagKeys) == 0 {
		return nil, wire.Validation("Atleast one Tag Key needs to be provided as Input.")
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.tagged(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(t.tags, key)
	}
	return nil, nil
}

func (db *DB) listTagsOfResource(in *listTagsOfResourceInput) (*listTagsOfResourceOutput, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	t, err := db.tagged(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return &listTagsOfResourceOutput{t.tagList()}, nil
}

type nothing struct{}

type describeLimitsOutput struct {
	AccountMaxReadCapacityUnits, AccountMaxWriteCapacityUnits int64
	TableMaxReadCapacityUnits, TableMaxWriteCapacityUnits     int64
}

// describeLimits tells the limits of a new account.
func (db *DB) describeLimits(*nothing) (*describeLimitsOutput, error) {
	return &describeLimitsOutput{80000, 80000, 40000, 40000}, nil
}

type endpoint struct {
	Address              string
	CachePeriodInMinutes int64
}

type describeEndpointsOutput struct{ Endpoints []endpoint }

func (db *DB) describeEndpoints(*nothing) (*describeEndpointsOutput, error) {
	return &describeEndpointsOutput{[]endpoint{{"dynamodb." + db.cfg.Region + ".amazonaws.com", 1440}}}, nil
}

// tagList is the table's tags in the order of their keys.
func (t *table) tagList() []tag {
	out := make([]tag, 0, len(t.tags))
	for _, key := range slices.Sorted(maps.Keys(t.tags)) {
		out = append(out, tag{Key: key, Value: t.tags[key]})
	}
	return out
}
