package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// A pattern is compared with the record of an event: of what differs from event to event nobody knows whether it matches.
func TestWhatAFilterLetsThrough(t *testing.T) {
	x := &examination{doctorFlags: doctorFlags{table: "events", attributes: outbox.DefaultAttributes()}}
	for pattern, want := range map[string]match{
		`{}`:                                always,
		`{"data":{"eventName":["INSERT"]}}`: always,
		`{"data":{"eventName":["REMOVE"]}}`: never,
		`{"data":{"eventName":["REMOVE","INSERT"],"tableName":["events"]}}`:    always,
		`{"data":{"eventName":["INSERT"],"tableName":["orders"]}}`:             never,
		`{"data":{"eventName":"INSERT"}}`:                                      never, // no list
		`{"data":{"eventName":[]}}`:                                            never,
		`{"data":{"eventName":[{"prefix":"INS"}]}}`:                            always,
		`{"data":{"eventName":[{"suffix":"OVE"}]}}`:                            never,
		`{"data":{"eventName":[{"equals-ignore-case":"insert"}]}}`:             always,
		`{"data":{"eventName":[{"anything-but":"REMOVE"}]}}`:                   always,
		`{"data":{"eventName":[{"anything-but":["INSERT","MODIFY"]}]}}`:        never,
		`{"data":{"eventName":[{"anything-but":{"prefix":"X"}}]}}`:             maybe, // it is not evaluated
		`{"data":{"eventName":[{"numeric":[">",0]}]}}`:                         never,
		`{"data":{"eventName":[{"exists":true}]}}`:                             always,
		`{"data":{"eventName":[{"exists":false}]}}`:                            never,
		`{"data":{"userIdentity":[null]}}`:                                     always,
		`{"data":{"userIdentity":[{"exists":true}]}}`:                          maybe, // it is null
		`{"data":{"userIdentity":["x"]}}`:                                      never,
		`{"data":{"userIdentity":{"type":["Service"]}}}`:                       never, // only a removal by time to live has it
		`{"data":{"dynamodb":{"OldImage":[{"exists":false}]}}}`:                always,
		`{"data":{"dynamodb":{"OldImage":{"type":{"S":["X"]}}}}}`:              never,
		`{"data":{"dynamodb":["X"]}}`:                                          never,
		`{"data":{"dynamodb":{"NewImage":{"type":{"S":["X"]}}}}}`:              maybe,
		`{"data":{"dynamodb":{"NewImage":{"type":{"N":["1"]}}}}}`:              never,
		`{"data":{"dynamodb":{"NewImage":{"type":["X"]}}}}`:                    never,
		`{"data":{"dynamodb":{"NewImage":{"tenant":{"S":["X"]}}}}}`:            maybe, // other attributes may be there
		`{"data":{"dynamodb":{"Keys":{"orderId":{"S":["X"]}}}}}`:               never,
		`{"data":{"$or":[{"eventName":["INSERT"]},{"eventName":["REMOVE"]}]}}`: always,
		`{"data":{"$or":[{"eventName":["MODIFY"]},{"eventName":["REMOVE"]}]}}`: never,
		`{"data":{"$or":["INSERT"]}}`:                                          never,
		`{"partitionKey":["1"]}`:                                               maybe,
		`{"eventName":["INSERT"]}`:                                             never,
		`{"kinesis":{"data":{"eventName":["INSERT"]}}}`:                        never,
	} {
		var p map[string]any
		require.NoError(t, json.Unmarshal([]byte(pattern), &p), pattern)
		require.Equal(t, want, allOf(p, x.record(source{})), pattern)
	}
}
