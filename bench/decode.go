package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
)

func decode(data []byte) {
	if _, err := outbox.DecodeRecord(data); err != nil {
		panic(err)
	}
}

func skip(data []byte) {
	if _, err := outbox.DecodeRecord(data); !errors.Is(err, outbox.ErrNotEvent) {
		panic(err)
	}
}

func valid(data []byte) {
	if !json.Valid(data) {
		panic("not JSON")
	}
}

// scan passes over the text and checks it, and does nothing else.
func scan(data []byte) {
	c := jsonscan.New(data)
	if c.Value() == nil {
		panic(c.Err())
	}
}

// decodeRows is about single records.
func decodeRows() []row {
	record := insert(1000)
	rows := []row{{
		group: "Decode", name: "DecodeRecord with payload bytes, 1 KB", target: "1.8 × json.Valid's speed, 2 allocs",
		sides: []side{{"decode", 1, func() { decode(record) }}, {"valid", 1, func() { valid(record) }}},
		judge: func(r results) (string, bool) {
			ratio, allocs := r.ratio("valid", "decode"), r.get("decode").allocs
			return fmt.Sprintf("%.1f ×, %.0f allocs (%s)", ratio, allocs, duration(r.ns("decode"))), ratio >= 1.8 && allocs < 2.5
		},
	}}
	for _, size := range sizes {
		removed := change("REMOVE", "01J1A2B3C4D5E6F7G8H9JKMNPQ", must(json.Marshal(newOrder(size.bytes))))
		target, least := "under 0.5 µs, no alloc", 0.0
		if size.bytes == 4000 {
			target, least = "50 × json.Valid's speed, "+target, 50
		}
		rows = append(rows, row{
			group: "Decode", name: "skip of a REMOVE, " + size.name, target: target,
			sides: []side{{"skip", 1, func() { skip(removed) }}, {"valid", 1, func() { valid(removed) }}},
			judge: func(r results) (string, bool) {
				ratio, ns, allocs := r.ratio("valid", "skip"), r.ns("skip"), r.get("skip").allocs
				return fmt.Sprintf("%.0f ×, %s, %.0f allocs", ratio, duration(ns), allocs), ratio >= least && ns < 500 && allocs < 0.5
			},
		})
	}
	return rows
}

// sideBySideRows holds DecodeRecord against other ways to the same result, and against what only passes over the text.
func sideBySideRows() []row {
	var rows []row
	for _, size := range sizes {
		data := insert(size.bytes)
		way := func(name string, f func()) row {
			return row{
				group: "A change record to its event row, " + size.name, name: name,
				sides: []side{{"other", 1, f}, {"decode", 1, func() { decode(data) }}},
				judge: func(r results) (string, bool) {
					other := r.get("other")
					return fmt.Sprintf("%.1f × the time of DecodeRecord (%s, %.0f allocs)", r.ratio("other", "decode"), duration(r.ns("other")), other.allocs), true
				},
			}
		}
		rows = append(rows,
			way("DecodeRecord", func() { decode(data) }),
			way("aws-lambda-go, by hand, attributevalue", func() { must(today(data)) }),
			way("attributevalue.UnmarshalMapJSON", func() { must(mapJSON(data)) }),
			way("encoding/json into mirror structs", func() { must(mirror(data)) }),
			way("floor: json.Valid", func() { valid(data) }),
			way("floor: passing over it", func() { scan(data) }),
		)
	}
	return rows
}
