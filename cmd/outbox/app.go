package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is one run of the command: where it reads and writes, and what the global flags say.
type app struct {
	in       io.Reader
	out, err *stream
	getenv   func(string) string
	now      func() time.Time
	pace     time.Duration // between two reads of a shard

	// What tests put in the place of AWS: nil is the SDK's own.
	httpClient aws.HTTPClient
	alarms     alarmsClient

	output          string        // of --output
	timeout         time.Duration // of --timeout
	region, profile string
	yes             bool          // of --yes
	every           time.Duration // of --watch, where a command has it
	aws             *clients
	started         bool // a command has begun: whatever fails from now on is no mistake in the arguments
	lists           bool // the result is a list: with --output json one object a line, and no document
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: &stream{to: out, colours: terminal(out)}, err: &stream{to: err, colours: terminal(err)}, getenv: os.Getenv, now: time.Now, pace: 300 * time.Millisecond}
}

var regionName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

const longHelp = `outbox sets up, looks into and repairs a transactional outbox on DynamoDB.

Credentials, region and endpoints come from the AWS SDK's own configuration:
AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the files in ~/.aws.

Results go to standard output, as text or, with --output json, as JSON.
Progress, questions and errors go to standard error; progress and colours only
to a terminal, colours not if NO_COLOR is set.

--timeout is how long a command waits for AWS: status and doctor in all, the others
for each answer. tail repeats what is not answered, until it is interrupted or --for
is over.

Exit codes:
  0    done
  1    it failed, or something was found: a problem (doctor), what is wrong or
       unknown (status), dead letters that stay (dead redrive), rows that cannot
       be read or copied (replay), what is undelivered or unreadable (reconcile)
  2    the arguments are wrong
  3    not confirmed: the answer was no, or there is no terminal to ask at and
       no --yes
  130  interrupted
  141  nobody reads the output any more, as after outbox tail | head`

// defaultTimeout is long enough for status, which looks twice, and for a call that the SDK repeats.
const defaultTimeout = time.Minute

// command builds the tree of commands.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use: "outbox", Short: "Set up, look into and repair a transactional outbox on DynamoDB", Long: longHelp,
		SilenceUsage: true, SilenceErrors: true, Version: version(),
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.New("a command is missing: see outbox --help")
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := emptyFlags(cmd); err != nil {
				return err
			}
			switch {
			case a.output != "" && a.output != "text" && a.output != "json":
				return fmt.Errorf("--output: want text or json, have %q", a.output)
			case a.timeout <= 0:
				return fmt.Errorf("--timeout: want more than 0, have %s", a.timeout)
			case a.region != "" && !regionName.MatchString(a.region):
				return fmt.Errorf("--region: want the name of a Region as eu-west-1, have %q", a.region)
			}
			return nil
		},
	}
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "", "text or json (default text; for tail, json unless on a terminal)")
	root.PersistentFlags().DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for AWS: status and doctor in all, the others for each answer")
	root.PersistentFlags().StringVar(&a.region, "region", "", "AWS Region (default: that of the configuration)")
	root.PersistentFlags().StringVar(&a.profile, "profile", "", "profile of ~/.aws (default: AWS_PROFILE)")
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.AddCommand(a.createCommand(), a.tailCommand(), a.replayCommand(), a.statusCommand(), a.doctorCommand(), a.deadCommand(), a.reconcileCommand(), a.orderCommand(), a.checkpointCommand())
	root.SetHelpCommand(&cobra.Command{Use: "help [command]", Short: "Help about a command", RunE: func(_ *cobra.Command, args []string) error {
		about, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return fmt.Errorf("unknown command %q: see outbox --help", strings.Join(args, " "))
		}
		return about.Help()
	}})
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.RunE = func(*cobra.Command, []string) error {
			return errors.New("for which shell? bash, fish, powershell or zsh")
		}
	}
	return root
}

// emptyFlags refuses a flag that is given as an empty text, perhaps by a variable that is not set: left out silently, it would widen what is
// replayed or discarded. A flag with a default has its own meaning of it.
func emptyFlags(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if value := f.Value.String(); value == f.DefValue && (value == "" || value == "[]") {
			err = fmt.Errorf("--%s is empty: leave it out, or give it a value", f.Name)
		}
	})
	return err
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

// probe bounds what a command does by --timeout, for those whose work is bounded.
func (a *app) probe(do func(context.Context, *clients) error) func(context.Context, *clients) error {
	return func(ctx context.Context, c *clients) error {
		ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, &slowError{limit: a.timeout})
		defer cancel()
		return do(ctx, c)
	}
}

// run is the command from its arguments to its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	code := a.exitCode(ctx, err)
	text := a.explain(err)
	if code == exitInterrupted {
		text = "interrupted"
	}
	if text != "" && code != exitUsage && a.json() && !a.lists && a.out.empty() {
		_ = a.printJSON(failure{text}) // if that fails, it is told below
	}
	switch {
	case code == exitInterrupted:
		fmt.Fprintln(a.err, "outbox: interrupted")
	case text != "" && !errors.Is(err, a.out.err()):
		fmt.Fprintln(a.err, a.paint(a.err).red("outbox: ")+oneLine(text))
	}
	lost := cmp.Or(a.out.err(), a.err.err())
	switch {
	case lost == nil || err != nil && !errors.Is(err, lost) && !errors.Is(err, errFound):
		return code
	case errors.Is(lost, syscall.EPIPE):
		return exitNoReader
	}
	fmt.Fprintln(a.err, a.paint(a.err).red("outbox: ")+oneLine("the output is incomplete: "+lost.Error()))
	return exitFailed
}

// json reports whether the result is to be JSON.
func (a *app) json() bool { return a.output == "json" }

// terminal reports whether a stream is one.
func terminal(of any) bool {
	if s, ok := of.(*stream); ok {
		of = s.to
	}
	f, ok := of.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// version is that of the module, as go install recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
