package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// everyCommand has, for each command, calls that ask AWS something, in an order in which each finds something. A command that is missing here
// fails the tests that go through all.
var everyCommand = []struct {
	name  string
	calls []string
}{
	{"create", []string{"create --pitr --dead-letters dead-letters --inbox inbox --yes"}},
	{"tail", []string{"tail --from oldest --count 3", "tail --from oldest --for 500ms", "tail --from oldest --for 500ms --payload"}},
	{"replay", []string{"replay --id order-1-000", "replay --type ORDER_CREATED --payload", "replay --from 100000h", "replay --type ORDER_CREATED --dry-run",
		"replay --type ORDER_CREATED --again --run r --dry-run", "replay --type ORDER_CREATED --again --run r --yes"}},
	{"status", []string{"status --group confirmations", "status --group confirmations --max-lag 1m --dead-letters dead-letters"}},
	{"doctor", []string{"doctor --dead-letters dead-letters --inbox inbox --function f"}},
	{"checkpoint move", []string{"checkpoint move --group confirmations --all --from oldest --yes"}},
	{"dead consumers", []string{"dead consumers"}},
	{"dead list", []string{"dead list --consumer confirmations", "dead list --consumer confirmations --payload", "dead list --consumer confirmations --by-error"}},
	{"dead show", []string{"dead show --consumer confirmations --payload order-2-000", "dead show --consumer confirmations nothing"}},
	{"dead redrive", []string{"dead redrive --consumer confirmations --all --dry-run", "dead redrive --consumer confirmations --all --yes --no-wait",
		"dead redrive --consumer confirmations --all --yes --wait 1ms"}},
	{"order show", []string{"order show --consumer confirmations order-1", "order show --consumer confirmations --dead-letters dead-letters order-2"}},
	{"order pass", []string{"order pass --consumer confirmations --yes order-1 1"}},
	{"reconcile", []string{"reconcile --consumer confirmations --dead-letters= --order", "reconcile --consumer confirmations", "reconcile --consumer confirmation"}},
	{"order forget", []string{"order forget --consumer confirmations --yes order-1"}},
	{"dead discard", []string{"dead discard --consumer confirmations --id order-2#order-2-001 --yes", "dead discard --consumer confirmations --all --yes"}},
}

// each calls try with the arguments of every call, and fails for a command that has none.
func each(t *testing.T, try func(t *testing.T, args []string)) {
	missing := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.HasSubCommands() {
			missing[strings.TrimPrefix(c.CommandPath(), "outbox ")] = true
		}
	}
	for _, c := range newApp(nil, nil, nil).command().Commands() {
		if c.Name() != "completion" && c.Name() != "help" { // which ask nothing
			walk(c)
		}
	}
	for _, command := range everyCommand {
		delete(missing, command.name)
	}
	require.Empty(t, missing, "everyCommand lacks these")
	for _, command := range everyCommand {
		for _, call := range command.calls {
			t.Run(call, func(t *testing.T) { try(t, strings.Fields(call)) })
		}
	}
}
