package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// effectful is a kind of HandleTx handler. Each of its effects counts in the row of the order or as an event with the order's id as its
// aggregate, so that a second commit shows.
type effectful struct {
	name    string
	handler func(w *inboxWorld, id string) (outbox.Effects, error)
	commits string // what the row has in the end, "" for no row
	events  int
}

func effectfuls(t *testing.T) []effectful {
	announce := func(id string) outbox.AnyEvent { return outbox.NewEvent(id, orderCreated{id, "announced"}) }
	once := func(id string) types.TransactWriteItem {
		op := countCommit(id)
		op.Update.ConditionExpression = aws.String("attribute_not_exists(commits)")
		return op
	}
	return []effectful{
		{"writes and events", func(_ *inboxWorld, id string) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(id)}, Events: []outbox.AnyEvent{announce(id)}}, nil
		}, "1", 1},
		{"a write with a condition that holds once", func(_ *inboxWorld, id string) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{once(id)}}, nil
		}, "1", 0},
		{"a handler that fails when it has run", func(w *inboxWorld, id string) (outbox.Effects, error) {
			if w.row(t, "orders", "orderId", id) != nil {
				return outbox.Effects{}, outbox.Permanent(errors.New("the order is there"))
			}
			return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(id)}, Events: []outbox.AnyEvent{announce(id)}}, nil
		}, "1", 1},
		{"a handler that panics when it has run", func(w *inboxWorld, id string) (outbox.Effects, error) {
			if w.row(t, "orders", "orderId", id) != nil {
				panic("the order is there")
			}
			return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(id)}}, nil
		}, "1", 0},
		{"an event with a derived id and a content of this run", func(_ *inboxWorld, id string) (outbox.Effects, error) {
			e := outbox.NewEvent(id, orderCreated{id, time.Now().String()})
			e.ID = "announced#" + id
			return outbox.Effects{Events: []outbox.AnyEvent{e}}, nil
		}, "", 1},
		{"a write under the condition that what it has read is still there", func(w *inboxWorld, id string) (outbox.Effects, error) {
			have, err := versionOf(t.Context(), w.DynamoDB, id)
			return outbox.Effects{Writes: []types.TransactWriteItem{nextVersion(id, have, countCommit(id))}}, err
		}, "1", 0},
		{"the same, and another process is faster the first time", func(w *inboxWorld, id string) (outbox.Effects, error) {
			have, err := versionOf(t.Context(), w.DynamoDB, id)
			if have == 0 && err == nil {
				other := nextVersion(id, 0).Update
				_, err = w.DynamoDB.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: other.TableName, Key: other.Key, UpdateExpression: other.UpdateExpression,
					ConditionExpression: other.ConditionExpression, ExpressionAttributeValues: other.ExpressionAttributeValues})
			}
			return outbox.Effects{Writes: []types.TransactWriteItem{nextVersion(id, have, countCommit(id))}}, err
		}, "1", 0},
		{"nothing", func(*inboxWorld, string) (outbox.Effects, error) { return outbox.Effects{}, nil }, "", 0},
	}
}

func (w *inboxWorld) txConsumer(t *testing.T, p *process, sdkRetries bool, e effectful) *outbox.Consumer {
	client := w.client(p, sdkRetries)
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)))
	outbox.HandleTx(c, newWriter(t, client), func(_ context.Context, in outbox.Event[orderCreated]) (outbox.Effects, error) {
		return e.handler(w, in.ID)
	})
	return c
}

// requireCommits checks, in the tables, that every event's effects were committed exactly once.
func (w *inboxWorld) requireCommits(t *testing.T, want map[string]effectful) {
	commits, events := map[string]string{}, map[string]int{}
	for _, row := range w.all(t, "orders") {
		commits[textOf(row, "orderId")] = textOf(row, "commits")
	}
	for _, row := range w.all(t, "events") {
		events[textOf(row, "aggregateId")]++
	}
	for id, e := range want {
		require.Equalf(t, e.commits, commits[id], "%s: commits", id)
		require.Equalf(t, e.events, events[id], "%s: events", id)
		require.NotEmptyf(t, textOf(w.mark(t, id), "handledAt"), "%s: not marked", id)
	}
	require.Len(t, w.all(t, "inbox"), len(want))
}

