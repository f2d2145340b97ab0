package replay_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

func TestReconcileSaysWhatItCannotDo(t *testing.T) {
	s := newShop(t)
	inbox, err := outbox.NewInbox(s.DynamoDB, "inbox", "short", outbox.WithInboxTTL(96*time.Hour))
	require.NoError(t, err)
	short := newConsumer(t, s.handle, outbox.WithInbox(inbox))
	others := newConsumer(t, s.handle, outbox.WithInbox(s.inbox, "PAID"))
	elsewhere, err := outbox.NewConsumer(outbox.WithInbox(s.inbox), outbox.WithTables("other"))
	require.NoError(t, err)
	timeless, err := replay.New(s.DynamoDB, "events", replay.WithAttributes(outbox.Attributes{Time: outbox.NoAttribute}))
	require.NoError(t, err)
	cycle := func(every, cycle time.Duration) replay.ReconcileOptions {
		return replay.ReconcileOptions{Every: every, Cycle: cycle}
	}
	for want, call := range map[string]struct {
		events   *replay.Events
		consumer *outbox.Consumer
		options  replay.ReconcileOptions
	}{
		"the Consumer is nil":                                     {consumer: nil},
		"a Consumer is made by NewConsumer":                       {consumer: &outbox.Consumer{}},
		"Events are made by replay.New":                           {events: &replay.Events{}, consumer: s.consumer(t)},
		"has no Inbox":                                            {consumer: newConsumer(t, s.handle)},
		"no handler whose events the Inbox keeps":                 {consumer: others},
		`WithTables leaves out the table "events"`:                {consumer: elsewhere},
		"no attribute for the time":                               {events: timeless, consumer: s.consumer(t)},
		"lengthen WithInboxTTL by more than 15m0s":                {consumer: short, options: cycle(time.Hour, 24*time.Hour)},
		"Every: want whole seconds":                               {consumer: s.consumer(t), options: cycle(0, time.Hour)},
		"have 1.5s":                                               {consumer: s.consumer(t), options: cycle(1500*time.Millisecond, 3*time.Second)},
		"have -1h0m0s":                                            {consumer: s.consumer(t), options: cycle(-time.Hour, time.Hour)},
		"Cycle: want 1 to 10000 times Every (1h0m0s), have 0s":    {consumer: s.consumer(t), options: cycle(time.Hour, 0)},
		"Cycle: want 1 to 10000 times Every (1h0m0s), have 1h30m": {consumer: s.consumer(t), options: cycle(time.Hour, 90*time.Minute)},
		"Cycle: want 1 to 10000 times Every (1s)":                 {consumer: s.consumer(t), options: cycle(time.Second, 10001*time.Second)},
		"Cycle: want at most":                                     {consumer: s.consumer(t), options: cycle(8760*time.Hour, 147*8760*time.Hour)},
		"Grace: want more than 0":                                 {consumer: s.consumer(t), options: replay.ReconcileOptions{Grace: -1}},
		"Grace: want more than 0 and at most":                     {consumer: s.consumer(t), options: replay.ReconcileOptions{Grace: math.MaxInt64}},
		"Since: want a time that is not in the future":            {consumer: s.consumer(t), options: replay.ReconcileOptions{Since: time.Now().Add(time.Hour)}},
		"MaxDeliver: want 1 to 100000, have -1":                   {consumer: s.consumer(t), options: replay.ReconcileOptions{MaxDeliver: -1}},
		"MaxDeliver: want 1 to 100000, have 100001":               {consumer: s.consumer(t), options: replay.ReconcileOptions{MaxDeliver: 100001}},
		"PerSecond: want 0 or more, have NaN":                     {consumer: s.consumer(t), options: replay.ReconcileOptions{PerSecond: math.NaN()}},
	} {
		events := s.events
		if call.events != nil {
			events = call.events
		}
		r, err := events.Reconcile(t.Context(), call.consumer, call.options)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "replay: Reconcile: ")
		require.Equal(t, replay.ReconcileResult{}, r, want)
	}
}

