package main

import (
	"fmt"

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

func tableFlag(flag, value string) named { return named{flag, value, names.Table} }
