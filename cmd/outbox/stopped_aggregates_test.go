package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// ordered is a world with a consumer that handles the events of account-7 by their sequences.
type ordered struct {
	*world
	consumer *outbox.Consumer
	letters  *outbox.DeadLetterTable
	failing  map[int64]bool
}

func newOrdered(t *testing.T) *ordered {
	w := newWorld(t)
	w.ok(t, "create", "--dead-letters", "dead-letters", "--inbox", "inbox")
	return orderedIn(t, w)
}

func orderedIn(t *testing.T, w *world) *ordered {
	o := &ordered{world: w, failing: map[int64]bool{}}
	var err error
	o.letters, err = outbox.NewDeadLetterTable(w.dynamodb, "dead-letters", "balances")
	require.NoError(t, err)
	box := o.box(t)
	writer, err := outbox.NewWriter(w.dynamodb, "events")
	require.NoError(t, err)
	o.consumer, err = outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithInbox(box),
		outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(1)), outbox.WithOrder(w.dynamodb, "events", time.Time{}))
	require.NoError(t, err)
	outbox.HandleTx(o.consumer, writer, func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
		if o.failing[e.Sequence] {
			return outbox.Effects{}, outbox.Permanent(errors.New("the account is closed"))
		}
		return outbox.Effects{}, nil
	})
	return o
}

func (o *ordered) box(t *testing.T) *outbox.Inbox {
	box, err := outbox.NewInbox(o.dynamodb, "inbox", "balances")
	require.NoError(t, err)
	return box
}

// write writes events of account-7, and returns them as the stream delivers them, long after they were written.
func (o *ordered) write(t *testing.T, numbers ...int64) (events []outbox.Record) {
	writer, err := outbox.NewWriter(o.dynamodb, "events")
	require.NoError(t, err)
	for _, n := range numbers {
		r := outbox.Record{ID: outbox.SequencedID("account-7", n), Type: "ORDER_CREATED", AggregateID: "account-7", Sequence: n, Time: epoch.Add(time.Duration(n) * time.Second), Payload: []byte("{}")}
		require.NoError(t, writer.Transact(t.Context(), nil, r))
		r.Table, r.ChangedAt = "events", r.Time
		events = append(events, r)
	}
	return events
}

func (o *ordered) deliver(t *testing.T, events ...outbox.Record) {
	for _, e := range events {
		require.NoError(t, o.consumer.Process(t.Context(), e))
	}
}

