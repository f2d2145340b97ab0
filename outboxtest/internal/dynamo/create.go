package dynamo

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const (
	maxGlobalIndexes = 20
	maxLocalIndexes  = 5
	maxUnits         = 1_000_000_000_000
)

type globalSecondaryIndex struct {
	IndexName             *string            `wire:"required,name,min=3,max=255"`
	KeySchema             []keySchemaElement `wire:"required,min=1,max=8"`
	Projection            *projection        `wire:"required"`
	ProvisionedThroughput *provisionedThroughput
}

type localSecondaryIndex struct {
	IndexName  *string            `wire:"required,name,min=3,max=255"`
	KeySchema  []keySchemaElement `wire:"required,min=1,max=2"`
	Projection *projection        `wire:"required"`
}

// common is what the local index has in common with a global one.
func (i localSecondaryIndex) common() globalSecondaryIndex {
	return globalSecondaryIndex{IndexName: i.IndexName, KeySchema: i.KeySchema, Projection: i.Projection}
}

type streamSpecification struct {
	StreamEnabled  *bool   `wire:"required"`
	StreamViewType *string `json:",omitempty" wire:"enum=NEW_IMAGE|OLD_IMAGE|NEW_AND_OLD_IMAGES|KEYS_ONLY"`
}

type createTableInput struct {
	TableName                 *string               `wire:"name,min=3,max=255"`
	AttributeDefinitions      []attributeDefinition `wire:"required"`
	KeySchema                 []keySchemaElement    `wire:"required,min=1,max=2"`
	BillingMode               *string               `wire:"enum=PROVISIONED|PAY_PER_REQUEST"`
	ProvisionedThroughput     *provisionedThroughput
	OnDemandThroughput        *onDemandThroughput
	GlobalSecondaryIndexes    []globalSecondaryIndex
	LocalSecondaryIndexes     []localSecondaryIndex
	StreamSpecification       *streamSpecification
	TableClass                *string `wire:"enum=STANDARD|STANDARD_INFREQUENT_ACCESS"`
	DeletionProtectionEnabled *bool
	Tags                      []tag
}

// Precheck tells a missing name before anything else.
func (*createTableInput) Precheck(tree map[string]any) error {
	if tree["TableName"] == nil {
		return wire.Validation("The parameter 'TableName' is required but was not present in the request")
	}
	return nil
}

type createTableOutput struct {
	TableDescription *tableDescription
}

func (db *DB) createTable(in *createTableInput) (*createTableOutput, error) {
	if err := in.validate(); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	name := *in.TableName
	if _, exists := db.tables[name]; exists {
		return nil, wire.Errorf("ResourceInUseException", "Table already exists: %s", name)
	}
	t := db.newTable(in)
	db.tables[name] = t
	d := db.describe(t)
	// The table is ready at once, but AWS's answer never says so.
	d.TableStatus, d.WarmThroughput = "CREATING", nil
	if d.BillingModeSummary != nil {
		d.BillingModeSummary.LastUpdateToPayPerRequestDateTime = nil
		d.TableThroughputModeSummary.LastUpdateToPayPerRequestDateTime = nil
	}
	for i := range d.GlobalSecondaryIndexes {
		d.GlobalSecondaryIndexes[i].IndexStatus, d.GlobalSecondaryIndexes[i].WarmThroughput = "CREATING", nil
	}
	return &createTableOutput{d}, nil
}

func (db *DB) newTable(in *createTableInput) *table {
	t := &table{
		name: *in.TableName, arn: db.arn(*in.TableName), id: newID(), created: db.cfg.Now(),
		attrs: slices.Clone(in.AttributeDefinitions), key: schemaOf(in.KeySchema, in.AttributeDefinitions),
		onDemand: str(in.BillingMode) == "PAY_PER_REQUEST", class: str(in.TableClass),
		protected: isTrue(in.DeletionProtectionEnabled), tags: make(map[string]string),
		items: make(map[entryKey]*record), order: newOrdered(),
	}
	if t.onDemand {
		t.onDemandSince = t.created
	}
	t.provisioned = units(in.ProvisionedThroughput)
	if o := in.OnDemandThroughput; o != nil {
		t.provisioned.maxReads, t.provisioned.maxWrites = o.MaxReadRequestUnits, o.MaxWriteRequestUnits
	}
	for _, tag := range in.Tags {
		t.tags[*tag.Key] = *tag.Value
	}
	for _, i := range in.LocalSecondaryIndexes {
		t.local = append(t.local, t.newIndex(i.common(), false))
	}
	for _, i := range in.GlobalSecondaryIndexes {
		t.global = append(t.global, t.newIndex(i, true))
	}
	if s := in.StreamSpecification; s != nil && isTrue(s.StreamEnabled) {
		db.enableStream(t, str(s.StreamViewType))
	}
	return t
}

