package dynamo

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// tooOld is how long ago a time to live may lie: DynamoDB takes an older one for a mistake.
const tooOld = 5 * 365 * 24 * time.Hour

type timeToLiveSpecification struct {
	Enabled       *bool   `wire:"required"`
	AttributeName *string `wire:"required,min=1,max=255"`
}

type updateTimeToLiveInput struct {
	TableName               *string                  `wire:"required,table"`
	TimeToLiveSpecification *timeToLiveSpecification `wire:"required"`
}

type updateTimeToLiveOutput struct {
	TimeToLiveSpecification *timeToLiveSpecification
}

func (db *DB) updateTimeToLive(in *updateTimeToLiveInput) (*updateTimeToLiveOutput, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	spec := in.TimeToLiveSpecification
	switch {
	case *spec.Enabled && t.ttl == *spec.AttributeName:
		return nil, wire.Validation("TimeToLive is already enabled")
	case *spec.Enabled && t.ttl != "":
		return nil, wire.Validation("TimeToLive is active on a different AttributeName: current AttributeName is " + t.ttl)
	case !*spec.Enabled && t.ttl == "":
		return nil, wire.Validation("TimeToLive is already disabled")
	case !*spec.Enabled && t.ttl != *spec.AttributeName:
		return nil, wire.Validation("TimeToLive is active on a different AttributeName: current AttributeName is " + t.ttl)
	}
	t.ttl = ""
	if *spec.Enabled {
		t.ttl = *spec.AttributeName
	}
	return &updateTimeToLiveOutput{spec}, nil
}

type describeTimeToLiveInput struct {
	TableName *string `wire:"required,table"`
}

type timeToLiveDescription struct {
	TimeToLiveStatus string
	AttributeName    string `json:",omitempty"`
}

type describeTimeToLiveOutput struct {
	TimeToLiveDescription timeToLiveDescription
}

func (db *DB) describeTimeToLive(in *describeTimeToLiveInput) (*describeTimeToLiveOutput, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	d := timeToLiveDescription{"DISABLED", ""}
	if t.ttl != "" {
		d = timeToLiveDescription{"ENABLED", t.ttl}
	}
	return &describeTimeToLiveOutput{d}, nil
}

// ExpireTTL deletes the items whose time to live has passed, as the service does in the background.
// Each deletion is a Remove with ByTTL. It looks at every item of every table with a time to live.
func (db *DB) ExpireTTL() {
	db.expire()
	db.announce()
}

func (db *DB) expire() {
	db.mu.Lock()
	defer db.mu.Unlock()
	now := db.cfg.Now()
	// In the order of their names, so that a test that is run again sees the same changes.
	for _, name := range slices.Sorted(maps.Keys(db.tables)) {
		t := db.tables[name]
		if t.ttl == "" {
			continue
		}
		var gone []*record
		for e := t.order.head.next[0]; e != nil; e = e.next[0] {
			if expired(e.rec.item[t.ttl], now) {
				gone = append(gone, e.rec)
			}
		}
		for _, rec := range gone {
			db.commit(t, rec, nil, true)
		}
	}
}

// expired reports whether a time to live, a number of seconds since 1970, has passed.
func expired(v attr.Value, now time.Time) bool {
	if v.Kind() != attr.KindN {
		return false
	}
	// The fraction does not matter, and a number too long for a time is no time.
	seconds, _, _ := strings.Cut(v.Text(), ".")
	if len(seconds) > 12 {
		return false
	}
	var n int64
	for _, c := range seconds {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int64(c-'0')
	}
	at := time.Unix(n, 0)
	return at.Before(now) && now.Sub(at) < tooOld
}
