package integration

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var updateReadme = flag.Bool("update", false, "write the table of servers into README.md")

const (
	tableBegins = "<!-- made by go test -run TestReadme -update -->\n"
	tableEnds   = "<!-- end -->\n"
)

// README.md says about the servers what the lists in the code say.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), tableBegins)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, tableEnds)
	require.True(t, ok)
	want := before + tableBegins + serverTable(t) + tableEnds + after
	if *updateReadme {
		require.NoError(t, os.WriteFile("README.md", []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(text), "README.md is not what the code says: go test -run TestReadme -update")
}

func serverTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "The table has %d cases.\n\n| server | version | from | licence | offers | cases | known deviations |\n|---|---|---|---|---|---|---|\n", len(cases))
	row := func(name, version, from, licence string, s server) {
		offers, count := []string{}, 0
		for _, o := range s.offers {
			offers = append(offers, string(o))
		}
		for _, c := range cases {
			if s.offersAll(c.needs) {
				count++
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d | %d |\n", name, version, from, licence, strings.Join(offers, ", "), count, len(s.deviates))
	}
	row("outboxtest", "", "here", "Apache-2.0", server{offers: allServices})
	names := slices.Sorted(maps.Keys(foreign))
	for _, name := range names {
		p := foreign[name]
		row(name, p.version(t), p.from, p.licence, server{offers: p.offers, deviates: p.deviates})
	}
	for _, name := range names {
		fmt.Fprintf(&b, "\n### %s\n\n", name)
		d := foreign[name].deviates
		for _, c := range slices.Sorted(maps.Keys(d)) {
			fmt.Fprintf(&b, "- %s: *%s*\n", c, d[c].why)
		}
	}
	return b.String()
}

// version reads the version that the script installs.
func (p program) version(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.pin[0])
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), p.pin[1])
	require.Truef(t, ok, "%s has no %q", p.pin[0], p.pin[1])
	version, _, ok := strings.Cut(rest, p.pin[2])
	require.True(t, ok)
	return version
}
