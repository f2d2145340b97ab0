package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// The exit codes, as --help lists them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnconfirmed = 3
	exitInterrupted = 130
	exitNoReader    = 141 // as a shell tells of a program that SIGPIPE ended
)

// errFound says that the work is done and what it found is bad, which has been told already.
var errFound = errors.New("something was found")

// errUnconfirmed says that nobody said yes.
var errUnconfirmed = errors.New("not confirmed: nothing was done")

// usageError says that an argument is wrong, of which the command knows only once it has begun.
type usageError struct{ error }

// Unwrap returns what is wrong.
func (e usageError) Unwrap() error { return e.error }

// failure is the part of a document in JSON that says why the command failed, and the whole document if it failed before it had a result.
type failure struct {
	Error string `json:"error,omitempty"`
}

func (a *app) exitCode(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitOK
	case !a.started, errors.As(err, &usageError{}):
		return exitUsage
	case errors.Is(err, errUnconfirmed):
		return exitUnconfirmed
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitFailed
}

// explain is the text of an error for people: what the SDK says, without the way it came, and what to do where that is known.
// It is empty for what has been told already.
func (a *app) explain(err error) string {
	if err == nil || errors.Is(err, errFound) {
		return ""
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	text := err.Error()
	var api smithy.APIError
	if slow := (*slowError)(nil); errors.As(err, &slow) {
		text = calls.ReplaceAllString(text, "$1 $2: ")
	} else if errors.As(err, &api) {
		text = shorten(text, api)
	}
	text = prefixes.ReplaceAllString(text, "$1") // the caller writes it once
	switch {
	case strings.Contains(text, "get credentials:"), strings.Contains(text, "failed to refresh cached credentials"):
		return "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in (aws sso login)"
	case api != nil && (api.ErrorCode() == "ResourceNotFoundException" || api.ErrorCode() == "TableNotFoundException"):
		text += fmt.Sprintf(" (looked in %s)", a.where())
	case errors.Is(err, replay.ErrTooMany):
		text += ": give --from and --to, or --max"
	case errors.Is(err, outbox.ErrUnknownOutcome), errors.Is(err, outbox.ErrConflict):
		text += ": call again with the same --run"
	}
	return text
}

// prefixes are those with which the library's errors begin, wherever they stand in a text.
var prefixes = regexp.MustCompile(`(?m)(^|: )(?:outbox: )+`)

// calls are the beginnings of the SDK's accounts of errors.
var calls = regexp.MustCompile(`operation error ([^:]+): ([^,]+), `)

// shorten replaces the SDK's account of an error ("operation error DynamoDB: Scan, https response error StatusCode: 400,
// RequestID: ..., api error X: y") by what the service said.
func shorten(text string, api smithy.APIError) string {
	said := api.ErrorCode() + ": " + api.ErrorMessage()
	from := strings.Index(text, "operation error ")
	if from < 0 {
		return text
	}
	to := strings.Index(text[from:], said)
	if to < 0 { // a modelled error, whose text is of another form
		return text[:from] + said
	}
	return text[:from] + text[from+to:]
}

// where names the Region, and the endpoint if it is not AWS's.
func (a *app) where() string {
	if a.aws == nil {
		return "no Region"
	}
	return a.aws.where
}
