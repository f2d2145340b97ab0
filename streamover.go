package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// overEvery is how often a Worker tells of a stream that is over, and how long it doubts a listing that says so.
const overEvery = time.Minute

// suspect notes what a listing says about the whole stream.
func (w *Worker) suspect(over shardreader.Over) {
	if over.Reason != "" {
		signal(w.suspicion)
	}
}

// watchOver tells of a stream that is over, again and again: a Worker that waits for nothing looks like a Worker without work. It makes no
// call before there is a suspicion.
func (w *Worker) watchOver(ctx context.Context) {
	for {
		select {
		case <-w.suspicion:
		case <-ctx.Done():
			return
		}
		for since := (time.Time{}); ; {
			over, err := w.over(ctx)
			switch {
			case err != nil: // the listing of the shards tells of it
			case over.Reason == "":
				since = time.Time{}
			case since.IsZero():
				since = time.Now()
			}
			if over.Certain || !since.IsZero() && time.Since(since) >= overEvery {
				w.tellOver(ctx, over.Reason)
			}
			if err == nil && over.Reason == "" {
				w.health.streamOver("")
				break
			}
			if backoff.Sleep(ctx, overEvery) != nil {
				return
			}
		}
	}
}

func (w *Worker) over(ctx context.Context) (shardreader.Over, error) {
	ctx, cancel := context.WithTimeout(ctx, overEvery)
	defer cancel()
	return w.source.Over(ctx)
}

func (w *Worker) tellOver(ctx context.Context, reason string) {
	if reason == "" || ctx.Err() != nil {
		return
	}
	w.health.streamOver(reason)
	err := fmt.Errorf("outbox: the stream %s has ended: %s", w.stream, reason)
	w.consumer.logger.ErrorContext(ctx, "outbox: the stream has ended", "stream", w.stream, "reason", reason)
	for _, hooks := range w.hooks {
		if hooks.StreamEnded != nil {
			w.call("StreamEnded", func() { hooks.StreamEnded(err) })
		}
	}
}
