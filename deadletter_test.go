package outbox_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestAPoisonIsKeptAndTheOthersGoOn(t *testing.T) {
	for at := range 3 {
		for _, malformed := range []bool{false, true} {
			t.Run(fmt.Sprintf("at %d, malformed %t", at, malformed), func(t *testing.T) {
				o := newOffice(t)
				records := []string{changeRecord("1", "a"), changeRecord("2", "b"), changeRecord("3", "c")}
				id := "p#poison"
				if malformed {
					records[at], id = `{"eventName":"INSERT","dyn`, fmt.Sprintf("##shardId-000000000007:s%d~b752cd8cdc5f480a", at) // the hash of the stream's ARN
				} else {
					records[at] = changeRecord("poison", "p")
				}
				require.Equal(t, unfinished(""), o.invoke(t, o.consumer(t, outbox.WithInvokeAttempts(1)), records...))
				require.Equal(t, []string{id}, o.ids(t))
				require.Len(t, o.handled, 2)
				l, err := o.letters.Get(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, "shardId-000000000007", l.Record.ShardID)
				require.Equal(t, fmt.Sprintf("s%d", at), l.Record.SequenceNumber)
				if malformed {
					require.Equal(t, records[at], string(l.Raw))
					require.Contains(t, l.Error, "malformed change record")
					return
				}
				require.Nil(t, l.Raw)
				require.Equal(t, "the printer is on fire", l.Error)
				require.Equal(t, 1, l.Attempts)
				require.False(t, l.Parked)
				require.Equal(t, "poison", l.Record.ID)
				require.Equal(t, `{}`, string(l.Record.Payload))
				require.WithinDuration(t, time.Now(), l.StoredAt, time.Minute)
			})
		}
	}
}

// What is not even base64 is kept as it stands in the invocation.
func TestARecordThatIsNotBase64IsKept(t *testing.T) {
	o := newOffice(t)
	text := base64.StdEncoding.EncodeToString([]byte(changeRecord("1", "a")))
	payload := strings.Replace(string(kinesisEvent(changeRecord("1", "a"), changeRecord("2", "b"))), text, text[:9]+"!", 1)
	got, err := o.consumer(t).Invoke(t.Context(), []byte(payload))
	require.NoError(t, err)
	require.Equal(t, unfinished(""), string(got))
	require.Equal(t, []string{"2"}, o.handled)
	letters := o.list(t, outbox.DeadLetterFilter{})
	require.Len(t, letters, 1)
	require.Equal(t, text[:9]+"!", string(letters[0].Raw))
}

// Attempts outlive the invocation; a permanent failure needs only one.
func TestAttemptsAreCountedOverInvocations(t *testing.T) {
	o := newOffice(t)
	for attempt := 1; attempt <= 3; attempt++ {
		require.Empty(t, o.ids(t))
		want := unfinished("s0")
		if attempt == 3 {
			want = unfinished("")
		}
		c := o.retrying(t, outbox.Retry{MaxAttempts: 2, BaseDelay: 1}, outbox.WithInvokeAttempts(6))
		require.Equal(t, want, o.invoke(t, c, changeRecord("poison", "p"), changeRecord("1", "a")), "attempt %d", attempt)
	}
	require.Equal(t, 6, o.calls["poison"])
	require.Equal(t, 6, o.list(t, outbox.DeadLetterFilter{})[0].Attempts)

	c := newConsumer(t, outbox.WithDeadLetters(o.letters))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return outbox.Permanent(errors.New("never")) })
	require.NoError(t, c.Process(t.Context(), rec("hopeless", "h")))
	require.Equal(t, []string{"h#hopeless", "p#poison"}, o.ids(t))
}

// Ten later events wait behind the first one, whoever gets them, and are handled behind it, in their order.
func TestAPoisonedAggregateKeepsItsOrder(t *testing.T) {
	o := newOffice(t)
	first := o.consumer(t, outbox.WithInvokeAttempts(1))
	require.NoError(t, first.Process(t.Context(), rec("poison", "p"), rec("p1", "p"), rec("other", "o"), rec("p2", "p")))
	want := []string{"poison", "p1", "p2"}
	for i := 3; i <= 10; i++ { // each in a process that has not seen the others
		id := fmt.Sprintf("p%d", i)
		require.NoError(t, o.consumer(t).Process(t.Context(), rec(id, "p"), rec("free"+id, "")))
		want = append(want, id)
	}
	require.NotContains(t, o.handled, "p1")
	require.Len(t, o.handled, 9)
	var letters []string
	for _, l := range o.list(t, outbox.DeadLetterFilter{AggregateID: "p"}) {
		require.Equal(t, l.Record.ID != "poison", l.Parked)
		letters = append(letters, l.Record.ID)
	}
	require.Equal(t, want, letters)

	o.repair()
	o.handled = nil
	result, err := o.letters.Redrive(t.Context(), first, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 11}, result)
	require.Equal(t, want, o.handled)
	require.Empty(t, o.ids(t))

	// It is not parked any more, neither for who redrove it nor for others.
	require.NoError(t, first.Process(t.Context(), rec("p11", "p")))
	require.NoError(t, o.consumer(t).Process(t.Context(), rec("p12", "p")))
	require.Equal(t, append(want, "p11", "p12"), o.handled)
	require.Empty(t, o.ids(t))
}

