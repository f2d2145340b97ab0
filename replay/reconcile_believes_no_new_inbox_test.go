package replay_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// An inbox that has less than half of what was handled makes Reconcile deliver nothing, whyever it has so little, in the whole table and in segments. With
// the time from which on it has everything, what is lost is delivered, and nothing else.
func TestAnInboxThatHasLittleIsNotBelieved(t *testing.T) {
	const day = 24 * time.Hour
	inbox := func(t *testing.T, s *shop, name string, opts ...outbox.InboxOption) *outbox.Consumer {
		i, err := outbox.NewInbox(s.DynamoDB, "inbox", name, append(opts, outbox.WithInboxCache(0))...)
		require.NoError(t, err)
		return newConsumer(t, s.handle, outbox.WithInbox(i))
	}
	for cause, consumers := range map[string]func(*testing.T, *shop) (before, after *outbox.Consumer){
		"it is another one": func(t *testing.T, s *shop) (before, after *outbox.Consumer) {
			return inbox(t, s, "mails"), inbox(t, s, "mailz")
		},
		"the consumer had none": func(t *testing.T, s *shop) (before, after *outbox.Consumer) {
			return newConsumer(t, s.handle), inbox(t, s, "mails")
		},
		"it remembers for longer than before": func(t *testing.T, s *shop) (before, after *outbox.Consumer) {
			return inbox(t, s, "mails", outbox.WithInboxTTL(7*day)), inbox(t, s, "mails", outbox.WithInboxTTL(60*day))
		},
	} {
		for _, segments := range []int{1, 20} {
			t.Run(fmt.Sprintf("%s, %d segments", cause, segments), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newShop(t)
					defer s.Close()
					o := replay.ReconcileOptions{Every: time.Minute, Cycle: time.Duration(segments) * time.Minute}
					before, after := consumers(t, s)
					process := func(c *outbox.Consumer, id string) {
						r := s.now(id, "")
						s.put(t, r)
						r.Table = "events"
						require.NoError(t, c.Process(t.Context(), r))
						s.requireOnce(t, id)
					}
					for i := range 200 {
						process(before, fmt.Sprint("before", i))
					}
					time.Sleep(10 * day)
					s.ExpireTTL()
					changed := time.Now()
					for i := range 10 {
						process(after, fmt.Sprint("after", i))
					}
					s.put(t, s.now("lost", ""))
					time.Sleep(time.Hour)
					cycle := func(o replay.ReconcileOptions) (delivered, refused int) {
						for range segments {
							r, err := s.reconcile(t, after, o)
							if err != nil {
								require.ErrorIs(t, err, replay.ErrBehind)
								require.ErrorContains(t, err, "is another one, new or restored, or remembers for longer than before")
								require.Positive(t, r.Undelivered)
								refused++
							}
							delivered += r.Delivered
							time.Sleep(time.Minute)
						}
						return delivered, refused
					}
					delivered, refused := cycle(o)
					require.Zero(t, delivered)
					require.Positive(t, refused)
					o.Since = changed
					delivered, refused = cycle(o)
					require.Equal(t, []int{1, 0}, []int{delivered, refused})
					for id, n := range s.runs {
						require.Equal(t, 1, n, id)
					}
				})
			})
		}
	}
}

// The events of a restored table have another table's name in their marks, or none.
func TestARestoredTableIsNotDeliveredOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.CreateTable(t, "restored", "eventId")
		consumer := func() *outbox.Consumer { return s.consumer(t, outbox.WithTables("events", "restored")) }
		writer, err := outbox.NewWriter(s.DynamoDB, "restored")
		require.NoError(t, err)
		s.handles(t, 30)
		for i := range 30 {
			r := s.now(fmt.Sprint("handled", i), "")
			require.NoError(t, writer.Transact(t.Context(), nil, r))
		}
		time.Sleep(time.Hour)
		restored := time.Now()
		for _, id := range []string{"new", "lost"} {
			r := s.now(id, "")
			require.NoError(t, writer.Transact(t.Context(), nil, r))
			r.Table = "restored"
			if id == "new" {
				require.NoError(t, consumer().Process(t.Context(), r))
			}
		}
		time.Sleep(time.Hour)
		s.events, err = replay.New(s.DynamoDB, "restored")
		require.NoError(t, err)
		r, err := s.reconcile(t, consumer(), replay.ReconcileOptions{})
		require.ErrorIs(t, err, replay.ErrBehind)
		require.ErrorContains(t, err, "31 events of table restored are not handled, and the inbox has 1 of its events")
		require.Zero(t, r.Delivered)
		r, err = s.reconcile(t, consumer(), replay.ReconcileOptions{Since: restored})
		require.NoError(t, err)
		require.Equal(t, []int{30, 1, 1}, []int{r.Unknown, r.Handled, r.Delivered})
		for id, n := range s.runs {
			require.Equal(t, 1, n, id)
		}
	})
}

// A handler that is added gets the events of its type from Since on, also those from before the handler.
func TestAHandlerThatIsAddedGetsTheEventsSinceSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		defer s.Close()
		s.handles(t, 20)
		other := func(id string) {
			r := s.now(id, "")
			r.Type = "OTHER"
			s.put(t, r)
		}
		other("long ago")
		time.Sleep(24 * time.Hour)
		since := time.Now()
		other("a moment ago")
		time.Sleep(time.Hour)
		c := s.consumer(t)
		outbox.HandleType(c, "OTHER", func(ctx context.Context, e outbox.Event[struct{}]) error {
			s.runs[e.ID]++
			return nil
		})
		r, err := s.reconcile(t, c, replay.ReconcileOptions{Since: since})
		require.NoError(t, err)
		require.Equal(t, 1, r.Delivered)
		require.Zero(t, s.runs["long ago"])
		r, err = s.reconcile(t, c, replay.ReconcileOptions{})
		require.NoError(t, err)
		require.Equal(t, 1, r.Delivered)
		s.requireOnce(t, "long ago", "a moment ago")
	})
}
