package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
)

// addInbox adds the flags that say where positions are.
func (f *deadFlags) addInbox(flags *pflag.FlagSet) {
	flags.StringVar(&f.inbox, "inbox", "", "inbox table of a consumer with WithOrder, for the positions of its aggregates")
	flags.StringVar(&f.inboxConsumer, "inbox-consumer", "", "consumer that NewInbox was given (default: --consumer)")
}

// noteNoPosition tells that an aggregate has no position, which a mistyped name has as well.
func (a *app) noteNoPosition(table, consumer, aggregate string) {
	a.note("inbox %s has no position of aggregate %s for consumer %s: nothing of it was handled, or a name is not the one that the service gives NewInbox and WithOrder", table, aggregate, consumer)
}

// positions says where letters of ordered events stand in the order of their aggregate. Without an inbox it knows nothing.
type positions struct {
	app   *app
	table *inbox.Table
	last  inbox.Aggregate // whose position was read last: a list has the letters of an aggregate one after the other
	place inbox.Place
	noted bool // that an aggregate has no position, or that a letter is of another consumer
}

func (a *app) newPositions(f *deadFlags) (*positions, error) {
	if f.inbox == "" {
		return &positions{}, nil
	}
	if _, err := outbox.NewInbox(a.aws.dynamodb, f.inbox, f.consumerOfInbox()); err != nil {
		return nil, usageError{err}
	}
	return &positions{app: a, table: &inbox.Table{Client: a.aws.dynamodb, Name: f.inbox, Consumer: f.consumerOfInbox()}}, nil
}

func (f *deadFlags) consumerOfInbox() string {
	if f.inboxConsumer != "" {
		return f.inboxConsumer
	}
	return f.consumer
}

// standing is where a letter stands. It is zero if nothing is known.
type standing struct{ own, next int64 }

func (s standing) String() string {
	switch {
	case s.own == s.next:
		return fmt.Sprintf("#%d is the next one of its aggregate", s.own)
	case s.own < s.next:
		return fmt.Sprintf("#%d is at or below the position: the aggregate waits for #%d", s.own, s.next)
	}
	return fmt.Sprintf("#%d comes later: the aggregate waits for #%d", s.own, s.next)
}

func (p *positions) of(ctx context.Context, l *outbox.DeadLetter) (standing, error) {
	if p.table == nil || l.Order == "" {
		return standing{}, nil
	}
	if err := p.other(l.ID, l.Inbox); err != nil {
		if !p.noted {
			p.noted = true
			p.app.note("%v", err)
		}
		return standing{}, nil
	}
	place, err := p.read(ctx, inbox.Aggregate{ID: l.Record.AggregateID, Table: l.Order})
	return standing{l.Record.Sequence, place.Sequence + 1}, err
}

// other says that a letter waits for the position of another consumer than the one whose positions are read.
func (p *positions) other(letter, consumer string) error {
	if consumer == "" || consumer == p.table.Consumer {
		return nil
	}
	return fmt.Errorf("dead letter %s waits for the position of the consumer %s of an inbox, and not of %s: give --inbox-consumer %[2]s", letter, consumer, p.table.Consumer)
}

// read reads a position. That there is none, which a wrong name has as well, is told once.
func (p *positions) read(ctx context.Context, a inbox.Aggregate) (inbox.Place, error) {
	if a == p.last {
		return p.place, nil
	}
	place, err := p.table.Position(ctx, a)
	if err != nil {
		return inbox.Place{}, err
	}
	if p.last, p.place = a, place; !place.Began && !p.noted {
		p.noted = true
		p.app.noteNoPosition(p.table.Name, p.table.Consumer, a.ID)
	}
	return place, nil
}

var plainWord = regexp.MustCompile(`^(--)?[A-Za-z0-9_./:@%+=,][A-Za-z0-9_./:@%+=,#-]*$`)

// named writes a command of this program as somebody may type it into a shell. It goes to the same AWS as this run.
func (a *app) named(words ...string) string {
	var global []string // in front, since words may have a --
	if a.profile != "" {
		global = append(global, "--profile", a.profile)
	}
	if a.region != "" {
		global = append(global, "--region", a.region)
	}
	words = append(global, words...)
	for i, word := range words {
		if !plainWord.MatchString(word) {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return printable("outbox " + strings.Join(words, " "))
}

// namedOrder writes a command about the position of an aggregate. An id that begins like a flag is none.
func (a *app) namedOrder(verb string, f *orderFlags, more ...string) string {
	words := []string{"order", verb, "--inbox", f.inbox, "--consumer", f.consumer, "--table", f.table}
	if attributes := f.attributes.String(); attributes != "" && verb != "forget" { // which reads no event
		words = append(words, "--attributes", attributes)
	}
	if strings.HasPrefix(f.aggregate, "-") {
		words = append(words, "--")
	}
	return a.named(append(append(words, f.aggregate), more...)...)
}