// A backlog is no loss. Nothing of it is delivered, also if the last event of a page is the one too many.
func TestABacklogIsNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.handles(t, 11)
		for i := range 12 {
			s.put(t, s.now(fmt.Sprint("late", i), ""))
		}
		time.Sleep(time.Hour)
		r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{MaxDeliver: 11})
		require.ErrorIs(t, err, replay.ErrBehind)
		require.ErrorContains(t, err, "more than 11 events are not handled")
		require.Equal(t, []int{12, 0}, []int{r.Undelivered, r.Delivered})
		r, err = s.reconcile(t, s.consumer(t), replay.ReconcileOptions{MaxDeliver: 11, ReportOnly: true})
		require.NoError(t, err)
		require.Equal(t, 12, r.Undelivered)
		require.Len(t, s.runs, 12)
		r, err = s.reconcile(t, s.consumer(t), replay.ReconcileOptions{MaxDeliver: 12})
		require.NoError(t, err)
		require.Equal(t, 12, r.Delivered)
	})
}

// With the inbox of another consumer everything looks undelivered. However little it is, it is not delivered; and a segment in which nothing was
// handled is no such case, if another segment has something that was.
func TestAnInboxThatKnowsNothingIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		wrong, err := outbox.NewInbox(s.DynamoDB, "inbox", "mail")
		require.NoError(t, err)
		c := newConsumer(t, unreached, outbox.WithInbox(wrong))
		time.Sleep(time.Hour)
		segments := replay.ReconcileOptions{Every: time.Minute, Cycle: 20 * time.Minute}
		refused := 0
		for range 20 {
			r, err := s.reconcile(t, c, segments)
			if r.Undelivered > 0 {
				require.ErrorIs(t, err, replay.ErrBehind)
				require.ErrorContains(t, err, "1 events of table events are not handled, and the inbox has 0 of its events")
				refused++
			} else {
				require.NoError(t, err)
			}
			time.Sleep(time.Minute)
		}
		require.Equal(t, 1, refused)

		s.handles(t, 40)
		for i := range 40 {
			s.put(t, s.now(fmt.Sprint("lost", i), ""))
		}
		time.Sleep(time.Hour)
		delivered := 0
		for range 20 {
			r, err := s.reconcile(t, s.consumer(t), segments)
			require.NoError(t, err)
			delivered += r.Delivered
			time.Sleep(time.Minute)
		}
		require.Equal(t, 40, delivered)
	})
}

// The marks of a consumer with rare events have expired when one is lost: the error says so, and To delivers it.
func TestAnInboxWhoseMarksHaveExpiredIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		time.Sleep(40 * 24 * time.Hour)
		s.ExpireTTL()
		s.put(t, s.now("lost", ""))
		time.Sleep(time.Hour)
		_, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.ErrorIs(t, err, replay.ErrBehind)
		require.ErrorContains(t, err, "or its marks have expired, since events are rare")
		_, err = s.events.To(t.Context(), replay.Query{ID: "lost"}, s.consumer(t), replay.Options{})
		require.NoError(t, err)
		s.requireOnce(t, "first", "lost")
		_, err = s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
	})
}

// An event that is too old to be judged, and one that is being handled, show as well whose inbox it is.
func TestAnInboxIsKnownByWhatIsNotJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		time.Sleep(29 * 24 * time.Hour)
		s.put(t, s.now("lost", ""))
		time.Sleep(time.Hour)
		r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{1, 1, 1}, []int{r.Unknown, r.Undelivered, r.Delivered})
		s.requireOnce(t, "first", "lost")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.row(t, item{"eventId": attrS("first")}) // it is no event any more
		slow := s.now("slow", "a")
		s.put(t, slow, s.now("lost", "b"))
		slow.Table = "events"
		time.Sleep(time.Hour)
		entered, leave, done := make(chan bool), make(chan bool), make(chan error)
		c := newConsumer(t, func(ctx context.Context, e outbox.Event[noted]) error {
			entered <- true
			<-leave
			return s.handle(ctx, e)
		}, outbox.WithInbox(s.inbox))
		go func() { done <- c.Process(t.Context(), slow) }()
		<-entered
		r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		leave <- true
		require.NoError(t, <-done)
		require.NoError(t, err)
		require.Equal(t, []int{1, 1, 1}, []int{r.Claimed, r.Undelivered, r.Delivered})
		s.requireOnce(t, "first", "slow", "lost")
	})
}

