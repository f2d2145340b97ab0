package dynamo

import (
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Point-in-time recovery is a setting that is remembered: nothing is backed up, nothing can be restored.

// defaultRecoveryDays is how far back a table can be restored, unless less is asked for.
const defaultRecoveryDays = 35

// recoveryDelay is how far DynamoDB's backups are behind, typically.
const recoveryDelay = 5 * time.Minute

// recovery is point-in-time recovery that is on.
type recovery struct {
	since time.Time
	days  int32
}

type describeContinuousBackupsInput struct {
	TableName *string `wire:"required,table"`
}

type recoverySpecification struct {
	PointInTimeRecoveryEnabled *bool  `wire:"required"`
	RecoveryPeriodInDays       *int32 `wire:"min=1,max=35"`
}

type updateContinuousBackupsInput struct {
	TableName                        *string                `wire:"required,table"`
	PointInTimeRecoverySpecification *recoverySpecification `wire:"required"`
}

type recoveryDescription struct {
	PointInTimeRecoveryStatus  string
	RecoveryPeriodInDays       int32       `json:",omitempty"`
	EarliestRestorableDateTime *wire.Epoch `json:",omitempty"`
	LatestRestorableDateTime   *wire.Epoch `json:",omitempty"`
}

type continuousBackupsDescription struct {
	ContinuousBackupsStatus        string
	PointInTimeRecoveryDescription recoveryDescription
}

type continuousBackupsOutput struct {
	ContinuousBackupsDescription continuousBackupsDescription
}

func (db *DB) describeContinuousBackups(in *describeContinuousBackupsInput) (*continuousBackupsOutput, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	t, err := db.forBackups(*in.TableName)
	if err != nil {
		return nil, err
	}
	return t.recovery.describe(db.cfg.Now()), nil
}

func (db *DB) updateContinuousBackups(in *updateContinuousBackupsInput) (*continuousBackupsOutput, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forBackups(*in.TableName)
	if err != nil {
		return nil, err
	}
	now := db.cfg.Now()
	spec := in.PointInTimeRecoverySpecification
	switch {
	case !*spec.PointInTimeRecoveryEnabled && spec.RecoveryPeriodInDays != nil:
		return nil, wire.Validation("RecoveryPeriodInDays must not be set when PointInTimeRecoveryEnabled is false")
	case !*spec.PointInTimeRecoveryEnabled:
		t.recovery = nil
		return t.recovery.describe(now), nil
	case t.recovery == nil:
		t.recovery = &recovery{since: now, days: defaultRecoveryDays}
	}
	if spec.RecoveryPeriodInDays != nil {
		t.recovery.days = *spec.RecoveryPeriodInDays
	}
	return t.recovery.describe(now), nil
}

// describe is what the API tells; a nil recovery is off.
func (r *recovery) describe(now time.Time) *continuousBackupsOutput {
	d := recoveryDescription{PointInTimeRecoveryStatus: "DISABLED"}
	if r != nil {
		latest := now.Add(-recoveryDelay)
		if latest.Before(r.since) {
			latest = r.since
		}
		earliest := now.AddDate(0, 0, -int(r.days))
		if earliest.Before(r.since) {
			earliest = r.since
		}
		from, to := wire.Epoch(earliest), wire.Epoch(latest)
		d = recoveryDescription{"ENABLED", r.days, &from, &to}
	}
	return &continuousBackupsOutput{continuousBackupsDescription{"ENABLED", d}}
}

// forBackups finds a table for the operations about backups, which name a missing one in another way than all others.
func (db *DB) forBackups(name string) (*table, error) {
	if t, ok := db.find(name); ok {
		return t, nil
	}
	return nil, wire.Errorf("TableNotFoundException", "Table not found: %s", name)
}
