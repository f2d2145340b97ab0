package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"
)

// What it prints leads the SDK to it.
func TestTheSDKFindsIt(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-addr", "127.0.0.1:0", "-limits"}, out)
		out.CloseWithError(err)
		ended <- err
	}()
	line, err := bufio.NewReader(in).ReadString('\n')
	require.NoError(t, err)
	variables, ok := strings.CutPrefix(line, "export ")
	require.True(t, ok, line)
	for variable := range strings.FieldsSeq(variables) {
		name, value, ok := strings.Cut(variable, "=")
		require.True(t, ok, variable)
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	_, err = kinesis.NewFromConfig(cfg).ListStreams(t.Context(), &kinesis.ListStreamsInput{})
	require.NoError(t, err)
	stop()
	require.NoError(t, <-ended)
}

func TestBadArguments(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), []string{"extra"}, io.Discard), `unexpected argument "extra"`)
	require.Error(t, run(t.Context(), []string{"-addr", "nonsense"}, io.Discard))
}
