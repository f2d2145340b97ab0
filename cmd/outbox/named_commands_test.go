package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// A command that is named can be typed, whatever the ids are.
func TestACommandIsQuotedForTheShell(t *testing.T) {
	a := &app{}
	require.Equal(t, `outbox order pass --consumer 'a b' 'it'\''s #1; rm' 2`, a.named("order", "pass", "--consumer", "a b", "it's #1; rm", "2"))
	require.Equal(t, `outbox dead discard --id a#b%231`, a.named("dead", "discard", "--id", "a#b%231"))
	require.Equal(t, `outbox order show ''`, a.named("order", "show", ""))
	require.Equal(t, `outbox dead discard --id '--x;curl evil|sh#1'`, a.named("dead", "discard", "--id", "--x;curl evil|sh#1"))
	f := &orderFlags{inbox: "i", consumer: "c", table: "t", aggregate: "-7", attributes: attributesFlag{map[string]string{"time": "at", "id": "a b"}}}
	require.Equal(t, `outbox order pass --inbox i --consumer c --table t --attributes 'id=a b,time=at' '--' '-7' 2`, a.namedOrder("pass", f, "2"))
	require.Equal(t, `outbox order forget --inbox i --consumer c --table t '--' '-7'`, a.namedOrder("forget", f))
	a.profile, a.region = "the shop", "eu-west-1"
	require.Equal(t, `outbox --profile 'the shop' --region eu-west-1 order show --inbox i --consumer c --table t --attributes 'id=a b,time=at' '--' '-7'`, a.namedOrder("show", f))
}

// What the flag writes it reads, whatever the names are.
func TestAttributesAreWrittenAsTheyAreRead(t *testing.T) {
	for _, names := range []map[string]string{nil, {"id": "pk"}, {"id": `a,"b"=c d`, "time": "at", "headers": "-"}} {
		var read attributesFlag
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		read.add(flags)
		if text := (&attributesFlag{names}).String(); text != "" {
			require.NoError(t, flags.Parse([]string{"--attributes", text}))
		}
		require.Equal(t, names, read.names)
	}
}

// A command that is named works as it is printed: it asks the same account, and knows the same attributes.
func TestANamedCommandAsksTheSameAWS(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--inbox", "inbox")
	w.tableWithAStream(t, "others") // whose key is pk
	for _, n := range []int64{2, 3} {
		row("others", rows.Item{"pk": rows.S(order.ID("account-7", n))})(t, w)
	}
	profiles := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(profiles, []byte("[profile shop]\naws_access_key_id = test\naws_secret_access_key = test\n"), 0o600))
	t.Setenv("AWS_CONFIG_FILE", profiles)
	t.Setenv("AWS_REGION", "")
	flags := []string{"--profile", "shop", "--region", "us-east-1", "--consumer", "balances", "--table", "others", "--attributes", "id=pk", "account-7"}
	text := w.ok(t, append([]string{"order", "show"}, flags...)...)
	require.Contains(t, text, "1 is missing, and the aggregate waits for it. If it never existed, or is gone: "+
		"outbox --profile shop --region us-east-1 order pass --inbox inbox --consumer balances --table others --attributes id=pk account-7 1\n")
	r := w.run(t, append([]string{"order", "pass", "--yes"}, append(flags, "3")...)...)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, w.ok(t, says(t, r.err)...), "behind it")
	require.Contains(t, w.ok(t, append(says(t, text), "--yes")...), "the position of account-7 is 1;")
}

