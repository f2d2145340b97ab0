package shardreader

import (
	"context"
	"errors"
	"time"
)

// looks is how many answers must say that a closed shard has ended if it has no record at the position.
const looks = 4

// errNoEnd is what is wrong with an answer that has no next iterator while nothing says that its shard has ended.
var errNoEnd = errors.New("the answer has no next iterator, but the shard is not known to have ended")

// named returns the children that an answer names, which is how Kinesis says that a shard has ended.
func (w *walk) named(b *Batch) []Shard {
	if b.Next != "" || !continues(b.Children, w.shard) {
		return nil
	}
	return b.Children
}

// goesOn tells of answers without a next iterator when a later answer shows that they were not the end.
func (w *walk) goesOn(b *Batch) {
	if w.ends == 0 || len(b.Records) == 0 {
		return
	}
	if w.OnRetry != nil {
		w.OnRetry(Retry{Shard: w.shard, Operation: "GetRecords", Failures: w.ends, Err: errNoEnd})
	}
	w.ends, w.doubts = 0, 0
}

// end decides about an answer that has no next iterator and names no children: the end of a shard, or an answer that is not whole. First
// the service must list the shard as closed, since an open shard may still get records after the answer. Then a new iterator, which starts
// with the record at the position, must show this record and nothing after it. Where there is no such record, several answers must agree.
// news says whether the answer had new records.
func (w *walk) end(ctx context.Context, news bool) (children []Shard, over bool, err error) {
	if news {
		w.ends, w.doubts = 0, 0
	}
	w.ends++
	if w.iterator = ""; !news { // pace takes it for the tip
		w.pause, w.nextGet = 0, time.Now().Add(w.poll())
	}
	if !w.closed {
		w.closed, w.children, err = w.Source.Ended(ctx, w.shard)
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		if err != nil {
			return nil, false, w.doubt(ctx, "listing the children", err)
		}
		if !w.closed {
			return nil, false, w.doubt(ctx, "GetRecords", errNoEnd)
		}
		w.ends = 1 // only answers after the closing count
	}
	_, record := w.position.sequence()
	switch {
	case w.ends == 1:
		return nil, false, nil
	case w.shown, !record && w.ends >= looks:
		w.tellTrimmed(nil)
		return w.children, true, nil
	case w.ends < looks:
		return nil, false, nil
	}
	return nil, false, w.doubt(ctx, "GetRecords", errNoEnd)
}

// doubt waits for the next attempt to find out whether the shard has ended. An answer came each time, but none that helps.
func (w *walk) doubt(ctx context.Context, operation string, err error) error {
	w.failures = w.doubts
	w.doubts++
	return w.failed(ctx, operation, err)
}