func (o *ordered) redrive(t *testing.T) outbox.RedriveResult {
	result, err := o.letters.Redrive(t.Context(), o.consumer, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	return result
}

// show returns what order show says.
func (o *ordered) show(t *testing.T) positionJSON {
	return decode[positionJSON](t, o.ok(t, "order", "show", "--consumer", "balances", "--dead-letters", "dead-letters", "account-7", "-o", "json"))
}

// numbers are the sequences of the dead letters.
func (p positionJSON) numbers() (numbers []int64) {
	for _, l := range p.DeadLetters {
		numbers = append(numbers, l.Event.Sequence)
	}
	return numbers
}

// says returns the arguments of the last command of this program that a text names.
func says(t *testing.T, text string) []string {
	i := strings.LastIndex(text, "outbox ")
	require.Positive(t, i, text)
	return strings.Fields(text[i+len("outbox "):])
}

func TestAMissingNumberIsShownAndPassed(t *testing.T) {
	o := newOrdered(t)
	o.deliver(t, o.write(t, 1, 3, 4, 6)...)
	text := o.ok(t, "order", "show", "--consumer", "balances", "--dead-letters", "dead-letters", "account-7")
	for _, want := range []string{`position +1: handled from 1 on`, `latest event +2026-`, `next +2: not in table events`, `behind it +3 to 4, 6`,
		`dead letter +#3  account-7#account-7%233  failed 1 time: `, `dead letter +#4  account-7#account-7%234  waits behind another`,
		`\n2 is missing, and the aggregate waits for it. If it never existed, or is gone: outbox order pass --inbox inbox --consumer balances --table events account-7 2\n$`} {
		require.Regexp(t, want, text)
	}
	p := o.show(t)
	require.Equal(t, []int64{3, 4, 6}, p.numbers())
	require.True(t, p.At.Equal(epoch.Add(time.Second)))
	p.DeadLetters, p.At = nil, time.Time{}
	require.Equal(t, positionJSON{Aggregate: "account-7", Known: true, Position: 1, First: 1, Next: 2, Behind: []int64{3, 4, 6}}, p)

	pass := says(t, text)
	r := o.run(t, pass...)
	require.Equal(t, exitUnconfirmed, r.code)
	require.Equal(t, int64(1), o.show(t).Position)
	require.Equal(t, "passed: the position of account-7 is 2; dead letters behind it are handled by a redrive\n", o.ok(t, append(pass, "--yes")...))
	require.Equal(t, outbox.RedriveResult{Redriven: 2, Failed: 1}, o.redrive(t), "the last one misses 5")
	require.Equal(t, int64(5), o.show(t).Next)
	require.Equal(t, passed{Aggregate: "account-7", Sequence: 5, Passed: ptr(true), Position: ptr(int64(5))}, decode[passed](t, o.ok(t, "order", "pass", "--consumer", "balances", "account-7", "5", "--yes", "-o", "json")))
	require.Equal(t, outbox.RedriveResult{Redriven: 1}, o.redrive(t))
	require.Contains(t, o.ok(t, "order", "show", "--consumer", "balances", "account-7"), "\nnothing behind 6 is known\n")
}

func TestOnlyTheNextNumberIsPassed(t *testing.T) {
	o := newOrdered(t)
	o.deliver(t, o.write(t, 1)...)
	o.write(t, 3)
	pass := func(n string, more ...string) result {
		return o.run(t, append([]string{"order", "pass", "--consumer", "balances", "account-7", n}, more...)...)
	}
	r := pass("3", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "the next one of aggregate account-7 is 2, not 3. To see where it is: outbox order show ")
	require.Zero(t, o.run(t, says(t, r.err)...).code)
	require.Contains(t, decode[failure](t, pass("3", "--yes", "-o", "json").out).Error, "is 2, not 3")
	require.Equal(t, int64(1), o.show(t).Position)
	require.Equal(t, result{exitOK, "1 was handled or passed before: the position is 1\n", ""}, pass("1"))
	require.Equal(t, passed{Aggregate: "account-7", Sequence: 1, Passed: ptr(false), Position: ptr(int64(1))}, decode[passed](t, pass("1", "-o", "json").out))
	require.Equal(t, result{exitOK, "passed: the position of account-7 is 2; dead letters behind it are handled by a redrive\n", ""}, pass("2", "-y"), "without a warning")
}

// What would be lost by a pass is told before the question.
func TestAPassThatLosesAnEventIsWarnedOf(t *testing.T) {
	o := newOrdered(t)
	o.deliver(t, o.write(t, 1)...)
	r := o.run(t, "order", "pass", "--consumer", "balances", "account-7", "2")
	require.Equal(t, exitUnconfirmed, r.code)
	require.Contains(t, r.err, "nothing behind 2 is in table events: if the service writes 2 later, this consumer will NEVER handle it\n")
	o.write(t, 2)
	r = o.run(t, "order", "pass", "--consumer", "balances", "account-7", "2", "--yes")
	require.Equal(t, exitOK, r.code)
	require.Equal(t, "outbox: event account-7#2 is in table events, and this consumer would NEVER handle it\n", r.err)
	require.Equal(t, int64(2), o.show(t).Position)

	r = o.run(t, "order", "pass", "--consumer", "misspelt", "account-7", "1")
	require.Equal(t, exitUnconfirmed, r.code)
	require.Contains(t, r.err, "note: inbox inbox has no position of aggregate account-7 for consumer misspelt: nothing of it was handled, or a name is not the one that the service gives NewInbox and WithOrder\n")
}

func TestAHandlerAtWorkIsShownAndLeftAlone(t *testing.T) {
	o := newOrdered(t)
	o.deliver(t, o.write(t, 1)...)
	o.write(t, 2, 3)
	table := inbox.Table{Client: o.dynamodb, Name: "inbox", Consumer: "balances"}
	a := inbox.Aggregate{ID: "account-7", Table: "events"}
	place, err := table.Position(t.Context(), a)
	require.NoError(t, err)
	claim := func(owner string, until time.Time) {
		_, refused, err := table.ClaimNext(t.Context(), a, place.Position, inbox.Claim{Owner: owner, Until: until}, until.Add(-time.Minute))
		require.NoError(t, err)
		require.False(t, refused)
	}
	claim("o-1", time.Now().Add(-time.Hour)) // its process has died
	text := o.ok(t, "order", "show", "--consumer", "balances", "account-7")
	require.Regexp(t, `claim +ended 20.*, owner o-1\n`, text)
	require.Contains(t, text, "\n2 waits for its delivery, or fails: see the log and the dead letters of the consumer\n")
	claim("o-2", time.Now().Add(time.Hour))
	text = o.ok(t, "order", "show", "--consumer", "balances", "account-7")
	require.Regexp(t, `claim +a handler works at the next event until 20.*, owner o-2\n`, text)
	require.Contains(t, text, "\n2 is being handled\n")
	require.True(t, o.show(t).Claim.Live)
	for _, args := range []string{"pass account-7 2", "forget account-7"} {
		r := o.run(t, append(strings.Fields("order "+args), "--consumer", "balances", "--yes")...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.err, "another delivery of the event is being handled, until 20", args)
		require.Equal(t, int64(1), o.show(t).Position, args)
	}
}

func TestAnAggregateIsForgotten(t *testing.T) {
	o := newOrdered(t)
	events := o.write(t, 1, 2)
	o.deliver(t, events...)
	forget := []string{"order", "forget", "--consumer", "balances", "account-7"}
	r := o.run(t, forget...)
	require.Equal(t, exitUnconfirmed, r.code)
	require.Contains(t, r.err, "note: what is in table events of aggregate account-7, and wanted, is handled once more; the position is 2 now\n")
	require.Equal(t, int64(2), o.show(t).Position)
	require.Equal(t, "forgotten: restart the processes of balances, which remember the position of account-7\n", o.ok(t, append(forget, "--yes")...))
	require.False(t, o.show(t).Known)
	require.Equal(t, "account-7 has no position\n", o.ok(t, forget...))
	require.Equal(t, forgotten{Aggregate: "account-7", Forgotten: ptr(false)}, decode[forgotten](t, o.ok(t, append(forget, "-o", "json")...)))

	o = orderedIn(t, o.world) // another process
	o.deliver(t, events[1])
	require.Equal(t, int64(2), o.show(t).Position, "both are handled once more")
	require.Equal(t, forgotten{Aggregate: "account-7", Forgotten: ptr(true), Position: 2}, decode[forgotten](t, o.ok(t, append(forget, "--yes", "-o", "json")...)))
}

// An event of an aggregate whose id is used again is late, and is handled once the consumer has forgotten the aggregate.
func TestAnIDThatIsUsedAgainIsForgottenAndRedriven(t *testing.T) {
	o := newOrdered(t)
	o.deliver(t, o.write(t, 1, 2)...)
	for _, n := range []int64{1, 2} {
		_, err := o.dynamodb.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: ptr("events"), Key: rows.Item{"eventId": rows.S(outbox.SequencedID("account-7", n))}})
		require.NoError(t, err)
	}
	again := o.write(t, 1)[0]
	again.Time = epoch.Add(time.Hour)
	o.deliver(t, again)
	show := []string{"order", "show", "--consumer", "balances", "--dead-letters", "dead-letters", "account-7"}
	text := o.ok(t, show...)
	require.Contains(t, text, "\n1 is late, and what waits behind its letter waits for it. To remove it: outbox dead discard --table dead-letters --consumer balances --inbox inbox --id account-7#account-7%231. "+
		"If the aggregate's id is used again: outbox order forget --inbox inbox --consumer balances --table events account-7, and redrive\n")
	require.Equal(t, outbox.RedriveResult{Failed: 1}, o.redrive(t))
	o.ok(t, "order", "forget", "--inbox", "inbox", "--consumer", "balances", "--table", "events", "account-7", "--yes")
	o = orderedIn(t, o.world) // another process
	require.Equal(t, outbox.RedriveResult{Redriven: 1}, o.redrive(t))
	require.Equal(t, int64(1), o.show(t).Position)
}

