package shardreader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	onePages  = 20 // answers without records in a row that are followed before a new iterator is made
	oneMisses = 10 // readings in a row that find nothing until One gives up
)

// errMissing is an answer that should have had a record. However often it comes, it does not prove that the record has expired.
var errMissing = errors.New("the service has answered without the record")

// One fetches a single record of a shard, given by its sequence number. found is false if the record has expired: the service says so, or gives
// a later record in its place. Ten readings in a row that find nothing are no proof, but a *[StopError]: others may be read first.
//
// One repeats failed requests, and tells OnRetry. The error is a *[StopError], or ctx's cause when ctx has ended. It makes at most one request
// of a kind in Poll's time; a Read of the shard beside it has to leave room.
func (r *Reader) One(ctx context.Context, shard, sequence string) (record Record, found bool, err error) {
	if number, ok := Position(sequence).sequence(); !ok || number != sequence {
		return Record{}, false, &StopError{Shard: shard, Operation: "starting", Err: fmt.Errorf("%q is no sequence number", sequence)}
	}
	w := walk{Reader: r, shard: shard, position: Position(sequence), after: sequence}
	for misses := 0; ; {
		record, found, err := w.one(ctx, sequence)
		if !errors.Is(err, errMissing) {
			misses = 0
		} else if misses++; misses == oneMisses {
			return Record{}, false, &StopError{Shard: shard, Operation: "GetRecords", Err: err}
		}
		switch {
		case err == nil:
			return record, found, nil
		case ctx.Err() != nil:
			return Record{}, false, context.Cause(ctx)
		case judge(err) == trimmed:
			return Record{}, false, nil
		}
		if err := w.failed(ctx, "GetRecords", err); err != nil {
			return Record{}, false, err
		}
	}
}

// one makes an iterator at the record and reads from there until a record comes.
func (w *walk) one(ctx context.Context, sequence string) (record Record, found bool, err error) {
	if err := sleepUntil(ctx, w.nextGet); err != nil {
		return Record{}, false, err
	}
	call, cancel := context.WithTimeout(ctx, requestTimeout)
	w.iterator, err = w.Source.Iterator(call, w.shard, Position(sequence))
	cancel()
	w.nextGet = time.Now().Add(w.poll())
	for page := 0; err == nil && w.iterator != "" && page < onePages; page++ {
		if err := sleepUntil(ctx, w.nextGet); err != nil {
			return Record{}, false, err
		}
		var b Batch
		w.limit = 1
		b, err = w.get(ctx)
		w.nextGet = time.Now().Add(w.poll())
		if err != nil {
			break
		}
		for _, got := range b.Records {
			switch CompareSequence(got.SequenceNumber, sequence) {
			case 0:
				got.Data = bytes.Clone(got.Data)
				b.done()
				return got, true, nil
			case 1:
				b.done()
				return Record{}, false, nil
			}
		}
		b.done()
		w.iterator = b.Next
	}
	if err == nil {
		err = errMissing
	}
	return Record{}, false, err
}
