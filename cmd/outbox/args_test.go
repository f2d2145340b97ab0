package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Arguments that are wrong are refused by every command before anything is asked of AWS, in one line that says what is wanted, also with
// --output json.
func TestWrongArguments(t *testing.T) {
	w := newWorld(t)
	w.refuse() // nothing is there either
	long := strings.Repeat("x", 3000)
	for args, want := range map[string]string{
		"":                                          "a command is missing: see outbox --help",
		"frobnicate":                                `unknown command "frobnicate"`,
		"--output":                                  "flag needs an argument",
		"create extra":                              `unknown command "extra" for "outbox create"`,
		"create --output yaml":                      `--output: want text or json, have "yaml"`,
		"create --bogus":                            "unknown flag: --bogus",
		"create --shards 0":                         "--shards: want 1 to 10000, have 0",
		"create --shards many":                      `invalid argument "many"`,
		"create --retention 1h":                     "--retention: want full hours from 24h to 8760h, have 1h",
		"create --retention 24h1m":                  "--retention: want full hours",
		"create --table=":                           "--table and --stream must not be empty",
		"create --index sequence":                   `--index: want aggregate or type, have "sequence"`,
		"create --leases events":                    `two tables are both named "events"`,
		"create --timeout 0s":                       "--timeout: want more than 0",
		"create --wait 0s":                          "--wait: want more than 0",
		"tail --from yesterday":                     `--from: "yesterday" is no time: want RFC 3339`,
		"status --stream s":                         "--stream, --wait and --silent-shards are for --group",
		"status --wait 1s":                          "are for --group",
		"status --silent-shards":                    "are for --group",
		"status --group g --consumer c":             "--consumer is for --dead-letters",
		"replay --type T --again --run a --payload": "--payload is for a list of events",
		"replay --type T --dry-run --payload":       "--payload is for a list of events",
		"dead redrive --consumer c --all --no-wait --wait 1s": "--wait has no meaning with --no-wait and --dry-run",
		"dead redrive --consumer c --all --dry-run --wait 1s": "--wait has no meaning",
		"tail --from 2100-01-01":                              "--from: 2100-01-01T00:00:00Z is in the future",
		"tail --from -1h":                                     `--from: "-1h" is no time`,
		"tail --count -1":                                     "--for and --count: want 0 or more",
		"tail --stream=":                                      "--stream must not be empty",
		"replay":                                              "which events? Give --id, or any of --aggregate, --type, --from and --to",
		"replay --id 1 --type T":                              "--id stands alone",
		"replay --type T --from 2026-02-01 --to 2026-01-01":   "--from (2026-02-01T00:00:00Z) must be before --to (2026-01-01T00:00:00Z)",
		"replay --type T --to 31.1.2026":                      `--to: "31.1.2026" is no time`,
		"replay --type T --again":                             "--again needs --run",
		"replay --type T --again --run a/b":                   "--again needs --run",
		"replay --type T --run a":                             "--run, --rate, --ttl, --skip-unreadable, --skip-uncopyable and --yes are for --again",
		"replay --type T --again --run a --rate -1":           "--rate: want 0 or more",
		"replay --type T --again --run a --ttl 1h":            "--ttl: want at least 24h",
		"replay --type T --max 0":                             "--max: want 1 or more",
		"replay --type T --table=":                            "--table must not be empty",
		"status --max-lag 1m":                                 "--group is missing",
		"status --group=":                                     "--group is empty: leave it out, or give it a value",
		"status --group g --wait 2m":                          "--wait 2m0s needs a --timeout above it: have 1m0s",
		"status --group g --wait 30s --timeout 30s":           "--wait 30s needs a --timeout above it: have 30s",
		"status --group g --dead-letters dead --consumer a#b": "a consumer's name has 1 to 255 bytes of UTF-8 and no '#'",
		"status --group g --wait 0s":                          "--wait: want more than 0",
		"status --group g --leases=":                          "--stream and --leases must not be empty",
		"status --group g --max-lag -1s":                      "--max-lag: want 0 or more",
		"doctor --stream=":                                    "--table and --stream must not be empty",
		"doctor --ttl -1s":                                    "--ttl: want 0 or more",

		"create --stream arn:aws:kinesis:us-east-1:123456789012:stream/events": "--stream: \"arn:aws:kinesis:us-east-1:123456789012:stream/events\" is the ARN of a Kinesis stream: want the name of",
		"help frobnicate":       `unknown command "frobnicate": see outbox --help`,
		"completion":            "for which shell? bash, fish, powershell or zsh",
		"completion tcsh":       `unknown command "tcsh" for "outbox completion"`,
		"version":               `unknown command "version" for "outbox"`,
		"stauts":                `unknown command "stauts" for "outbox"; Did you mean this?; status`,
		"--timeout 0s tail":     "--timeout: want more than 0, have 0s",
		"tail --timeout 10":     `invalid argument "10" for "--timeout"`,
		"tail --region EU_West": `--region: want the name of a Region as eu-west-1, have "EU_West"`,
		"tail --profile nobody": "--profile: failed to get shared config profile, nobody",
		"tail --for -1s":        "--for and --count: want 0 or more",

		"status --group g --watch 10ms":                               "--watch: want 1s or more, have 10ms",
		"status --group " + long:                                      "group",
		"status --group g --dead-letters=":                            "--dead-letters is empty: leave it out, or give it a value",
		"dead":                                                        "a command is missing: consumers, list, show, redrive or discard",
		"dead frobnicate":                                             `unknown command "frobnicate" for "outbox dead"`,
		"dead list":                                                   "--consumer is missing",
		"dead list extra":                                             `unknown command "extra"`,
		"dead list --consumer " + long:                                "--consumer: want at most 2048 bytes",
		"dead list --consumer c --id \xff":                            `--id: want text in UTF-8, have "\xff"`,
		"dead show --consumer c":                                      "want one id, as dead list shows it",
		"dead show --consumer c 1 2":                                  "want one id",
		"dead show --consumer c " + long:                              "want at most 2048 bytes, as DynamoDB's keys have, have 3000",
		"dead redrive --consumer c":                                   "which dead letters?",
		"dead redrive --consumer c --type=":                           "--type is empty: leave it out",
		"dead redrive --consumer c --all --id 1":                      "which dead letters?",
		"dead redrive --consumer c --all --wait 1":                    `invalid argument "1" for "--wait"`,
		"dead redrive --consumer c --all --wait -1s":                  "--wait: want 0 or more",
		"dead redrive --consumer c --all --no-wait --dry-run":         "--dry-run and --no-wait exclude each other",
		"dead discard --consumer c --type T --aggregate=":             "--aggregate is empty: leave it out",
		"dead discard --consumer c --stored-after yesterday":          `--stored-after: "yesterday" is no time`,
		"dead list --consumer c --stored-after 1h --stored-before 2h": "must be before --stored-before",
		"dead list --consumer c --inbox i":                            `--inbox: "i": want a DynamoDB table by name`,
		"dead list --consumer c --by-error --inbox inbox":             "--by-error goes with neither --payload nor --inbox",
		"dead discard --consumer c --all --inbox-consumer d":          "--inbox-consumer is for --inbox",
		"dead discard --consumer c --all --inbox=":                    "--inbox is empty: leave it out",

		"reconcile":                               "--consumer is missing: the name that the inbox was given (NewInbox)",
		"reconcile extra":                         `unknown command "extra"`,
		"reconcile --consumer a#b":                "--consumer: the name of an inbox's consumer must be UTF-8",
		"reconcile --consumer c --inbox=":         "--table and --inbox must not be empty",
		"reconcile --consumer c --table=":         "--table and --inbox must not be empty",
		"reconcile --consumer c --table i":        `--table: "i": want a DynamoDB table by name`,
		"reconcile --consumer c --dead-letters i": `--dead-letters: "i": want a DynamoDB table by name`,
		"reconcile --consumer c --dead-letters= --dead-letters-consumer d": "--dead-letters-consumer is for --dead-letters",
		"reconcile --consumer c --dead-letters-consumer a#b":               "a consumer's name has 1 to 255 bytes",
		"reconcile --consumer c --from 2026-01-31":                         "--from is for --order",
		"reconcile --consumer c --order --from 2026-01-31T10:00:00.5Z":     "want a whole second, and a constant",
		"reconcile --consumer c --order --from 2100-01-01":                 "want a time that is not in the future",
		"reconcile --consumer c --order --from yesterday":                  `--from: "yesterday" is no time`,
		"reconcile --consumer c --order --attributes sequence=-":           "it needs the attribute Sequence",
		"reconcile --consumer c --attributes time=-":                       "--attributes: without the time of an event nobody can tell whether it is on its way",
		"reconcile --consumer c --attributes x=y":                          `--attributes: there is no "x"`,
		"reconcile --consumer c --since yesterday":                         `--since: "yesterday" is no time`,
		"reconcile --consumer c --since 2100-01-01":                        "--since: 2100-01-01T00:00:00Z is in the future",
		"reconcile --consumer c --since=":                                  "--since is empty",
		"reconcile --consumer c --type A --type=":                          "--type is empty",
		"reconcile --consumer c --type " + long:                            "--type: want at most 2048 bytes",
		"reconcile --consumer c --grace 0s":                                "--grace: want more than 0, have 0s",
		"reconcile --consumer c --rate 0.5":                                "--rate: want 1 or more, or 0 for no limit, have 0.5",
		"reconcile --consumer c --rate NaN":                                "--rate: want 1 or more",
		"reconcile --consumer c --limit -1":                                "--limit: want 0 to 10000, have -1",
		"reconcile --consumer c --limit 10001":                             "--limit: want 0 to 10000, have 10001",
		"reconcile --consumer c --after=":                                  "--after is empty",
		"reconcile --consumer c --after " + long:                           "--after: want at most 2048 bytes",

		"order":                                              "a command is missing: show, pass or forget",
		"order show":                                         "want the id of one aggregate",
		"order show --consumer c 1 2":                        "want the id of one aggregate",
		"order show a":                                       "--consumer is missing: the name that the inbox was given (NewInbox)",
		"order show a --consumer a#b":                        "--consumer: the name of an inbox's consumer must be UTF-8",
		"order show a --consumer c --inbox=":                 "--inbox and --table must not be empty",
		"order show a --consumer c --table i":                `--table: "i": want a DynamoDB table by name`,
		"order show a --consumer c --attributes x=y":         `--attributes: there is no "x"`,
		"order show --consumer c " + long:                    "has 1 to 2028 bytes, this one 3000",
		"order show --consumer c \xff":                       "want text in UTF-8",
		"order pass --consumer c a":                          "want the id of an aggregate, and a sequence",
		"order pass --consumer c a b":                        `"b" is no sequence: want a number from 1 on`,
		"order pass --consumer c a 0":                        `"0" is no sequence: want a number from 1 on`,
		"order forget --consumer c":                          "want the id of one aggregate",
		"replay --type T --aggregate= --again --run r --yes": "--aggregate is empty: leave it out",
		"replay --aggregate " + long:                         "--aggregate: want at most 2048 bytes",
		"replay --id \xff":                                   "--id: want text in UTF-8",
		"doctor --function=":                                 "--function is empty",
		"tail --type=":                                       "--type is empty",

		"create --inbox ib":        `--inbox: "ib": want a DynamoDB table by name`,
		"doctor --table my/table":  `--table: "my/table": want a DynamoDB table by name`,
		"doctor --dead-letters dl": `--dead-letters: "dl": want a DynamoDB table`,
		"tail --stream arn:aws:dynamodb:us-east-1:123456789012:table/events":                        "is the ARN of a DynamoDB table: want a Kinesis stream by name",
		"tail --stream arn:aws:kinesis:us-east-1:123456789012:stream/events/consumer/c:1":           "is the ARN of an enhanced fan-out consumer",
		"status --group g --leases no/table":                                                        `--leases: "no/table": want a DynamoDB table`,
		"status --group g --stream arn:aws:sqs:us-east-1:123456789012:events":                       "is the ARN of the service sqs: want a Kinesis stream",
		"replay --type T --table arn:aws:dynamodb:us-east-1:123456789012:table/events/index/byType": "is the ARN of an index: want a DynamoDB table",
	} {
		r := w.run(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Empty(t, r.out, args)
		require.True(t, strings.HasPrefix(r.err, "outbox: "), r.err)
		require.Contains(t, r.err, want, args)
		require.Equal(t, 1, strings.Count(r.err, "\n"), "one line: %s", r.err)
		require.Empty(t, w.calls, args)
		if !strings.Contains(args, "--output") {
			r = w.run(t, append(strings.Fields(args), "-o", "json")...)
			require.Equal(t, exitUsage, r.code, args)
			require.Empty(t, r.out, args)
		}
	}
}

func TestHelpListsTheExitCodes(t *testing.T) {
	w := newWorld(t)
	help := w.ok(t, "--help")
	for _, want := range []string{"create", "doctor", "replay", "status", "tail", "  3    not confirmed", "  130  interrupted", "AWS_ENDPOINT_URL", "NO_COLOR"} {
		require.Contains(t, help, want)
	}
	for _, command := range []string{"create", "doctor", "replay", "status", "tail"} {
		require.Contains(t, w.ok(t, command, "--help"), "Examples:\n  outbox "+command)
	}
	require.Contains(t, w.ok(t, "--version"), "outbox version ")
	require.Contains(t, w.ok(t, "completion", "bash"), "bash completion")
}

// What is missing in the configuration is said, and nothing is traced.
func TestConfigurationThatIsMissing(t *testing.T) {
	w := newWorld(t)
	t.Setenv("AWS_REGION", "")
	require.Equal(t, result{exitFailed, "", "outbox: no AWS region is configured: set AWS_REGION, or give --region\n"}, w.run(t, "status", "--group", "g"))
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	require.Equal(t, result{exitFailed, "", "outbox: no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in (aws sso login)\n"},
		w.run(t, "status", "--group", "g"))
	t.Setenv("AWS_PROFILE", "nobody")
	r := w.run(t, "status", "--group", "g")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "outbox: the AWS configuration: failed to get shared config profile, nobody")
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	r = w.run(t, "replay", "--id", "1")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "connection refused")
}