// What a redrive alone can bring on: the missing row is there again, or the letter's event was handled meanwhile.
func TestLettersThatNothingHoldsUpWaitForARedrive(t *testing.T) {
	o := newOrdered(t)
	o.deliver(t, o.write(t, 1, 3, 4)...)
	o.write(t, 2)
	show := []string{"order", "show", "--consumer", "balances", "--dead-letters", "dead-letters", "account-7"}
	text := o.ok(t, show...)
	require.Contains(t, text, "\nnothing is before 2 any more, and dead letters wait. To handle them: outbox dead redrive --table dead-letters --consumer balances --aggregate account-7\n")

	other := orderedIn(t, o.world) // another process, with no letters
	var err error
	other.consumer, err = outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithInbox(o.box(t)), outbox.WithOrder(o.dynamodb, "events", time.Time{}))
	require.NoError(t, err)
	outbox.Ignore(other.consumer, "ORDER_CREATED")
	other.deliver(t, o.write(t, 5)...)
	text = o.ok(t, show...)
	require.Contains(t, text, "\n3 was handled or passed, and its letter is there still. To remove it, and to handle what waits behind it: outbox dead redrive ")
	require.Equal(t, outbox.RedriveResult{Redriven: 2}, o.redrive(t))
}

func TestADiscardMovesThePosition(t *testing.T) {
	o := newOrdered(t)
	o.failing[2] = true
	o.deliver(t, o.write(t, 1, 2, 3, 4)...)
	require.Equal(t, []int64{2, 3, 4}, o.show(t).numbers())
	text := o.ok(t, "order", "show", "--consumer", "balances", "--dead-letters", "dead-letters", "account-7")
	require.Contains(t, text, "\n2 is a dead letter, and the aggregate waits for it. Cure the cause, then: outbox dead redrive --table dead-letters --consumer balances --aggregate account-7\n")

	discard := []string{"dead", "discard", "--consumer", "balances"}
	r := o.run(t, append(discard, "--all", "--yes")...)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "is of a consumer with WithOrder, whose position has to move as well: give --inbox")
	require.Equal(t, []int64{2, 3, 4}, o.show(t).numbers())

	discard = append(discard, "--inbox", "inbox")
	r = o.run(t, append(discard, "--id", "account-7#account-7%233", "--yes")...)
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "outbox: nothing was discarded: dead letter account-7#account-7%233 has sequence 3, and the next one of aggregate account-7 is 2, which is a dead letter: "+
		"outbox dead discard --table dead-letters --consumer balances --inbox inbox --id account-7#account-7%232\n", r.err)
	require.Equal(t, []int64{2, 3, 4}, o.show(t).numbers())
	front := says(t, r.err)
	require.Equal(t, exitUnconfirmed, o.run(t, front...).code)
	require.Equal(t, int64(1), o.show(t).Position)
	require.Equal(t, "1 dead letter discarded\n", o.ok(t, append(front, "--yes")...))
	require.Equal(t, int64(2), o.show(t).Position)
	require.Equal(t, "0 dead letters discarded\n", o.ok(t, append(front, "--yes")...), "a repeat")
	require.Equal(t, discards{Discarded: 2}, decode[discards](t, o.ok(t, append(discard, "--all", "--yes", "-o", "json")...)))
	require.Equal(t, int64(4), o.show(t).Position)
	require.Empty(t, o.show(t).DeadLetters)
}

