package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

var (
	event = inbox.Event{ID: "e", Type: "T", AggregateID: "a"}
	now   = time.UnixMilli(1_700_000_000_123)
)

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func num(n string) types.AttributeValue { return &types.AttributeValueMemberN{Value: n} }

func start(t *testing.T) (*inbox.Table, *dynamodb.Client) {
	a := outboxtest.Start(t)
	require.NoError(t, inbox.Create(t.Context(), a.DynamoDB, "inbox"))
	return &inbox.Table{Client: a.DynamoDB, Name: "inbox", Consumer: "mails", TTL: 24 * time.Hour}, a.DynamoDB
}

func row(t *testing.T, client *dynamodb.Client, id string) inbox.Item {
	out, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("inbox"), Key: inbox.Item{"eventId": str(id), "consumer": str("mails")}})
	require.NoError(t, err)
	return out.Item
}

func TestRows(t *testing.T) {
	table, client := start(t)
	until := now.Add(time.Minute)
	require.NoError(t, table.Claim(t.Context(), event, inbox.Claim{Owner: "me", Until: until, Shard: "s", Fence: 7}, now))
	require.Equal(t, inbox.Item{"eventId": str("e"), "consumer": str("mails"), "type": str("T"), "aggregateId": str("a"), "owner": str("me"),
		"claimedUntil": num("1700000060123"), "shard": str("s"), "fence": num("7"), "expiresAt": num("1700086400")}, row(t, client, "e"))
	require.NoError(t, table.Complete(t.Context(), event, "me", now.Add(time.Second)))
	want := inbox.Item{"eventId": str("e"), "consumer": str("mails"), "type": str("T"), "aggregateId": str("a"), "owner": str("me"),
		"handledAt": num("1700000001123"), "expiresAt": num("1700086401")}
	require.Equal(t, want, row(t, client, "e"))
	require.NoError(t, table.Complete(t.Context(), event, "me", now.Add(time.Second)), "a repeat")
	require.ErrorIs(t, table.Release(t.Context(), event, "me"), inbox.ErrLost, "it is no claim any more")
	require.ErrorIs(t, table.Complete(t.Context(), event, "other", now), inbox.ErrLost)
	require.Equal(t, want, row(t, client, "e"))

	free := inbox.Event{ID: "free", Type: "T"}
	require.NoError(t, table.MarkAlone(t.Context(), free, now))
	require.Equal(t, inbox.Item{"eventId": str("free"), "consumer": str("mails"), "type": str("T"), "handledAt": num("1700000000123"), "expiresAt": num("1700086400")},
		row(t, client, "free"))
	require.ErrorIs(t, table.MarkAlone(t.Context(), free, now), inbox.ErrHandled)
	require.ErrorIs(t, table.Look(t.Context(), free, now), inbox.ErrHandled)
	require.NoError(t, table.Look(t.Context(), inbox.Event{ID: "none"}, now))
}

