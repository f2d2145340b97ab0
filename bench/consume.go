package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/seed-1b628d3f/outbox"
)

// typed decodes change records and hands them to their handlers.
func typed(c *outbox.Consumer, data []byte, records []outbox.Record) {
	for i := range records {
		r, err := outbox.DecodeRecord(data)
		if err != nil {
			panic(err)
		}
		r.AggregateID = aggregates[i]
		records[i] = r
	}
	if err := c.Process(context.Background(), records...); err != nil {
		panic(err)
	}
}

// aggregates are different, so that every record has its own lane.
var aggregates = func() (names [100]string) {
	for i := range names {
		names[i] = fmt.Sprint("order-", i)
	}
	return names
}()

func unmarshal(payload []byte) order {
	var o order
	if err := json.Unmarshal(payload, &o); err != nil {
		panic(err)
	}
	return o
}

func invoke(c *outbox.Consumer, payload []byte) {
	if answer := must(c.Invoke(context.Background(), payload)); string(answer) != `{"batchItemFailures":[]}` {
		panic(string(answer))
	}
}

// consumeRows is about records on their way through a Consumer. Unless a row says otherwise, handlers run one at a time:
// the others use one CPU, too.
func consumeRows() []row {
	var rows []row
	const group, n = "Consumer, default codec, one handler at a time", 100
	c := consumer(outbox.WithConcurrency(1))
	for _, size := range []struct {
		name   string
		bytes  int
		target float64
	}{{"300 B", 300, 4}, {"1 KB", 1000, 2.4}} {
		data, payload := insert(size.bytes), must(json.Marshal(newOrder(size.bytes)))
		records, one := make([]outbox.Record, n), make([]outbox.Record, 1)
		target, most := fmt.Sprintf("%.1f × today's speed, 6 allocs but for the codec's", size.target), 0.0
		if size.bytes == 1000 {
			target += "; 1.3 × the time of the payload's json.Unmarshal"
			most = 1.3
		}
		sides := []side{
			{"process", n, func() { typed(c, data, records) }},
			{"single", 1, func() { typed(c, data, one) }},
			{"today", 1, func() { must(todayTyped(data)) }},
			{"payload", 1, func() { unmarshal(payload) }},
		}
		rows = append(rows, row{
			group: group, name: "typed event through DecodeRecord and Process, " + size.name + ", batches of 100", target: target, sides: sides,
			judge: func(r results) (string, bool) {
				ratio, floor := r.ratio("today", "process"), r.ratio("process", "payload")
				own := r.get("process").allocs - r.get("payload").allocs
				return fmt.Sprintf("%.1f ×, %.1f allocs; %.2f × the payload's json.Unmarshal (%s)", ratio, own, floor, duration(r.ns("process"))),
					ratio >= size.target && own <= 6 && (most == 0 || floor <= most)
			},
		}, row{
			group: group, name: "the same one by one", sides: sides,
			judge: func(r results) (string, bool) {
				return fmt.Sprintf("%.1f ×, %.1f allocs; %.2f × the payload's json.Unmarshal (%s)", r.ratio("today", "single"),
					r.get("single").allocs-r.get("payload").allocs, r.ratio("single", "payload"), duration(r.ns("single"))), true
			},
		})
	}

	payload, text := invocation(n, 300), must(json.Marshal(newOrder(300)))
	fast, parallel := consumer(outbox.WithConcurrency(1), outbox.WithCodec(sonicCodec{})), consumer()
	nothing := func(order) error { return nil }
	sides := []side{
		{"invoke", 1, func() { invoke(c, payload) }},
		{"fast", 1, func() { invoke(fast, payload) }},
		{"parallel", 1, func() { invoke(parallel, payload) }},
		{"today", 1, func() {
			if err := todayInvoke(payload, nothing); err != nil {
				panic(err)
			}
		}},
		{"valid", 1, func() { valid(payload) }},
		{"payloads", 1, func() {
			for range n {
				unmarshal(text)
			}
		}},
	}
	const lambda = "Invoke, 100 × 300 B, free handler"
	return append(rows, row{
		group: lambda, name: "default codec, one handler at a time", target: "5 × today's speed; 1.3 × json.Valid's time", sides: sides,
		judge: func(r results) (string, bool) {
			ratio, floor := r.ratio("today", "invoke"), r.ratio("invoke", "valid")
			payloads := r.ratio("payloads", "valid")
			return fmt.Sprintf("%.1f ×; %.2f ×, of which json.Unmarshal of the payloads %.2f × (%s, %.0f allocs)",
				ratio, floor, payloads, duration(r.ns("invoke")), r.get("invoke").allocs), ratio >= 5 && floor <= 1.3
		},
	}, row{
		group: lambda, name: "sonic as codec, one handler at a time", target: "8 × today's speed", sides: sides,
		judge: func(r results) (string, bool) {
			ratio := r.ratio("today", "fast")
			return fmt.Sprintf("%.1f × (%s, %.0f allocs)", ratio, duration(r.ns("fast")), r.get("fast").allocs), ratio >= 8
		},
	}, row{
		group: lambda, name: "default codec, default concurrency (10), on the clock", target: "5 × today's speed; 1.3 × json.Valid's time", sides: sides,
		judge: func(r results) (string, bool) {
			ratio, floor := r.wallRatio("today", "parallel"), r.wallRatio("parallel", "valid")
			return fmt.Sprintf("%.1f ×; %.2f × (%s)", ratio, floor, duration(median(r.get("parallel").wall))), ratio >= 5 && floor <= 1.3
		},
	})
}