// A number that is missing is in front of its letters, and a letter that was passed is only removed.
func TestADiscardBehindAMissingNumberSaysWhatToDo(t *testing.T) {
	o := newOrdered(t)
	o.deliver(t, o.write(t, 1, 3)...)
	discard := []string{"dead", "discard", "--consumer", "balances", "--inbox", "inbox", "--all", "--yes"}
	r := o.run(t, discard...)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "the next one of aggregate account-7 is 2, which is no dead letter. To see where it is: outbox order show --inbox inbox --consumer balances --table events account-7. If it does not exist: ")
	o.ok(t, append(says(t, r.err), "--yes")...)
	o.run(t, "order", "pass", "--consumer", "balances", "account-7", "3", "--yes")
	require.Equal(t, int64(3), o.show(t).Position)
	require.Equal(t, []int64{3}, o.show(t).numbers())
	require.Equal(t, "1 dead letter discarded\n", o.ok(t, discard...))
	require.Equal(t, int64(3), o.show(t).Position)
}

// With the name of another consumer another position would be moved, or shown.
func TestALetterIsDiscardedForTheConsumerThatItIsOf(t *testing.T) {
	o := newOrdered(t)
	o.failing[2] = true
	o.deliver(t, o.write(t, 1, 2)...)
	discard := []string{"dead", "discard", "--consumer", "balances", "--inbox", "inbox", "--inbox-consumer", "others", "--all", "--yes"}
	r := o.run(t, discard...)
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "outbox: dead letter account-7#account-7%232 waits for the position of the consumer balances of an inbox, and not of others: give --inbox-consumer balances\n", r.err)
	require.Equal(t, []int64{2}, o.show(t).numbers())
	discard[7] = "balances"
	require.Equal(t, "1 dead letter discarded\n", o.ok(t, discard...))
	require.Equal(t, int64(2), o.show(t).Position)
}

