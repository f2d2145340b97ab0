package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// statusFlags are those of the command status.
type statusFlags struct {
	stream, leases, group  string
	deadLetters, consumer  string
	maxLag, wait           time.Duration
	silentShards           bool
	streamGiven, waitGiven bool // --stream and --wait were
}

// check checks the flags. timeout is --timeout, of which a default of --wait takes no more than half.
func (f *statusFlags) check(timeout time.Duration) error {
	if !f.waitGiven {
		f.wait = min(f.wait, timeout/2)
	}
	switch {
	case f.stream == "" || f.leases == "":
		return errors.New("--stream and --leases must not be empty")
	case f.group == "" && (f.maxLag > 0 || f.deadLetters != ""):
		return errors.New("--group is missing: the name that the workers were given (NewLeaseTable); outbox status alone lists those that the lease table knows")
	case f.group == "" && (f.streamGiven || f.waitGiven || f.silentShards):
		return errors.New("--stream, --wait and --silent-shards are for --group")
	case f.consumer != "" && f.deadLetters == "":
		return errors.New("--consumer is for --dead-letters")
	case f.maxLag < 0:
		return fmt.Errorf("--max-lag: want 0 or more, have %s", f.maxLag)
	case f.wait <= 0:
		return fmt.Errorf("--wait: want more than 0, have %s", f.wait)
	case f.wait >= timeout:
		return fmt.Errorf("--wait %s needs a --timeout above it: have %s", f.wait, timeout)
	}
	return checkNames(named{"stream", f.stream, names.KinesisStream}, tableFlag("leases", f.leases), tableFlag("dead-letters", f.deadLetters))
}

func (a *app) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use: "status", Short: "Say who reads which shard, and how far behind",
		Long: `status shows, for a group of workers, every shard of the stream: its owner and
fence, its checkpoint, how many records wait behind it, and its lag, which is the
age of the first of them. And it shows every worker: whether it lives, its release
of the library, and how many shards it has. Without --group it lists the groups
that the lease table knows.

It exits with 1 if something is wrong or is not known, and says what: a worker
without heartbeats, a shard that nobody reads, that is lost or whose lag is unknown,
a checkpoint older than what the stream keeps, a worker that says it cannot do the
work, a group that the lease table does not know. With --max-lag it exits with 1
when a shard lags more, too.

Whether a worker lives is found by looking twice: status waits until each worker has
sent a heartbeat, mostly two seconds, and at most a little longer than a lease lasts
(8 s by default) or --wait.

To find the records, status reads up to 100 of them behind each checkpoint, which
counts for the limits of the shard: 5 reads and 2 MB a second. The checkpoint is
stored once a second, so some of the records may be finished already. The lease of a
lost shard stays for six hours, and up to two days more.`,
		Example: `  outbox status
  outbox status --group confirmations
  outbox status --group confirmations --max-lag 5m -o json`,
		Args: cobra.NoArgs,
		PreRun: func(cmd *cobra.Command, _ []string) {
			f.streamGiven, f.waitGiven = cmd.Flags().Changed("stream"), cmd.Flags().Changed("wait")
		},
		RunE: a.action(func() error { return cmp.Or(a.checkWatch(), f.check(a.timeout)) }, a.watching(func(ctx context.Context, c *clients) error { return a.status(ctx, c, f) })),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "events", "Kinesis stream, named as the workers name it")
	flags.StringVar(&f.leases, "leases", "leases", "lease table")
	flags.StringVar(&f.group, "group", "", "group of workers (default: list them)")
	flags.StringVar(&f.deadLetters, "dead-letters", "", "dead letter table, to count what is in it")
	flags.StringVar(&f.consumer, "consumer", "", "consumer whose dead letters they are (default: the group)")
	flags.DurationVar(&f.maxLag, "max-lag", 0, "exit with 1 if a shard lags more, or if that cannot be ruled out")
	a.watchFlag(flags)
	flags.DurationVar(&f.wait, "wait", 30*time.Second, "wait for heartbeats no longer than this, or half of a shorter --timeout")
	flags.BoolVar(&f.silentShards, "silent-shards", false, "accept an old checkpoint of a shard that is read and has no records, as where nothing is written for longer than the stream keeps records")
	return cmd
}

