package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// app is one run of the command: where it reads and writes, and what the global flags say.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time

	// What tests put in the place of AWS: nil is the SDK's own.
	httpClient aws.HTTPClient
	alarms     alarmsClient

	output  string // of --output
	yes     bool   // of --yes
	aws     *clients
	started bool // a command has begun: whatever fails from now on is no mistake in the arguments
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: out, err: err, getenv: os.Getenv, now: time.Now}
}

const longHelp = `outbox sets up, looks into and repairs a transactional outbox on DynamoDB.

Credentials, region and endpoints come from the AWS SDK's own configuration:
AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the files in ~/.aws.

Results go to standard output, as text or, with --output json, as JSON.
Progress, questions and errors go to standard error; progress and colours only
to a terminal, colours not if NO_COLOR is set.

Exit codes:
  0    done
  1    it failed, or something was found (doctor, status --max-lag)
  2    the arguments are wrong
  3    not confirmed: the answer was no, or there is no terminal to ask at and
       no --yes
  130  interrupted`

// command builds the tree of commands.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use: "outbox", Short: "Set up, look into and repair a transactional outbox on DynamoDB", Long: longHelp,
		SilenceUsage: true, SilenceErrors: true, Version: version(),
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.New("a command is missing: see outbox --help")
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "" && a.output != "text" && a.output != "json" {
				return fmt.Errorf("--output: want text or json, have %q", a.output)
			}
			return nil
		},
	}
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "", "text or json (default text; for tail, json unless on a terminal)")
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.AddCommand(a.createCommand(), a.tailCommand(), a.replayCommand(), a.statusCommand(), a.doctorCommand(), a.deadCommand())
	return root
}

// action makes a command's RunE of what it does once its arguments are read: check what they say, connect, and do it.
func (a *app) action(check func() error, do func(context.Context, *clients) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := check(); err != nil {
			return err
		}
		a.started = true
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		return do(cmd.Context(), c)
	}
}

// run is the command from its arguments to its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	code := a.exitCode(ctx, err)
	if text := a.explain(err); text != "" && code != exitInterrupted {
		fmt.Fprintln(a.err, a.paint(a.err).red("outbox: ")+text)
	}
	if code == exitInterrupted {
		fmt.Fprintln(a.err, "outbox: interrupted")
	}
	return code
}

// json reports whether the result is to be JSON.
func (a *app) json() bool { return a.output == "json" }

// terminal reports whether a stream is one.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// version is that of the module, as go install recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
