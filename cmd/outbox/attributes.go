package main

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-1b628d3f/outbox"
)

// attributesFlag is --attributes, which says what WithAttributes says in the service.
type attributesFlag struct{ names map[string]string }

func (f *attributesFlag) add(flags *pflag.FlagSet) {
	flags.StringToStringVar(&f.names, "attributes", nil, `names that the events table has for attributes (WithAttributes), as in id=orderId,time=createdAt,headers=-; "-": it has none`)
}

// String returns what the flag was given, or nothing.
func (f *attributesFlag) String() string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(f.names)) {
		pairs = append(pairs, name+"="+f.names[name])
	}
	if len(pairs) == 0 {
		return ""
	}
	var line strings.Builder
	w := csv.NewWriter(&line) // as pflag reads it
	_ = w.Write(pairs)        // to memory
	w.Flush()
	return strings.TrimSuffix(line.String(), "\n")
}

// read returns the attributes, with the usual names for those that the flag leaves out.
func (f *attributesFlag) read() (outbox.Attributes, error) {
	a := outbox.DefaultAttributes()
	fields := map[string]*string{"id": &a.ID, "type": &a.Type, "time": &a.Time, "aggregateId": &a.AggregateID, "sequence": &a.Sequence,
		"payload": &a.Payload, "contentType": &a.ContentType, "headers": &a.Headers, "expiresAt": &a.ExpiresAt}
	for _, name := range slices.Sorted(maps.Keys(f.names)) {
		field := fields[name]
		if field == nil {
			return a, fmt.Errorf("--attributes: there is no %q: want %s", name, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if *field = f.names[name]; *field == "" {
			return a, fmt.Errorf("--attributes: %s has no name: give one, or leave it out; - is for a table without it", name)
		}
	}
	if _, err := outbox.NewConsumer(outbox.WithAttributes(a)); err != nil {
		return a, fmt.Errorf("--attributes: %w", err)
	}
	return a, nil
}
