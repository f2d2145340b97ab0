package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// statusFlags are those of the command status.
type statusFlags struct {
	stream, leases, group string
	deadLetters, consumer string
	maxLag                time.Duration
}

func (f *statusFlags) check() error {
	switch {
	case f.stream == "" || f.leases == "":
		return errors.New("--stream and --leases must not be empty")
	case f.group == "":
		return errors.New("--group is missing: the name that the workers were given (NewLeaseTable)")
	case f.maxLag < 0:
		return fmt.Errorf("--max-lag: want 0 or more, have %s", f.maxLag)
	}
	return checkNames(named{"stream", f.stream, names.KinesisStream}, tableFlag("leases", f.leases), tableFlag("dead-letters", f.deadLetters))
}

func (a *app) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use: "status", Short: "Say who reads which shard, and how far behind",
		Long: `status shows, for a group of workers, every shard of the stream: its owner and
fence, its checkpoint, and its lag, which is the age of the next record that is not
finished. To find it, status reads one record behind each checkpoint, which counts
for the limit of 5 reads a second of the shard.

With --max-lag it exits with 1 when a shard lags more, for a probe; also when that
cannot be ruled out: when records of a shard are lost, or its lag is unknown and
can be more. The lease of a lost shard stays for six hours, and up to two days more.`,
		Example: `  outbox status --group confirmations
  outbox status --group confirmations --max-lag 5m -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func() error { return cmp.Or(a.checkWatch(), f.check()) }, a.watching(func(ctx context.Context, c *clients) error { return a.status(ctx, c, f) })),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "events", "Kinesis stream, named as the workers name it")
	flags.StringVar(&f.leases, "leases", "leases", "lease table")
	flags.StringVar(&f.group, "group", "", "group of workers")
	flags.StringVar(&f.deadLetters, "dead-letters", "", "dead letter table, to count what is in it")
	flags.StringVar(&f.consumer, "consumer", "", "consumer whose dead letters they are (default: the group)")
	flags.DurationVar(&f.maxLag, "max-lag", 0, "exit with 1 if a shard lags more, or if that cannot be ruled out")
	a.watchFlag(flags)
	return cmd
}

// shardStatus is how far a shard is.
type shardStatus struct {
	Shard      string `json:"shard"`
	State      string `json:"state"` // reading, unowned, dead owner, not begun, waiting for its parents, ended, finished, lost, ended too early
	Owner      string `json:"owner,omitempty"`
	OwnerState string `json:"ownerState,omitempty"`
	WantedBy   string `json:"wantedBy,omitempty"`
	Fence      int64  `json:"fence,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"`
	// Lag is the age of the next record that is not finished, 0 if there is none; it is unknown without LagKnown.
	Lag          seconds    `json:"lagSeconds"`
	LagKnown     bool       `json:"lagKnown"`
	MillisBehind int64      `json:"millisBehindLatest"`
	Next         *eventJSON `json:"next,omitempty"` // the event of that record, if it is one
	// Unfinished are the records up to the checkpoint, or the end, that are not finished.
	Unfinished []string       `json:"unfinished,omitempty"`
	Attempts   map[string]int `json:"attempts,omitempty"`

	start kinesis.GetShardIteratorInput
	open  bool // the stream lists no end of it
}

// readable reports whether the shard has a place to read from.
func (s *shardStatus) readable() bool {
	return !slices.Contains([]string{"finished", "lost", "ended too early"}, s.State)
}

// seconds is a duration in JSON.
type seconds time.Duration

// MarshalJSON writes full milliseconds.
func (s seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

// groupStatus is the whole of it.
type groupStatus struct {
	Stream string         `json:"stream"`
	Ended  string         `json:"ended,omitempty"` // why nothing new can come from the stream
	Group  string         `json:"group"`
	Owners map[string]int `json:"owners"` // how many shards each has
	Lag    seconds        `json:"lagSeconds"`
	Oldest string         `json:"oldestShard,omitempty"` // the shard with that lag
	// Late says that --max-lag is not held, or that this cannot be told; Reasons say why.
	Late    bool           `json:"late"`
	Reasons []string       `json:"reasons,omitempty"`
	Shards  []*shardStatus `json:"shards"`
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
	table, err := outbox.NewLeaseTable(c.dynamodb, f.leases, f.group)
	if err != nil {
		return usageError{err}
	}
	leases, err := table.Status(ctx, f.stream)
	if err != nil {
		return err
	}
	source := &shardreader.Kinesis{Client: c.kinesis, Stream: f.stream}
	listed, err := source.Shards(ctx)
	if err != nil {
		return fmt.Errorf("list the shards of stream %s: %w", f.stream, err)
	}
	s := &groupStatus{Stream: f.stream, Ended: shardreader.OverBy(listed, nil).Reason, Group: f.group, Owners: map[string]int{}, Shards: join(listed, leases)}
	if err := a.measure(ctx, c, f.stream, s.Shards, &source.Clock); err != nil {
		return err
	}
	for _, shard := range s.Shards {
		if shard.Owner != "" {
			s.Owners[shard.Owner]++
		}
		if shard.Lag > s.Lag {
			s.Lag, s.Oldest = shard.Lag, shard.Shard
		}
	}
	if f.deadLetters != "" {
		if s.Dead, err = countDead(ctx, c, f); err != nil {
			return err
		}
	}
	if f.maxLag > 0 {
		s.Reasons = tooLate(s.Shards, f.maxLag)
		s.Late = len(s.Reasons) > 0
	}
	if a.json() {
		err = a.printJSON(s)
	} else {
		err = a.printStatus(s)
	}
	if len(leases) == 0 {
		a.note("lease table %s knows no worker of group %s on stream %s; it has to be the name that NewLeaseTable was given", f.leases, f.group, f.stream)
	}
	if err == nil && s.Late {
		return errFound
	}
	return err
}

// tooLate says which shards are not known to lag by no more than most, and why. A shard of which some reads found nothing is at least as far as
// its last read, whose distance from now is known.
func tooLate(shards []*shardStatus, most time.Duration) (reasons []string) {
	for _, s := range shards {
		behind := time.Duration(s.MillisBehind) * time.Millisecond
		switch {
		case s.State == "finished":
		case s.State == "ended too early":
			reasons = append(reasons, fmt.Sprintf("shard %s is stored as finished, and the stream lists it as open: unless the listing is behind, nobody reads it", s.Shard))
		case s.State == "lost":
			reasons = append(reasons, fmt.Sprintf("shard %s is lost: the stream has forgotten it, and it was not finished", s.Shard))
		case !s.LagKnown && len(s.Unfinished) > 0:
			reasons = append(reasons, fmt.Sprintf("shard %s: %s, and the age is unknown", s.Shard, waiting(len(s.Unfinished))))
		case s.LagKnown && time.Duration(s.Lag) > most:
			reasons = append(reasons, fmt.Sprintf("shard %s lags %s, more than --max-lag", s.Shard, age(time.Duration(s.Lag))))
		case !s.LagKnown && behind > most:
			reasons = append(reasons, fmt.Sprintf("shard %s: its lag is unknown, and can be %s, more than --max-lag", s.Shard, age(behind)))
		}
	}
	return reasons
}

// waiting says how many records below a checkpoint are not finished.
func waiting(n int) string {
	if n == 1 {
		return "1 record waits"
	}
	return fmt.Sprintf("%d records wait", n)
}

// countDead counts the dead letters of the consumer.
func countDead(ctx context.Context, c *clients, f statusFlags) (*deadStatus, error) {
	table, err := outbox.NewDeadLetterTable(c.dynamodb, f.deadLetters, cmp.Or(f.consumer, f.group))
	if err != nil {
		return nil, usageError{err}
	}
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

// join puts together what the stream and the lease table say, in the order of the shards.
func join(listed []shardreader.Shard, leases []outbox.LeaseStatus) []*shardStatus {
	byID, ended := map[string]*outbox.LeaseStatus{}, map[string]bool{}
	for i, l := range leases {
		byID[l.Shard] = &leases[i]
		ended[l.Shard] = l.Ended || l.Forgotten
	}
	there := map[string]bool{}
	for _, s := range listed {
		there[s.ID] = true
	}
	var shards []*shardStatus
	for _, l := range leases {
		if finished := l.Ended && len(l.Unfinished) == 0; !there[l.Shard] && !finished {
			shards = append(shards, &shardStatus{Shard: l.Shard, State: "lost", Fence: l.Fence, Checkpoint: l.Checkpoint})
		}
	}
	for _, s := range listed {
		l := byID[s.ID]
		if l == nil {
			l = &outbox.LeaseStatus{Shard: s.ID}
		}
		waits := slices.ContainsFunc(s.Parents, func(parent string) bool { return there[parent] && !ended[parent] })
		shards = append(shards, statusOf(l, byID[s.ID] != nil, waits, shardreader.Open(s, listed)))
	}
	return shards
}

func statusOf(l *outbox.LeaseStatus, begun, waits, open bool) *shardStatus {
	s := &shardStatus{Shard: l.Shard, State: "reading", open: open, Owner: l.Owner, OwnerState: string(l.OwnerState), WantedBy: l.WantedBy, Fence: l.Fence,
		Checkpoint: l.Checkpoint, Unfinished: l.Unfinished, Attempts: l.Attempts}
	s.start.ShardId, s.start.ShardIteratorType = &s.Shard, kinesistypes.ShardIteratorTypeTrimHorizon
	switch {
	case len(l.Unfinished) > 0:
		s.start.ShardIteratorType, s.start.StartingSequenceNumber = kinesistypes.ShardIteratorTypeAtSequenceNumber, &l.Unfinished[0]
	case l.Checkpoint != "":
		s.start.ShardIteratorType, s.start.StartingSequenceNumber = kinesistypes.ShardIteratorTypeAfterSequenceNumber, &l.Checkpoint
	case !l.StartsAt.IsZero():
		s.start.ShardIteratorType, s.start.Timestamp = kinesistypes.ShardIteratorTypeAtTimestamp, &l.StartsAt
	}
	switch {
	case l.Ended && open && l.Owner == "" && len(l.Unfinished) == 0:
		s.State = "ended too early"
	case l.Ended && len(l.Unfinished) == 0:
		s.State = "finished"
	case waits:
		s.State = "waiting for its parents"
	case !begun:
		s.State = "not begun"
	case l.Owner == "":
		s.State = "unowned"
	case l.OwnerState == outbox.OwnerDead:
		s.State = "dead owner"
	case l.Ended:
		s.State = "ended"
	}
	return s
}

// maxReads is how many reads may pass empty stretches of a shard on the way to its next record.
const maxReads = 5

// measure looks for the next record of every shard, a few shards at a time.
func (a *app) measure(ctx context.Context, c *clients, stream string, shards []*shardStatus, clock *shardreader.Clock) error {
	bar := a.bar("reading", len(shards))
	defer bar.done()
	var (
		mu    sync.Mutex
		done  int
		errs  []error
		wg    sync.WaitGroup
		slots = make(chan struct{}, 8)
	)
	for _, s := range shards {
		if !s.readable() {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := lag(ctx, c, stream, s, clock)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("shard %s of stream %s: %w", s.Shard, stream, err))
			}
			done++
			bar.set(done)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// lag finds the age of a shard's next record, by the stream's clock.
func lag(ctx context.Context, c *clients, stream string, s *shardStatus, clock *shardreader.Clock) error {
	in := s.start
	in.StreamName, in.StreamARN = streamName(stream)
	iterator, err := c.kinesis.GetShardIterator(ctx, &in)
	if err != nil {
		return err
	}
	next := iterator.ShardIterator
	for range maxReads {
		get := &kinesis.GetRecordsInput{ShardIterator: next, Limit: aws.Int32(1)}
		_, get.StreamARN = streamName(stream)
		sent := time.Now()
		out, err := c.kinesis.GetRecords(ctx, get)
		if err != nil {
			return err
		}
		clock.Saw(out.ResultMetadata, sent)
		if len(out.Records) > 0 {
			r := out.Records[0]
			if r.ApproximateArrivalTimestamp == nil {
				return errors.New("GetRecords does not say when a record arrived")
			}
			s.Lag, s.LagKnown = seconds(max(0, clock.Now().Sub(aws.ToTime(r.ApproximateArrivalTimestamp)))), true
			s.MillisBehind = aws.ToInt64(out.MillisBehindLatest)
			if event, err := outbox.DecodeRecord(r.Data); err == nil {
				e := asJSON(event, false)
				e.SequenceNumber = aws.ToString(r.SequenceNumber)
				s.Next = &e
			}
			return nil
		}
		switch {
		case out.MillisBehindLatest == nil:
			return errors.New("GetRecords says neither what is in the shard nor how far behind its end that is")
		case out.NextShardIterator == nil && s.open && len(out.ChildShards) == 0:
			return errors.New("GetRecords gives no next iterator, as at the end of a shard, and the stream lists the shard as open")
		}
		s.MillisBehind = *out.MillisBehindLatest
		if s.MillisBehind == 0 || out.NextShardIterator == nil {
			s.LagKnown = len(s.Unfinished) == 0 // there is nothing
			return nil
		}
		next = out.NextShardIterator
	}
	return nil
}

// streamName is a stream's name, or its ARN.
func streamName(stream string) (name, arn *string) {
	if len(stream) > 4 && stream[:4] == "arn:" {
		return nil, &stream
	}
	return &stream, nil
}

func (a *app) printStatus(s *groupStatus) error {
	rows := [][]string{{"SHARD", "STATE", "OWNER", "FENCE", "LAG", "NEXT", "CHECKPOINT"}}
	for _, shard := range s.Shards {
		lag, next := "unknown", ""
		switch {
		case !shard.readable():
			lag = "-"
		case shard.LagKnown:
			lag = age(time.Duration(shard.Lag))
		}
		if shard.Next != nil {
			next = printable(shard.Next.Type + " " + shard.Next.ID)
		}
		owner := shard.Owner
		if shard.OwnerState == string(outbox.OwnerDraining) {
			owner += " (draining)"
		}
		rows = append(rows, []string{shard.Shard, shard.State, owner, fmt.Sprint(shard.Fence), lag, next, shard.Checkpoint})
	}
	if err := a.columns(rows); err != nil {
		return err
	}
	p := a.paint(a.out)
	fmt.Fprintf(a.out, "\n%s, %s", count(len(s.Shards), "shard"), count(len(s.Owners), "owner"))
	for _, owner := range slices.Sorted(maps.Keys(s.Owners)) {
		fmt.Fprintf(a.out, ", %s has %d", owner, s.Owners[owner])
	}
	text, unfinished := p.green("nothing is waiting"), 0
	for _, shard := range s.Shards {
		unfinished += len(shard.Unfinished)
	}
	if unfinished > 0 {
		text = waiting(unfinished) + " below a checkpoint"
	}
	if slices.ContainsFunc(s.Shards, func(s *shardStatus) bool { return s.State == "ended too early" }) {
		text = p.red("a shard that is stored as finished is open, and nobody reads it")
	} else if s.Oldest != "" {
		text = "the oldest unhandled record is " + p.bold(age(time.Duration(s.Lag))) + " old, in " + s.Oldest
	}
	fmt.Fprintf(a.out, "; %s\n", text)
	if d := s.Dead; d != nil && d.Letters == 0 {
		fmt.Fprintln(a.out, "no dead letters")
	} else if d != nil {
		fmt.Fprintf(a.out, "%s, %d of them behind another; the oldest is %s old\n", p.red(count(d.Letters, "dead letter")), d.Parked, age(a.now().Sub(d.Oldest)))
	}
	if s.Ended != "" {
		fmt.Fprintln(a.out, p.red("the stream has ended: "+s.Ended))
	}
	for _, reason := range s.Reasons {
		fmt.Fprintln(a.out, p.red(reason))
	}
	return nil
}
