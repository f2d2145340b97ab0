package replay_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// Events that are read by other names than the Consumer's are others: none at all, or of no aggregate, or without a number. So nothing is read, and
// nothing is handled.
func TestEventsHaveTheAttributesOfTheConsumer(t *testing.T) {
	s := newShop(t)
	for field, a := range map[string]outbox.Attributes{
		"Type": {Type: "kind"}, "AggregateID": {AggregateID: "order"}, "Sequence": {Sequence: "version"}, "Time": {Time: "at"},
		"Payload": {Payload: "body"}, "Headers": {Headers: outbox.NoAttribute}, "ExpiresAt": {ExpiresAt: "end"},
	} {
		t.Run(field, func(t *testing.T) {
			c := s.consumer(t, outbox.WithAttributes(a))
			same, err := replay.New(s.DynamoDB, "events", replay.WithAttributes(a))
			require.NoError(t, err)
			_, err = same.Reconcile(t.Context(), c, replay.ReconcileOptions{ReportOnly: true})
			require.NoError(t, err)
			want := fmt.Sprintf("give replay.New and NewConsumer the same WithAttributes: %s is ", field)
			for _, other := range []struct {
				events   *replay.Events
				consumer *outbox.Consumer
			}{{s.events, c}, {same, s.consumer(t)}} {
				_, err = other.events.Reconcile(t.Context(), other.consumer, replay.ReconcileOptions{})
				require.ErrorContains(t, err, "replay: Reconcile: "+want)
				r, err := other.events.To(t.Context(), replay.Query{ID: "first"}, other.consumer, replay.Options{})
				require.ErrorContains(t, err, "replay: To: "+want)
				require.Zero(t, r)
			}
			s.requireOnce(t, "first")
		})
	}
}