func (t *table) newIndex(in globalSecondaryIndex, global bool) *index {
	i := &index{
		name: *in.IndexName, arn: t.arn + "/index/" + *in.IndexName, key: schemaOf(in.KeySchema, t.attrs),
		global: global, projection: str(in.Projection.ProjectionType), nonKey: in.Projection.NonKeyAttributes,
		provisioned: units(in.ProvisionedThroughput), order: newOrdered(),
	}
	i.setProjection(t.key)
	return i
}

func (db *DB) enableStream(t *table, view string) {
	at := db.cfg.Now().UTC().Truncate(time.Millisecond)
	if !at.After(db.lastStream) { // two streams must not have one ARN
		at = db.lastStream.Add(time.Millisecond)
	}
	db.lastStream = at
	label := at.Format("2006-01-02T15:04:05.000")
	t.stream = &stream{view: view, label: label, arn: t.arn + "/stream/" + label}
	t.lastStream = t.stream
}

func units(p *provisionedThroughput) throughput {
	if p == nil {
		return throughput{}
	}
	return throughput{read: *p.ReadCapacityUnits, write: *p.WriteCapacityUnits}
}

func schemaOf(elements []keySchemaElement, defs []attributeDefinition) keySchema {
	var k keySchema
	for _, e := range elements {
		a := keyAttr{name: *e.AttributeName, kind: kindOf(*e.AttributeName, defs)}
		if *e.KeyType == "HASH" {
			k.hash = append(k.hash, a)
		} else {
			k.ranges = append(k.ranges, a)
		}
	}
	return k
}

func kindOf(name string, defs []attributeDefinition) attr.Kind {
	for _, d := range defs {
		if *d.AttributeName == name {
			switch *d.AttributeType {
			case "N":
				return attr.KindN
			case "B":
				return attr.KindB
			}
			return attr.KindS
		}
	}
	return attr.KindNone
}

// newID is a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

const invalidParameters = "One or more parameter values were invalid: "

func invalid(format string, args ...any) error {
	return wire.Validationf(invalidParameters+format, args...)
}

// validate checks what the constraints cannot, in AWS's order.
func (in *createTableInput) validate() error {
	if err := in.validateBilling(); err != nil {
		return err
	}
	if err := definedOnce(in.AttributeDefinitions); err != nil {
		return err
	}
	defs := defined(in.AttributeDefinitions)
	if err := validateKeySchema(in.KeySchema, defs); err != nil {
		return err
	}
	if in.LocalSecondaryIndexes == nil && in.GlobalSecondaryIndexes == nil && len(in.KeySchema) != len(defs) {
		return invalid("Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions")
	}
	names := make(map[string]struct{})
	if err := in.validateLocal(defs, names); err != nil {
		return err
	}
	if err := in.validateGlobal(defs, names); err != nil {
		return err
	}
	if err := in.validateUse(defs); err != nil {
		return err
	}
	if err := validateTags(in.Tags); err != nil {
		return err
	}
	return validateStream(in.StreamSpecification)
}