// A handler that fails holds up its own aggregate, and no other. The next run tries again.
func TestWhatFailsIsReportedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.handles(t, 250)
		for i := range 250 {
			r := s.now(fmt.Sprintf("%03d", i), fmt.Sprint("a", i%5))
			r.Time = r.Time.Add(time.Duration(i) * time.Millisecond)
			s.put(t, r)
		}
		time.Sleep(time.Hour)
		broken := errors.New("broken")
		s.fail = func(id string) error {
			if id == "007" { // of the aggregate a2
				return broken
			}
			return nil
		}
		r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, "49 of 250 undelivered events are still not handled")
		require.Equal(t, []int{250, 201}, []int{r.Undelivered, r.Delivered})
		s.fail = nil
		r, err = s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{452, 49, 49}, []int{r.Handled, r.Undelivered, r.Delivered})
		for i := range 250 {
			s.requireOnce(t, fmt.Sprintf("%03d", i))
		}
	})
}

// slowFetch lets somebody act before the first events are fetched.
type slowFetch struct {
	*dynamodb.Client
	first func()
}

func (s *slowFetch) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	if act := s.first; act != nil {
		s.first = nil
		act()
	}
	return s.Client.BatchGetItem(ctx, in, opts...)
}

// Between the search and the delivery others handle an event, spoil a row and delete another one. Oldest is of what is left.
func TestWhatHappensBeforeTheDeliveryCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.handles(t, 3)
		var all []outbox.Record
		for i, id := range []string{"handled", "spoiled", "lost", "gone"} {
			r := s.now(id, "")
			r.Time = r.Time.Add(time.Duration(i) * time.Second)
			s.put(t, r)
			r.Table = "events"
			all = append(all, r)
		}
		time.Sleep(time.Hour)
		var err error
		s.events, err = replay.New(&slowFetch{s.DynamoDB, func() {
			require.NoError(t, s.consumer(t).Process(t.Context(), all[0]))
			s.row(t, item{"eventId": attrS("spoiled"), "type": attrS("NOTED"), "timestamp": attrS("noon"), "payload": attrS("{}")})
			_, err := s.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("events"), Key: item{"eventId": attrS("gone")}})
			require.NoError(t, err)
		}}, "events")
		require.NoError(t, err)
		r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.EqualError(t, err, "replay: Reconcile: 1 of 2 undelivered events are still not handled: 1 expired or were deleted meanwhile: their rows are gone from the table")
		require.Equal(t, all[2].Time.UnixMilli(), r.Oldest.UnixMilli())
		r.Oldest = time.Time{}
		require.Equal(t, replay.ReconcileResult{Segments: 1, Searched: 8, Handled: 5, Unreadable: 1, Undelivered: 2, Delivered: 1}, r)
		s.requireOnce(t, "first", "handled", "lost")

		r, err = s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.True(t, r.Oldest.IsZero())
	})
}

// What fails for good becomes a dead letter, and is never delivered again, also when it was discarded.
func TestAnEventThatFailsForGoodBecomesADeadLetterAndIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.handles(t, 1)
		s.put(t, s.now("poison", "a"), s.now("poisoned", "a"))
		time.Sleep(time.Hour)
		s.fail = func(string) error { return outbox.Permanent(errors.New("no")) }
		c := s.consumer(t, outbox.WithDeadLetters(s.letters))
		r, err := s.reconcile(t, c, replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{2, 2}, []int{r.Undelivered, r.Delivered})
		s.fail = nil
		for range 2 {
			r, err = s.reconcile(t, c, replay.ReconcileOptions{})
			require.NoError(t, err)
			require.Equal(t, []int{2, 0}, []int{r.DeadLetters, r.Undelivered})
			for _, id := range []string{"a#poison", "a#poisoned"} {
				if err := s.letters.Discard(t.Context(), id); !errors.Is(err, outbox.ErrNoDeadLetter) {
					require.NoError(t, err)
				}
			}
		}
		require.Len(t, s.runs, 2)
	})
}

