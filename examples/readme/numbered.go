package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-1b628d3f/outbox"
)

// Deposited is an event of an account that is made of its events.
type Deposited struct {
	Amount int64 `json:"amount"`
}

func (Deposited) EventType() string { return "DEPOSITED" }

// Account is what the events of an account come to.
type Account struct {
	ID      string
	Version int64 // the sequence of the last event
	Balance int64
}

var errDecideAgain = errors.New("the account has changed meanwhile")

// deposit adds one event to the account, if it has not changed since it was loaded.
func deposit(ctx context.Context, writer *outbox.Writer, account Account, amount int64) error {
	event := outbox.NewSequenced(account.ID, account.Version+1, Deposited{Amount: amount})
	err := writer.Transact(ctx, nil, event) // no other condition is needed
	if errors.Is(err, outbox.ErrSequenceTaken) {
		return errDecideAgain // somebody else was faster: load the account again
	}
	if err != nil {
		return fmt.Errorf("deposit: %w", err)
	}
	return nil
}

var _ = deposit // what a service does, not this function