// seconds is a duration in JSON.
type seconds time.Duration

// MarshalJSON writes full milliseconds.
func (s seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

// groupStatus is the whole of it.
type groupStatus struct {
	Stream string  `json:"stream"`
	Ended  string  `json:"ended,omitempty"` // why nothing new can come from the stream
	Keeps  seconds `json:"keepsSeconds"`    // for how long the stream keeps records; at least, if it does not say
	Group  string  `json:"group"`
	// Lag is that of the shard that lags most, 0 if nothing waits; it is null if the lag of a shard is unknown.
	Lag    *seconds `json:"lagSeconds"`
	Oldest string   `json:"oldestShard,omitempty"` // the shard with the largest lag that is known
	// OK says that all is well and known. Otherwise Reasons say what is not. Late says that --max-lag is not held, or that this cannot be told.
	OK      bool            `json:"ok"`
	Late    bool            `json:"late"`
	Reasons []string        `json:"reasons,omitempty"`
	Shards  []*shardStatus  `json:"shards"`
	Workers []*workerStatus `json:"workers"`
	// Known is there if the lease table has no shard of the group and the stream: what it has instead.
	Known []knownGroup `json:"known,omitempty"`
	// Dead is there with --dead-letters.
	Dead *deadStatus `json:"deadLetters,omitempty"`
}

// deadStatus counts dead letters.
type deadStatus struct {
	Letters int       `json:"letters"`
	Parked  int       `json:"parked"` // of them, those that wait behind another
	Oldest  time.Time `json:"oldest,omitzero"`
}

func (a *app) status(ctx context.Context, c *clients, f statusFlags) error {
	if f.group == "" {
		return a.listGroups(ctx, c, f.leases)
	}
	s, err := a.look(ctx, c, f)
	if err != nil {
		return err
	}
	if a.json() {
		err = a.printJSON(s)
	} else {
		err = a.printStatus(s)
	}
	if d := s.Dead; d != nil && d.Letters == 0 {
		a.noteOtherConsumers(ctx, c, f)
	}
	if err == nil && !s.OK {
		return errFound
	}
	return err
}

// look finds out all that status says.
func (a *app) look(ctx context.Context, c *clients, f statusFlags) (*groupStatus, error) {
	table, err := outbox.NewLeaseTable(c.dynamodb, f.leases, f.group)
	if err != nil {
		return nil, usageError{err}
	}
	store, err := dynamostore.New(c.dynamodb, f.leases, f.group, f.stream)
	if err != nil {
		return nil, usageError{err}
	}
	var dead *outbox.DeadLetterTable
	if f.deadLetters != "" {
		if dead, err = outbox.NewDeadLetterTable(c.dynamodb, f.deadLetters, cmp.Or(f.consumer, f.group)); err != nil {
			return nil, usageError{err}
		}
	}
	source := &shardreader.Kinesis{Client: c.kinesis, Stream: f.stream}
	before, err := store.View(ctx)
	if err != nil {
		return nil, noLeaseTable(err)
	}
	if _, err := source.Shards(ctx); err != nil { // before the wait: a stream that is not there is told at once
		return nil, fmt.Errorf("list the shards of stream %s: %w", f.stream, err)
	}
	workers, err := watchWorkers(ctx, store, before, f.wait)
	if err != nil {
		return nil, err
	}
	leases, err := table.Status(ctx, f.stream)
	if err != nil {
		return nil, err
	}
	listed, err := source.Shards(ctx) // after the leases: a shard that they have and it has not is lost
	if err != nil {
		return nil, fmt.Errorf("list the shards of stream %s: %w", f.stream, err)
	}
	s := &groupStatus{Stream: f.stream, Ended: shardreader.OverBy(listed, nil).Reason, Group: f.group, Workers: workers, Keeps: seconds(a.keeps(ctx, c, f.stream))}
	s.Shards = join(listed, leases, workers)
	if err := a.measure(ctx, c, s, &source.Clock); err != nil {
		return nil, err
	}
	v := verdict{groupStatus: s, statusFlags: f, before: before}
	if dead != nil {
		if s.Dead, err = countDead(ctx, dead); err != nil {
			v.wrong("the dead letters of table %s cannot be counted: %s", f.deadLetters, a.explain(err))
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	if len(leases) == 0 {
		v.known(ctx, a, c.dynamodb)
	}
	v.judge()
	return s, nil
}

// noLeaseTable tells whoever asks for a function that only Workers have a lease table.
func noLeaseTable(err error) error {
	if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); errors.As(err, &missing) {
		return fmt.Errorf("only Workers have a lease table; of a function see its metric IteratorAge, and outbox doctor --function: %w", err)
	}
	return err
}

// groupList is what status prints without a group.
type groupList struct {
	Groups []knownGroup `json:"groups"`
	All    bool         `json:"all"` // the whole table was read
	failure
}

// listGroups shows which groups there are.
func (a *app) listGroups(ctx context.Context, c *clients, table string) error {
	groups, all, err := knownGroups(ctx, c.dynamodb, table)
	if err != nil {
		return noLeaseTable(err)
	}
	var none error
	if all && len(groups) == 0 {
		none = fmt.Errorf("lease table %s knows no group: no worker has begun", table)
	}
	if a.json() {
		err = a.printJSON(groupList{append([]knownGroup{}, groups...), all, failure{a.explain(none)}})
	} else {
		rows := [][]string{{"GROUP", "STREAM", "SHARDS", "WORKERS"}}
		for _, g := range groups {
			rows = append(rows, []string{g.Group, g.Stream, fmt.Sprint(g.Shards), fmt.Sprint(g.Workers)})
		}
		err = a.columns(rows)
	}
	switch {
	case err != nil || none != nil:
		return cmp.Or(err, none)
	case !all:
		a.note("table %s has more rows than were read: perhaps these are not all groups", table)
	}
	a.note("%s shows one of them; whether the workers live is told there", a.named("status", "--leases", table, "--group", "G", "--stream", "S"))
	return nil
}

// countDead counts the dead letters of a consumer.
func countDead(ctx context.Context, table *outbox.DeadLetterTable) (*deadStatus, error) {
	var d deadStatus
	for l, err := range table.List(ctx, outbox.DeadLetterFilter{}) {
		if err != nil {
			return nil, err
		}
		if d.Letters++; l.Parked {
			d.Parked++
		}
		if d.Oldest.IsZero() || l.StoredAt.Before(d.Oldest) {
			d.Oldest = l.StoredAt
		}
	}
	return &d, nil
}

// noteOtherConsumers tells whose letters there are, where the consumer has none: perhaps it has another name.
func (a *app) noteOtherConsumers(ctx context.Context, c *clients, f statusFlags) {
	letters, all, err := knownConsumers(ctx, c.dynamodb, f.deadLetters)
	consumer := cmp.Or(f.consumer, f.group)
	_, known := letters[consumer]
	switch {
	case known:
	case err != nil:
		a.note("nothing is known of consumer %s in table %s; which consumers it knows cannot be read: %s", consumer, f.deadLetters, a.explain(err))
	case len(letters) > 0:
		a.note("nothing is known of consumer %s in table %s, which knows %s: give --consumer", consumer, f.deadLetters, knownList(letters))
	case !all:
		a.note("nothing is known of consumer %s in table %s", consumer, f.deadLetters)
	}
}