// A worker handles the event between the look at the position and the pass, which then has done nothing.
func TestANumberThatIsHandledMeanwhileIsNotPassed(t *testing.T) {
	for _, output := range []string{"text", "json"} {
		o := newOrdered(t)
		o.deliver(t, o.write(t, 1)...)
		events := o.write(t, 2, 3)
		handled := make(chan error, 2)
		var once sync.Once
		o.intercept = func(operation string, _ http.ResponseWriter, _ *http.Request) bool {
			if operation == "UpdateItem" {
				once.Do(func() {
					handled <- errors.Join(o.consumer.Process(t.Context(), events[0]), o.consumer.Process(t.Context(), events[1]))
				})
			}
			return false
		}
		r := o.run(t, "order", "pass", "--consumer", "balances", "account-7", "2", "--yes", "-o", output)
		require.NoError(t, <-handled)
		require.Equal(t, exitOK, r.code)
		if output == "text" {
			require.Equal(t, "2 was handled or passed meanwhile: the position is 3\n", r.out)
			continue
		}
		require.Equal(t, passed{Aggregate: "account-7", Sequence: 2, Passed: ptr(false), Position: ptr(int64(3))}, decode[passed](t, r.out))
	}
}

func TestDeadLettersSayWhatTheirAggregateWaitsFor(t *testing.T) {
	o := newOrdered(t)
	o.failing[2] = true
	o.deliver(t, o.write(t, 1, 2, 3)...)
	list := []string{"dead", "list", "--consumer", "balances"}
	require.NotContains(t, o.ok(t, list...), "#2 is the next one")
	for _, l := range lines[letterJSON](t, o.ok(t, append(list, "-o", "json")...)) {
		require.Equal(t, "events", l.Order)
		require.Zero(t, l.WaitsFor)
	}
	list = append(list, "--inbox", "inbox")
	text := o.ok(t, list...)
	require.Contains(t, text, "the account is closed  #2 is the next one of its aggregate\n")
	require.Contains(t, text, "waits behind another  #3 comes later: the aggregate waits for #2\n")
	for _, l := range lines[letterJSON](t, o.ok(t, append(list, "-o", "json")...)) {
		require.Equal(t, int64(2), l.WaitsFor)
	}
	show := []string{"dead", "show", "--consumer", "balances", "--inbox", "inbox", "account-7#2"}
	require.Regexp(t, `order +by the sequences of table events\nposition +#2 is the next one of its aggregate\n`, o.ok(t, show...))
	require.Equal(t, int64(2), decode[letterJSON](t, o.ok(t, append(show, "-o", "json")...)).WaitsFor)
	o.run(t, "order", "pass", "--consumer", "balances", "account-7", "2", "--yes")
	require.Contains(t, o.ok(t, show...), "#2 is at or below the position: the aggregate waits for #3\n")

	// The position is that of the consumer whose letters they are.
	r := o.run(t, append(list, "--inbox-consumer", "others")...)
	require.NotContains(t, r.out, "waits for #")
	require.Equal(t, 1, strings.Count(r.err, "note: dead letter account-7#account-7%232 waits for the position of the consumer balances of an inbox, and not of others: give --inbox-consumer balances\n"))
}