func TestLaterEventsMayPass(t *testing.T) {
	o := newOffice(t)
	c := o.consumer(t, outbox.WithInvokeAttempts(1), outbox.LetLaterEventsPass())
	require.NoError(t, c.Process(t.Context(), rec("poison", "p"), rec("p1", "p")))
	require.NoError(t, c.Process(t.Context(), rec("p2", "p")))
	require.Equal(t, []string{"p1", "p2"}, o.handled)
	require.Equal(t, []string{"p#poison"}, o.ids(t))
}

// Without the table nothing is acknowledged and nothing is lost: whichever of its operations fails.
func TestNothingIsAcknowledgedWithoutTheTable(t *testing.T) {
	for _, operation := range []string{"Query", "TransactWriteItems", "UpdateItem"} {
		t.Run(operation, func(t *testing.T) {
			o := newOffice(t)
			records := []string{changeRecord("poison", "p"), changeRecord("p1", "p"), changeRecord("1", "a")}
			require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Service: "DynamoDB", Operation: operation, Probability: 1}))
			require.Equal(t, unfinished("s0"), o.invoke(t, o.consumer(t, outbox.WithInvokeAttempts(2)), records...))
			require.Equal(t, unfinished("s0"), o.invoke(t, o.consumer(t, outbox.WithInvokeAttempts(2)), records...))
			err := o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "p"), rec("p1", "p"))
			if operation != "UpdateItem" || err != nil { // counting is only needed where a record is not hopeless at once
				unfinished := (*outbox.ProcessError)(nil)
				require.ErrorAs(t, err, &unfinished)
				require.Equal(t, []int{0, 1}, unfinished.Unfinished)
			}
			o.StopFaults()
			require.NotContains(t, o.handled, "p1")
			for range 3 {
				o.invoke(t, o.consumer(t, outbox.WithInvokeAttempts(2)), records...)
			}
			require.Equal(t, []string{"p#p1", "p#poison"}, o.ids(t))
			require.Contains(t, o.handled, "1")
		})
	}
}

// An event is one dead letter, however often it is delivered and whatever answers are lost.
func TestADeadLetterIsStoredOnce(t *testing.T) {
	o := newOffice(t)
	require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "TransactWriteItems", Calls: []int{1, 3, 4}}))
	for range 4 {
		require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "p"), rec("p1", "p")))
	}
	require.Equal(t, []string{"p#p1", "p#poison"}, o.ids(t))
	o.repair()
	result, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, 2, result.Redriven)
	require.NoError(t, o.consumer(t).Process(t.Context(), rec("p2", "p")))
	require.Equal(t, []string{"poison", "p1", "p2"}, o.handled, "the count of the aggregate's letters is right, so it is free again")
}

// With more parked aggregates than are read at once, those of the batch are asked for.
func TestManyParkedAggregates(t *testing.T) {
	o := newOffice(t)
	c := o.consumer(t, outbox.WithInvokeAttempts(1))
	var poison []outbox.Record
	for i := range 1100 {
		poison = append(poison, rec(fmt.Sprintf("poison%d", i), fmt.Sprintf("z%04d", i)))
	}
	require.NoError(t, c.Process(t.Context(), poison...))
	other := o.consumer(t)
	require.NoError(t, other.Process(t.Context(), rec("a1", "a"), rec("z1", "z0003"), rec("z2", "z1099")))
	require.NoError(t, other.Process(t.Context(), rec("a2", "a"), rec("z3", "z1098"), rec("z4", "z1099")))
	require.Equal(t, []string{"a1", "a2"}, o.handled)
}