// A run that was cut off names the command that goes on: it has every flag of the run.
func TestReconcileGoesOnWithTheFlagsItHad(t *testing.T) {
	given := map[string]string{"table": "others", "attributes": "id=pk", "inbox": "seen", "consumer": "mails", "dead-letters": "letters", "dead-letters-consumer": "posts", "type": "ORDER_PAID",
		"order": "true", "from": "2026-01-31T10:00:00Z", "since": "2026-02-01T10:00:00Z", "grace": "2h0m0s", "rate": "1500000.5", "limit": "3", "after": "order-1", "timeout": "5m0s"}
	read := func(words ...string) (*reconcileFlags, map[string]string) {
		a := newApp(nil, nil, nil)
		cmd, rest, err := a.command().Find(words)
		require.NoError(t, err)
		require.Equal(t, "reconcile", cmd.Name())
		var f reconcileFlags
		cmd.ResetFlags() // to those of f
		f.add(cmd.Flags())
		require.NoError(t, cmd.ParseFlags(rest))
		require.NoError(t, f.check(a))
		values := map[string]string{"timeout": a.timeout.String()}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { values[f.Name] = f.Value.String() })
		return &f, values
	}
	words := []string{"reconcile"}
	for name, value := range given {
		words = append(words, "--"+name+"="+value)
	}
	f, values := read(words...)
	for name := range values {
		require.Contains(t, given, name, "a flag that this test does not give")
	}
	_, again := read(strings.Fields(f.again("--after", "order-1"))[1:]...)
	require.Equal(t, values, again)

	f, _ = read("reconcile", "--consumer", "mails")
	require.Equal(t, "outbox reconcile --table events --inbox inbox --consumer mails --dead-letters dead-letters", f.again())
}

// What doctor says to do it names as it can be typed: with the tables it was given, and to the same AWS. What create would not make is no work of create.
func TestDoctorNamesCommandsThatCanBeTyped(t *testing.T) {
	x := &examination{app: &app{profile: "the shop", region: "eu-west-1"}, doctorFlags: doctorFlags{table: "old", stream: "arn:aws:kinesis:eu-west-1:111122223333:stream/changes", leases: "leases"}}
	const outbox = "outbox --profile 'the shop' --region eu-west-1 "
	require.Equal(t, outbox+"reconcile --table old --consumer C", x.reconcile())
	require.Equal(t, " ("+outbox+"create --table old --stream changes --pitr)", x.byCreate("--pitr"))
	require.Equal(t, outbox+"status --leases leases --group G --stream arn:aws:kinesis:eu-west-1:111122223333:stream/changes", x.status())
	x.inbox, x.deadLetters, x.leases, x.leasesGiven = "seen", "letters", "", true
	require.Equal(t, " ("+outbox+"create --table old --stream changes --inbox seen --dead-letters letters --leases=)", x.byCreate())
	x.attributesFlag = attributesFlag{map[string]string{"id": "a b"}}
	require.Equal(t, outbox+"reconcile --table old --inbox seen --dead-letters letters --attributes 'id=a b' --consumer C", x.reconcile())
	require.Empty(t, x.byCreate(), "create knows the usual attributes alone")
	x.attributesFlag, x.ofTable = attributesFlag{}, true
	require.Empty(t, x.byCreate(), "create would make a Kinesis stream")
	require.Equal(t, outbox+"status --leases '' --group G", x.status())

	x.ofTable = false
	x.failed(gradeUnknown, "function", "mailer", "lambda:GetFunctionConcurrency", &smithy.GenericAPIError{Code: "ResourceNotFoundException"})
	require.Equal(t, "create it, or correct the name or the Region", x.findings[0].Do, "create makes no function")
	x.failed(gradeUnknown, "inbox table", "seen", "dynamodb:DescribeTable", &smithy.GenericAPIError{Code: "ResourceNotFoundException"})
	require.Contains(t, x.findings[1].Do, outbox+"create")

	k := &creator{app: x.app, f: createFlags{table: "old", inbox: "seen", deadLetters: "letters"}}
	require.Equal(t, outbox+"reconcile --table old --consumer C --inbox seen --dead-letters letters", k.reconcile())

	// No finding names a command otherwise.
	files, err := filepath.Glob("checks_*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NotRegexp(t, `"[^"\n]*outbox (create|reconcile|status|dead|replay|order) `, string(text), file)
		require.NotRegexp(t, `\(outbox `, string(text), file)
	}
}
