package outbox_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

var since = time.Unix(0, 0) // wants everything, and lets an aggregate begin above its first event

// upTo are the numbers from 1 on.
func upTo(last int64) (numbers []int64) {
	for n := range last {
		numbers = append(numbers, n+1)
	}
	return numbers
}

func TestABeginningIsLookedForOverManyPages(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, upTo(250)...)
	require.NoError(t, w.process(t, w.DynamoDB, events[29].Time).Process(t.Context(), events[249]))
	w.requireEffects(t, 30, 250)
	require.Equal(t, outbox.OrderBegan, w.told[0].Kind)
	require.Equal(t, int64(30), w.told[0].For)
}

func TestABeginningOverManyPagesIsAboveARowThatIsGone(t *testing.T) {
	for _, gone := range []int64{50, 149, 150} { // 150 is in the first page, 149 in the next one
		w := newOrderWorld(t)
		events := w.write(t, upTo(250)...)
		_, err := w.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("events"), Key: values{"eventId": str(events[gone-1].ID)}})
		require.NoError(t, err)
		require.NoError(t, w.process(t, w.DynamoDB, since).Process(t.Context(), events[249]))
		w.requireEffects(t, gone+1, 250)
	}
}

// DynamoDB removes rows whose time is over in no order: what is below one of them may have holes.
func TestABeginningIsAboveARowWhoseTimeIsOver(t *testing.T) {
	for name, c := range map[string]struct {
		expires time.Duration
		first   int64
	}{
		"over":     {-time.Minute, 4},
		"not over": {time.Hour, 1},
	} {
		w := newOrderWorld(t)
		events := w.write(t, 1, 2, 3, 4, 5)
		_, err := w.DynamoDB.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("events"), Key: values{"eventId": str(events[2].ID)},
			UpdateExpression: aws.String("SET expiresAt = :at"), ExpressionAttributeValues: values{":at": num(strconv.FormatInt(time.Now().Add(c.expires).Unix(), 10))}})
		require.NoError(t, err)
		require.NoError(t, w.process(t, w.DynamoDB, since).Process(t.Context(), events[4]), name)
		w.requireEffects(t, c.first, 5)
	}
}

// Whether an aggregate is parked or not: of an event that is not wanted the hook Order is told.
func TestAnEventThatIsNotWantedIsToldBehindADeadLetter(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3)
	w.failing[2] = outbox.Permanent(errors.New("broken"))
	c := w.process(t, w.DynamoDB, events[1].Time, outbox.WithDeadLetters(w.letters))
	require.NoError(t, c.Process(t.Context(), events[1]))
	require.Equal(t, []int64{2}, numbersOf(w.deadLetters(t)))
	w.told = nil
	require.NoError(t, c.Process(t.Context(), events[0]))
	require.Len(t, w.told, 1)
	require.Equal(t, outbox.OrderBefore, w.told[0].Kind)
	require.Equal(t, events[0].ID, w.told[0].Record.ID)
	require.NoError(t, c.Process(t.Context(), events[2]))
	require.Equal(t, []int64{2, 3}, numbersOf(w.deadLetters(t)))
	require.Len(t, w.told, 1)
}

// A key that was not read is no row that is gone: an aggregate that began too high would lose events in silence.
func TestUnprocessedKeysAreNoBeginning(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newOrderWorld(t)
		defer w.Close()
		events := w.write(t, 1, 2, 3, 4, 5)
		r := &reluctantTable{Client: w.DynamoDB, unread: func(call int, keys []map[string]types.AttributeValue) int { return max(0, len(keys)+1-call) }}
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(r, "events", since))
		outbox.HandleTx(c, w.writer, w.handler)
		require.NoError(t, c.Process(t.Context(), events[4]))
		w.requireEffects(t, 1, 5)
		require.Greater(t, r.calls, 4)
	})
}

// Another process has claimed the first event between the look at the position and the beginning, which must wait, since it would end the claim.
func TestABeginningWaitsForAClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newOrderWorld(t)
		defer w.Close()
		events := w.write(t, 1, 2, 3)
		claims := 0
		r := &reluctantTable{Client: w.DynamoDB, answer: func(*dynamodb.BatchGetItemOutput) {
			if claims++; claims > 1 {
				return
			}
			_, err := w.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("inbox"), Item: values{"eventId": str(aggregate),
				"consumer": str("mails#events#position"), "owner": str("another process"), "claimedUntil": millis(time.Now().Add(time.Minute))}})
			require.NoError(t, err)
		}}
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(r, "events", since), outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(1)))
		outbox.HandleTx(c, w.writer, w.handler)
		require.ErrorIs(t, c.Process(t.Context(), events[2]), outbox.ErrClaimed)
		require.Equal(t, 1, claims)
		require.Empty(t, w.runs)
		require.ErrorIs(t, c.Process(t.Context(), events[2]), outbox.ErrClaimed, "the claim is there still")
		require.Empty(t, w.deadLetters(t), "no attempt")

		time.Sleep(2 * time.Minute)
		require.NoError(t, c.Process(t.Context(), events[2]))
		w.requireEffects(t, 1, 3)
	})
}
