package outbox

import (
	"context"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// ShardStatus says how far a worker is with a shard.
type ShardStatus struct {
	Shard string
	Fence int64
	// Records is how many records were read since the last call for this lease. What the last second of a lease has read is never
	// reported.
	Records int
	// Behind is how far the last answer of the stream was from the tip of the shard (MillisBehindLatest). It is negative if
	// unknown: before the first answer, while requests fail, while there has been no answer for ten seconds and twice the time of
	// WithPollInterval, as when WithMaxUnfinished has stopped the fetching, and always on DynamoDB Streams.
	Behind time.Duration
	// Age is how long the last record read had been in the stream when it was read, by the stream's clock (the Date of its answers). It
	// is negative if unknown: before the first record, and after a record without a time of arrival.
	Age time.Duration
	// Unfinished is how many of the records read lie above the checkpoint, and how many below it are not finished
	// (LeaseStatus.Unfinished). The stored checkpoint is up to a second behind.
	Unfinished int
	// Waiting is for how long the oldest of these records has been unfinished in this worker; 0 if there are no such records.
	Waiting time.Duration
}

// statusEvery is how often the Status hook is called for a shard.
const statusEvery = time.Second

// seen is what the answers of the stream have said.
type seen struct {
	records int
	behind  time.Duration
	age     time.Duration
	at      time.Time // when the last answer came
}

const unknown = time.Duration(-1)

// staleAfter is for how long an answer tells how far a shard is, besides the pauses between answers.
const staleAfter = 10 * time.Second

// unseen keeps that a request has failed.
func (s *shardRun) unseen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.behind = unknown
}

// see keeps how far the shard is according to an answer.
func (s *shardRun) see(b shardreader.Batch) {
	s.held.Reading(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.records += len(b.Records)
	s.seen.behind, s.seen.at = b.Behind, time.Now()
	if n := len(b.Records); n > 0 {
		s.seen.age = unknown
		if at := b.Records[n-1].ArrivedAt; !at.IsZero() {
			s.seen.age = max(0, s.w.source.Now().Sub(at))
		}
	}
}

// tellStatus calls the Status hook until ctx ends. It goes by the clock rather than by the answers, because a shard that waits
// for a slow handler gets no answers.
func (s *shardRun) tellStatus(ctx context.Context) {
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			status := s.status()
			for _, hooks := range s.w.hooks {
				if hooks.Status != nil {
					s.w.call("Status", func() { hooks.Status(status) })
				}
			}
		}
	}
}

func (s *shardRun) status() ShardStatus {
	owed := s.owed.Status()
	s.mu.Lock()
	last := s.seen
	s.seen.records = 0
	s.mu.Unlock()
	if time.Since(last.at) > staleAfter+2*s.w.pollInterval {
		last.behind = unknown
	}
	status := ShardStatus{
		Shard: s.held.Shard().ID, Fence: s.held.Fence(), Records: last.records, Behind: last.behind, Age: last.age, Unfinished: owed.Unfinished,
	}
	if !owed.Oldest.IsZero() {
		status.Waiting = time.Since(owed.Oldest)
	}
	return status
}
