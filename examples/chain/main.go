// Command chain runs three services that hand an order on: orders announces ORDER_PLACED, payments takes the money and announces
// PAYMENT_TAKEN, shipments sends the parcel, announces SHIPMENT_SENT, and has a label printed by a provider. Meanwhile everything
// goes wrong: change records come twice, late and out of order, answers are lost, requests are throttled, and the services' processes
// are killed in the middle of what they do. In the end every order has exactly one payment, one shipment and one label, and each customer's
// orders were paid in the order in which they were placed, or the command fails. services.go is what a service looks like; the rest makes trouble and counts.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed-1b628d3f/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chain:", err)
		os.Exit(1)
	}
}

type settings struct {
	aws      bool
	seed     uint64
	size     int           // how many orders
	storms   time.Duration // how long they take
	patience time.Duration // for what is under way after the storm
	early    bool          // dead letters are redriven in the storm, too
	verbose  bool
	prefix   string // of the tables and streams

	arrival      bool // events are handled as they come
	takePayments func(*outbox.Consumer, *outbox.Writer, service, *bank)
}

func parse(args []string) (settings, error) {
	s := settings{prefix: "chain-" + strings.ToLower(rand.Text()[:8]) + "-", takePayments: takePayments}
	flags := flag.NewFlagSet("chain", flag.ContinueOnError)
	flags.BoolVar(&s.aws, "aws", false, "use the AWS of the SDK's configuration instead of one in this process; the tables and streams are removed at the end")
	flags.Uint64Var(&s.seed, "seed", mathrand.Uint64(), "of what goes wrong")
	flags.IntVar(&s.size, "orders", 100, "how many orders are placed")
	flags.DurationVar(&s.storms, "storm", 8*time.Second, "how long that takes")
	flags.DurationVar(&s.patience, "patience", 2*time.Minute, "how long to wait for the last order after that")
	flags.BoolVar(&s.early, "redrive-in-storm", false, "redrive dead letters in the storm, too; those of a worker that is killed then wait for a minute")
	flags.BoolVar(&s.verbose, "v", false, "log what the services say")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.size < 1 || s.size > 9999:
		return s, fmt.Errorf("-orders: want 1 to 9999, have %d", s.size)
	}
	return s, nil
}

// run returns nil if every order has what it is to have.
func run(ctx context.Context, args []string, out io.Writer) error {
	set, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if !set.verbose {
		loud := slog.Default()
		slog.SetDefault(slog.New(slog.DiscardHandler)) // hundreds of failures that are meant
		defer slog.SetDefault(loud)
	}
	reported, err := set.run(ctx, out)
	if reported != nil {
		fmt.Fprint(out, reported)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "every order has exactly one payment, one shipment and one label")
	return nil
}

// run runs the chain on the AWS of the settings, and judges it.
func (s settings) run(ctx context.Context, out io.Writer) (reported *report, err error) {
	var c cloud
	if s.aws {
		if c, err = configured(ctx, newDice(s.seed)); err != nil {
			return nil, err
		}
	} else {
		var closed func()
		c, closed = embedded(s.seed)
		defer closed()
	}
	fmt.Fprintf(out, "three services on %s, seed %d: %d orders in %v of storm\n", c.where, s.seed, s.size, s.storms)
	w := newWorld(s, c)
	remove, err := w.create(ctx)
	defer func() {
		ctx, cancel := removing(ctx)
		defer cancel()
		err = errors.Join(err, remove(ctx))
	}()
	if err != nil {
		return nil, err
	}
	reported, err = w.run(ctx)
	if reported != nil {
		err = errors.Join(err, reported.judge())
	}
	return reported, err
}
