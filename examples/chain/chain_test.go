package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// CHAIN_SEEDS is how many storms TestEveryOrderHasOnePaymentAndOneShipment goes through, and CHAIN_SEED the one that it repeats.
const (
	seedsVariable = "CHAIN_SEEDS"
	seedVariable  = "CHAIN_SEED"
	seedsDefault  = 3
)

func seeds(t *testing.T) (all []uint64) {
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, seedVariable)
		return []uint64{seed}
	}
	n := seedsDefault
	if text := os.Getenv(seedsVariable); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err, seedsVariable)
	}
	for range n {
		all = append(all, mathrand.Uint64())
	}
	return all
}

// storm runs the chain in a bubble, where waiting takes no time.
func storm(t *testing.T, seed uint64, change ...func(*settings)) (reported *report, err error) {
	loud := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // hundreds of failures that are meant
	defer slog.SetDefault(loud)
	set, parseErr := parse([]string{"-seed", fmt.Sprint(seed), "-orders", "40", "-storm", "6s", "-redrive-in-storm"})
	require.NoError(t, parseErr)
	for _, f := range change {
		f(&set)
	}
	synctest.Test(t, func(t *testing.T) { reported, err = set.run(t.Context(), io.Discard) })
	return reported, err
}

// Three services in a storm of duplicates, late records, lost answers and killed processes.
func TestEveryOrderHasOnePaymentAndOneShipment(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			got, err := storm(t, seed)
			t.Logf("seed %d, to repeat it: %s=%d\n%v", seed, seedVariable, seed, got)
			require.NoError(t, err)
			require.Len(t, got.orders, 40)
			require.NotZero(t, got.duplicates)
			require.NotZero(t, sum(got.kills))
			for _, fault := range []string{"DuplicateRecord", "ReorderRecord", "DelayRecord", "LoseAnswer", "Throttle"} {
				require.NotZero(t, got.faults[fault], fault)
			}
			require.GreaterOrEqual(t, got.labelCalls, 40)
		})
	}
}

// The judge finds what services without an Inbox do, so that the test above can fail.
func TestPlainHandlersPayTwice(t *testing.T) {
	got, err := storm(t, 1, func(s *settings) {
		s.arrival = true
		s.takePayments = func(c *outbox.Consumer, w *outbox.Writer, payments service, b *bank) {
			outbox.Handle(c, func(ctx context.Context, e outbox.Event[OrderPlaced]) error {
				if err := b.check(e.Data); err != nil {
					return err
				}
				p := payment{PaymentID: rand.Text(), OrderID: e.Data.OrderID, Cents: e.Data.Cents}
				return w.Put(ctx, payments.rows(), p, outbox.NewSequenced(p.PaymentID, 1, PaymentTaken{OrderID: p.OrderID, PaymentID: p.PaymentID}))
			})
		}
	})
	t.Logf("%v", got)
	require.ErrorContains(t, err, "payments")
	require.Greater(t, sum(got.payments), len(got.orders))
	require.Equal(t, sum(got.payments), sum(got.shipments), "each payment has its shipment, so these are two as well")
}

func TestChainMistakes(t *testing.T) {
	for want, args := range map[string][]string{
		`unexpected argument "x"`: {"x"},
		"want 1 to 9999, have 0":  {"-orders", "0"},
	} {
		require.ErrorContains(t, run(t.Context(), args, io.Discard), want)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	require.ErrorContains(t, run(t.Context(), []string{"-aws"}, io.Discard), "set AWS_REGION")
	require.NoError(t, run(t.Context(), []string{"-h"}, io.Discard))
}

func TestJudge(t *testing.T) {
	one := map[string]int{"a": 1}
	good := func() *report {
		return &report{orders: []string{"a"}, payments: one, shipments: one, labels: one, events: map[string]map[string]int{"orders": one}}
	}
	require.NoError(t, good().judge())
	for want, spoil := range map[string]func(*report){
		"order a has 0 payments":               func(r *report) { r.payments = nil },
		"order a has 2 shipments":              func(r *report) { r.shipments = map[string]int{"a": 2} },
		"2 orders have labels":                 func(r *report) { r.labels = map[string]int{"a": 1, "b": 1} },
		"order a has 2 events in orders":       func(r *report) { r.events["orders"] = map[string]int{"a": 2} },
		"1 dead letters are left":              func(r *report) { r.letters = 1 },
		"the 2 orders of c were paid as [1]":   func(r *report) { r.placed, r.accounts = map[string]int{"c": 2}, map[string][]int64{"c": {1}} },
		"the 2 orders of c were paid as [2 1]": func(r *report) { r.placed, r.accounts = map[string]int{"c": 2}, map[string][]int64{"c": {2, 1}} },
		"the 1 orders of c were paid as [1 1]": func(r *report) { r.placed, r.accounts = map[string]int{"c": 1}, map[string][]int64{"c": {1, 1}} },
	} {
		r := good()
		spoil(r)
		require.ErrorContains(t, r.judge(), want)
	}
}