func TestListSelects(t *testing.T) {
	o := newOffice(t)
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison1", "p"), rec("p2", "p"), rec("poison3", ""), rec("poison#4%", "a#b%")))
	all := o.list(t, outbox.DeadLetterFilter{})
	require.Equal(t, []string{"#poison3", "a%23b%25#poison%234%25", "p#p2", "p#poison1"}, o.ids(t))
	now := all[0].StoredAt
	for want, f := range map[string]outbox.DeadLetterFilter{
		"poison#4%":                    {AggregateID: "a#b%"},
		"poison1,p2":                   {AggregateID: "p"},
		"p2":                           {ID: "p#p2"},
		"":                             {ID: "p#p3"},
		"poison3,poison#4%,poison1":    {ErrorContains: "printer"},
		"poison3,poison#4%,p2,poison1": {Type: "T", StoredAfter: now.Add(-time.Minute), StoredBefore: now.Add(time.Minute)},
	} {
		var ids []string
		for _, l := range o.list(t, f) {
			ids = append(ids, l.Record.ID)
		}
		require.Equal(t, want, strings.Join(ids, ","))
	}
	require.Empty(t, o.list(t, outbox.DeadLetterFilter{Type: "U"}))
	require.Empty(t, o.list(t, outbox.DeadLetterFilter{StoredBefore: now.Add(-time.Minute)}))
	require.Empty(t, o.list(t, outbox.DeadLetterFilter{StoredAfter: now.Add(time.Minute)}))
	_, err := o.letters.Get(t.Context(), "nobody")
	require.ErrorIs(t, err, outbox.ErrNoDeadLetter)
	_, err = o.letters.Get(t.Context(), "")
	require.ErrorIs(t, err, outbox.ErrNoDeadLetter)
}

func TestDiscardFreesTheAggregateWithItsLastLetter(t *testing.T) {
	o := newOffice(t)
	c := o.consumer(t, outbox.WithInvokeAttempts(1))
	require.NoError(t, c.Process(t.Context(), rec("poison", "p"), rec("p1", "p")))
	require.NoError(t, o.letters.Discard(t.Context(), "p#poison"))
	require.ErrorIs(t, o.letters.Discard(t.Context(), "p#poison"), outbox.ErrNoDeadLetter)
	require.ErrorIs(t, o.letters.Discard(t.Context(), ""), outbox.ErrNoDeadLetter)
	require.NoError(t, c.Process(t.Context(), rec("p2", "p")))
	require.Empty(t, o.handled)
	require.NoError(t, o.letters.Discard(t.Context(), "p#p1"))
	require.NoError(t, o.letters.Discard(t.Context(), "p#p2"))
	require.NoError(t, c.Process(t.Context(), rec("p3", "p")))
	require.Equal(t, []string{"p3"}, o.handled)
}

// A dead letter is told to the hook, whose panic changes nothing, and the log does not quote payloads.
func TestDeadLettersAreTold(t *testing.T) {
	o := newOffice(t)
	var told []string
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(1)), outbox.WithConsumerHooks(outbox.ConsumerHooks{
		DeadLettered: func(_ context.Context, l outbox.DeadLetter) {
			told = append(told, fmt.Sprint(l.ID, l.Parked))
			panic("no")
		},
	}))
	outbox.HandleType(c, "T", o.handle)
	require.NoError(t, c.Process(t.Context(), rec("poison", "p"), rec("p1", "p")))
	require.Equal(t, []string{"p#poisonfalse", "p#p1true"}, told)
}

// What is delivered again is told as such; a letter whose answer was lost is new.
func TestADeadLetterIsToldOnce(t *testing.T) {
	for name, aggregate := range map[string]string{"with an aggregate": "p", "without": ""} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			require.NoError(t, o.SetFaults(
				outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "PutItem", Calls: []int{1}},
				outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "TransactWriteItems", Calls: []int{1}}))
			var mu sync.Mutex
			told := map[string]int{}
			for range 3 {
				c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(1)), outbox.WithConsumerHooks(outbox.ConsumerHooks{
					DeadLettered: func(_ context.Context, l outbox.DeadLetter) {
						mu.Lock()
						defer mu.Unlock()
						told[fmt.Sprint(l.ID, l.Again)]++
					},
				}))
				outbox.HandleType(c, "T", o.handle)
				require.NoError(t, c.Process(t.Context(), rec("poison", aggregate), rec("poison1", aggregate)))
			}
			require.Equal(t, map[string]int{
				aggregate + "#poisonfalse": 1, aggregate + "#poison1false": 1, aggregate + "#poisontrue": 2, aggregate + "#poison1true": 2,
			}, told)
		})
	}
}

