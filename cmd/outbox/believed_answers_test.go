package main

import (
	"testing"
)

// believedAnswers has a row for each answer that looks well and is not: one that lacks something, one of another table or function, and an
// alarm that rings too late, or never.
func believedAnswers() []setup {
	return []setup{
		// Lists that are not in the answer.
		{"unknown|dead letters|no list of rows", scanned("dead", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|groups|no list of rows", scanned("leases", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|lifetime of rows|no list of rows", scanned("events", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|inbox memory|no list of rows", scanned("inbox", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|groups|a row without its group", scanned("leases", func(a map[string]any) { delete(in(a, "Items", 0), "group") })},
		{"unknown|groups|a row without its id", scanned("leases", func(a map[string]any) { delete(in(a, "Items", 0), "id") })},
	}
}

// scanned changes what a Scan of a table answers.
func scanned(table string, change func(answer map[string]any)) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("Scan", func(asked, a map[string]any) {
			if asked["TableName"] == table {
				change(a)
			}
		})
	}
}
