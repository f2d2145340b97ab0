package dynamo

import (
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type updateGlobalSecondaryIndexAction struct {
	IndexName             *string                `wire:"required,name,min=3,max=255"`
	ProvisionedThroughput *provisionedThroughput `wire:"required"`
}

type deleteGlobalSecondaryIndexAction struct {
	IndexName *string `wire:"required,name,min=3,max=255"`
}

type createGlobalSecondaryIndexAction globalSecondaryIndex

type globalSecondaryIndexUpdate struct {
	Update *updateGlobalSecondaryIndexAction
	Create *createGlobalSecondaryIndexAction
	Delete *deleteGlobalSecondaryIndexAction
}

func (u globalSecondaryIndexUpdate) name() string {
	switch {
	case u.Update != nil:
		return *u.Update.IndexName
	case u.Create != nil:
		return *u.Create.IndexName
	case u.Delete != nil:
		return *u.Delete.IndexName
	}
	return ""
}

// one reports whether the update is not two.
func (u globalSecondaryIndexUpdate) one() bool {
	n := 0
	for _, given := range []bool{u.Update != nil, u.Create != nil, u.Delete != nil} {
		if given {
			n++
		}
	}
	return n < 2
}

type updateTableInput struct {
	tableNameOnly
	AttributeDefinitions        []attributeDefinition
	BillingMode                 *string `wire:"enum=PROVISIONED|PAY_PER_REQUEST"`
	ProvisionedThroughput       *provisionedThroughput
	OnDemandThroughput          *onDemandThroughput
	GlobalSecondaryIndexUpdates []globalSecondaryIndexUpdate
	StreamSpecification         *streamSpecification
	TableClass                  *string `wire:"enum=STANDARD|STANDARD_INFREQUENT_ACCESS"`
	DeletionProtectionEnabled   *bool
}

type updateTableOutput struct{ TableDescription *tableDescription }

func (db *DB) updateTable(in *updateTableInput) (*updateTableOutput, error) {
	if err := in.validate(); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	// Everything is checked before anything is changed.
	if err := in.check(t); err != nil {
		return nil, err
	}
	in.applyBilling(db, t)
	created := in.applyIndexes(t)
	if s := in.StreamSpecification; s != nil {
		if isTrue(s.StreamEnabled) {
			db.enableStream(t, str(s.StreamViewType))
		} else {
			t.stream = nil
		}
	}
	if in.TableClass != nil {
		t.class = *in.TableClass
	}
	if in.DeletionProtectionEnabled != nil {
		t.protected = *in.DeletionProtectionEnabled
	}
	d := db.describe(t)
	d.TableStatus = "UPDATING"
	for i, g := range d.GlobalSecondaryIndexes {
		if slices.Contains(created, g.IndexName) {
			d.GlobalSecondaryIndexes[i].IndexStatus = "CREATING"
		}
	}
	return &updateTableOutput{d}, nil
}

// validate checks the request as far as that goes without the table.
func (in *updateTableInput) validate() error {
	if in.ProvisionedThroughput == nil && in.BillingMode == nil && in.StreamSpecification == nil && in.OnDemandThroughput == nil &&
		len(in.GlobalSecondaryIndexUpdates) == 0 && in.TableClass == nil && in.DeletionProtectionEnabled == nil {
		return wire.Validation("At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required")
	}
	if str(in.BillingMode) == "PROVISIONED" && in.ProvisionedThroughput == nil {
		return invalid("ProvisionedThroughput must be specified when BillingMode is PROVISIONED")
	}
	if p := in.ProvisionedThroughput; p != nil {
		if err := p.validate(); err != nil {
			return err
		}
	}
	names := make(map[string]struct{})
	for _, u := range in.GlobalSecondaryIndexUpdates {
		name := u.name()
		if name == "" {
			return invalid("One of GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete must not be null")
		}
		if !u.one() {
			return invalid("Only one of GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete may be set")
		}
		if _, twice := names[name]; twice {
			return invalid("Only one global secondary index update per index is allowed simultaneously. Index: %s", name)
		}
		names[name] = struct{}{}
	}
	return nil
}

// check checks the request against the table.
func (in *updateTableInput) check(t *table) error {
	if err := in.checkBilling(t); err != nil {
		return err
	}
	if err := in.checkStream(t); err != nil {
		return err
	}
	return in.checkIndexes(t)
}

// onDemand is the billing mode that the table will have.
func (in *updateTableInput) onDemand(t *table) bool {
	if in.BillingMode != nil {
		return *in.BillingMode == "PAY_PER_REQUEST"
	}
	return t.onDemand
}

func (in *updateTableInput) checkBilling(t *table) error {
	onDemand := in.onDemand(t)
	if o := in.OnDemandThroughput; o != nil {
		if member := o.first(); !onDemand && member != "" {
			return invalid("%s for OnDemandThroughput cannot be specified when the table BillingMode is PROVISIONED", member)
		}
	}
	p := in.ProvisionedThroughput
	if p == nil {
		return nil
	}
	if onDemand {
		return invalid("Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
	}
	if !t.onDemand && *p.ReadCapacityUnits == t.provisioned.read && *p.WriteCapacityUnits == t.provisioned.write {
		return wire.Validationf("The provisioned throughput for the table will not change. The requested value equals the current value. "+
			"Current ReadCapacityUnits provisioned for the table: %d. Requested ReadCapacityUnits: %d. "+
			"Current WriteCapacityUnits provisioned for the table: %d. Requested WriteCapacityUnits: %d. "+
			"Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits.",
			t.provisioned.read, *p.ReadCapacityUnits, t.provisioned.write, *p.WriteCapacityUnits)
	}
	if t.onDemand {
		if missing := in.unprovisioned(t); len(missing) > 0 {
			return invalid("ProvisionedThroughput must be specified for index: %s", strings.Join(missing, ","))
		}
	}
	return nil
}

// unprovisioned are the indexes that the request gives no capacity.
func (in *updateTableInput) unprovisioned(t *table) []string {
	var missing []string
	for _, i := range t.global {
		given := slices.ContainsFunc(in.GlobalSecondaryIndexUpdates, func(u globalSecondaryIndexUpdate) bool {
			return u.name() == i.name && u.Create == nil
		})
		if !given {
			missing = append(missing, i.name)
		}
	}
	return missing
}

func (in *updateTableInput) checkStream(t *table) error {
	s := in.StreamSpecification
	switch {
	case s == nil:
		return nil
	case isTrue(s.StreamEnabled) && t.stream != nil:
		return wire.Validation("Table already has an enabled stream: TableName: " + t.name)
	case isTrue(s.StreamEnabled) && s.StreamViewType == nil:
		return invalid("StreamViewType is required when StreamEnabled is true")
	case !isTrue(s.StreamEnabled) && s.StreamViewType != nil:
		return invalid("Table is being updated with a stream disabled, UpdateViewType should not be specified")
	case !isTrue(s.StreamEnabled) && t.stream == nil:
		return wire.Validation("Table is already disabled for streams: TableName: " + t.name)
	}
	return nil
}

func (in *updateTableInput) checkIndexes(t *table) error {
	created := 0
	for _, u := range in.GlobalSecondaryIndexUpdates {
		if u.Create != nil || u.Delete != nil {
			created++
		}
	}
	if created > 1 {
		return wire.Errorf("LimitExceededException", "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table")
	}
	for _, u := range in.GlobalSecondaryIndexUpdates {
		i := t.index(u.name())
		exists := i != nil && i.global
		switch {
		case u.Create != nil && i != nil:
			return wire.Validation("Attempting to create an index which already exists")
		case u.Create != nil:
			if err := in.checkCreate(t, (*globalSecondaryIndex)(u.Create)); err != nil {
				return err
			}
		case !exists:
			return wire.Errorf("ResourceNotFoundException", "Requested resource not found")
		case u.Delete != nil:
		case in.onDemand(t):
			return invalid("ProvisionedThroughput should not be specified for index: %s when BillingMode is PAY_PER_REQUEST", i.name)
		}
	}
	if created == 1 && len(t.global) >= maxGlobalIndexes && in.creates() {
		return wire.Errorf("LimitExceededException", "Subscriber limit exceeded: The number of global secondary indexes per table exceeds the limit of %d", maxGlobalIndexes)
	}
	return nil
}

func (in *updateTableInput) creates() bool {
	return slices.ContainsFunc(in.GlobalSecondaryIndexUpdates, func(u globalSecondaryIndexUpdate) bool { return u.Create != nil })
}

// checkCreate checks a new index: the request itself must define its keys.
func (in *updateTableInput) checkCreate(t *table, i *globalSecondaryIndex) error {
	defs := defined(in.AttributeDefinitions)
	if err := undefinedKeys(namesOf(i.KeySchema), defs); err != nil {
		return err
	}
	if err := i.validateGlobal(defs, make(map[string]struct{}), in.onDemand(t)); err != nil {
		return err
	}
	return t.checkRedefinition(schemaOf(i.KeySchema, in.AttributeDefinitions))
}

// checkRedefinition refuses a key whose attributes have other types than in the keys that exist.
func (t *table) checkRedefinition(k keySchema) error {
	keys := []keySchema{t.key}
	for _, i := range t.indexes() {
		keys = append(keys, i.key)
	}
	for _, old := range keys {
		for _, a := range old.attrs() {
			for _, b := range k.attrs() {
				if a.name == b.name && a.kind != b.kind {
					return invalid("Attributes cannot be redefined. Please check that your attribute has the same type as previously defined. "+
						"Existing schema: %s New schema: %s", old, k)
				}
			}
		}
	}
	return nil
}

// String prints the key as AWS does in complaints.
func (k keySchema) String() string {
	var out []string
	for n, a := range k.attrs() {
		kind := "HASH"
		if n >= len(k.hash) {
			kind = "RANGE"
		}
		out = append(out, "SchemaElement: key{"+a.name+":"+a.kind.String()+":"+kind+"}")
	}
	return "Schema:[" + strings.Join(out, ", ") + "]"
}

func (in *updateTableInput) applyBilling(db *DB, t *table) {
	now := db.cfg.Now()
	if in.onDemand(t) {
		if !t.onDemand {
			t.onDemand, t.onDemandSince = true, now
			t.provisioned = throughput{lowered: now}
			for _, i := range t.global {
				i.provisioned = throughput{lowered: now}
			}
		}
		if o := in.OnDemandThroughput; o != nil {
			t.provisioned.maxReads = ceiling(t.provisioned.maxReads, o.MaxReadRequestUnits)
			t.provisioned.maxWrites = ceiling(t.provisioned.maxWrites, o.MaxWriteRequestUnits)
		}
	} else {
		t.onDemand = false
		if p := in.ProvisionedThroughput; p != nil {
			t.provisioned = t.provisioned.changed(p, db)
		}
	}
	for _, u := range in.GlobalSecondaryIndexUpdates {
		if u.Update != nil {
			i := t.index(*u.Update.IndexName)
			i.provisioned = i.provisioned.changed(u.Update.ProvisionedThroughput, db)
		}
	}
}

// ceiling is a limit after a change; -1 lifts it.
func ceiling(old, next *int64) *int64 {
	switch {
	case next == nil:
		return old
	case *next == -1:
		return nil
	}
	return next
}

// changed is the capacity after a change.
func (t throughput) changed(p *provisionedThroughput, db *DB) throughput {
	next := throughput{read: *p.ReadCapacityUnits, write: *p.WriteCapacityUnits, increased: t.increased, lowered: t.lowered, decreases: t.decreases}
	if next.read > t.read || next.write > t.write {
		next.increased = db.cfg.Now()
	}
	if next.read < t.read || next.write < t.write {
		next.lowered = db.cfg.Now()
		next.decreases++
	}
	return next
}

// applyIndexes creates and deletes indexes and returns the names of new ones. A new index holds the
// items that are there from the start.
func (in *updateTableInput) applyIndexes(t *table) []string {
	var created []string
	defs := slices.Clone(t.attrs)
	for _, d := range in.AttributeDefinitions {
		if !slices.Contains(defined(defs), *d.AttributeName) {
			defs = append(defs, d)
		}
	}
	t.attrs = defs
	for _, u := range in.GlobalSecondaryIndexUpdates {
		switch {
		case u.Create != nil:
			i := t.newIndex(globalSecondaryIndex(*u.Create), true)
			for _, rec := range t.items {
				i.store(nil, rec)
			}
			t.global = append(t.global, i)
			created = append(created, i.name)
		case u.Delete != nil:
			t.global = slices.DeleteFunc(slices.Clone(t.global), func(i *index) bool { return i.name == *u.Delete.IndexName })
		}
	}
	// Only attributes that are keys stay defined.
	used := make(map[string]struct{})
	for _, a := range t.key.attrs() {
		used[a.name] = struct{}{}
	}
	for _, i := range t.indexes() {
		for _, a := range i.key.attrs() {
			used[a.name] = struct{}{}
		}
	}
	t.attrs = slices.DeleteFunc(defs, func(d attributeDefinition) bool {
		_, ok := used[*d.AttributeName]
		return !ok
	})
	return created
}
