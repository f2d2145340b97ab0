package shardreader

import (
	"context"
	"errors"
	"time"
)

// looks is how many answers must say that a shard has ended if none shows the record at the position.
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

// end decides about an answer that has no next iterator and names no children: the end of a shard, or an answer that is not whole. A
// new iterator starts with the record at the position, so an answer that has this record and nothing after it is whole. Where there is
// no such record, several answers must agree. After that the service must list the shard as ended. news says whether the answer had
// new records.
func (w *walk) end(ctx context.Context, news bool) (children []Shard, over bool, err error) {
	if news {
		w.ends, w.doubts = 0, 0
	}
	w.ends++
	if w.iterator = ""; !news { // pace takes it for the tip
		w.pause, w.nextGet = 0, time.Now().Add(w.poll())
	}
	if w.ends == 1 || !w.shown && w.ends < looks {
		return nil, false, nil
	}
	ended, children, err := w.Source.Ended(ctx, w.shard)
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	if err == nil && ended {
		w.tellTrimmed(nil)
		return children, true, nil
	}
	operation := "listing the children"
	if err == nil {
		operation, err = "GetRecords", errNoEnd
	}
	w.failures = w.doubts // an answer came each time, but none that helps
	w.doubts++
	return nil, false, w.failed(ctx, operation, err)
}
