package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/internal/rows"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// meddled is a client that counts calls of a storing, and lets something happen at one of them.
type meddled struct {
	*dynamodb.Client
	mu      sync.Mutex
	calls   []string
	at      int  // the call, from 1; 0 for none
	behind  bool // what happens, happens after the call, not before
	happens func()
	lost    bool // the answer of this call is lost
	rowless bool // answers never show the row whose condition failed
}

var errLost = errors.New("the answer is lost")

func meddle[In, Out any](m *meddled, what string, ctx context.Context, in In, opts []func(*dynamodb.Options), do func(context.Context, In, ...func(*dynamodb.Options)) (*Out, error)) (*Out, error) {
	m.mu.Lock()
	m.calls = append(m.calls, what)
	here := len(m.calls) == m.at
	m.mu.Unlock()
	if here && !m.behind && m.happens != nil {
		m.happens()
	}
	out, err := do(ctx, in, opts...)
	if here && m.behind && m.happens != nil {
		m.happens()
	}
	if here && m.lost {
		return nil, errLost
	}
	if canceled := (*types.TransactionCanceledException)(nil); m.rowless && errors.As(err, &canceled) {
		for i := range canceled.CancellationReasons {
			canceled.CancellationReasons[i].Item = nil
		}
	}
	return out, err
}

func (m *meddled) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return meddle(m, "GetItem", ctx, in, opts, m.Client.GetItem)
}

func (m *meddled) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return meddle(m, "TransactWriteItems", ctx, in, opts, m.Client.TransactWriteItems)
}

// shelf is a table, and a consumer's queue "a" in it.
type shelf struct {
	consumer string
	*outboxtest.AWS
	s *deadletter.Store
}

func newShelf(t *testing.T) *shelf {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	f := &shelf{AWS: a, consumer: "c"}
	f.s = f.store(t, a.DynamoDB)
	return f
}

func (f *shelf) store(t *testing.T, client deadletter.Client) *deadletter.Store {
	s, err := deadletter.New(client, "letters", f.consumer)
	require.NoError(t, err)
	return s
}

func letterOf(id string) *deadletter.Letter {
	return &deadletter.Letter{Event: event.Event{ID: id, Type: "T", AggregateID: "a"}, StoredAt: time.Now()}
}

// empty removes all letters, and the queue.
func (f *shelf) empty(t *testing.T) {
	f.remove(t)
	closed, err := f.s.Close(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, closed)
}

// remove removes all letters.
func (f *shelf) remove(t *testing.T) {
	for l, err := range f.s.Heads(t.Context(), "a") {
		require.NoError(t, err)
		_, err = f.s.Remove(t.Context(), &l)
		require.NoError(t, err)
	}
}

// check returns the ids of the events in the order of their numbers, and checks that the numbers differ and that the queue's row fits.
func (f *shelf) check(t *testing.T) (ids []string) {
	places := map[int64]string{}
	var letters, last int64
	for _, group := range []string{f.consumer + "#lane", f.consumer} {
		out, err := f.DynamoDB.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("letters"), KeyConditionExpression: aws.String("#g = :g"),
			ExpressionAttributeNames: map[string]string{"#g": "group"}, ExpressionAttributeValues: rows.Item{":g": rows.S(group)}})
		require.NoError(t, err)
		for _, row := range out.Items {
			if group != f.consumer {
				letters, last = rows.Int(row, "letters"), rows.Int(row, "last")
				continue
			}
			n := rows.Int(row, "place")
			require.Empty(t, places[n], "two letters have the number %d", n)
			require.Positive(t, n)
			places[n] = rows.Text(row, "eventId")
		}
	}
	var numbers []int64
	for n := range places {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	require.EqualValues(t, len(places), letters, "letters of the queue")
	for _, n := range numbers {
		require.LessOrEqual(t, n, last)
		ids = append(ids, places[n])
	}
	return ids
}

// Whatever happens to the queue, between any two calls of a storing, and whichever of its answers is lost: letters are numbered in the order in
// which they were stored, the result says what was stored, and a repetition stores nothing twice.
func TestWhatMayHappenWhileALetterIsStored(t *testing.T) { synctest.Test(t, whileALetterIsStored) }