// kills are the ways in which a process can die, or live: 0 is that.
type kill struct {
	at    int
	after bool
}

// everyKill calls run with every kill until the process makes fewer calls than that.
func everyKill(run func(k kill) (died bool)) {
	run(kill{})
	for at := 1; ; at++ {
		if !run(kill{at, false}) {
			return
		}
		run(kill{at, true})
	}
}

// Two processes die, each before or after any of its calls, and two more deliver the event again: it is committed exactly once.
func TestHandleTxCommitsOnceWhereverProcessesDie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		cases, want := 0, map[string]effectful{}
		for _, e := range effectfuls(t) {
			for _, sdkRetries := range []bool{true, false} {
				everyKill(func(first kill) (firstDied bool) {
					everyKill(func(second kill) (secondDied bool) {
						cases++
						id := fmt.Sprintf("%s, retries %t, %v, %v", e.name, sdkRetries, first, second)
						want[id] = e
						one := &process{killAt: first.at, killAfter: first.after}
						err := deliver(t, w.txConsumer(t, one, sdkRetries, e), createdRecord(id))
						firstDied = one.dead
						require.Truef(t, firstDied || err == nil, "%s: the first: %v", id, err)

						two := &process{killAt: second.at, killAfter: second.after}
						err = deliver(t, w.txConsumer(t, two, sdkRetries, e), createdRecord(id))
						secondDied = two.dead
						require.Truef(t, secondDied || err == nil, "%s: the second: %v", id, err)

						for range 2 {
							require.NoErrorf(t, deliver(t, w.txConsumer(t, &process{}, sdkRetries, e), createdRecord(id)), "%s", id)
						}
						return secondDied
					})
					return firstDied
				})
			}
		}
		w.requireCommits(t, want)
		t.Logf("%d cases", cases)
		require.Greater(t, cases, 100)
	})
}

// everyTwoFates calls run with each fate of each point, alone and together with each fate of each later point. What is late arrives
// before the event is delivered again in some cases, and after that in others.
func everyTwoFates(run func(fates map[int]string, arrivesAfter bool) (points int)) {
	points := run(nil, false)
	for first := 1; first <= points; first++ {
		for _, f := range requestFates {
			now := run(map[int]string{first: f}, f == "late")
			for second := first + 1; second <= now; second++ {
				for _, g := range requestFates {
					run(map[int]string{first: f, second: g}, false)
					if f == "late" || g == "late" {
						run(map[int]string{first: f, second: g}, true)
					}
				}
			}
		}
	}
}

// Requests are lost, doubled and late; what is late arrives before or after the event is delivered again.
func TestHandleTxCommitsOnceWhateverBecomesOfRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		cases, want := 0, map[string]effectful{}
		for _, e := range effectfuls(t) {
			for _, sdkRetries := range []bool{true, false} {
				everyTwoFates(func(fates map[int]string, arrivesAfter bool) int {
					cases++
					id := fmt.Sprintf("%s, retries %t, %v, arrives after %t", e.name, sdkRetries, fates, arrivesAfter)
					want[id] = e
					p := &process{fates: fates}
					c := w.txConsumer(t, p, sdkRetries, e)
					_ = deliver(t, c, createdRecord(id))
					points := len(p.calls())
					if !arrivesAfter {
						p.arrive()
					}
					p.fates = nil
					require.NoErrorf(t, deliver(t, c, createdRecord(id)), "%s: the same process", id)
					p.arrive()
					require.NoErrorf(t, deliver(t, w.txConsumer(t, &process{}, sdkRetries, e), createdRecord(id)), "%s: another process", id)
					return points
				})
			}
		}
		w.requireCommits(t, want)
		t.Logf("%d cases", cases)
		require.Greater(t, cases, 100)
	})
}

// guarded is what the world sees of a guarded handler.
type guarded struct {
	completed int
}

