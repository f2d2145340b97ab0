package replay_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// One event of each kind. Only the undelivered ones are handled, and told with them are the rows that cannot be read.
func TestEachEventCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		c := s.consumer(t, outbox.WithDeadLetters(s.letters))
		refused := errors.New("refused")
		s.fail = func(string) error { return outbox.Permanent(refused) }
		for _, id := range []string{"letter", "discarded"} {
			r := s.now(id, id)
			s.put(t, r)
			r.Table = "events"
			require.NoError(t, c.Process(t.Context(), r))
		}
		s.fail = nil
		require.NoError(t, s.letters.Discard(t.Context(), "discarded#discarded"))

		s.handles(t, 1)
		old := s.now("old", "")
		old.Time = old.Time.Add(-29 * 24 * time.Hour)
		unwanted := s.now("unwanted", "")
		unwanted.Type = "OTHER"
		s.put(t, old, unwanted, s.now("lost", "b"), s.now("lost too", "b"))
		s.row(t, item{"eventId": attrS("unreadable"), "type": attrS("NOTED"), "timestamp": attrS("noon"), "payload": attrS("{}")})
		s.row(t, item{"eventId": attrS("timeless"), "type": attrS("NOTED"), "payload": attrS("{}")})
		s.row(t, item{"eventId": attrS("no event")})
		time.Sleep(time.Hour)
		s.put(t, s.now("young", "b"))

		var told []string
		o := replay.ReconcileOptions{ReportOnly: true, Found: func(r outbox.Record, err error) {
			var malformed *outbox.DecodeError
			require.Equal(t, r.ID == "unreadable" || r.ID == "timeless", errors.As(err, &malformed), "%s: %v", r.ID, err)
			told = append(told, r.ID)
		}}
		for _, report := range []bool{true, false} {
			told, o.ReportOnly = nil, report
			r, err := s.reconcile(t, c, o)
			require.NoError(t, err)
			require.Equal(t, time.Now().Add(-time.Hour).Truncate(time.Millisecond), r.Oldest.Local())
			r.Oldest = time.Time{}
			want := replay.ReconcileResult{Segments: 1, Searched: 11, Young: 1, Unwanted: 1, Unknown: 1, Handled: 2, DeadLetters: 2, Unreadable: 2, Undelivered: 2}
			if !report {
				want.Delivered = 2
			}
			require.Equal(t, want, r)
			require.ElementsMatch(t, []string{"lost", "lost too", "unreadable", "timeless"}, told)
		}
		require.Equal(t, map[string]int{"first": 1, "handled0": 1, "lost": 1, "lost too": 1}, s.runs)

		time.Sleep(time.Hour)
		r, err := s.reconcile(t, c, replay.ReconcileOptions{Since: time.Now().Add(-90 * time.Minute)})
		require.NoError(t, err)
		require.Equal(t, []int{8, 1, 1}, []int{r.Unknown, r.Undelivered, r.Delivered}, "%+v", r)
		s.requireOnce(t, "young")
	})
}

// What the inbox has forgotten is not judged, long before it forgets it.
func TestWhatTheInboxForgotIsNotJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		time.Sleep(27 * 24 * time.Hour)
		last := s.now("last", "")
		s.put(t, last)
		last.Table = "events"
		require.NoError(t, s.consumer(t).Process(t.Context(), last))
		time.Sleep(25 * time.Hour)
		_, err := s.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("inbox"), Key: item{"eventId": attrS("first"), "consumer": attrS("mails#events")}})
		require.NoError(t, err)
		r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{1, 1, 0}, []int{r.Unknown, r.Handled, r.Undelivered})
		s.requireOnce(t, "first", "last")
	})
}

// An event that another delivery handles at this moment is left to it.
func TestAnEventThatIsBeingHandledIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		r := s.now("slow", "a")
		s.put(t, r)
		r.Table = "events"
		time.Sleep(time.Hour)
		entered, leave, done := make(chan bool), make(chan bool), make(chan error)
		s.fail = func(string) error { entered <- true; <-leave; return nil }
		go func() { done <- s.consumer(t).Process(t.Context(), r) }()
		<-entered
		got, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{1, 0}, []int{got.Claimed, got.Undelivered})
		leave <- true
		require.NoError(t, <-done)
		s.requireOnce(t, "slow")
	})
}

// Every row is in exactly one segment, for every number of segments, and each slot of the clock reads the next one.
func TestEveryRowIsInOneSegment(t *testing.T) {
	for segments := 1; segments <= 30; segments++ {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t)
			defer s.Close()
			want := []string{}
			for i := range 40 {
				want = append(want, fmt.Sprint("e", i))
				s.put(t, s.now(want[i], ""))
			}
			time.Sleep(time.Hour)
			var found []string
			seen := map[int]bool{}
			o := replay.ReconcileOptions{Every: time.Minute, Cycle: time.Duration(segments) * time.Minute, ReportOnly: true,
				Found: func(r outbox.Record, _ error) { found = append(found, r.ID) }}
			for range segments {
				r, err := s.reconcile(t, s.consumer(t), o)
				require.NoError(t, err)
				require.Equal(t, segments, r.Segments)
				require.False(t, seen[r.Segment], "segment %d of %d twice", r.Segment, segments)
				seen[r.Segment] = true
				time.Sleep(time.Minute)
			}
			require.ElementsMatch(t, want, found)
		})
	}
}

// A claim ends by itself, within the 12 hours that WithClaimDuration takes. One of a machine whose clock was a year ahead does not: its event is told
// in each cycle, and is handled when nobody's claim is in the way.
func TestAClaimThatDoesNotEndHidesNothing(t *testing.T) {
	for name, claimed := range map[string]item{
		"mark":     {"eventId": attrS("lost"), "consumer": attrS("mails#events"), "type": attrS("NOTED")},
		"position": {"eventId": attrS("lost"), "consumer": attrS("mails#events#position")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t)
				defer s.Close()
				r := s.now("lost", "")
				c := s.consumer(t)
				if name == "position" {
					r = s.now(outbox.SequencedID("lost", 1), "lost")
					r.Sequence = 1
					c = s.consumer(t, outbox.WithOrder(s.DynamoDB, "events", time.Time{}))
				}
				s.put(t, r)
				time.Sleep(time.Hour)
				for _, ends := range []struct {
					in            time.Duration
					claimed, open int
				}{{12 * time.Hour, 1, 0}, {365 * 24 * time.Hour, 0, 1}} {
					claimed["owner"], claimed["claimedUntil"] = attrS("x"), attrN(fmt.Sprint(time.Now().Add(ends.in).UnixMilli()))
					claimed["expiresAt"] = attrN(fmt.Sprint(time.Now().Add(400 * 24 * time.Hour).Unix()))
					_, err := s.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("inbox"), Item: claimed})
					require.NoError(t, err)
					got, err := s.reconcile(t, c, replay.ReconcileOptions{})
					require.Equal(t, []int{ends.claimed, ends.open, 0}, []int{got.Claimed, got.Undelivered, got.Delivered}, "%+v, %v", got, err)
					require.Equal(t, ends.open == 1, err != nil, "%v", err)
				}
				_, err := s.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("inbox"),
					Key: item{"eventId": claimed["eventId"], "consumer": claimed["consumer"]}})
				require.NoError(t, err)
				got, err := s.reconcile(t, c, replay.ReconcileOptions{})
				require.NoError(t, err)
				require.Equal(t, 1, got.Delivered)
				s.requireOnce(t, r.ID)
			})
		})
	}
}
