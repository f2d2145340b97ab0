package usercode

import (
	"fmt"
	"reflect"
	"slices"
)

// Error returns an error with the text of err that matches what err matches. None of its methods panics, whatever those of err do: what panics
// in the tree of err matches nothing. who returned the error, for the text of a nil pointer. Error(who, nil) is nil.
//
// The result has no Unwrap, by which errors.Is would ask err itself. If a method of err ends its goroutine, so do Error and the method of its
// result.
func Error(who string, err error) error {
	if err == nil {
		return nil
	}
	if s, safe := err.(*safeError); safe { //nolint:errorlint // one that is wrapped in an unsafe one does not make it safe
		return s
	}
	return &safeError{err, textOf(who, err)}
}

func textOf(who string, err error) string {
	text := ""
	p := Run(func() { text = err.Error() })
	switch {
	case IsNil(err) && text != "":
		return fmt.Sprintf("%s returned a nil %T as its error: %s", who, err, text)
	case IsNil(err):
		return fmt.Sprintf("%s returned a nil %T as its error", who, err)
	case p != nil:
		return fmt.Sprintf("%T, whose text panicked: %v", err, p.Value)
	}
	return text
}

// IsNil reports whether v holds a nil pointer, whose methods may panic.
func IsNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

type safeError struct {
	err  error
	text string
}

func (e *safeError) Error() string { return e.text }

func (e *safeError) Is(target error) bool {
	return anyOf(e.err, func(err error) bool {
		if reflect.TypeOf(target).Comparable() && err == target { //nolint:errorlint // as errors.Is does for each error of a tree
			return true
		}
		asked, ok := err.(interface{ Is(error) bool })
		return ok && asked.Is(target)
	})
}

// As is as errors.As, but a nil pointer is not found.
func (e *safeError) As(target any) bool {
	to := reflect.ValueOf(target).Elem()
	return anyOf(e.err, func(err error) bool {
		if IsNil(err) {
			return false
		}
		if v := reflect.ValueOf(err); v.Type().AssignableTo(to.Type()) {
			to.Set(v)
			return true
		}
		asked, ok := err.(interface{ As(any) bool })
		return ok && asked.As(target) && to.Interface() != nil && !IsNil(to.Interface())
	})
}

// mostErrors bounds a tree. An error may wrap itself.
const mostErrors = 1000

// anyOf asks the errors of a tree in the order of errors.Is, until one says yes. A panic is a no.
func anyOf(root error, ask func(error) bool) bool {
	left := mostErrors
	var askAll func(error) bool
	askAll = func(err error) (yes bool) {
		if err == nil || left == 0 {
			return false
		}
		left--
		Run(func() { yes = ask(err) })
		return yes || slices.ContainsFunc(wrapped(err), askAll)
	}
	return askAll(root)
}

func wrapped(err error) (errs []error) {
	Run(func() {
		switch err := err.(type) { //nolint:errorlint // each error of the tree by itself
		case interface{ Unwrap() error }:
			errs = []error{err.Unwrap()}
		case interface{ Unwrap() []error }:
			errs = err.Unwrap()
		}
	})
	return errs
}
