package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// tailFlags are those of the command tail.
type tailFlags struct {
	stream, from             string
	types, aggregates, table []string
	payload                  bool
	length                   time.Duration
	count                    int
	attributes               attributesFlag

	now    bool // --from is not given
	layout outbox.Option
}

func (f *tailFlags) check(a *app) error {
	if f.stream == "" {
		return errors.New("--stream must not be empty")
	}
	if f.length < 0 || f.count < 0 {
		return errors.New("--for and --count: want 0 or more")
	}
	if err := checkNames(named{"stream", f.stream, anyStream}); err != nil {
		return err
	}
	attributes, err := f.attributes.read()
	if err != nil {
		return err
	}
	f.layout = outbox.WithAttributes(attributes)
	f.now = f.from == "" || f.from == "now"
	_, err = f.start(a.now().Add(clockOff))
	return err
}

// clockOff is how far this machine's clock may be behind before it refuses a time as one of the future. The stream's clock decides later.
const clockOff = time.Hour

// start is the position that --from means at a time of the stream's clock.
func (f *tailFlags) start(now time.Time) (shardreader.Position, error) {
	switch {
	case f.now:
		return shardreader.At(now), nil
	case f.from == "oldest":
		return shardreader.Oldest, nil
	}
	at, err := momentBefore(now, "from", f.from)
	if err != nil {
		return "", fmt.Errorf("%w; or oldest, or now", err)
	}
	if at.After(now) {
		return "", fmt.Errorf("--from: %s is in the future", at.UTC().Format(time.RFC3339))
	}
	return shardreader.At(at), nil
}

func (a *app) tailCommand() *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use: "tail", Short: "Show the events of a stream as they come",
		Long: `tail reads a stream, all shards and those that come after them, and prints the
events: in colours on a terminal, and otherwise as one JSON object a line. It keeps
no checkpoint and disturbs no consumer, except that it shares the limits of the
shards with them: 5 reads and 2 MB a second of a Kinesis stream. A DynamoDB stream
is read by two at most, so leave it to the workers when two groups read it.

Payloads and headers are not shown without --payload. It ends when interrupted,
or with --for or --count.`,
		Example: `  outbox tail
  outbox tail --from 15m --type ORDER_CREATED --payload
  outbox tail --from oldest --count 1000 -o json | jq .id`,
		Args: cobra.NoArgs,
		RunE: a.action(func() error { a.lists = true; return f.check(a) }, func(ctx context.Context, c *clients) error { return a.tail(ctx, c, f) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "events", "Kinesis stream, by name or ARN, or DynamoDB stream, by ARN")
	f.attributes.add(flags)
	flags.StringVar(&f.from, "from", "", "where to begin: now, oldest, a time, or how long ago (default now)")
	flags.StringSliceVar(&f.types, "type", nil, "only events of this type; may be repeated")
	flags.StringSliceVar(&f.aggregates, "aggregate", nil, "only events of this aggregate; may be repeated")
	flags.StringSliceVar(&f.table, "table", nil, "only events of this table; may be repeated")
	flags.BoolVar(&f.payload, "payload", false, "show payloads and headers, too")
	flags.DurationVar(&f.length, "for", 0, "end after this time")
	flags.IntVar(&f.count, "count", 0, "end after this many events")
	return cmd
}

// tailer reads all shards of a stream.
type tailer struct {
	*app
	f      tailFlags
	lines  bool
	source shardreader.Source
	start  shardreader.Position
	reader *shardreader.Reader
	stop   context.CancelCauseFunc

	mu      sync.Mutex
	printed int
	shards  map[string]*shard // by id
	wg      sync.WaitGroup
}

// shard is how far a shard is.
type shard struct {
	parents        []string
	started, ended bool
	answered       bool // the last request was
}

// These end the reading in good order: --count events are printed, or --for is over.
var (
	errEnough = errors.New("enough")
	errOver   = errors.New("over")
)