// A key that DynamoDB leaves unread is asked for again, and never taken for a row that is missing.
func TestAKeyThatWasNotReadIsNoMissingRow(t *testing.T) {
	o := newOrdered(t)
	o.write(t, 1, 2)
	asked, always := 0, false
	o.edit("BatchGetItem", func(request, answer map[string]any) {
		if asked++; asked == 1 || always {
			answer["UnprocessedKeys"] = request["RequestItems"]
			answer["Responses"] = map[string]any{}
		}
	})
	p := o.show(t)
	require.True(t, p.NextIsThere)
	require.Equal(t, []int64{2}, p.Behind)
	require.Equal(t, 2, asked)
	always = true
	r := o.run(t, "order", "show", "--consumer", "balances", "account-7")
	require.Equal(t, exitFailed, r.code)
	require.Empty(t, r.out)
	require.Contains(t, r.err, "DynamoDB left 100 keys unread 10 times")
}

func TestATableOfOtherNamesIsLookedInto(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--inbox", "inbox")
	w.tableWithAStream(t, "others") // whose key is pk
	for _, n := range []int64{1, 3} {
		row("others", rows.Item{"pk": rows.S(order.ID("account-7", n))})(t, w)
	}
	show := []string{"order", "show", "--consumer", "balances", "account-7", "-o", "json", "--attributes", "id=pk", "--table"}
	for _, table := range []string{"others", "arn:aws:dynamodb:us-east-1:000000000000:table/others"} {
		p := decode[positionJSON](t, w.ok(t, append(show, table)...))
		require.True(t, p.NextIsThere, table)
		require.Equal(t, []int64{3}, p.Behind, table)
	}
}

// To doctor a position is no mark that never expires, and a mark beside it counts.
func TestDoctorTakesNoPositionForAMark(t *testing.T) {
	w := healthy(t)
	w.empty(t, "inbox")
	place := inbox.Table{Client: w.dynamodb, Name: "inbox", Consumer: "balances"}
	_, _, err := place.MoveAlone(t.Context(), inbox.Aggregate{ID: "account-7", Table: "events"}, order.Position{}, order.Event{Sequence: 1, Time: epoch}, epoch)
	require.NoError(t, err)
	memory := func() (found finding) {
		for _, f := range decode[doctorJSON](t, w.run(t, everything...).out).Findings {
			if f.Check == "inbox memory" {
				found = f
			}
		}
		return found
	}
	require.Equal(t, finding{Grade: gradeOK, Check: "inbox memory", Resource: "inbox", Finding: "only positions of balances among 1 row: they do not expire"}, memory())
	marks(48*time.Hour)(t, w)
	require.Equal(t, gradeProblem, memory().Grade)
	require.Contains(t, memory().Finding, "mails forgets an event after 48h")
}

func TestNumbersAreWrittenAsRanges(t *testing.T) {
	require.Equal(t, "5 to 7, 9, 11 to 12", ranges([]int64{5, 6, 7, 9, 11, 12}))
	require.Equal(t, "1", ranges([]int64{1}))
}