func (w *inboxWorld) guardConsumer(t *testing.T, p *process, sdkRetries bool, g *guarded) *outbox.Consumer {
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.client(p, sdkRetries))))
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error {
		return p.effect(func() { g.completed++ })
	})
	return c
}

// The same for a guarded handler, the effect being one more place to die: it is never left out, a process that dies leads to one more run
// at most, and nothing is marked as handled that was not.
func TestAGuardedHandlerRunsOnceMoreForACrashAtMost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		cases, again := 0, 0
		for _, sdkRetries := range []bool{true, false} {
			everyKill(func(first kill) (firstDied bool) {
				everyKill(func(second kill) (secondDied bool) {
					cases++
					id := fmt.Sprintf("retries %t, %v, %v", sdkRetries, first, second)
					g := &guarded{}
					check := func(p *process, err error) bool {
						if textOf(w.mark(t, id), "handledAt") != "" {
							require.Positivef(t, g.completed, "%s: marked, and not handled", id)
						}
						require.Truef(t, p.dead || err == nil, "%s: %v", id, err)
						return p.dead
					}
					one := &process{killAt: first.at, killAfter: first.after}
					firstDied = check(one, deliver(t, w.guardConsumer(t, one, sdkRetries, g), createdRecord(id)))
					two := &process{killAt: second.at, killAfter: second.after}
					secondDied = check(two, deliver(t, w.guardConsumer(t, two, sdkRetries, g), createdRecord(id)))
					runs := g.completed
					for range 2 {
						p := &process{}
						check(p, deliver(t, w.guardConsumer(t, p, sdkRetries, g), createdRecord(id)))
					}
					crashes := 0
					for _, died := range []bool{firstDied, secondDied} {
						if died {
							crashes++
						}
					}
					require.LessOrEqualf(t, g.completed, 1+crashes, "%s", id)
					require.Positivef(t, g.completed, "%s: never handled", id)
					require.NotEmptyf(t, textOf(w.mark(t, id), "handledAt"), "%s: not marked", id)
					if !secondDied {
						require.Equalf(t, runs, g.completed, "%s: handled before, and once more", id)
					}
					again += g.completed - 1
					return secondDied
				})
				return firstDied
			})
		}
		t.Logf("%d cases, %d additional runs", cases, again)
		require.Greater(t, cases, 50)
		require.Positive(t, again)
	})
}

// Nothing crashes, so whatever becomes of its requests, the handler has one effect, also one that fails first.
func TestAGuardedHandlerRunsOnceWhateverBecomesOfRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		cases := 0
		for _, failure := range []error{nil, errors.New("not yet"), outbox.Unavailable(errors.New("the mail server")), outbox.ErrConditionFailed} {
			for _, sdkRetries := range []bool{true, false} {
				everyTwoFates(func(fates map[int]string, arrivesAfter bool) int {
					cases++
					id := fmt.Sprintf("failure %v, retries %t, %v, arrives after %t", failure, sdkRetries, fates, arrivesAfter)
					completed, runs := 0, 0
					handler := func(context.Context, outbox.Event[orderCreated]) error {
						if runs++; runs == 1 && failure != nil {
							return failure
						}
						completed++
						return nil
					}
					consumer := func(p *process) *outbox.Consumer {
						c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.client(p, sdkRetries))))
						outbox.Handle(c, handler)
						return c
					}
					p := &process{fates: fates}
					c := consumer(p)
					_ = deliver(t, c, createdRecord(id))
					points := len(p.calls())
					if !arrivesAfter {
						p.arrive()
					}
					p.fates = nil
					for range 2 {
						_ = deliver(t, c, createdRecord(id))
					}
					p.arrive()
					require.NoErrorf(t, deliver(t, consumer(&process{}), createdRecord(id)), "%s: another process", id)
					require.Equalf(t, 1, completed, "%s", id)
					require.NotEmptyf(t, textOf(w.mark(t, id), "handledAt"), "%s", id)
					return points
				})
			}
		}
		t.Logf("%d cases", cases)
		require.Greater(t, cases, 100)
	})
}
