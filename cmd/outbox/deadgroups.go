package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
)

// errorGroup are the dead letters whose errors say the same, but for ids and numbers.
type errorGroup struct {
	Error   string    `json:"error"` // with * in the place of ids and numbers
	Letters int       `json:"letters"`
	Types   []string  `json:"types,omitempty"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`
	// Example is the id of the oldest letter, and ExampleError its error as it is.
	Example      string `json:"example"`
	ExampleError string `json:"exampleError,omitempty"`

	types map[string]bool
}

// What differs between two errors of one cause: addresses of mail, numbers, and names with a digit in them, such as UUIDs and ULIDs.
var varying = regexp.MustCompile(`[^\s\x00-\x1f"'<>(),;]+@[0-9A-Za-z.-]+|[0-9A-Za-z_.:@/-]*[0-9][0-9A-Za-z_.:@/-]*`)

// Texts for letters that have no error of their own, and for those beyond mostGroups.
const (
	parkedText = "(waits behind another)"
	otherText  = "(other errors)"
	mostGroups = 1000
)

// sameError is the text that letters of one cause have in common.
func sameError(l outbox.DeadLetter) string {
	if l.Parked {
		return parkedText
	}
	text := l.Error
	for _, own := range []string{l.Record.ID, l.Record.AggregateID} {
		if len(own) > 2 { // a shorter one is part of words
			text = strings.ReplaceAll(text, own, "*")
		}
	}
	return varying.ReplaceAllString(text, "*")
}

// deadByError lists dead letters in groups, the largest first.
func (a *app) deadByError(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags) error {
	groups, n := map[string]*errorGroup{}, 0
	for l, err := range table.List(ctx, f.filter) {
		if err != nil {
			return err
		}
		n++
		text := sameError(l)
		if groups[text] == nil && len(groups) >= mostGroups {
			text = otherText
		}
		g := groups[text]
		if g == nil {
			g = &errorGroup{Error: text, Oldest: l.StoredAt, Newest: l.StoredAt, Example: l.ID, ExampleError: l.Error, types: map[string]bool{}}
			groups[text] = g
		}
		if g.Letters++; l.Record.Type != "" {
			g.types[l.Record.Type] = true
		}
		if l.StoredAt.Before(g.Oldest) {
			g.Oldest, g.Example, g.ExampleError = l.StoredAt, l.ID, l.Error
		}
		if l.StoredAt.After(g.Newest) {
			g.Newest = l.StoredAt
		}
	}
	sorted := slices.SortedFunc(maps.Values(groups), func(a, b *errorGroup) int {
		return cmp.Or(b.Letters-a.Letters, cmp.Compare(a.Error, b.Error))
	})
	lines := json.NewEncoder(a.out)
	lines.SetEscapeHTML(false)
	rows := [][]string{{"LETTERS", "OLDEST", "NEWEST", "TYPES", "EXAMPLE", "ERROR"}}
	for _, g := range sorted {
		g.Types = slices.Sorted(maps.Keys(g.types))
		if a.json() {
			if err := lines.Encode(g); err != nil {
				return err
			}
		}
		rows = append(rows, []string{fmt.Sprint(g.Letters), g.Oldest.UTC().Format(time.RFC3339), g.Newest.UTC().Format(time.RFC3339),
			firstOf(strings.Join(g.Types, ","), 40), g.Example, firstOf(g.Error, 120)})
	}
	if !a.json() {
		if len(sorted) > 0 {
			if err := a.columns(rows); err != nil {
				return err
			}
		}
		fmt.Fprintf(a.out, "%s in %s\n", count(n, "dead letter"), count(len(sorted), "group"))
	}
	a.noteNoLetters(n, f)
	return nil
}

// consumerJSON is a consumer that a dead letter table knows.
type consumerJSON struct {
	Consumer string `json:"consumer"`
	Letters  int    `json:"letters"`
}

func (a *app) deadConsumersCommand() *cobra.Command {
	var table string
	cmd := &cobra.Command{
		Use: "consumers", Short: "List the consumers that a dead letter table knows",
		Long: `consumers reads the keys of the table, and lists each consumer with the number of its
dead letters. It reads 20 MB at most, and says if that was not all.`,
		Example: `  outbox dead consumers
  outbox dead consumers --table orders-dead-letters -o json | jq -r .consumer`,
		Args: cobra.NoArgs,
		RunE: a.action(func() error {
			a.lists = true
			if table == "" {
				return errors.New("--table must not be empty")
			}
			return checkNames(tableFlag("table", table))
		}, func(ctx context.Context, c *clients) error { return a.deadConsumers(ctx, c, table) }),
	}
	cmd.Flags().StringVar(&table, "table", "dead-letters", "dead letter table")
	return cmd
}

func (a *app) deadConsumers(ctx context.Context, c *clients, table string) error {
	letters, all, err := knownConsumers(ctx, c.dynamodb, table)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(a.out)
	lines.SetEscapeHTML(false)
	rows := [][]string{{"CONSUMER", "LETTERS"}}
	for _, consumer := range slices.Sorted(maps.Keys(letters)) {
		if a.json() {
			if err := lines.Encode(consumerJSON{consumer, letters[consumer]}); err != nil {
				return err
			}
		}
		rows = append(rows, []string{consumer, fmt.Sprint(letters[consumer])})
	}
	switch {
	case len(letters) == 0:
		a.note("table %s knows no consumer: no event has become a dead letter, or all are gone", table)
	case !a.json():
		if err := a.columns(rows); err != nil {
			return err
		}
	}
	if !all {
		a.note("table %s has more rows than were read: there may be other consumers, and more letters", table)
	}
	return nil
}
