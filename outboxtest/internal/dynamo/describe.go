package dynamo

import (
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type tableDescription struct {
	AttributeDefinitions       []attributeDefinition      `json:",omitempty"`
	TableName                  string                     `json:",omitempty"`
	KeySchema                  []keySchemaElement         `json:",omitempty"`
	TableStatus                string                     `json:",omitempty"`
	CreationDateTime           *wire.Epoch                `json:",omitempty"`
	ProvisionedThroughput      *throughputDescription     `json:",omitempty"`
	TableSizeBytes             int                        `json:""`
	ItemCount                  int                        `json:""`
	TableArn                   string                     `json:",omitempty"`
	TableId                    string                     `json:",omitempty"`
	BillingModeSummary         *billingModeSummary        `json:",omitempty"`
	TableThroughputModeSummary *throughputModeSummary     `json:",omitempty"`
	LocalSecondaryIndexes      []indexDescription         `json:",omitempty"`
	GlobalSecondaryIndexes     []indexDescription         `json:",omitempty"`
	StreamSpecification        *streamSpecification       `json:",omitempty"`
	LatestStreamLabel          string                     `json:",omitempty"`
	LatestStreamArn            string                     `json:",omitempty"`
	TableClassSummary          *tableClassSummary         `json:",omitempty"`
	DeletionProtectionEnabled  bool                       `json:""`
	OnDemandThroughput         *onDemandThroughput        `json:",omitempty"`
	WarmThroughput             *warmThroughputDescription `json:",omitempty"`
}

type throughputDescription struct {
	LastIncreaseDateTime   *wire.Epoch `json:",omitempty"`
	LastDecreaseDateTime   *wire.Epoch `json:",omitempty"`
	NumberOfDecreasesToday int
	ReadCapacityUnits      int64
	WriteCapacityUnits     int64
}

type billingModeSummary struct {
	BillingMode                       string
	LastUpdateToPayPerRequestDateTime *wire.Epoch `json:",omitempty"`
}

type throughputModeSummary struct {
	TableThroughputMode               string
	LastUpdateToPayPerRequestDateTime *wire.Epoch `json:",omitempty"`
}

type tableClassSummary struct {
	TableClass string
}

type warmThroughputDescription struct {
	ReadUnitsPerSecond  int64
	WriteUnitsPerSecond int64
	Status              string
}

type indexDescription struct {
	IndexName             string
	KeySchema             []keySchemaElement
	Projection            projection
	IndexStatus           string                     `json:",omitempty"`
	ProvisionedThroughput *throughputDescription     `json:",omitempty"`
	IndexSizeBytes        int                        `json:""`
	ItemCount             int                        `json:""`
	IndexArn              string                     `json:""`
	WarmThroughput        *warmThroughputDescription `json:",omitempty"`
}

type describeTableInput struct{ tableNameOnly }

type describeTableOutput struct{ Table *tableDescription }

func (db *DB) describeTable(in *describeTableInput) (*describeTableOutput, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	return &describeTableOutput{db.describe(t)}, nil
}

// describe is what the API tells about a table. Its counts are current, where AWS's lag by hours.
func (db *DB) describe(t *table) *tableDescription {
	d := &tableDescription{
		AttributeDefinitions: t.attrs, TableName: t.name, KeySchema: t.key.elements(), TableStatus: "ACTIVE",
		CreationDateTime: epoch(t.created), ProvisionedThroughput: t.provisioned.describe(),
		TableSizeBytes: t.bytes, ItemCount: len(t.items), TableArn: t.arn, TableId: t.id,
		DeletionProtectionEnabled: t.protected, WarmThroughput: t.provisioned.warm(),
	}
	if !t.onDemandSince.IsZero() {
		mode := "PROVISIONED"
		if t.onDemand {
			mode = "PAY_PER_REQUEST"
		}
		d.BillingModeSummary = &billingModeSummary{mode, epoch(t.onDemandSince)}
		d.TableThroughputModeSummary = &throughputModeSummary{mode, epoch(t.onDemandSince)}
	}
	if t.class != "" {
		d.TableClassSummary = &tableClassSummary{t.class}
	}
	if p := t.provisioned; p.maxReads != nil || p.maxWrites != nil {
		d.OnDemandThroughput = &onDemandThroughput{p.maxReads, p.maxWrites}
	}
	for _, i := range t.local {
		d.LocalSecondaryIndexes = append(d.LocalSecondaryIndexes, i.describe())
	}
	for _, i := range t.global {
		g := i.describe()
		g.IndexStatus, g.ProvisionedThroughput, g.WarmThroughput = "ACTIVE", i.provisioned.describe(), i.provisioned.warm()
		d.GlobalSecondaryIndexes = append(d.GlobalSecondaryIndexes, g)
	}
	if s := t.stream; s != nil {
		enabled := true
		d.StreamSpecification = &streamSpecification{&enabled, &s.view}
	}
	if s := t.lastStream; s != nil {
		d.LatestStreamLabel, d.LatestStreamArn = s.label, s.arn
	}
	return d
}

func (i *index) describe() indexDescription {
	return indexDescription{
		IndexName: i.name, KeySchema: i.key.elements(), Projection: projection{&i.projection, i.nonKey},
		ItemCount: i.order.length, IndexSizeBytes: i.bytes, IndexArn: i.arn,
	}
}

func (p throughput) describe() *throughputDescription {
	return &throughputDescription{
		LastIncreaseDateTime: epoch(p.increased), LastDecreaseDateTime: epoch(p.lowered),
		NumberOfDecreasesToday: p.decreases, ReadCapacityUnits: p.read, WriteCapacityUnits: p.write,
	}
}

// warm is what a new table is ready for: its provisioned units, or AWS's start for on-demand ones.
func (p throughput) warm() *warmThroughputDescription {
	if p.read == 0 && p.write == 0 {
		return &warmThroughputDescription{12000, 4000, "ACTIVE"}
	}
	return &warmThroughputDescription{p.read, p.write, "ACTIVE"}
}

func (k keySchema) elements() []keySchemaElement {
	hash, rng := "HASH", "RANGE"
	var out []keySchemaElement
	for _, a := range k.hash {
		out = append(out, keySchemaElement{&a.name, &hash})
	}
	for _, a := range k.ranges {
		out = append(out, keySchemaElement{&a.name, &rng})
	}
	return out
}

func epoch(t time.Time) *wire.Epoch {
	if t.IsZero() {
		return nil
	}
	e := wire.Epoch(t)
	return &e
}
