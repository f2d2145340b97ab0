package main

import (
	"fmt"
	"unicode/utf8"

	"github.com/seed-1b628d3f/outbox/internal/names"
)

// named is a flag that names a table or a stream.
type named struct {
	flag, value string
	check       func(string) error
}

// checkNames refuses what AWS would refuse, before the first call. A flag that is empty names nothing.
func checkNames(flags ...named) error {
	for _, f := range flags {
		if f.value == "" {
			continue
		}
		if err := f.check(f.value); err != nil {
			return fmt.Errorf("--%s: %w", f.flag, err)
		}
	}
	return nil
}

// keyFlag is a flag whose value is looked for as a key.
func keyFlag(flag, value string) named { return named{flag, value, checkKey} }

// checkKey refuses what no key can be: another one would be looked for in its place, or none.
func checkKey(value string) error {
	switch {
	case !utf8.ValidString(value):
		return fmt.Errorf("want text in UTF-8, have %q", value)
	case len(value) > keyBytes:
		return fmt.Errorf("want at most %d bytes, as DynamoDB's keys have, have %d", keyBytes, len(value))
	}
	return nil
}

// keyBytes is the longest partition key of DynamoDB.
const keyBytes = 2048

func tableFlag(flag, value string) named { return named{flag, value, names.Table} }
