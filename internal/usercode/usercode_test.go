package usercode_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

var errTarget = errors.New("target")

// hostile panics in the method it names.
type hostile struct {
	panics string
	err    error
}

func (h hostile) call(method string) {
	if h.panics == method {
		panic("in " + method)
	}
}

func (h hostile) Error() string   { h.call("Error"); return "hostile" }
func (h hostile) Is(error) bool   { h.call("Is"); return false }
func (h hostile) As(any) bool     { h.call("As"); return h.panics == "nothing, and claims to be anything" }
func (h hostile) Unwrap() error   { h.call("Unwrap"); return h.err }
func (h hostile) Timeout() bool   { return true }
func (h hostile) Temporary() bool { return true }

type pointer struct{ text string }

func (p *pointer) Error() string   { return p.text }
func (p *pointer) Unwrap() error   { return errors.New(p.text) }
func (p *pointer) Is(e error) bool { return e.Error() == p.text }

type emptyPointer struct{}

func (*emptyPointer) Error() string { return "not found" }

type endless struct{}

func (e endless) Error() string   { return "endless" }
func (e endless) Unwrap() []error { return []error{e, e} }

// uncomparable has a type that can be compared, and holds what cannot.
type uncomparable struct{ any any }

func (uncomparable) Error() string { return "uncomparable" }

func TestAnErrorThatPanicsIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		text   string
		target bool // it matches errTarget
	}{
		"one that is well":                {fmt.Errorf("load: %w", errTarget), "load: target", true},
		"of several":                      {errors.Join(fs.ErrExist, errTarget), "file already exists\ntarget", true},
		"whose text panics":               {hostile{"Error", errTarget}, "usercode_test.hostile, whose text panicked: in Error", true},
		"whose Is panics":                 {hostile{"Is", errTarget}, "hostile", true},
		"whose As panics":                 {hostile{"As", errTarget}, "hostile", true},
		"whose Unwrap panics":             {hostile{"Unwrap", errTarget}, "hostile", false},
		"beside one whose Unwrap panics":  {errors.Join(hostile{"Unwrap", nil}, errTarget), "hostile\ntarget", true},
		"that claims to be anything":      {hostile{"nothing, and claims to be anything", errTarget}, "hostile", true},
		"a nil pointer":                   {(*pointer)(nil), "the handler returned a nil *usercode_test.pointer as its error", false},
		"a nil pointer that has a text":   {(*emptyPointer)(nil), "the handler returned a nil *usercode_test.emptyPointer as its error: not found", false},
		"beside a nil pointer":            {wrapping{[]error{(*pointer)(nil), errTarget}}, "wrapping", true},
		"that wraps itself without end":   {endless{}, "endless", false},
		"that cannot be compared":         {uncomparable{[]int{}}, "uncomparable", false},
		"that wraps nil":                  {wrapping{[]error{nil, errTarget}}, "wrapping", true},
		"that is made safe already, once": {usercode.Error("the handler", errTarget), "target", true},
	} {
		err := usercode.Error("the handler", c.err)
		require.EqualError(t, err, c.text, name)
		require.Equal(t, c.target, errors.Is(err, errTarget), name)
		require.False(t, errors.Is(err, uncomparable{[]int{}}), name)
		require.False(t, errors.Is(err, fs.ErrNotExist), name)
		require.False(t, errors.As(err, new(*fs.PathError)), name)
		var p *pointer
		require.False(t, errors.As(err, &p), name)
		require.NotPanics(t, func() { _ = fmt.Sprintf("%v %+v", err, err) })
		var slow interface{ Timeout() bool }
		_, isHostile := c.err.(hostile) //nolint:errorlint // this very one
		if isHostile {
			require.True(t, errors.As(err, &slow), name)
		}
	}
	require.NoError(t, usercode.Error("the handler", nil))
	same := usercode.Error("the handler", errTarget)
	require.Same(t, same, usercode.Error("the handler", same))
	var found hostile
	require.ErrorAs(t, usercode.Error("the handler", fmt.Errorf("x: %w", hostile{"", errTarget})), &found)
	require.Equal(t, hostile{"", errTarget}, found)
	require.ErrorIs(t, usercode.Error("the handler", uncomparable{1}), uncomparable{1}, "by its value")
}

type wrapping struct{ errs []error }

func (wrapping) Error() string     { return "wrapping" }
func (w wrapping) Unwrap() []error { return w.errs }

func TestCallsThatPanic(t *testing.T) {
	for name, call := range map[string]func(func()) *usercode.Panic{"here": usercode.Run, "apart": usercode.Apart} {
		called := false
		require.Nil(t, call(func() { called = true }), name)
		require.True(t, called, name)
		p := call(func() { panic("on fire") })
		require.Equal(t, "on fire", p.Value, name)
		require.Contains(t, string(p.Stack), "usercode_test.go", name)
	}
	require.Equal(t, usercode.ErrGoexit, usercode.Apart(runtime.Goexit).Value)
}

type logHandler struct{ slog.Handler }

func (logHandler) Handle(context.Context, slog.Record) error { panic("the test is over") }
func (logHandler) WithAttrs([]slog.Attr) slog.Handler        { panic("no attributes") }
func (logHandler) WithGroup(string) slog.Handler             { panic("no groups") }
func (logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level == slog.LevelInfo || level < slog.LevelInfo && panics()
}

func panics() bool { panic("no level") }

func TestALogHandlerThatPanics(t *testing.T) {
	l := usercode.Logger(slog.New(logHandler{}))
	require.NotPanics(t, func() {
		l.Info("x", "a", 1)
		l.Debug("x")
		l.With("a", 1).WithGroup("g").Info("x")
	})
}