func TestAnInterruptedCommand(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range []string{"doctor", "create", "status --group g", "replay --type T", "replay --type T --again --run r --yes", "reconcile --consumer c", "tail"} {
		r := w.runWith(ctx, strings.Fields(args)...)
		require.Equal(t, result{exitInterrupted, r.out, "outbox: interrupted\n"}, r, args)
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	a := &app{now: func() time.Time { return now }}
	for text, want := range map[string]time.Time{
		"": {}, "2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05.678+01:00": time.Date(2026, 1, 2, 2, 4, 5, 678e6, time.UTC),
		"2026-01-02": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "2026-01-02T03:04": time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		"90m": now.Add(-90 * time.Minute), "3d": now.Add(-72 * time.Hour), "0s": now,
	} {
		got, err := a.moment("from", text)
		require.NoError(t, err, text)
		require.True(t, want.Equal(got), "%s: %s", text, got)
	}
	for _, text := range []string{"d", "-3d", "3x", "2026-13-01", "now"} {
		_, err := a.moment("from", text)
		require.ErrorContains(t, err, "--from: ", text)
	}
}

func TestAges(t *testing.T) {
	for want, d := range map[string]time.Duration{"0s": 0, "15ms": 15 * time.Millisecond, "4m12s": 4*time.Minute + 12*time.Second + 300*time.Millisecond, "26h5m": 26*time.Hour + 5*time.Minute + 2*time.Second, "72h0m": 72 * time.Hour} {
		require.Equal(t, want, age(d))
	}
}

func TestErrorsThatAreNotOfAWSStayAsTheyAre(t *testing.T) {
	a := newApp(nil, nil, nil)
	require.Equal(t, "plain", a.explain(errors.New("plain")))
	require.Empty(t, a.explain(nil))
	require.Empty(t, a.explain(errFound))
	require.Equal(t, "no Region", a.where())
}
