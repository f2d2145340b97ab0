package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// everyCommand has, for each command, calls that ask AWS something. A command that is missing here fails the tests that go through all.
var everyCommand = map[string][]string{
	"create":       {"create --pitr --dead-letters dead-letters --inbox inbox"},
	"tail":         {"tail --from oldest --count 3", "tail --from oldest --for 2s", "tail --from oldest --for 2s --payload -o text"},
	"replay":       {"replay --id 1", "replay --type T --payload", "replay --from 100000h", "replay --type T --dry-run", "replay --type T --again --run r --dry-run", "replay --type T --again --run r --yes"},
	"status":       {"status --group g", "status --group g --max-lag 1m --dead-letters dead-letters"},
	"doctor":       {"doctor --dead-letters dead-letters --inbox inbox --function f"},
	"dead list":    {"dead list --consumer g", "dead list --consumer g --payload"},
	"dead show":    {"dead show --consumer g --payload 1"},
	"dead redrive": {"dead redrive --consumer g --all --dry-run", "dead redrive --consumer g --all --yes --no-wait", "dead redrive --consumer g --all --yes --wait 1ms"},
	"dead discard": {"dead discard --consumer g --id 1 --yes", "dead discard --consumer g --all --yes"},
}

// each calls try with the arguments of every call, and fails for a command that has none.
func each(t *testing.T, try func(t *testing.T, args []string)) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.HasSubCommands() {
			for _, sub := range c.Commands() {
				walk(sub)
			}
			return
		}
		name := strings.TrimPrefix(c.CommandPath(), "outbox ")
		require.NotEmpty(t, everyCommand[name], "everyCommand lacks %s", name)
		for _, args := range everyCommand[name] {
			t.Run(args, func(t *testing.T) { try(t, strings.Fields(args)) })
		}
	}
	walk(newApp(nil, nil, nil).command())
}