// Attempts at a record of the stream do not count for a replay of its event, nor for another record of it.
func TestAReplayHasAttemptsOfItsOwn(t *testing.T) {
	o := newOffice(t)
	c := o.retrying(t, outbox.Retry{MaxAttempts: 1}, outbox.WithInvokeAttempts(3))
	for range 2 {
		require.Equal(t, unfinished("s0"), o.invoke(t, c, changeRecord("poison", "p")))
	}
	o.repair()
	require.Equal(t, unfinished(""), o.invoke(t, c, changeRecord("poison", "p")))
	o.broken = true
	for range 2 {
		require.Error(t, c.Process(t.Context(), rec("poison", "p")))
		require.Equal(t, unfinished("s1"), o.invoke(t, c, changeRecord("1", "a"), changeRecord("poison", "p")))
	}
	require.Empty(t, o.ids(t))
	require.NoError(t, c.Process(t.Context(), rec("poison", "p")))
	require.Equal(t, []string{"p#poison"}, o.ids(t))
}

// An attempt that the invocation's deadline cuts off counts, one that its caller gives up does not.
func TestWhichAttemptsCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(2)))
		outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
			<-ctx.Done()
			return ctx.Err()
		})
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			require.Error(t, c.Process(ctx, rec("slow", "s")))
		}
		require.Empty(t, o.ids(t))
		for attempt := range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			got, err := c.Invoke(ctx, kinesisEvent(changeRecord("slow", "s")))
			cancel()
			require.NoError(t, err)
			require.Equal(t, unfinished([]string{"s0", ""}[attempt]), string(got))
		}
		require.Equal(t, []string{"s#slow"}, o.ids(t))
	})
}

func TestDeadLetterMistakes(t *testing.T) {
	o := newOffice(t)
	for want, make := range map[string]func() error{
		"the DynamoDB client is nil":         func() error { _, err := outbox.NewDeadLetterTable(nil, "letters", "c"); return err },
		"the table: it is empty: want ":      func() error { _, err := outbox.NewDeadLetterTable(o.DynamoDB, "", "c"); return err },
		"1 to 255 bytes of UTF-8 and no '#'": func() error { _, err := outbox.NewDeadLetterTable(o.DynamoDB, "letters", "a#b"); return err },
		"WithDeadLetters: the table is nil":  func() error { _, err := outbox.NewConsumer(outbox.WithDeadLetters(nil)); return err },
		"option 0 is nil":                    func() error { _, err := outbox.NewConsumer(outbox.WithDeadLetters(o.letters, nil)); return err },
		"want 1 to 1,000, have 0": func() error {
			_, err := outbox.NewConsumer(outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(0)))
			return err
		},
		"the Consumer is nil": func() error {
			_, err := o.letters.Redrive(t.Context(), nil, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			return err
		},
		"PerSecond: want 0 or more": func() error {
			_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{PerSecond: -1})
			return err
		},
	} {
		require.ErrorContains(t, make(), want)
	}
	// A missing table is no reason to lose anything.
	missing, err := outbox.NewDeadLetterTable(o.DynamoDB, "missing", "c")
	require.NoError(t, err)
	err = o.consumerOf(t, missing).Process(t.Context(), rec("1", "a"))
	require.ErrorContains(t, err, "the dead letter table cannot be used")
	require.ErrorContains(t, err, "ResourceNotFoundException")
	require.Empty(t, o.handled)
}

// Large letters come back whole: an event of the largest size, and a record larger than an item may be.
func TestLargeDeadLetters(t *testing.T) { bubble(t, largeDeadLetters) }

func largeDeadLetters(t *testing.T) {
	o := newOffice(t)
	defer o.Close()
	payload := []byte(`"` + strings.Repeat("x", 390<<10) + `"`)
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(1)))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[string]) error { return errors.New("no") })
	large := outbox.Record{ID: "large", Type: "T", AggregateID: "l", Payload: payload, Headers: map[string]string{"a": "b"}}
	require.NoError(t, c.Process(t.Context(), large))
	l, err := o.letters.Get(t.Context(), "l#large")
	require.NoError(t, err)
	require.Equal(t, large, l.Record)

	raw := `{"eventName":"INSERT",` + strings.Repeat(" ", 3<<20)
	require.Equal(t, unfinished(""), o.invoke(t, c, raw))
	letters := o.list(t, outbox.DeadLetterFilter{})
	require.Equal(t, raw, string(letters[0].Raw))
	require.NoError(t, o.letters.Discard(t.Context(), letters[0].ID))
	require.NoError(t, o.letters.Discard(t.Context(), "l#large"))
	require.Empty(t, rowsOf(t, o, "letters"), "no part stays behind")
}
