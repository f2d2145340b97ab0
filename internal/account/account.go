// Package account has the words in which a Consumer says what it knows of events, for those who compare a table with it. It must not know how
// the Consumer finds out.
package account

import (
	"context"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/event"
)

// Account is what a Consumer knows of an event.
type Account int

const (
	// Open says that the event was not handled, and that nobody has given it up.
	Open Account = iota
	// Handled says that the inbox has the event, or a position that is behind it.
	Handled
	// Claimed says that somebody handles it now.
	Claimed
	// DeadLetter says that the event is a dead letter, or was discarded as one.
	DeadLetter
	// Unwanted says that the Consumer has no handler for the event whose success the inbox keeps, or that it is from before the order begins, or
	// below the number at which its aggregate begins.
	Unwanted
	// Forgotten says that the inbox may have handled the event and have forgotten it.
	Forgotten
)

// Names are the attributes of an event row, as outbox.Attributes has them.
type Names struct {
	ID, Type, Time, AggregateID, Sequence, Payload, ContentType, Headers, ExpiresAt string
}

// Book is what a Consumer knows of the events of one table.
type Book struct {
	// Names are those by which the Consumer reads rows.
	Names Names
	// Memory is how far back in time an event without a position is judged.
	Memory time.Duration
	// Of returns the accounts of events, in their order. It needs no payloads.
	Of func(ctx context.Context, events []event.Event) ([]Account, error)
	// Known returns how many of the events the inbox has, as Handled or Claimed, whatever their age.
	Known func(ctx context.Context, events []event.Event) (int, error)
	// Wants reports whether the Consumer keeps what becomes of an event. It makes no call, so it does not know where the order begins.
	Wants func(event.Event) bool
}
