package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// putFates are those that differ for a PutItem: it is held by one item only, and has no token.
func putFates(scripts [][]fate) [][]fate {
	return slices.DeleteFunc(scripts, func(script []fate) bool {
		return slices.Contains(script, eventConflict) || slices.Contains(script, isInProgress)
	})
}

// Every fate of every request of an event alone, which has no token: what the first call says is true, a repeat recognises the call's own
// row, and in the end there is one row and one change record.
func TestEveryFateOfAnEventAloneEndsInOneRow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorldWith(t)
		defer w.Close()
		s := w.scriptedWriters(t)
		ways := []struct {
			name    string
			writer  *outbox.Writer
			scripts [][]fate
		}{
			{"usual", s.usual, putFates(everyScript(3))},
			{"the SDK's attempts are spent", s.usual, everySpentAttempt(s.attempts)},
			{"no retries of the Writer", s.sdkRetries, putFates(everyScript(2))},
			{"no retries of the SDK", s.ownRetries, putFates(everyScript(2))},
			{"no retries", s.noRetries, putFates(everyScript(1))},
		}
		cases, requests := 0, 0
		outcomes := map[error]int{}
		for _, way := range ways {
			for _, script := range way.scripts {
				cases++
				id := fmt.Sprintf("%s, %v", way.name, script)
				e := outbox.NewSequenced(id, 1, orderCreated{OrderID: id})
				c, err := scripted(t, way.writer, script, nil, e)
				requests += c.sent
				stored := w.row(t, "events", "eventId", e.ID) != nil
				switch {
				case err == nil:
					require.Truef(t, stored, "%s: success, and nothing is written", id)
					outcomes[nil]++
				case errors.Is(err, outbox.ErrUnknownOutcome):
					outcomes[outbox.ErrUnknownOutcome]++
				default:
					require.ErrorIsf(t, err, outbox.ErrConflict, "%s", id)
					require.Falsef(t, stored, "%s: it says that nothing was written, and something was: %v", id, err)
					outcomes[outbox.ErrConflict]++
				}
				for _, arrive := range c.arriving {
					arrive()
				}
				require.NoErrorf(t, way.writer.Transact(t.Context(), nil, e), "%s: first %v, then the repeat", id, err)
				for _, arrive := range c.arrivingLonger {
					arrive()
				}
				require.NoErrorf(t, way.writer.Transact(t.Context(), nil, e), "%s: one more repeat", id)
			}
		}
		w.requireRows(t, 0, int64(cases))
		w.requireOneChangeRecordEach(t, cases)
		t.Logf("%d cases, %d faulty requests in all; first calls: %d succeeded, %d conflicts, %d unknown outcomes",
			cases, requests, outcomes[nil], outcomes[outbox.ErrConflict], outcomes[outbox.ErrUnknownOutcome])
		require.Len(t, outcomes, 3)
	})
}

// The same with another writer, who takes the sequence before one of the requests or after the call: whatever happens, one of the two events is
// stored, and its writer alone is told so in the end.
func TestEveryFateOfARaceForASequenceHasOneWinner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorldWith(t)
		defer w.Close()
		s := w.scriptedWriters(t)
		cases, mineWon, told := 0, 0, map[error]int{}
		for way, writer := range map[string]*outbox.Writer{"usual": s.usual, "no retries of the SDK": s.ownRetries, "no retries of the Writer": s.sdkRetries} {
			for _, script := range putFates(everyScript(2)) {
				for takenBefore := 1; takenBefore <= len(script)+1; takenBefore++ {
					cases++
					id := fmt.Sprintf("%s, %v, taken before %d", way, script, takenBefore)
					mine := outbox.NewSequenced(id, 1, orderCreated{Description: "mine"})
					theirs := outbox.NewSequenced(id, 1, orderCreated{Description: "theirs"})
					var theirError error
					take := func(request int) {
						if request == takenBefore {
							theirError = w.writer.Transact(t.Context(), nil, theirs)
						}
					}
					c, err := scripted(t, writer, script, take, mine)
					if c.requests < takenBefore { // it was never reached
						take(takenBefore)
					}
					row := w.row(t, "events", "eventId", mine.ID)
					isMine := row != nil && textOf(row, "payload") != textOf(mustItem(t, w, theirs), "payload")
					switch {
					case err == nil:
						require.Truef(t, isMine, "%s: success, and the other event is stored", id)
						told[nil]++
					case errors.Is(err, outbox.ErrSequenceTaken):
						require.Falsef(t, isMine, "%s: %v", id, err)
						require.NotNilf(t, row, "%s: %v", id, err)
						told[outbox.ErrSequenceTaken]++
					case errors.Is(err, outbox.ErrConflict):
						require.Falsef(t, isMine, "%s: %v", id, err)
						told[outbox.ErrConflict]++
					default:
						require.ErrorIsf(t, err, outbox.ErrUnknownOutcome, "%s", id)
						told[outbox.ErrUnknownOutcome]++
					}
					for _, arrive := range append(c.arriving, c.arrivingLonger...) {
						arrive()
					}
					again, theirAgain := writer.Transact(t.Context(), nil, mine), w.writer.Transact(t.Context(), nil, theirs)
					if isMine {
						mineWon++
						require.NoErrorf(t, again, "%s", id)
						require.ErrorIsf(t, theirAgain, outbox.ErrSequenceTaken, "%s", id)
						require.ErrorIsf(t, theirError, outbox.ErrSequenceTaken, "%s", id)
					} else {
						require.ErrorIsf(t, again, outbox.ErrSequenceTaken, "%s", id)
						require.NoErrorf(t, theirAgain, "%s", id)
						require.NoErrorf(t, theirError, "%s", id)
					}
				}
			}
		}
		w.requireRows(t, 0, int64(cases))
		w.requireOneChangeRecordEach(t, cases)
		t.Logf("%d cases, of which this writer won %d; told %d successes, %d taken sequences, %d conflicts, %d unknown outcomes",
			cases, mineWon, told[nil], told[outbox.ErrSequenceTaken], told[outbox.ErrConflict], told[outbox.ErrUnknownOutcome])
		require.Len(t, told, 4)
	})
}

// scripted writes an event alone; before is called ahead of each request.
func scripted(t *testing.T, writer *outbox.Writer, script []fate, before func(request int), e outbox.AnyEvent) (*call, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := &call{script: script, cancel: cancel, before: before}
	return c, writer.Transact(context.WithValue(ctx, callKey{}, c), nil, e)
}

// mustItem is the row of an event.
func mustItem(t *testing.T, w *world, e outbox.AnyEvent) values {
	items, err := w.writer.Items(t.Context(), e)
	require.NoError(t, err)
	return items[0].Put.Item
}
