package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
)

// Deposited is an event of an account that is made of its events.
type Deposited struct {
	RequestID string `json:"requestId"` // two deposits of the same amount in one millisecond are two
	Amount    int64  `json:"amount"`
}

func (Deposited) EventType() string { return "DEPOSITED" }

// Account is what the events of an account come to.
type Account struct {
	ID      string
	Version int64 // the sequence of the last event
	Balance int64
}

var errDecideAgain = errors.New("the account has changed meanwhile")

// deposit decides on the account as it was loaded. The event is made once for each decision.
func deposit(account Account, requestID string, amount int64) outbox.Event[Deposited] {
	return outbox.NewSequenced(account.ID, account.Version+1, Deposited{RequestID: requestID, Amount: amount})
}

// commit writes the event, if the account has not changed since it was loaded. After ErrUnknownOutcome call it again with this event.
func commit(ctx context.Context, writer *outbox.Writer, event outbox.Event[Deposited]) error {
	err := writer.Transact(ctx, nil, event) // no other condition is needed
	if errors.Is(err, outbox.ErrSequenceTaken) {
		return errDecideAgain // somebody else was faster: load the account again
	}
	if err != nil {
		return fmt.Errorf("deposit: %w", err)
	}
	return nil
}

func orderedConsumer(client *dynamodb.Client, inbox *outbox.Inbox, letters *outbox.DeadLetterTable) (*outbox.Consumer, error) {
	consumer, err := outbox.NewConsumer(
		outbox.WithInbox(inbox),
		outbox.WithDeadLetters(letters),
		outbox.WithOrder(client, "events", time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)), // a constant: what is older is not wanted
	)
	return consumer, err
}

// changingOver is orderedConsumer while processes without an order may still run.
func changingOver(client *dynamodb.Client, inbox *outbox.Inbox, letters *outbox.DeadLetterTable) (*outbox.Consumer, error) {
	consumer, err := outbox.NewConsumer(
		outbox.WithInbox(inbox),
		outbox.WithDeadLetters(letters),
		outbox.WithOrder(client, "events", time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)), // before all that is not handled yet
		outbox.KeepMarks(),
	)
	return consumer, err
}

var _ = []any{deposit, commit, orderedConsumer, changingOver} // what a service does, not this function
