package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// describeEvents reads what several checks need of the events table. What is wrong is told by checkEvents.
func (x *examination) describeEvents(ctx context.Context) {
	out, err := x.c.dynamodb.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &x.table})
	if x.eventsErr = err; err == nil {
		x.events = out.Table
	}
	x.sample = x.sampleRows(ctx)
}

func (x *examination) checkEvents(ctx context.Context) {
	spec := eventsSpec
	spec.partition, spec.ttl = x.attributes.ID, x.attributes.ExpiresAt
	if !x.checkTable(ctx, spec, x.table, x.events, x.eventsErr) {
		return
	}
	x.checkLifetime()
	out, err := x.c.dynamodb.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: &x.table})
	const check = "point-in-time recovery"
	if err != nil {
		x.failed(gradeUnknown, check, x.table, "dynamodb:DescribeContinuousBackups", err)
		return
	}
	switch on, said := recoverable(out.ContinuousBackupsDescription); {
	case !said:
		x.silent(check, x.table, "whether it is on")
	case !on:
		x.add(gradeWarning, check, x.table, "it is off", "enable it"+x.byCreate("--pitr")+", or accept that a table that is lost is lost")
	default:
		x.add(gradeOK, check, x.table, "it is on", "")
	}
}

// checkOther looks at a table beside the events table. It reports whether its rows can be looked at.
func (x *examination) checkOther(ctx context.Context, spec tableSpec, name string) bool {
	out, err := x.c.dynamodb.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
	if err != nil {
		return x.checkTable(ctx, spec, name, nil, err)
	}
	return x.checkTable(ctx, spec, name, out.Table, nil)
}

// checkTable looks at the status, the keys, the encryption and the time to live of a table, as DescribeTable has told of it. It reports whether it
// is such a table.
func (x *examination) checkTable(ctx context.Context, spec tableSpec, name string, t *dynamodbtypes.TableDescription, err error) bool {
	if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); spec == leasesSpec && !x.leasesGiven && errors.As(err, &missing) {
		x.add(gradeOK, spec.what, name, "there is none: functions need none, and for workers of another table give --leases", "")
		return false
	}
	if err != nil {
		grade := gradeProblem
		if spec == leasesSpec && !x.leasesGiven { // who has functions only need not be allowed to look
			grade = gradeUnknown
		}
		x.failed(grade, spec.what, name, "dynamodb:DescribeTable", err)
		return false
	}
	if t == nil {
		x.add(gradeUnknown, spec.what, name, "the answer does not describe it", "look at what answers in AWS's place")
		return false
	}
	if what := spec.unsaid(t, name); what != "" {
		x.silent(spec.what, name, what)
		return false
	}
	if wrong := spec.wrongKeys(t); wrong != "" {
		do := "it is another kind of table: correct the name"
		if spec.what == eventsSpec.what {
			do = "it is another kind of table, or has names of its own (WithAttributes): correct the name, or give --attributes"
		}
		x.add(gradeProblem, spec.what, name, wrong, do)
		return false
	}
	switch s := t.TableStatus; s {
	case "":
		x.silent(spec.what, name, "its status")
	case dynamodbtypes.TableStatusActive, dynamodbtypes.TableStatusUpdating:
		x.add(gradeOK, spec.what, name, string(s)+", with the right keys", "")
	case dynamodbtypes.TableStatusInaccessibleEncryptionCredentials, dynamodbtypes.TableStatusArchiving, dynamodbtypes.TableStatusArchived:
		x.add(gradeProblem, spec.what, name, "it is "+string(s)+": DynamoDB cannot use its key", "give DynamoDB the key back within seven days; an archived table has to be restored")
	default:
		x.add(gradeProblem, spec.what, name, "it is "+string(s), "wait until it is ACTIVE")
	}
	if e := t.SSEDescription; e != nil {
		switch key := aws.ToString(e.KMSMasterKeyArn); {
		case e.InaccessibleEncryptionDateTime != nil:
			x.add(gradeProblem, "encryption", name, "the table's key is out of reach since "+e.InaccessibleEncryptionDateTime.UTC().Format("2006-01-02 15:04")+": DynamoDB archives the table after seven days", "give DynamoDB the key back")
		case key != "":
			x.checkKey(ctx, name, key, "whoever uses the table needs its permissions")
		}
	}
	x.checkTimeToLive(ctx, spec, name)
	return true
}

func (x *examination) checkTimeToLive(ctx context.Context, spec tableSpec, name string) {
	const check = "time to live"
	ttl, err := x.c.dynamodb.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &name})
	if err != nil {
		x.failed(gradeUnknown, check, name, "dynamodb:DescribeTimeToLive", err)
		return
	}
	d := ttl.TimeToLiveDescription
	if d == nil || d.TimeToLiveStatus == "" {
		x.silent(check, name, "whether it is on")
		return
	}
	on := d.TimeToLiveStatus == dynamodbtypes.TimeToLiveStatusEnabled || d.TimeToLiveStatus == dynamodbtypes.TimeToLiveStatusEnabling
	enable := "enable it on " + spec.ttl + x.byCreate()
	events := spec.what == eventsSpec.what
	switch have := aws.ToString(d.AttributeName); {
	case events && spec.ttl == absent && !on:
		x.add(gradeOK, check, name, "it is off: rows are kept for ever", "")
	case events && spec.ttl == absent:
		x.add(gradeProblem, check, name, fmt.Sprintf("it is on the attribute %q, which no Writer writes: the wrong rows may go", have), "disable it, or say in --attributes what expiresAt is named")
	case !on && events && x.ttl > 0:
		x.add(gradeProblem, check, name, "it is off, although rows are written with one", enable)
	case !on && events && x.sample.expiring > 0:
		x.add(gradeProblem, check, name, "it is off, although rows have an "+spec.ttl, enable)
	case !on:
		x.add(gradeWarning, check, name, "it is off: rows are kept for ever", enable)
	case have != spec.ttl:
		x.add(gradeProblem, check, name, fmt.Sprintf("it is on the attribute %q: no row goes, or the wrong ones do", have), "enable it on "+spec.ttl)
	default:
		x.add(gradeOK, check, name, spec.livesOn(), "")
	}
}
