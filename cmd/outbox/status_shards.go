package main

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// The states of a shard.
const (
	shardReading    = "reading"
	shardUnowned    = "unowned"
	shardDeadOwner  = "dead owner"
	shardSilent     = "silent owner"
	shardUnknown    = "unknown owner" // whether it lives
	shardNotBegun   = "not begun"
	shardWaits      = "waiting for its parents"
	shardEnded      = "ended" // and records of it are not finished
	shardFinished   = "finished"
	shardLost       = "lost"
	shardEndedEarly = "ended too early"
)

// shardStatus is how far a shard is.
type shardStatus struct {
	Shard      string `json:"shard"`
	State      string `json:"state"`
	Owner      string `json:"owner,omitempty"`
	OwnerState string `json:"ownerState,omitempty"` // as of a worker
	WantedBy   string `json:"wantedBy,omitempty"`
	Fence      int64  `json:"fence,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"`
	// StartsAt is where the shard is read from if it has no checkpoint, as after checkpoint move --from. Without both it is read from its oldest
	// record.
	StartsAt time.Time `json:"startsAt,omitzero"`
	// Expired says that the record at the checkpoint, or the first unfinished record, is not in the stream any more. Later records may have
	// expired, too.
	Expired bool `json:"expired,omitempty"`
	// Lag is the age of the next record that is not finished, 0 if there is none, and null if it is unknown. Then it is at most LagAtMost, if
	// this is there.
	Lag       *seconds `json:"lagSeconds"`
	LagAtMost *seconds `json:"lagAtMostSeconds,omitempty"`
	// Waiting is how many records are not finished, and null if it is unknown. With MoreWaiting there are more.
	Waiting     *int `json:"waiting"`
	MoreWaiting bool `json:"moreWaiting,omitempty"`
	// NextSequenceNumber is the next record that is not finished, if there is one and it is known, and Next its event, if it is one.
	NextSequenceNumber string     `json:"nextSequenceNumber,omitempty"`
	Next               *eventJSON `json:"next,omitempty"`
	// Unfinished are the records up to the checkpoint, or the end, that are not finished.
	Unfinished []string       `json:"unfinished,omitempty"`
	Attempts   map[string]int `json:"attempts,omitempty"`
	Error      string         `json:"error,omitempty"` // why it could not be read

	start  kinesis.GetShardIteratorInput
	open   bool // the stream lists no end of it
	ended  bool // it was read to its end
	silent bool // it has no record to read
}

// readable reports whether the shard has a place to read from.
func (s *shardStatus) readable() bool {
	return !slices.Contains([]string{shardFinished, shardLost, shardEndedEarly}, s.State)
}

// acceptable reports whether an expired checkpoint may be that of a shard which was silent for long: it is read, and has no records.
func (s *shardStatus) acceptable() bool {
	return s.silent && (s.OwnerState == workerAlive || s.OwnerState == workerDraining)
}

// join puts together what the stream and the lease table say, in the order of the shards.
func join(listed []shardreader.Shard, leases []outbox.LeaseStatus, workers []*workerStatus) []*shardStatus {
	byID, ended := map[string]*outbox.LeaseStatus{}, map[string]bool{}
	for i, l := range leases {
		byID[l.Shard] = &leases[i]
		ended[l.Shard] = l.Ended || l.Forgotten
	}
	there := map[string]bool{}
	for _, s := range listed {
		there[s.ID] = true
	}
	byName := map[string]*workerStatus{}
	for _, w := range workers {
		byName[w.Worker] = w
	}
	shards := []*shardStatus{}
	for _, l := range leases {
		if finished := l.Ended && len(l.Unfinished) == 0; !there[l.Shard] && !finished {
			shards = append(shards, &shardStatus{Shard: l.Shard, State: shardLost, Fence: l.Fence, Checkpoint: l.Checkpoint, StartsAt: l.StartsAt, Unfinished: l.Unfinished})
		}
	}
	for _, s := range listed {
		l := byID[s.ID]
		if l == nil {
			l = &outbox.LeaseStatus{Shard: s.ID}
		}
		waits := slices.ContainsFunc(s.Parents, func(parent string) bool { return there[parent] && !ended[parent] })
		shards = append(shards, statusOf(l, byName[l.Owner], byID[s.ID] != nil, waits, shardreader.Open(s, listed)))
	}
	for _, s := range shards {
		if w := byName[s.Owner]; w != nil {
			w.Shards++
		}
	}
	return shards
}

func statusOf(l *outbox.LeaseStatus, owner *workerStatus, begun, waits, open bool) *shardStatus {
	s := &shardStatus{Shard: l.Shard, State: shardReading, open: open, ended: l.Ended, Owner: l.Owner, WantedBy: l.WantedBy, Fence: l.Fence,
		Checkpoint: l.Checkpoint, StartsAt: l.StartsAt, Unfinished: l.Unfinished, Attempts: l.Attempts}
	switch {
	case l.Owner == "":
	case l.OwnerState == outbox.OwnerDead:
		s.OwnerState = workerDead
	case owner == nil: // it has come since the workers were watched
		s.OwnerState = workerAlive
	default:
		s.OwnerState = owner.State
	}
	s.start.ShardId, s.start.ShardIteratorType = &s.Shard, kinesistypes.ShardIteratorTypeTrimHorizon
	switch {
	case len(l.Unfinished) > 0:
		s.start.ShardIteratorType, s.start.StartingSequenceNumber = kinesistypes.ShardIteratorTypeAtSequenceNumber, &l.Unfinished[0]
	case l.Checkpoint != "": // at the record itself, which shows that it is still there
		s.start.ShardIteratorType, s.start.StartingSequenceNumber = kinesistypes.ShardIteratorTypeAtSequenceNumber, &l.Checkpoint
	case !l.StartsAt.IsZero():
		s.start.ShardIteratorType, s.start.Timestamp = kinesistypes.ShardIteratorTypeAtTimestamp, &l.StartsAt
	}
	switch {
	case l.Ended && open && l.Owner == "" && len(l.Unfinished) == 0:
		s.State = shardEndedEarly
	case l.Ended && len(l.Unfinished) == 0:
		s.State = shardFinished
		s.Lag, s.Waiting = new(seconds), new(int)
	case waits:
		s.State = shardWaits
	case !begun:
		s.State = shardNotBegun
	case l.Owner == "":
		s.State = shardUnowned
	case s.OwnerState == workerDead:
		s.State = shardDeadOwner
	case s.OwnerState == workerSilent:
		s.State = shardSilent
	case s.OwnerState == workerUnknown:
		s.State = shardUnknown
	case l.Ended:
		s.State = shardEnded
	}
	return s
}
