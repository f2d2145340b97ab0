package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/lease"
)

// moveFlags are those of the command checkpoint move.
type moveFlags struct {
	stream, leases, group string
	shards                []string
	all                   bool
	from, after, skip     string
	attributes            attributesFlag

	layout outbox.Option
}

var sequenceNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,127})$`)

func (f *moveFlags) check(a *app) error {
	targets := 0
	for _, target := range []string{f.from, f.after, f.skip} {
		if target != "" {
			targets++
		}
	}
	switch {
	case f.stream == "" || f.leases == "":
		return errors.New("--stream and --leases must not be empty")
	case f.group == "":
		return errors.New("--group is missing: the name that the workers were given (NewLeaseTable)")
	case f.all == (len(f.shards) > 0), slices.Contains(f.shards, ""):
		return errors.New("which shards? Give --shard, once or several times, or --all")
	case targets != 1:
		return errors.New("where to? Give one of --from, --after and --skip")
	case f.from == "" && (f.all || len(f.shards) > 1):
		return errors.New("--after and --skip are for one --shard: a sequence number is of one shard")
	}
	for flag, value := range map[string]string{"after": f.after, "skip": f.skip} {
		if value != "" && !sequenceNumber.MatchString(value) {
			return fmt.Errorf("--%s: %q is no sequence number, as status shows it", flag, value)
		}
	}
	if f.from != "" && f.from != "oldest" {
		at, err := momentBefore(a.now(), "from", f.from)
		switch {
		case err != nil:
			return fmt.Errorf("%w; or oldest", err)
		case at.After(a.now().Add(clockOff)):
			return fmt.Errorf("--from: %s is in the future", at.UTC().Format(time.RFC3339))
		}
	}
	if f.attributes.names != nil && f.skip == "" {
		return errors.New("--attributes is for --skip, which has to know the aggregates of the records before")
	}
	attributes, err := f.attributes.read()
	if err != nil {
		return err
	}
	f.layout = outbox.WithAttributes(attributes)
	return checkNames(named{"stream", f.stream, anyStream}, tableFlag("leases", f.leases))
}

func (a *app) checkpointCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "checkpoint", Short: "Move the checkpoints of stopped workers",
		Long: `checkpoint is about how far a group of workers has come, as status shows it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("a command is missing: move") },
	}
	var f moveFlags
	cmd := &cobra.Command{
		Use: "move", Short: "Read shards again from a time, or pass over a record",
		Long: `move stores another checkpoint for shards that no worker reads: the next worker goes
on from there. Stop the workers of the group first. A shard whose owner still sends
heartbeats is refused; for this move waits as long as the owner's lease lasts. It
asks first, and writes only if the row is as it was read.

  --from TIME     the shard is read again from this time, or from its oldest record
                  (oldest). Handlers get again what the inbox does not remember.
  --after NUMBER  the shard is read on after this record. What lies between the
                  checkpoint and this record is read again, or not handled at all.
  --skip NUMBER   one record is not handled: one of the next 100 after the checkpoint, or
                  one below it that is not finished (unfinished in status -o json). The
                  records before it are still handled, and the order of aggregates
                  holds; if the service has WithAttributes, give --attributes, too.

Counts of attempts begin anew. A shard that was finished stays so: use replay. For
functions of Lambda there is no such command: their mapping keeps the checkpoint.`,
		Example: `  outbox checkpoint move --group confirmations --all --from 2026-01-31T10:00:00Z
  outbox checkpoint move --group confirmations --shard shardId-000000000000 --skip 49680530999542232737930942613935513748888769564348776450`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.action(func() error { return f.check(a) }, a.checkpointMove(&f))
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "events", "stream, named as the workers name it")
	flags.StringVar(&f.leases, "leases", "leases", "lease table")
	flags.StringVar(&f.group, "group", "", "group of workers")
	flags.StringSliceVar(&f.shards, "shard", nil, "shard to move; may be repeated")
	flags.BoolVar(&f.all, "all", false, "all shards that are not finished, with --from")
	flags.StringVar(&f.from, "from", "", "a time, how long ago, or oldest")
	flags.StringVar(&f.after, "after", "", "sequence number of the record after which to go on")
	flags.StringVar(&f.skip, "skip", "", "sequence number of the record to pass over")
	f.attributes.add(flags)
	flags.BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	root.AddCommand(cmd)
	return root
}

// movedShard is a checkpoint that is moved.
type movedShard struct {
	Shard string `json:"shard"`
	// From and To are positions: a sequence number, oldest, end, or a time.
	From string `json:"from"`
	To   string `json:"to"`
	// Unfinished are the records up to the new checkpoint that are still to be handled.
	Unfinished []string `json:"unfinished,omitempty"`
	Moved      *bool    `json:"moved"` // null if it is not known

	seen lease.Lease
	to   lease.Progress
	says string // what it does, for the question
}

// moves is the result of checkpoint move.
type moves struct {
	Shards []*movedShard `json:"shards"`
	failure
}

// place writes a position for people.
func place(position string) string {
	if at, ok := lease.ParseAt(position); ok {
		return at.UTC().Format(time.RFC3339Nano)
	}
	switch position {
	case lease.TrimHorizon:
		return "oldest"
	case lease.ShardEnd:
		return "end"
	}
	return position
}