func whileALetterIsStored(t *testing.T) {
	cases, f := 0, newShelf(t)
	defer f.Close()
	for _, begin := range []string{"no queue", "two letters", "its own letter before", "a queue that was emptied and filled again", "a queue without letters"} {
		for _, behind := range []bool{false, true} {
			for _, event := range []string{"nothing", "two letters", "emptied", "emptied and filled", "without letters", "the same event"} {
				for i, fault := range []string{"", "lost", "rowless"} {
					if i > 0 && (event == "without letters" || event == "emptied and filled") {
						continue
					}
					for _, after := range []bool{false, true}[:map[string]int{"": 1, "lost": 2, "rowless": 1}[fault]] { // without a lost answer, what happens after a call happens before the next
						for at, more := 1, true; more; at++ {
							name := fmt.Sprintf("%s; behind %t; at call %d, after %t: %s %s", begin, behind, at, after, event, fault)
							f.consumer = fmt.Sprint("c", cases)
							f.s = f.store(t, f.DynamoDB)
							m := &meddled{Client: f.DynamoDB}
							s := f.store(t, m)
							switch begin {
							case "two letters":
								put(t, f.s, letterOf("1"))
								put(t, f.s, letterOf("2"))
							case "its own letter before":
								put(t, f.s, letterOf("1"))
								put(t, s, letterOf("2"))
							case "a queue that was emptied and filled again":
								put(t, s, letterOf("0"))
								put(t, s, letterOf("-"))
								f.empty(t)
								put(t, f.s, letterOf("1"))
							case "a queue without letters":
								put(t, s, letterOf("1"))
								f.remove(t)
							}
							before := f.check(t)
							gone := false
							m.calls, m.at, m.behind, m.lost, m.rowless = nil, at, after, fault == "lost", fault == "rowless"
							m.happens = func() {
								switch event {
								case "two letters":
									put(t, f.s, letterOf("x"))
									put(t, f.s, letterOf("y"))
								case "emptied", "emptied and filled":
									f.empty(t)
									gone = true
									if event == "emptied and filled" {
										put(t, f.s, letterOf("x"))
									}
								case "without letters":
									f.remove(t)
									gone = true
								case "the same event":
									put(t, f.s, letterOf("e"))
								}
							}
							store := func() (deadletter.Stored, error) {
								if behind {
									return s.PutBehind(t.Context(), letterOf("e"))
								}
								return s.Put(t.Context(), letterOf("e"))
							}
							stored, err := store()
							more = len(m.calls) >= at
							m.at = 0
							ids := f.check(t)
							here := slices.Contains(ids, "e")
							if !gone {
								require.True(t, slices.Equal(before, ids[:len(before)]), name)
							}
							switch {
							case err != nil:
								require.ErrorIs(t, err, errLost, name)
							case stored == deadletter.Refused:
								require.True(t, behind, name)
								require.False(t, here && event != "the same event", name)
							default:
								require.True(t, here || gone, name)
							}
							again, err := store()
							require.NoError(t, err, name)
							ids = f.check(t)
							if again == deadletter.Refused {
								require.True(t, behind && len(ids) == 0, name)
							} else {
								require.Contains(t, ids, "e", name)
								require.Equal(t, here, again == deadletter.Before, name)
							}
							require.LessOrEqual(t, len(m.calls), 12, name)
							cases++
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}

// Many processes at once store letters behind each other: each of them in its own order, and the numbers have no gap.
func TestManyProcessesStoreLettersOfOneAggregate(t *testing.T) {
	const processes, each = 8, 12
	f := newShelf(t)
	put(t, f.s, letterOf("first"))
	require.NoError(t, f.SetFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "TransactWriteItems", Probability: 0.1},
		outboxtest.Fault{Kind: outboxtest.TransactionConflict, Service: "DynamoDB", Operation: "TransactWriteItems", Probability: 0.1}))
	var all sync.WaitGroup
	failures := make([]error, processes)
	for p := range processes {
		s := f.store(t, f.DynamoDB)
		all.Go(func() {
			for i := range each {
				if stored, err := s.PutBehind(t.Context(), letterOf(fmt.Sprintf("%d-%02d", p, i))); err != nil || stored != deadletter.Added {
					failures[p] = fmt.Errorf("%d: %w", stored, err)
					return
				}
			}
		})
	}
	all.Wait()
	f.StopFaults()
	require.NoError(t, errors.Join(failures...))
	ids := f.check(t)
	require.Len(t, ids, 1+processes*each)
	for p := range processes {
		var own []string
		for _, id := range ids {
			if id[0] == byte('0'+p) {
				own = append(own, id)
			}
		}
		require.IsIncreasing(t, own)
	}
	inOrder, err := f.s.IDs(t.Context(), "a")
	require.NoError(t, err)
	for i, id := range ids {
		require.Equal(t, "a#"+id, inOrder[i])
	}
}

// What storing letters costs: a call for the first one, one more for whoever stores behind the letters of others, and again one each.
func TestCallsOfStoredLetters(t *testing.T) {
	f := newShelf(t)
	m := &meddled{Client: f.DynamoDB}
	s := f.store(t, m)
	calls := func(want []string, store func() (deadletter.Stored, error)) {
		t.Helper()
		m.calls = nil
		stored, err := store()
		require.NoError(t, err)
		require.NotEqual(t, deadletter.Before, stored)
		require.Equal(t, want, m.calls)
	}
	const read, write = "GetItem", "TransactWriteItems"
	calls([]string{write}, func() (deadletter.Stored, error) { return s.Put(t.Context(), letterOf("1")) })
	calls([]string{write}, func() (deadletter.Stored, error) { return s.PutBehind(t.Context(), letterOf("2")) })
	put(t, f.s, letterOf("3"))
	calls([]string{write, write}, func() (deadletter.Stored, error) { return s.PutBehind(t.Context(), letterOf("4")) })
	s = f.store(t, m) // another process
	calls([]string{read, write}, func() (deadletter.Stored, error) { return s.PutBehind(t.Context(), letterOf("5")) })
	calls([]string{write}, func() (deadletter.Stored, error) { return s.PutBehind(t.Context(), letterOf("6")) })
	s = f.store(t, m)
	calls([]string{write, write}, func() (deadletter.Stored, error) { return s.Put(t.Context(), letterOf("7")) })
	f.empty(t)
	s = f.store(t, m)
	calls([]string{read}, func() (deadletter.Stored, error) { return s.PutBehind(t.Context(), letterOf("8")) })
	require.Empty(t, f.check(t))
}
