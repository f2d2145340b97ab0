package shardreader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// Clock is the time of a service, by the Date header of its answers. The positions and the arrival times of a stream are of this
// clock, and a machine's clock may be minutes off. The zero value goes by the local clock. It is safe for concurrent use.
type Clock struct {
	mu     sync.Mutex
	date   time.Time     // of the last answer; zero if no answer had a date
	offset time.Duration // from the local clock to the service's
}

// Saw reads the time from the metadata of an answer to a request that was sent at a time. A Date has full seconds. So the local
// clock is believed until an answer contradicts it, and then corrected by as much as the answer proves.
func (c *Clock) Saw(metadata middleware.Metadata, sent time.Time) {
	date, ok := awsmiddleware.GetServerTime(metadata)
	if !ok || date.IsZero() {
		return // a client of the user's own, or a server that does not say
	}
	least, most := time.Until(date), date.Add(time.Second).Sub(sent)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.date, c.offset = date, min(max(least, 0), most)
}

// Now returns the service's time. It is the local time if no answer has said otherwise.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// seen returns the date of the last answer. The service's clock is not behind it.
func (c *Clock) seen() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.date, !c.date.IsZero()
}

// mostAhead is how far ahead of the service a clock may be that no answer has corrected.
const mostAhead = 24 * time.Hour

// Latest returns a time that the service's clock has reached: a reader that starts there misses nothing that arrives from now on.
// It is at most some seconds ago, and up to twice as far off as a local clock that no answer has corrected and that is ahead.
func (k *Kinesis) Latest(ctx context.Context) (time.Time, error) {
	if date, ok := k.seen(); ok {
		return date, nil
	}
	shards, err := k.Shards(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if date, ok := k.seen(); ok {
		return date, nil
	}
	if len(shards) == 0 {
		return time.Time{}, errors.New("no shards are listed")
	}
	// Kinesis refuses a time that it has not reached yet.
	now, shard := time.Now(), shards[len(shards)-1].ID
	for back := time.Duration(0); ; back = max(time.Second, 2*back) {
		at := now.Add(-back)
		_, err := k.Iterator(ctx, shard, At(at))
		if err == nil {
			return at, nil
		}
		if awserr.Code(err) != "InvalidArgumentException" || back > mostAhead {
			return time.Time{}, fmt.Errorf("find the time of the stream: %w", err)
		}
		if err := backoff.Sleep(ctx, minPoll); err != nil {
			return time.Time{}, err
		}
	}
}

// Latest returns the Date of the last answer, a time that the service's clock has reached. Without a Date it is the local time.
func (s *Streams) Latest(ctx context.Context) (time.Time, error) {
	if date, ok := s.seen(); ok {
		return date, nil
	}
	if _, err := s.Shards(ctx); err != nil {
		return time.Time{}, err
	}
	if date, ok := s.seen(); ok {
		return date, nil
	}
	return time.Now(), nil
}
