package awserr

import (
	"errors"
	"fmt"

	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// ErrNoAnswer says that a client has returned neither an answer nor an error.
var ErrNoAnswer = errors.New("the client returned neither an answer nor an error")

// ErrSamePage says that a page names itself as the page from which to go on.
var ErrSamePage = errors.New("the answer names the page itself as the next page")

// ErrNoRows says that the answer to a Query or a Scan lacks its list of rows. A list without rows is there, and empty.
var ErrNoRows = errors.New("the answer has no list of rows")

// CheckPage returns what an answer to a Query or a Scan lacks: its list of rows, some of the rows that it counts, or where the next page begins.
func CheckPage[V any](rows []map[string]V, count int32, next map[string]V) error {
	switch {
	case rows == nil:
		return ErrNoRows
	case len(rows) != int(count):
		return fmt.Errorf("the answer counts %d rows and has %d", count, len(rows))
	case next != nil && len(next) == 0:
		return errors.New("the answer does not say where the next page begins")
	}
	return nil
}

// Answered turns into errors what the SDK's own client never returns, and a client of the user's may: neither an answer nor an error, and an
// error whose methods panic. It is for calls whose answer is needed.
func Answered[T any](out *T, err error) (*T, error) {
	if err != nil {
		return nil, clientsError(err)
	}
	if out == nil {
		return nil, ErrNoAnswer
	}
	return out, nil
}

// Written is Answered for writes. No error says that the write was carried out, so a missing answer is an empty one.
func Written[T any](out *T, err error) (*T, error) {
	if err != nil {
		return nil, clientsError(err)
	}
	if out == nil {
		out = new(T)
	}
	return out, nil
}

func clientsError(err error) error { return usercode.Error("the client", err) }
