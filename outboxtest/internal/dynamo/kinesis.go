package dynamo

import (
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Destination statuses.
const (
	statusEnabling  = "ENABLING"
	statusActive    = "ACTIVE"
	statusDisabling = "DISABLING"
	statusDisabled  = "DISABLED"
	statusUpdating  = "UPDATING"
)

const defaultPrecision = "MILLISECOND"

// destination is a Kinesis stream that receives a table's changes, now or once.
type destination struct {
	arn string
	// precision is what was asked for, "" if nothing was; while the destination is UPDATING, the
	// former one still holds.
	precision, former string
	// changing is set until the clock reaches settled; the destination is then on or off.
	changing string
	settled  time.Time
	on       bool
}

// status is the destination's status at a moment.
func (d *destination) status(now time.Time) string {
	switch {
	case now.Before(d.settled):
		return d.changing
	case d.on:
		return statusActive
	}
	return statusDisabled
}

// replicates tells whether changes are replicated at a moment, and in which precision.
func (d *destination) replicates(now time.Time) (precision string, ok bool) {
	switch d.status(now) {
	case statusActive:
		precision = d.precision
	case statusUpdating:
		precision = d.former
	default:
		return "", false
	}
	if precision == "" {
		precision = defaultPrecision
	}
	return precision, true
}

type kinesisConfiguration struct {
	ApproximateCreationDateTimePrecision *string `json:",omitempty" wire:"enum=MILLISECOND|MICROSECOND"`
}

type kinesisInput struct {
	TableName                           *string `wire:"required,table"`
	StreamArn                           *string `wire:"required,min=37,max=1024"`
	EnableKinesisStreamingConfiguration *kinesisConfiguration
}

type kinesisOutput struct {
	TableName                           string
	StreamArn                           string
	DestinationStatus                   string
	EnableKinesisStreamingConfiguration *kinesisConfiguration `json:",omitempty"`
	UpdateKinesisStreamingConfiguration *kinesisConfiguration `json:",omitempty"`
}

func (t *table) destination(arn string) *destination {
	for _, d := range t.destinations {
		if d.arn == arn {
			return d
		}
	}
	return nil
}

const badDestinationState = "Table is not in a valid state to enable Kinesis Streaming Destination: "

func (db *DB) enableKinesis(in *kinesisInput) (*kinesisOutput, error) {
	// The question goes to another service, so it is asked before the lock is taken.
	exists := db.cfg.StreamExists(*in.StreamArn)
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, wire.Errorf("ResourceNotFoundException", "Requested resource not found: Stream: %s not found", *in.StreamArn)
	}
	now := db.cfg.Now()
	d := t.destination(*in.StreamArn)
	if d != nil && d.status(now) != statusDisabled {
		return nil, wire.Validation(badDestinationState + "EnableKinesisStreamingDestination must be DISABLED or ENABLE_FAILED to perform ENABLE operation.")
	}
	if d == nil {
		d = &destination{arn: *in.StreamArn}
		t.destinations = append(t.destinations, d)
	}
	c := in.EnableKinesisStreamingConfiguration
	if c == nil {
		c = &kinesisConfiguration{}
	}
	d.precision = str(c.ApproximateCreationDateTimePrecision)
	d.changing, d.settled, d.on = statusEnabling, now.Add(db.cfg.EnableDelay), true
	return &kinesisOutput{
		TableName: t.name, StreamArn: d.arn, DestinationStatus: statusEnabling, EnableKinesisStreamingConfiguration: c,
	}, nil
}

type disableKinesisInput struct{ kinesisInput }

func (db *DB) disableKinesis(in *disableKinesisInput) (*kinesisOutput, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	now := db.cfg.Now()
	d := t.destination(*in.StreamArn)
	if d == nil || d.status(now) != statusActive {
		return nil, wire.Validation(badDestinationState + "KinesisStreamingDestination must be ACTIVE to perform DISABLE operation.")
	}
	d.changing, d.settled, d.on = statusDisabling, now.Add(db.cfg.EnableDelay), false
	return &kinesisOutput{
		TableName: t.name, StreamArn: d.arn, DestinationStatus: statusDisabling,
		EnableKinesisStreamingConfiguration: in.EnableKinesisStreamingConfiguration,
	}, nil
}

type updateKinesisInput struct {
	TableName                           *string `wire:"required,table"`
	StreamArn                           *string `wire:"required,min=37,max=1024"`
	UpdateKinesisStreamingConfiguration *kinesisConfiguration
}

func (db *DB) updateKinesis(in *updateKinesisInput) (*kinesisOutput, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	c := in.UpdateKinesisStreamingConfiguration
	if c == nil || c.ApproximateCreationDateTimePrecision == nil {
		return nil, wire.Validation("Streaming destination cannot be updated with given parameters: " +
			"UpdateKinesisStreamingConfiguration cannot be null or contain only null values")
	}
	now := db.cfg.Now()
	d := t.destination(*in.StreamArn)
	if d == nil || d.status(now) != statusActive {
		return nil, wire.Validation(badDestinationState + "No streaming destination with streamArn: " + *in.StreamArn +
			" found for table with tableName: " + t.name)
	}
	current, _ := d.replicates(now)
	if current == *c.ApproximateCreationDateTimePrecision {
		return nil, wire.Validation("Invalid Request: Precision is already set to the desired value of " + current +
			" for tableId: " + t.id + ", kdsArn: " + d.arn)
	}
	d.precision, d.former = *c.ApproximateCreationDateTimePrecision, current
	d.changing, d.settled = statusUpdating, now.Add(db.cfg.EnableDelay)
	return &kinesisOutput{
		TableName: t.name, StreamArn: d.arn, DestinationStatus: statusUpdating, UpdateKinesisStreamingConfiguration: c,
	}, nil
}

type describeKinesisInput struct {
	TableName *string `wire:"required,table"`
}

type destinationDescription struct {
	StreamArn                            string
	DestinationStatus                    string
	ApproximateCreationDateTimePrecision string `json:",omitempty"`
}

type describeKinesisOutput struct {
	TableName                     string
	KinesisDataStreamDestinations []destinationDescription
}

func (db *DB) describeKinesis(in *describeKinesisInput) (*describeKinesisOutput, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	now := db.cfg.Now()
	out := &describeKinesisOutput{TableName: t.name, KinesisDataStreamDestinations: []destinationDescription{}}
	for _, d := range t.destinations {
		out.KinesisDataStreamDestinations = append(out.KinesisDataStreamDestinations,
			destinationDescription{d.arn, d.status(now), d.precision})
	}
	return out, nil
}
