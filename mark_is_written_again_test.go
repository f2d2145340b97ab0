package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// marking is a client whose UpdateItem, which marks an event, has these answers first.
type marking struct {
	*dynamodb.Client
	answers []error
	updates int
}

func (m *marking) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if m.updates++; m.updates <= len(m.answers) {
		return nil, m.answers[m.updates-1]
	}
	return m.Client.UpdateItem(ctx, in, opts...)
}

// A mark that meets throttling or a lost connection is written again, one that is refused is not.
func TestWhichMarksAreWrittenAgain(t *testing.T) {
	throttled := &smithy.GenericAPIError{Code: "ThrottlingException"}
	lost := errors.New("connection reset by peer")
	for name, c := range map[string]struct {
		answers []error
		updates int
		marked  bool
	}{
		"throttling":        {[]error{throttled, throttled}, 3, true},
		"no answer":         {[]error{lost, lost}, 3, true},
		"refused":           {[]error{&smithy.GenericAPIError{Code: "AccessDeniedException"}}, 1, false},
		"the claim is gone": {[]error{&types.ConditionalCheckFailedException{}}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newInboxWorld(t)
				defer w.Close()
				client := &marking{Client: w.DynamoDB, answers: c.answers}
				consumer := newConsumer(t, outbox.WithInbox(w.inbox(t, client)))
				outbox.Handle(consumer, ignoreOrder)
				require.NoError(t, consumer.Process(t.Context(), createdRecord("1")), "its effect has happened")
				require.Equal(t, c.updates, client.updates)
				require.Equal(t, c.marked, textOf(w.mark(t, "1"), "handledAt") != "")
			})
		})
	}
}

// A failed handler whose claim has passed to another has nothing to give back, and nothing to warn of.
func TestALostClaimIsNotGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		var logs bytes.Buffer
		c, err := outbox.NewConsumer(outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
		require.NoError(t, err)
		outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error {
			w.claimedByOthers(t)
			return errors.New("down")
		})
		require.ErrorContains(t, c.Process(t.Context(), createdRecord("1")), "down")
		require.NotContains(t, logs.String(), "level=WARN")
		require.Equal(t, "somebody", textOf(w.mark(t, "1"), "owner"))
	})
}

// slowClaims answers a claim when the handler's time is over.
type slowClaims struct{ *dynamodb.Client }

func (s slowClaims) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	out, err := s.Client.PutItem(ctx, in, opts...)
	<-ctx.Done()
	return out, err
}

// An event whose claim took all the time was not tried, and is free for the next delivery.
func TestAClaimThatTakesAllTheTimeIsNoAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newInboxWithLetters(t)
		defer a.Close()
		a.repaired = true
		c := newConsumer(t, outbox.WithInbox(a.inbox(t, slowClaims{a.DynamoDB})), outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(1)))
		outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return a.run() })
		began := time.Now()
		require.ErrorContains(t, c.Process(t.Context(), createdRecord("1")), "claiming the event took all the time that its handler had")
		require.Equal(t, 59*time.Second, time.Since(began).Round(time.Second))
		require.Zero(t, a.runs)
		require.Empty(t, a.all(t, "letters"))
		require.NoError(t, a.consumer(t, false).Process(t.Context(), createdRecord("1")))
		require.Equal(t, 1, a.runs)
	})
}
