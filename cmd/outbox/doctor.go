package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/names"
)

// doctorFlags are those of the command doctor.
type doctorFlags struct {
	table, stream, leases, inbox, deadLetters string
	functions                                 []string
	ttl                                       time.Duration
	maxRecordBytes                            int
	noAlarms, strict                          bool
	leasesGiven                               bool // --leases was
	attributesFlag                            attributesFlag
	attributes                                outbox.Attributes // of the flag
	ofTable                                   bool              // the stream is the table's own, not Kinesis
}

func (f *doctorFlags) names() error {
	return checkNames(tableFlag("table", f.table), named{"stream", f.stream, f.checkStreamName}, tableFlag("leases", f.leases), tableFlag("inbox", f.inbox), tableFlag("dead-letters", f.deadLetters))
}

// checkStreamName checks what a stream is given by. Here a table's own stream can be one.
func (f *doctorFlags) checkStreamName(stream string) error {
	if f.ofTable = names.DynamoDBStream(stream) == nil; f.ofTable {
		return nil
	}
	return names.KinesisStream(stream)
}

func (f *doctorFlags) check() (err error) {
	switch {
	case f.table == "" || f.stream == "":
		return errors.New("--table and --stream must not be empty")
	case f.names() != nil:
		return f.names()
	case f.ttl < 0:
		return fmt.Errorf("--ttl: want 0 or more, have %s", f.ttl)
	case f.maxRecordBytes != 0 && f.maxRecordBytes < 1<<10 || f.maxRecordBytes > 10<<20:
		return fmt.Errorf("--max-record-bytes: want 1024 to 10485760, have %d", f.maxRecordBytes)
	}
	if table, _, ok := strings.Cut(f.stream, "/stream/"); f.ofTable && ok && names.OfTable(table) != names.OfTable(f.table) {
		return fmt.Errorf("--stream is a stream of table %s, and --table is %s", names.OfTable(table), names.OfTable(f.table))
	}
	f.attributes, err = f.attributesFlag.read()
	return err
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check the configuration, and say what to do",
		Long: `doctor looks at the tables, the stream, the destination, the alarms and the event
source mappings, and says for each finding what to do:

  problem  events are lost, late or not handled, or will be
  warning  it works, but something that production should have is missing
  unknown  it could not be looked at, the answer does not say it, or doctor cannot
           judge it; a refused permission is named

If the events table, the stream, the destination or a table named by a flag cannot
be looked at, this is a problem.

What lies outside of AWS's answers, such as the permissions and the health of your
processes, no check sees: docs/cli.md lists it, for each way in which events are
lost or late. Whether a worker lives, and the lag, outbox status tells.

Without flags it looks at what outbox create makes without flags; a lease table
that is not there is no problem then, since only workers need one.

It changes nothing. It exits with 1 if there is a problem, with --strict also for
warnings and unknowns.`,
		Example: `  outbox doctor
  outbox doctor --ttl 720h --dead-letters dead-letters --function mailer -o json
  outbox doctor --table old-events --attributes id=id,type=kind,time=createdAt`,
		Args:   cobra.NoArgs,
		RunE:   a.action(f.check, a.probe(func(ctx context.Context, c *clients) error { return a.doctor(ctx, c, f) })),
		PreRun: func(cmd *cobra.Command, _ []string) { f.leasesGiven = cmd.Flags().Changed("leases") },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "events", "events table")
	flags.StringVar(&f.stream, "stream", "events", "Kinesis stream by name or ARN, or the ARN of the table's own stream (DynamoDB Streams)")
	flags.StringVar(&f.leases, "leases", "leases", "lease table of workers; empty for none")
	flags.StringVar(&f.inbox, "inbox", "", "inbox table, if there is one")
	flags.StringVar(&f.deadLetters, "dead-letters", "", "dead letter table, if there is one")
	flags.StringSliceVar(&f.functions, "function", nil, "Lambda function that reads the stream; may be repeated")
	f.attributesFlag.add(flags)
	flags.DurationVar(&f.ttl, "ttl", 0, "what the service gives WithTTL (default: measured at some rows)")
	flags.IntVar(&f.maxRecordBytes, "max-record-bytes", 0, "what the service gives WithMaxRecordBytes (default: its default, 1 MiB)")
	flags.BoolVar(&f.noAlarms, "no-alarms", false, "do not look for alarms in CloudWatch")
	flags.BoolVar(&f.strict, "strict", false, "exit with 1 for warnings and unknowns, too")
	return cmd
}

// The grades of a finding.
const (
	gradeOK      = "ok"
	gradeWarning = "warning"
	gradeUnknown = "unknown"
	gradeProblem = "problem"
)

// finding is what one check found.
type finding struct {
	Grade    string `json:"grade"`
	Check    string `json:"check"`
	Resource string `json:"resource"`
	Finding  string `json:"finding"`
	// Do says what to do, unless all is well.
	Do string `json:"do,omitempty"`
}

// examination collects the findings.
type examination struct {
	*app
	c *clients
	doctorFlags
	findings []finding
	// What is known of the events table: its description, or why there is none, and some rows.
	events    *dynamodbtypes.TableDescription
	eventsErr error
	sample    rowSample
	lifetime  time.Duration // of its rows; 0 if they live for ever, or if it is not known
	forEver   bool          // its rows live, as far as is known
	// What is known of the stream.
	retention  time.Duration
	streamARN  string
	openShards int // 0 if it is not known
	// parallel is how many invocations the mappings of the function that is looked at may run at once.
	parallel int
	// counted are the mappings of the functions that count their events.
	counted []string
	// readers is how many mappings and groups are known to read the stream, or may.
	readers int
}

