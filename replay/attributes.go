package replay

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/account"
)

// complete fills in the default names.
func complete(names *outbox.Attributes) {
	fields, defaults := reflect.ValueOf(names).Elem(), reflect.ValueOf(outbox.DefaultAttributes())
	for i := range fields.NumField() {
		if fields.Field(i).String() == "" {
			fields.Field(i).Set(defaults.Field(i))
		}
	}
}

// checkAttributes is for events that are handed to a Consumer: one that reads its records by other names takes an event for another one, and an
// order for none. The error names each difference.
func (e *Events) checkAttributes(book *account.Book) error {
	here, there := reflect.ValueOf(e.rows), reflect.ValueOf(book.Names)
	var errs []error
	for i := range here.NumField() {
		if have, want := here.Field(i).String(), there.Field(i).String(); have != want {
			errs = append(errs, fmt.Errorf("%s is %q for replay.New, and %q for the Consumer", here.Type().Field(i).Name, have, want))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give replay.New and NewConsumer the same WithAttributes: %w", err)
	}
	return nil
}

// checkAttributesOf is checkAttributes for a Consumer with an Inbox, which knows its events by what is read of them.
func (e *Events) checkAttributesOf(to Processor) error {
	c, is := to.(*outbox.Consumer)
	if !is || c == nil {
		return nil
	}
	book, err := c.Accounts(e.table)
	if err != nil {
		return nil // nothing is kept of these events
	}
	return e.checkAttributes(book)
}
