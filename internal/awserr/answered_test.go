package awserr_test

import (
	"errors"
	"testing"

	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
)

func TestAnswersOfClientsThatAreNotTheSDKs(t *testing.T) {
	type output struct{ n int }
	down := errors.New("down")
	for name, c := range map[string]struct {
		out             *output
		err             error
		answered, write string // the error's text; "" for no error
	}{
		"an answer":         {&output{1}, nil, "", ""},
		"an error":          {nil, down, "down", "down"},
		"both":              {&output{1}, down, "down", "down"},
		"neither":           {nil, nil, awserr.ErrNoAnswer.Error(), ""},
		"a nil error":       {&output{1}, (*smithy.OperationError)(nil), "the client returned a nil *smithy.OperationError as its error", "the client returned a nil *smithy.OperationError as its error"},
		"an error by value": {nil, &smithy.GenericAPIError{Code: "X"}, "api error X: ", "api error X: "},
	} {
		for want, f := range map[*string]func(*output, error) (*output, error){&c.answered: awserr.Answered[output], &c.write: awserr.Written[output]} {
			out, err := f(c.out, c.err)
			if *want != "" {
				require.EqualError(t, err, *want, name)
				require.Nil(t, out, name)
				continue
			}
			require.NoError(t, err, name)
			require.NotNil(t, out, name)
		}
	}
}
