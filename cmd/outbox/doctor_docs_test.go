package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of docs/cli.md has each runbook and each marked metric of docs/operating.md, and the checks that there are.
func TestTheChecksOfDoctorAreThoseOfTheDocs(t *testing.T) {
	page, err := os.ReadFile(docs)
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "\n## What doctor sees\n")
	require.True(t, ok)
	section, _, ok = strings.Cut(section, "\n## ")
	require.True(t, ok)
	named, metrics := map[string]bool{}, map[string]bool{}
	lines := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || strings.HasPrefix(cells[1], "---") {
			continue
		}
		lines++
		require.NotEmpty(t, strings.TrimSpace(cells[2]+cells[3]), "it says neither what is checked nor what cannot be seen: %s", line)
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[2], -1) {
			if strings.ToLower(name[1]) == name[1] {
				named[name[1]] = true
			} else {
				metrics[name[1]] = true
			}
		}
	}
	require.Greater(t, lines, 10)

	checks := map[string]bool{"view": true, "readers": true} // of a table's own stream; without functions and groups
	for _, f := range decode[doctorJSON](t, healthy(t).ok(t, everything...)).Findings {
		checks[f.Check] = true
	}
	for _, s := range brokenSetups() {
		checks[strings.Split(s.want, "|")[1]] = true
	}
	require.Equal(t, checks, named, "the checks, and those of the table")

	operating, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	alarms, rest, ok := strings.Cut(string(operating), "\n## Hooks and logs\n")
	require.True(t, ok)
	marked := map[string]bool{}
	for _, m := range regexp.MustCompile("`([A-Za-z.]+)` [†‡]").FindAllStringSubmatch(alarms, -1) {
		marked[m[1]] = true
	}
	require.Equal(t, marked, metrics, "the marked metrics, and those of the table")

	_, runbooks, ok := strings.Cut(rest, "\n## Runbooks\n")
	require.True(t, ok)
	runbooks, _, ok = strings.Cut(runbooks, "\n## ")
	require.True(t, ok)
	titles := regexp.MustCompile("(?m)^### (.+)$").FindAllStringSubmatch(runbooks, -1)
	require.NotEmpty(t, titles)
	for _, title := range titles {
		require.Contains(t, section, "(operating.md#"+strings.ReplaceAll(strings.ToLower(title[1]), " ", "-")+")")
	}
}