// Who gets a claim while there is one, by everything that matters.
func TestWhoGetsAClaim(t *testing.T) {
	table, client := start(t)
	until := now.Add(time.Minute)
	n := 0
	for _, c := range []struct {
		name        string
		first       inbox.Claim
		event       inbox.Event
		second      inbox.Claim
		after       time.Duration
		wantClaimed bool
		wantOther   bool
	}{
		{"the claim lasts", inbox.Claim{}, event, inbox.Claim{}, 30 * time.Second, true, false},
		{"its last millisecond", inbox.Claim{}, event, inbox.Claim{}, time.Minute, true, false},
		{"it has ended", inbox.Claim{}, event, inbox.Claim{}, time.Minute + time.Millisecond, false, false},
		{"the same owner", inbox.Claim{Owner: "me"}, event, inbox.Claim{Owner: "me"}, 0, false, false},
		{"a later fence", inbox.Claim{Shard: "s", Fence: 1}, event, inbox.Claim{Shard: "s", Fence: 2}, 0, false, false},
		{"many digits", inbox.Claim{Shard: "s", Fence: 9}, event, inbox.Claim{Shard: "s", Fence: 10}, 0, false, false},
		{"the same fence", inbox.Claim{Shard: "s", Fence: 2}, event, inbox.Claim{Shard: "s", Fence: 2}, 0, true, false},
		{"an earlier fence", inbox.Claim{Shard: "s", Fence: 2}, event, inbox.Claim{Shard: "s", Fence: 1}, 0, true, false},
		{"another shard", inbox.Claim{Shard: "s", Fence: 1}, event, inbox.Claim{Shard: "s2", Fence: 2}, 0, true, false},
		{"no worker", inbox.Claim{Shard: "s", Fence: 1}, event, inbox.Claim{}, 0, true, false},
		{"no worker first", inbox.Claim{}, event, inbox.Claim{Shard: "s", Fence: 1}, 0, true, false},
		{"another type", inbox.Claim{}, inbox.Event{Type: "U", AggregateID: "a"}, inbox.Claim{}, time.Hour, false, true},
		{"another aggregate", inbox.Claim{Shard: "s", Fence: 1}, inbox.Event{Type: "T", AggregateID: "b"}, inbox.Claim{Shard: "s", Fence: 2}, 0, false, true},
		{"no aggregate", inbox.Claim{}, inbox.Event{Type: "T"}, inbox.Claim{}, time.Hour, false, true},
	} {
		n++
		event, other := event, c.event
		event.ID, other.ID = fmt.Sprint(n), fmt.Sprint(n)
		for i, claim := range []*inbox.Claim{&c.first, &c.second} {
			if claim.Owner == "" {
				claim.Owner = fmt.Sprint("owner ", i)
			}
			claim.Until = until
		}
		require.NoError(t, table.Claim(t.Context(), event, c.first, now), c.name)
		before := row(t, client, event.ID)
		err := table.Claim(t.Context(), other, c.second, now.Add(c.after))
		claimed, foreign := (*inbox.ClaimedError)(nil), (*inbox.OtherEventError)(nil)
		switch {
		case c.wantClaimed:
			require.ErrorAs(t, err, &claimed, c.name)
			require.True(t, claimed.Until.Equal(until), c.name)
			require.EqualError(t, err, fmt.Sprintf(`event "%d" is claimed until 2023-11-14T22:14:20.123Z`, n))
			require.ErrorAs(t, table.MarkAlone(t.Context(), other, now.Add(c.after)), &claimed, c.name)
		case c.wantOther:
			require.ErrorAs(t, err, &foreign, c.name)
			require.Equal(t, inbox.OtherEventError{Want: other, Have: event}, *foreign, c.name)
			require.ErrorAs(t, table.MarkAlone(t.Context(), other, now.Add(c.after)), &foreign, c.name)
		default:
			require.NoError(t, err, c.name)
			require.Equal(t, str(c.second.Owner), row(t, client, event.ID)["owner"], c.name)
			continue
		}
		require.Equal(t, before, row(t, client, event.ID), c.name)
	}
}

func TestAMarkStays(t *testing.T) {
	table, client := start(t)
	require.NoError(t, table.MarkAlone(t.Context(), event, now))
	mark := row(t, client, "e")
	for _, fence := range []int64{0, 1 << 40} {
		later := now.Add(1000 * time.Hour)
		require.ErrorIs(t, table.Claim(t.Context(), event, inbox.Claim{Owner: "me", Until: later, Shard: "s", Fence: fence}, later), inbox.ErrHandled)
	}
	require.ErrorIs(t, table.Complete(t.Context(), event, "me", now), inbox.ErrLost)
	require.ErrorIs(t, table.Release(t.Context(), event, "me"), inbox.ErrLost)
	require.Equal(t, mark, row(t, client, "e"))
}

func TestOnlyTheOwnerEndsAClaim(t *testing.T) {
	table, client := start(t)
	require.NoError(t, table.Claim(t.Context(), event, inbox.Claim{Owner: "me", Until: now}, now))
	require.ErrorIs(t, table.Complete(t.Context(), event, "other", now), inbox.ErrLost)
	require.ErrorIs(t, table.Release(t.Context(), event, "other"), inbox.ErrLost)
	require.NotNil(t, row(t, client, "e"))
	require.NoError(t, table.Release(t.Context(), event, "me"))
	require.Nil(t, row(t, client, "e"))
	require.ErrorIs(t, table.Complete(t.Context(), event, "me", now), inbox.ErrLost, "it makes no row")
	require.Nil(t, row(t, client, "e"))
}

// scripted answers each call with the next error, and keeps no rows to itself.
type scripted struct {
	*dynamodb.Client
	errs  []error
	calls int
}

func (s *scripted) next() error {
	s.calls++
	if len(s.errs) == 0 {
		return nil
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return err
}

func (s *scripted) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if err := s.next(); err != nil {
		return nil, err
	}
	return s.Client.PutItem(ctx, in, opts...)
}

func TestConflictsWithTransactionsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, client := start(t)
		conflict := &types.TransactionConflictException{}
		s := &scripted{Client: client, errs: []error{conflict, conflict, conflict, conflict}}
		table.Client = s
		require.NoError(t, table.MarkAlone(t.Context(), event, now))
		require.Equal(t, 5, s.calls)
		s.calls, s.errs = 0, []error{conflict, conflict, conflict, conflict, conflict, conflict}
		err := table.MarkAlone(t.Context(), event, now)
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, 5, s.calls)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.calls = 0
		s.errs = []error{conflict, conflict}
		require.ErrorAs(t, table.MarkAlone(ctx, event, now), &conflict)
		require.Equal(t, 1, s.calls)
	})
}

// A refused write whose row does not come with the answer is read; if it has gone meanwhile, nobody has written anything.
func TestARefusedWriteWithoutItsRow(t *testing.T) {
	table, client := start(t)
	failed := &types.ConditionalCheckFailedException{}
	s := &scripted{Client: client, errs: []error{failed}}
	table.Client = s
	claimed := (*inbox.ClaimedError)(nil)
	require.ErrorAs(t, table.MarkAlone(t.Context(), event, now), &claimed)
	require.Nil(t, row(t, client, "e"))
	s.errs = []error{failed}
	require.ErrorAs(t, table.Claim(t.Context(), event, inbox.Claim{Owner: "me", Until: now.Add(time.Hour)}, now), &claimed)
	require.NoError(t, table.MarkAlone(t.Context(), event, now))
	s.errs = []error{failed}
	require.ErrorIs(t, table.Claim(t.Context(), event, inbox.Claim{Owner: "me", Until: now.Add(time.Hour)}, now), inbox.ErrHandled)
}

func TestErrorsSayWhere(t *testing.T) {
	table, client := start(t)
	table.Client = &scripted{Client: client, errs: []error{errors.New("down")}}
	require.EqualError(t, table.MarkAlone(t.Context(), event, now), `inbox table inbox, consumer mails, event "e": down`)
	table.Name = "none"
	table.Client = client
	missing := (*types.ResourceNotFoundException)(nil)
	require.ErrorAs(t, table.Look(t.Context(), event, now), &missing)
	require.ErrorAs(t, table.Complete(t.Context(), event, "me", now), &missing)
	long := inbox.OtherEventError{Want: inbox.Event{ID: strings.Repeat("x", 5000)}}
	require.Less(t, len(long.Error()), 1000)
}

func TestJudge(t *testing.T) {
	table := &inbox.Table{Name: "inbox", Consumer: "mails"}
	mark := inbox.Item{"type": str("T"), "aggregateId": str("a"), "handledAt": num("1")}
	require.NoError(t, table.Judge(nil, event, now))
	require.ErrorIs(t, table.Judge(mark, event, now), inbox.ErrHandled)
	require.NoError(t, table.Judge(inbox.Item{"type": str("T"), "aggregateId": str("a")}, event, now), "neither marked nor claimed")
	other := (*inbox.OtherEventError)(nil)
	require.ErrorAs(t, table.Judge(inbox.Item{"handledAt": num("1")}, event, now), &other)
	claim := inbox.Item{"type": str("T"), "aggregateId": str("a"), "claimedUntil": num(fmt.Sprint(now.UnixMilli()))}
	claimed := (*inbox.ClaimedError)(nil)
	require.ErrorAs(t, table.Judge(claim, event, now.Truncate(time.Millisecond).Add(900*time.Microsecond)), &claimed, "in its last millisecond")
	require.NoError(t, table.Judge(claim, event, now.Add(time.Millisecond)))
	require.Error(t, table.Blocked(nil, event, now))
	require.ErrorIs(t, table.Blocked(mark, event, now), inbox.ErrHandled)

	// A table whose key is the event's id alone: its row is another consumer's, or that of another table's event.
	for _, consumer := range []string{"mails", "mails#events-eu", "invoices#events"} {
		mark["consumer"] = str(consumer)
		ofTable := event
		ofTable.Table = "events"
		require.ErrorIs(t, table.Judge(mark, ofTable, now), inbox.ErrKeys, consumer)
	}
	mark["consumer"] = str("mails#events")
	require.ErrorIs(t, table.Judge(mark, event, now), inbox.ErrKeys)
}