func (a *app) doctor(ctx context.Context, c *clients, f doctorFlags) error {
	x := &examination{app: a, c: c, doctorFlags: f}
	steps := []func(context.Context){x.describeEvents, x.checkStream, x.checkEvents, x.checkDestination, x.checkLeases, x.checkInbox,
		x.checkDeadLetters, x.checkFunctions, x.checkReaders, x.checkAlarms}
	bar := a.bar("looking", len(steps))
	for i, step := range steps {
		step(ctx)
		bar.set(i + 1)
		if errors.Is(ctx.Err(), context.Canceled) { // what --timeout cuts off is a finding
			bar.done()
			return ctx.Err()
		}
	}
	bar.done()
	grades := map[string]int{}
	for _, one := range x.findings {
		grades[one.Grade]++
	}
	wrong := grades[gradeProblem] > 0 || f.strict && grades[gradeWarning]+grades[gradeUnknown] > 0
	var err error
	if a.json() {
		err = a.printJSON(map[string]any{"findings": x.findings, "wrong": wrong})
	} else {
		x.print()
		fmt.Fprintf(a.out, "\n%d ok, %s, %d unknown, %s\n", grades[gradeOK], count(grades[gradeWarning], "warning"), grades[gradeUnknown], count(grades[gradeProblem], "problem"))
	}
	if err == nil && wrong {
		return errFound
	}
	return err
}

func (x *examination) print() {
	p := x.paint(x.out)
	paints := map[string]func(string) string{gradeOK: p.green, gradeWarning: p.yellow, gradeUnknown: p.yellow, gradeProblem: p.red}
	for _, f := range x.findings {
		fmt.Fprintf(x.out, "%s %s %s: %s\n", paints[f.Grade](fmt.Sprintf("%-8s", f.Grade)), f.Check, p.bold(printable(f.Resource)), printable(f.Finding))
		if f.Do != "" {
			fmt.Fprintf(x.out, "         %s %s\n", p.faint("do:"), printable(f.Do))
		}
	}
}

func (x *examination) add(grade, check, resource, found, do string) {
	x.findings = append(x.findings, finding{Grade: grade, Check: check, Resource: resource, Finding: found, Do: do})
}

// reconcile names the command that lists what a consumer lacks. Doctor does not know its name.
func (x *examination) reconcile() string {
	words := append([]string{"reconcile", "--table", x.table}, x.tablesBeside()...)
	if attributes := x.attributesFlag.String(); attributes != "" {
		words = append(words, "--attributes", attributes)
	}
	return x.named(append(words, "--consumer", "C")...)
}

// status names the command that looks at a group of workers.
func (x *examination) status() string {
	words := []string{"status", "--leases", x.leases, "--group", "G"}
	if !x.ofTable {
		words = append(words, "--stream", x.stream)
	}
	return x.named(words...)
}

// byCreate names the command that makes what is missing, in parentheses. It is empty where create makes something else: it knows only the usual
// attributes, and always makes a Kinesis stream.
func (x *examination) byCreate(more ...string) string {
	if x.ofTable || x.attributesFlag.String() != "" {
		return ""
	}
	words := append([]string{"create", "--table", x.table, "--stream", x.stream[strings.LastIndexByte(x.stream, '/')+1:]}, x.tablesBeside()...)
	if x.leasesGiven {
		words = append(words, "--leases="+x.leases)
	}
	return " (" + x.named(append(words, more...)...) + ")"
}

// tablesBeside are the flags of the tables that doctor, create and reconcile name alike.
func (x *examination) tablesBeside() (flags []string) {
	if x.inbox != "" {
		flags = append(flags, "--inbox", x.inbox)
	}
	if x.deadLetters != "" {
		flags = append(flags, "--dead-letters", x.deadLetters)
	}
	return flags
}

// silent makes a finding of an answer that lacks something. Nothing follows from what is not said.
func (x *examination) silent(check, resource, what string) {
	x.add(gradeUnknown, check, resource, "the answer does not say "+what, "look at it in the console of AWS, or at what answers in AWS's place")
}

// errEndless says that a list of AWS has no end.
var errEndless = errors.New("the list does not end")

// failed makes a finding of a call that failed: a permission that is missing is named, and a resource that is missing is a problem.
// grade is what it means that nothing is known.
func (x *examination) failed(grade, check, resource, action string, err error) {
	code := ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	switch {
	case strings.Contains(code, "AccessDenied") || code == "UnauthorizedOperation":
		x.add(grade, check, resource, action+" is refused", "allow "+action+" for whoever runs doctor, or look by other means")
	case code == "ResourceNotFoundException" || code == "TableNotFoundException":
		by := x.byCreate()
		if strings.HasPrefix(action, "lambda:") {
			by = "" // create makes no function
		}
		x.add(gradeProblem, check, resource, "it does not exist in "+x.where(), "create it"+by+", or correct the name or the Region")
	case errors.Is(err, errEndless):
		x.add(gradeUnknown, check, resource, action+": "+errEndless.Error(), "look by other means")
	case code == "UnknownOperationException": // a server that emulates AWS, and not all of it
		x.add(grade, check, resource, action+" is not available in "+x.where()+": "+api.ErrorMessage(), "look at AWS itself")
	default:
		x.add(grade, check, resource, action+" failed: "+x.explain(err), "")
	}
}