func (a *app) tail(ctx context.Context, c *clients, f tailFlags) error {
	source := sourceOf(c, f.stream)
	t := &tailer{app: a, f: f, lines: a.output == "json" || a.output == "" && !terminal(a.out), source: source, shards: map[string]*shard{}}
	t.reader = &shardreader.Reader{Source: source, OnRetry: func(r shardreader.Retry) {
		t.answered(r.Shard, false)
		if r.Failures > 1 || !r.Throttled {
			t.warn("shard %s: %s is repeated: %s", r.Shard, r.Operation, a.explain(r.Err))
		}
	}}
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	t.stop = stop
	if f.length > 0 {
		var cancel context.CancelFunc
		reading, cancel = context.WithTimeoutCause(reading, f.length, errOver)
		defer cancel()
	}
	listed, err := source.Shards(reading)
	if errors.Is(context.Cause(reading), errOver) {
		err = fmt.Errorf("no answer within %s (--for)", f.length)
	}
	if err != nil {
		return fmt.Errorf("list the shards of stream %s: %w", f.stream, err)
	}
	if len(listed) == 0 {
		return fmt.Errorf("stream %s lists no shard", f.stream)
	}
	if t.start, err = f.start(source.Now()); err != nil {
		return err
	}
	t.begin(reading, listed)
	t.wg.Wait()
	switch cause := context.Cause(reading); {
	case errors.Is(cause, errOver):
		return t.unanswered()
	case cause != nil && !errors.Is(cause, errEnough):
		return cause
	}
	return nil // enough, or all shards have ended
}

// answered notes whether the last request for a shard was answered.
func (t *tailer) answered(id string, yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shards[id].answered = yes
}

// unanswered is an error if a shard was not being read when the time was over: what it has since is not known.
func (t *tailer) unanswered() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(t.shards)) {
		if s := t.shards[id]; s.started && !s.ended && !s.answered {
			return fmt.Errorf("shard %s of stream %s: its last request was not answered within %s (--for), so events may be missing", id, t.f.stream, t.f.length)
		}
	}
	return nil
}

// begin notes the shards, and starts to read those whose parents are all finished, or not there any more.
func (t *tailer) begin(ctx context.Context, listed []shardreader.Shard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := len(t.shards) == 0
	for _, s := range listed {
		if t.shards[s.ID] == nil {
			t.shards[s.ID] = &shard{parents: s.Parents}
		}
	}
	if first && t.f.now { // what has been closed already has nothing to show
		for _, s := range listed {
			for _, parent := range s.Parents {
				if p := t.shards[parent]; p != nil {
					p.started, p.ended = true, true
				}
			}
		}
	}
	for id, s := range t.shards {
		waits := slices.ContainsFunc(s.parents, func(parent string) bool { return t.shards[parent] != nil && !t.shards[parent].ended })
		if !s.started && !waits {
			s.started = true
			t.wg.Go(func() { t.read(ctx, id) })
		}
	}
}

// read reads one shard to its end, and starts its children.
func (t *tailer) read(ctx context.Context, id string) {
	children, err := t.reader.Read(ctx, id, t.start, func(b shardreader.Batch) error {
		t.answered(id, true)
		for i := range b.Records {
			if err := t.print(id, &b.Records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			t.stop(err)
		}
		return
	}
	t.mu.Lock()
	t.shards[id].ended = true
	t.mu.Unlock()
	t.begin(ctx, children)
}

// print shows a record if it is an event that is wanted.
func (t *tailer) print(shard string, from *shardreader.Record) error {
	r, err := outbox.DecodeRecord(from.Data, t.f.layout)
	if errors.Is(err, outbox.ErrNotEvent) {
		return nil
	}
	if err != nil {
		t.warn("shard %s, record %s: %s", shard, from.SequenceNumber, t.explain(err))
		return nil
	}
	r.ShardID, r.SequenceNumber = shard, from.SequenceNumber
	if !wanted(t.f.types, r.Type) || !wanted(t.f.aggregates, r.AggregateID) || r.Table != "" && !wanted(t.f.table, r.Table) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.f.count > 0 && t.printed >= t.f.count {
		return errEnough
	}
	if err := t.printEvent(r, t.lines, t.f.payload); err != nil {
		t.stop(err)
		return err
	}
	if t.printed++; t.printed == t.f.count {
		t.stop(errEnough)
	}
	return nil
}

func wanted(list []string, value string) bool {
	return len(list) == 0 || slices.Contains(list, value)
}

// warn tells what is wrong without ending.
func (t *tailer) warn(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.app.warn(format, args...)
}
