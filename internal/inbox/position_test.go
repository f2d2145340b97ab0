package inbox_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/order"
)

var account = inbox.Aggregate{ID: "account-1", Table: "events"}

func positionRow(t *testing.T, client *dynamodb.Client) inbox.Item {
	out, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("inbox"), Key: inbox.Item{"eventId": str("account-1"), "consumer": str("mails#events#position")}})
	require.NoError(t, err)
	return out.Item
}

func numbered(n int64) order.Event {
	return order.Event{Sequence: n, Time: now.Add(time.Duration(n) * time.Second)}
}

func TestThePositionsRow(t *testing.T) {
	table, client := start(t)
	place, err := table.Position(t.Context(), account)
	require.NoError(t, err)
	require.Zero(t, place)

	_, refused, err := table.MoveAlone(t.Context(), account, place.Position, numbered(1), now)
	require.NoError(t, err)
	require.False(t, refused)
	require.Equal(t, inbox.Item{"eventId": str("account-1"), "consumer": str("mails#events#position"), "sequence": num("1"), "first": num("1"), "at": num("1700000001123")},
		positionRow(t, client), "it never expires")

	there, refused, err := table.MoveAlone(t.Context(), account, place.Position, numbered(1), now)
	require.NoError(t, err)
	require.True(t, refused, "somebody else was there")
	require.Equal(t, order.Position{Sequence: 1, First: 1, At: now.Add(time.Second).UTC(), Began: true}, there.Position)
	_, refused, err = table.Begin(t.Context(), account, 5, now)
	require.NoError(t, err)
	require.True(t, refused, "it has begun")

	// An earlier time does not take the latest one back.
	_, _, err = table.MoveAlone(t.Context(), account, there.Position, order.Event{Sequence: 2, Time: now}, now)
	require.NoError(t, err)
	place, err = table.Position(t.Context(), account)
	require.NoError(t, err)
	require.Equal(t, order.Position{Sequence: 2, First: 1, At: now.Add(time.Second).UTC(), Began: true}, place.Position)
}

func TestTheClaimOfTheNextEvent(t *testing.T) {
	table, client := start(t)
	_, refused, err := table.Begin(t.Context(), account, 5, now)
	require.NoError(t, err)
	require.False(t, refused)
	known := order.Position{Sequence: 4, First: 5, Began: true}
	claim := inbox.Claim{Owner: "me", Until: now.Add(time.Minute), Shard: "s", Fence: 7}
	for range 2 { // a repeat finds its own claim
		_, refused, err = table.ClaimNext(t.Context(), account, known, claim, now)
		require.NoError(t, err)
		require.False(t, refused)
	}
	require.Equal(t, inbox.Item{"eventId": str("account-1"), "consumer": str("mails#events#position"), "sequence": num("4"), "first": num("5"),
		"owner": str("me"), "claimedUntil": num("1700000060123"), "shard": str("s"), "fence": num("7")}, positionRow(t, client))

	// Nobody else moves the position, claims the event or forgets the aggregate.
	place, refused, err := table.MoveAlone(t.Context(), account, known, numbered(5), now)
	require.NoError(t, err)
	require.True(t, refused)
	require.True(t, place.Claimed(now.Add(time.Minute)))
	require.False(t, place.Claimed(now.Add(time.Minute+time.Millisecond)))
	for _, other := range []inbox.Claim{{Owner: "you"}, {Owner: "you", Shard: "s", Fence: 7}, {Owner: "you", Shard: "other", Fence: 8}} {
		other.Until = now.Add(time.Hour)
		_, refused, err = table.ClaimNext(t.Context(), account, known, other, now)
		require.NoError(t, err)
		require.True(t, refused, "%+v", other)
	}
	until, err := table.Forget(t.Context(), account, now)
	require.NoError(t, err)
	require.Equal(t, now.Add(time.Minute).UTC(), until)
	require.ErrorIs(t, table.CompleteNext(t.Context(), account, known, numbered(5), "you"), inbox.ErrLost)
	require.ErrorIs(t, table.ReleaseNext(t.Context(), account, "you"), inbox.ErrLost)

	// The next owner of the shard takes it over at once.
	_, refused, err = table.ClaimNext(t.Context(), account, known, inbox.Claim{Owner: "next", Until: now.Add(time.Minute), Shard: "s", Fence: 8}, now)
	require.NoError(t, err)
	require.False(t, refused)
	require.ErrorIs(t, table.CompleteNext(t.Context(), account, known, numbered(5), "me"), inbox.ErrLost)
	for range 2 {
		require.NoError(t, table.CompleteNext(t.Context(), account, known, numbered(5), "next"), "a repeat finds the position there")
	}
	require.Equal(t, inbox.Item{"eventId": str("account-1"), "consumer": str("mails#events#position"), "sequence": num("5"), "first": num("5"), "at": num("1700000005123")},
		positionRow(t, client))

	// A claim whose time has passed holds nobody up, and a released one is gone.
	known = known.Over(numbered(5))
	_, _, err = table.ClaimNext(t.Context(), account, known, inbox.Claim{Owner: "slow", Until: now.Add(time.Second)}, now)
	require.NoError(t, err)
	_, refused, err = table.MoveAlone(t.Context(), account, known, numbered(6), now.Add(2*time.Second))
	require.NoError(t, err)
	require.False(t, refused)
	known = known.Over(numbered(6))
	_, _, err = table.ClaimNext(t.Context(), account, known, inbox.Claim{Owner: "me", Until: now.Add(time.Hour)}, now)
	require.NoError(t, err)
	require.NoError(t, table.ReleaseNext(t.Context(), account, "me"))
	until, err = table.Forget(t.Context(), account, now)
	require.NoError(t, err)
	require.Zero(t, until)
	require.Empty(t, positionRow(t, client))
}

// An answer about another aggregate says nothing about this one.
func TestThePositionOfAnotherAggregateIsNotBelieved(t *testing.T) {
	table, _ := start(t)
	for _, row := range []inbox.Item{
		{"eventId": str("account-2"), "consumer": str("mails#events#position"), "sequence": num("4")},
		{"eventId": str("account-1"), "consumer": str("mails#other#position"), "sequence": num("4")},
		{"sequence": num("4")},
	} {
		_, err := table.PlaceOf(account, row)
		require.ErrorIs(t, err, inbox.ErrKeys)
	}
}

// A row that somebody has changed is no aggregate of which nothing is known.
func TestAPositionThatCannotBeReadIsAnError(t *testing.T) {
	table, client := start(t)
	for _, row := range []inbox.Item{{"sequence": str("4")}, {"sequence": num("1.5")}, {"sequence": num("-1")}, {"sequence": num("4"), "first": str("1")}} {
		row["eventId"], row["consumer"] = str("account-1"), str("mails#events#position")
		_, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("inbox"), Item: row})
		require.NoError(t, err)
		_, err = table.Position(t.Context(), account)
		require.ErrorContains(t, err, "has no number from 0 on")
	}
}
