package dynamo

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

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
	if err := checkResource(arn); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(arn, db.arn("")) {
		return nil, wire.Errorf("AccessDeniedException", "User: arn:aws:iam::%s:root is not authorized to perform: dynamodb:TagResource on resource: %s", db.cfg.Account, arn)
	}
	if t, ok := db.find(arn); ok {
		return t, nil
	}
	return nil, wire.Errorf("ResourceNotFoundException", "Requested resource not found: ResourcArn: %s not found", arn)
}

// checkResource checks that an ARN can be a table's.
func checkResource(arn string) error {
	if !isARN(arn) || strings.Contains(arn, "/index/") {
		return wire.Validation("Invalid TableArn: Invalid ResourceArn provided as input " + arn)
	}
	return nil
}

func (db *DB) tagResource(in *tagResourceInput) (any, error) {
	if err := checkResource(*in.ResourceArn); err != nil {
		return nil, err
	}
	if len(in.Tags) == 0 {
		return nil, wire.Validation("Atleast one Tag needs to be provided as Input.")
	}
	if err := validateTags(in.Tags); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.tagged(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	added := 0
	for _, tag := range in.Tags {
		if _, ok := t.tags[*tag.Key]; !ok {
			added++
		}
	}
	if n := len(t.tags) + added; n > maxTags {
		return nil, tooManyTags(n)
	}
	for _, tag := range in.Tags {
		t.tags[*tag.Key] = *tag.Value
	}
	return nil, nil
}

func tooManyTags(n int) error { return invalid("Too many Tags: %d. Maximum is %d", n, maxTags) }

func validateTags(tags []tag) error {
	if len(tags) > maxTags {
		return tooManyTags(len(tags))
	}
	for _, t := range tags {
		if err := t.validate(); err != nil {
			return err
		}
	}
	return nil
}

// validate checks the tag's characters; AWS counts them, not their bytes.
func (t tag) validate() error {
	const allowed = " may only contain letters, digits, spaces and _ . : / = + - @"
	if n := utf8.RuneCountInString(*t.Key); n < 1 || n > 128 {
		return invalid("Tag key must be between 1 and 128 characters")
	}
	if utf8.RuneCountInString(*t.Value) > 256 {
		return invalid("Tag value must be between 0 and 256 characters")
	}
	if strings.ContainsFunc(*t.Key, notInTags) {
		return invalid("Tag key" + allowed)
	}
	if strings.ContainsFunc(*t.Value, notInTags) {
		return invalid("Tag value" + allowed)
	}
	return nil
}

func notInTags(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsSpace(r) && !strings.ContainsRune("_.:/=+-@", r)
}

func (db *DB) untagResource(in *untagResourceInput) (any, error) {
	if err := checkResource(*in.ResourceArn); err != nil {
		return nil, err
	}
	if len(in.TagKeys) == 0 {
		return nil, wire.Validation("Atleast one Tag Key needs to be provided as Input.")
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.tagged(*in.ResourceArn)
	if err != nil {
		if e := wire.AsError(err); e.Code == "ResourceNotFoundException" {
			e.Message = "Requested resource not found" // AWS says less here
		}
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
		value := t.tags[key]
		out = append(out, tag{Key: &key, Value: &value})
	}
	return out
}