func (in *createTableInput) validateBilling() error {
	p := in.ProvisionedThroughput
	if str(in.BillingMode) == "PAY_PER_REQUEST" {
		if p != nil {
			return invalid("Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
		}
		return in.OnDemandThroughput.validate()
	}
	if p == nil {
		return invalid("ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED")
	}
	if o := in.OnDemandThroughput; o != nil {
		if member := o.first(); member != "" {
			return invalid("%s for OnDemandThroughput cannot be specified when table BillingMode is PROVISIONED.", member)
		}
	}
	return p.validate()
}

func (p *provisionedThroughput) validate() error {
	if *p.ReadCapacityUnits > maxUnits {
		return wire.Validationf("Given value %d for ReadCapacityUnits is out of bounds", *p.ReadCapacityUnits)
	}
	if *p.WriteCapacityUnits > maxUnits {
		return wire.Validationf("Given value %d for WriteCapacityUnits is out of bounds", *p.WriteCapacityUnits)
	}
	return nil
}

func (o *onDemandThroughput) first() string {
	switch {
	case o.MaxReadRequestUnits != nil:
		return "MaxReadRequestUnits"
	case o.MaxWriteRequestUnits != nil:
		return "MaxWriteRequestUnits"
	}
	return ""
}

func (o *onDemandThroughput) validate() error {
	if o == nil {
		return nil
	}
	if o.MaxReadRequestUnits != nil && *o.MaxReadRequestUnits < 1 {
		return invalid("Requested MaxReadRequestUnits for OnDemandThroughput for table is outside of valid range")
	}
	if o.MaxWriteRequestUnits != nil && *o.MaxWriteRequestUnits < 1 {
		return invalid("Requested MaxWriteRequestUnits for OnDemandThroughput for table is outside of valid range")
	}
	return nil
}

// validate checks what both sorts of index have in common.
func (i *globalSecondaryIndex) validate(defs []string, names map[string]struct{}) error {
	p := i.Projection
	switch {
	case p.ProjectionType == nil:
		return invalid("Unknown ProjectionType: null")
	case p.NonKeyAttributes != nil && *p.ProjectionType != "INCLUDE":
		return invalid("ProjectionType is %s, but NonKeyAttributes is specified", *p.ProjectionType)
	case p.NonKeyAttributes == nil && *p.ProjectionType == "INCLUDE":
		return invalid("ProjectionType is INCLUDE, but NonKeyAttributes is not specified")
	}
	for n, name := range p.NonKeyAttributes {
		if slices.Contains(p.NonKeyAttributes[:n], name) {
			return invalid("Duplicate value in NonKeyAttributes: %s", name)
		}
	}
	if _, twice := names[*i.IndexName]; twice {
		return invalid("Duplicate index name: %s", *i.IndexName)
	}
	names[*i.IndexName] = struct{}{}
	return nil
}

func (in *createTableInput) validateLocal(defs []string, names map[string]struct{}) error {
	if in.LocalSecondaryIndexes == nil {
		return nil
	}
	if len(in.LocalSecondaryIndexes) == 0 {
		return invalid("List of LocalSecondaryIndexes is empty")
	}
	if len(in.KeySchema) != 2 {
		return invalid("Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex")
	}
	hash := *in.KeySchema[0].AttributeName
	for _, local := range in.LocalSecondaryIndexes {
		i := local.common()
		if err := undefinedKeys(namesOf(i.KeySchema), defs); err != nil {
			return err
		}
		if err := validateKeyTypes(i.KeySchema); err != nil {
			return err
		}
		if len(i.KeySchema) != 2 {
			return invalid("Index KeySchema does not have a range key for index: %s", *i.IndexName)
		}
		if own := *i.KeySchema[0].AttributeName; own != hash {
			return invalid("Index KeySchema does not have the same leading hash key as table KeySchema for index: %s. index hash key: %s, table hash key: %s",
				*i.IndexName, own, hash)
		}
		if err := i.validate(defs, names); err != nil {
			return err
		}
	}
	if len(in.LocalSecondaryIndexes) > maxLocalIndexes {
		return invalid("Number of LocalSecondaryIndexes exceeds per-table limit of %d", maxLocalIndexes)
	}
	return nil
}

func (in *createTableInput) validateGlobal(defs []string, names map[string]struct{}) error {
	if in.GlobalSecondaryIndexes == nil {
		return nil
	}
	if len(in.GlobalSecondaryIndexes) == 0 {
		return invalid("List of GlobalSecondaryIndexes is empty")
	}
	onDemand := str(in.BillingMode) == "PAY_PER_REQUEST"
	for _, i := range in.GlobalSecondaryIndexes {
		if err := i.validateGlobal(defs, names, onDemand); err != nil {
			return err
		}
	}
	if len(in.GlobalSecondaryIndexes) > maxGlobalIndexes {
		return invalid("GlobalSecondaryIndex count exceeds the per-table limit of %d", maxGlobalIndexes)
	}
	return nil
}

func (i *globalSecondaryIndex) validateGlobal(defs []string, names map[string]struct{}, onDemand bool) error {
	if err := undefinedKeys(namesOf(i.KeySchema), defs); err != nil {
		return err
	}
	if err := validateIndexKeyTypes(i.KeySchema); err != nil {
		return err
	}
	if err := i.validate(defs, names); err != nil {
		return err
	}
	if onDemand && i.ProvisionedThroughput != nil {
		return invalid("ProvisionedThroughput should not be specified for index: %s when BillingMode is PAY_PER_REQUEST", *i.IndexName)
	}
	if !onDemand && i.ProvisionedThroughput == nil {
		return invalid("ProvisionedThroughput must be specified for index: %s", *i.IndexName)
	}
	return nil
}

// validateUse checks that every defined attribute is a key somewhere.
func (in *createTableInput) validateUse(defs []string) error {
	used := namesOf(in.KeySchema)
	var keys []keySchemaElement
	for _, i := range in.LocalSecondaryIndexes {
		keys = append(keys, i.KeySchema...)
	}
	for _, i := range in.GlobalSecondaryIndexes {
		keys = append(keys, i.KeySchema...)
	}
	for _, name := range namesOf(keys) {
		if !slices.Contains(used, name) {
			used = append(used, name)
		}
	}
	if len(used) == len(defs) {
		return nil
	}
	sorted := slices.Sorted(slices.Values(defs))
	slices.Sort(used)
	return invalid("Some AttributeDefinitions are not used. AttributeDefinitions: [%s], keys used: [%s]",
		strings.Join(sorted, ", "), strings.Join(used, ", "))
}

func validateStream(s *streamSpecification) error {
	switch {
	case s == nil:
	case !isTrue(s.StreamEnabled) && s.StreamViewType != nil:
		return invalid("Table is being created with a stream disabled, UpdateViewType should not be specified")
	case isTrue(s.StreamEnabled) && s.StreamViewType == nil:
		return invalid("StreamViewType is required when StreamEnabled is true")
	}
	return nil
}