// A run that is cut off says so, with what it has done. The rate is kept.
func TestARunThatIsCutOffIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.handles(t, 10)
		for i := range 10 {
			s.put(t, s.now(fmt.Sprint("lost", i), ""))
		}
		time.Sleep(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		r, err := s.events.Reconcile(ctx, s.consumer(t), replay.ReconcileOptions{PerSecond: 1})
		require.Error(t, err, "there is no time for the sixth one")
		require.ErrorContains(t, err, "5 of 10 undelivered events are still not handled")
		require.Equal(t, []int{10, 5}, []int{r.Undelivered, r.Delivered})
		cancel()
		_, err = s.events.Reconcile(ctx, s.consumer(t), replay.ReconcileOptions{})
		require.ErrorIs(t, err, context.Canceled)
		r, err = s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, 5, r.Delivered)
	})
}

// Throttling that lasts is an error, and nothing is taken for missing that was not read.
func TestReconcileOfAThrottledTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		for i := range 30 {
			r := s.now(fmt.Sprint("handled", i), "")
			s.put(t, r)
			r.Table = "events"
			require.NoError(t, s.consumer(t).Process(t.Context(), r))
		}
		time.Sleep(time.Hour)
		for _, operation := range []string{"Scan", "BatchGetItem"} {
			require.NoError(t, s.SetFaults(outboxtest.Fault{Kind: outboxtest.Throttle, Service: "DynamoDB", Operation: operation, Probability: 1}))
			r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
			require.Error(t, err)
			require.Zero(t, r.Undelivered)
		}
		require.NoError(t, s.SetFaults(outboxtest.Fault{Kind: outboxtest.Throttle, Service: "DynamoDB", Probability: 0.3}))
		for range 10 {
			r, err := s.reconcile(t, s.consumer(t), replay.ReconcileOptions{})
			require.Zero(t, r.Undelivered, "%v", err)
		}
		s.StopFaults()
		require.Len(t, s.runs, 31)
	})
}

// Rows that go before two cycles are over make the proof worthless. What was found is delivered all the same. Rows of types that the consumer does
// not want may be as short-lived as they like.
func TestRowsThatExpireBeforeTwoCyclesAreAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		writer, err := outbox.NewWriter(s.DynamoDB, "events", outbox.WithTTL(30*time.Hour))
		require.NoError(t, err)
		other := s.now("other", "")
		other.Type = "OTHER"
		require.NoError(t, writer.Transact(t.Context(), nil, other))
		o := replay.ReconcileOptions{Every: 24 * time.Hour, Cycle: 24 * time.Hour}
		for _, unwanted := range []int{0, 1} { // it is young, and then judged
			r, err := s.reconcile(t, s.consumer(t), o)
			require.NoError(t, err)
			require.Equal(t, unwanted, r.Unwanted)
			time.Sleep(time.Hour)
		}

		require.NoError(t, writer.Transact(t.Context(), nil, s.now("lost", "")))
		r, err := s.reconcile(t, s.consumer(t), o)
		require.ErrorContains(t, err, "an event may be gone before it is missed", "a row may go while it is young")
		require.Equal(t, []int{1, 0}, []int{r.Young, r.Undelivered})
		time.Sleep(time.Hour)
		r, err = s.reconcile(t, s.consumer(t), o)
		require.ErrorContains(t, err, "an event may be gone before it is missed")
		require.Equal(t, []int{1, 1}, []int{r.Undelivered, r.Delivered})
		o.Every, o.Cycle = 12*time.Hour, 12*time.Hour
		_, err = s.reconcile(t, s.consumer(t), o)
		require.NoError(t, err)
	})
}

// A row that expires before its event's Time is young until it is gone, and nobody judges it. DynamoDB leaves rows alone whose time to live ended more
// than five years ago.
func TestARowThatExpiresBeforeItsTimeIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		expiring := func(expires time.Time) {
			s.row(t, item{"eventId": attrS("future"), "type": attrS("NOTED"), "timestamp": attrN(fmt.Sprint(time.Now().Add(60 * 24 * time.Hour).UnixMilli())),
				"payload": attrS("{}"), "expiresAt": attrN(fmt.Sprint(expires.Unix()))})
		}
		o := replay.ReconcileOptions{Every: time.Hour, Cycle: time.Hour}
		expiring(time.Now().Add(30 * 24 * time.Hour))
		r, err := s.reconcile(t, s.consumer(t), o)
		require.ErrorContains(t, err, "table events has rows that are kept for 0s")
		require.Equal(t, 2, r.Young)
		expiring(time.Now().AddDate(-6, 0, 0))
		_, err = s.reconcile(t, s.consumer(t), o)
		require.NoError(t, err)
	})
}
