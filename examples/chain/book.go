package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// place is where a record is.
type place struct{ stream, shard, sequence string }

// book is what the workers say they did, those that were killed included. It is safe for concurrent use.
type book struct {
	mu          sync.Mutex
	handled     map[[2]string]int  // successful deliveries, by reader and event id
	settled     map[[2]any]bool    // by reader and place: handled, or a dead letter
	deadLetters map[[2]string]bool // by reader and id
}

func newBook() *book {
	return &book{handled: make(map[[2]string]int), settled: make(map[[2]any]bool), deadLetters: make(map[[2]string]bool)}
}

// hooks write into the book.
func (b *book) hooks(reader string) outbox.ConsumerHooks {
	settle := func(r *outbox.Record) {
		b.settled[[2]any{reader, place{r.StreamARN, r.ShardID, r.SequenceNumber}}] = true
	}
	handled := func(r *outbox.Record) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.handled[[2]string{reader, r.ID}]++
		settle(r)
	}
	return outbox.ConsumerHooks{
		Handled: func(_ context.Context, r outbox.Record, _ time.Duration, err error) {
			if err == nil {
				handled(&r)
			}
		},
		Duplicate: func(_ context.Context, r outbox.Record) { handled(&r) },
		DeadLettered: func(_ context.Context, l outbox.DeadLetter) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.deadLetters[[2]string{reader, l.ID}] = true
			settle(&l.Record)
		},
	}
}

func (b *book) isSettled(reader string, p place) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.settled[[2]any{reader, p}]
}

// duplicates counts the deliveries that were a success and not the first one of their event.
func (b *book) duplicates() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, times := range b.handled {
		n += times - 1
	}
	return n
}

// report is what has become of the orders.
type report struct {
	orders      []string
	payments    map[string]int // by order
	shipments   map[string]int
	events      map[string]map[string]int // by service and order
	placed      map[string]int            // how many orders each customer has placed
	accounts    map[string][]int64        // the numbers of each customer's orders, as they were paid
	labels      map[string]int
	labelCalls  int
	duplicates  int
	deadLetters int
	letters     int // that are still there
	kills       map[string]int
	faults      map[string]int
}

// judge returns what is wrong.
func (r *report) judge() error {
	var wrong []string
	check := func(what string, have map[string]int) {
		for _, id := range r.orders {
			if have[id] != 1 {
				wrong = append(wrong, fmt.Sprintf("order %s has %d %s", id, have[id], what))
			}
		}
		if len(have) > len(r.orders) {
			wrong = append(wrong, fmt.Sprintf("%d orders have %s, and only %d were placed", len(have), what, len(r.orders)))
		}
	}
	check("payments", r.payments)
	check("shipments", r.shipments)
	check("labels", r.labels)
	for service, events := range r.events {
		check("events in "+service, events)
	}
	for customer, n := range r.placed {
		paid := r.accounts[customer]
		for i := range max(n, len(paid)) {
			if len(paid) != n || paid[i] != int64(i+1) {
				wrong = append(wrong, fmt.Sprintf("the %d orders of %s were paid as %v", n, customer, paid))
				break
			}
		}
	}
	if r.letters > 0 {
		wrong = append(wrong, fmt.Sprintf("%d dead letters are left", r.letters))
	}
	if len(wrong) == 0 {
		return nil
	}
	if n := len(wrong); n > 10 {
		wrong = append(wrong[:10], fmt.Sprintf("and %d more", n-10))
	}
	return errors.New(strings.Join(wrong, "\n"))
}

// String is the report for people.
func (r *report) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%6d orders placed", len(r.orders))
	line("%6d payments", sum(r.payments))
	line("%6d shipments", sum(r.shipments))
	line("%6d customers whose orders were paid in order", len(r.accounts))
	line("%6d labels printed, in %d calls of the provider", sum(r.labels), r.labelCalls)
	line("%6d duplicates suppressed", r.duplicates)
	line("%6d dead letters redriven", r.deadLetters-r.letters)
	line("%6d processes killed %v", sum(r.kills), r.kills)
	line("%6d other faults %v", sum(r.faults), r.faults)
	return b.String()
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// scan reads a table into a slice of its rows.
func scan[T any](ctx context.Context, db *dynamodb.Client, table string) (all []T, err error) {
	pages := dynamodb.NewScanPaginator(db, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("scan %s: %w", table, err)
		}
		var rows []T
		if err := attributevalue.UnmarshalListOfMaps(page.Items, &rows); err != nil {
			return nil, fmt.Errorf("table %s: %w", table, err)
		}
		all = append(all, rows...)
	}
	return all, nil
}

// countBy counts the rows of a table by one of their attributes.
func countBy(ctx context.Context, db *dynamodb.Client, table, attribute string) (map[string]int, error) {
	counts := make(map[string]int)
	pages := dynamodb.NewScanPaginator(db, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("scan %s: %w", table, err)
		}
		for _, row := range page.Items {
			value, _ := row[attribute].(*types.AttributeValueMemberS)
			if value == nil {
				return nil, fmt.Errorf("table %s has a row without %s", table, attribute)
			}
			counts[value.Value]++
		}
	}
	return counts, nil
}
