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
	noted bool // that an aggregate has no position
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
	place, err := p.read(ctx, inbox.Aggregate{ID: l.Record.AggregateID, Table: l.Order})
	return standing{l.Record.Sequence, place.Sequence + 1}, err
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

// command writes a command of this program as somebody may type it into a shell.
func command(words ...string) string {
	for i, word := range words {
		if !plainWord.MatchString(word) {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return printable("outbox " + strings.Join(words, " "))
}

// orderCommand writes a command about the position of an aggregate. An id that begins like a flag is none.
func orderCommand(verb, inbox, consumer, table, aggregate string, more ...string) string {
	words := []string{"order", verb, "--inbox", inbox, "--consumer", consumer, "--table", table}
	if strings.HasPrefix(aggregate, "-") {
		words = append(words, "--")
	}
	return command(append(append(words, aggregate), more...)...)
}
