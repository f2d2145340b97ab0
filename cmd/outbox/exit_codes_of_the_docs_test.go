package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each command that the docs name at exit code 1 is named by the help, too.
func TestTheHelpHasTheExitCodesOfTheDocs(t *testing.T) {
	page, err := os.ReadFile(docs)
	require.NoError(t, err)
	row := regexp.MustCompile(`(?m)^\| 1 \| it failed, .*$`).FindString(string(page))
	commands := regexp.MustCompile("`([a-z ]+)`").FindAllStringSubmatch(row, -1)
	require.GreaterOrEqual(t, len(commands), 4, row)
	help := newWorld(t).ok(t, "--help")
	for _, command := range commands {
		require.Contains(t, help, "("+command[1]+")")
	}
}
