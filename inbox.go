package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/recent"
)

// InboxClient is what an Inbox needs of the SDK. *dynamodb.Client implements it. The methods from CreateTable on are only used by
// Create; UpdateItem and DeleteItem only for plain handlers, not by HandleTx.
type InboxClient interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

// Inbox remembers in a DynamoDB table which events a consumer has handled, so that an event that is delivered again has no second
// effect. There are two ways to use it. [HandleTx] commits what a handler writes together with the mark "handled", in one
// transaction: exactly once. [WithInbox] also guards plain handlers, whose effects lie elsewhere (a mail, a payment): one handler at
// a time runs for an event, and none after one that has succeeded; only a crash between the effect and the mark leads to one more
// run.
//
// The table has a row for each consumer and event, with a time to live (WithInboxTTL). An event is told by its id; the row keeps the
// type and the aggregate id, too, and an event with the same id and others is a Permanent error, never a silent skip. An Inbox is
// safe for concurrent use.
type Inbox struct {
	inboxConfig
	table  inbox.Table
	client InboxClient
	done   *recent.Cache[inbox.Event]
}

type inboxConfig struct {
	ttl   time.Duration
	claim time.Duration
	cache int
}

// InboxOption configures NewInbox.
type InboxOption interface{ applyInbox(*inboxConfig) error }

type inboxOption func(*inboxConfig) error

func (o inboxOption) applyInbox(c *inboxConfig) error { return o(c) }

// NewInbox returns the Inbox of a consumer in a table (a name or an ARN). The consumer names the application that handles: its
// processes share what was handled, and another consumer handles the same events on its own. Many consumers may share a table. The
// name has 1 to 255 bytes of UTF-8 and no '#'. It makes no call. The error names everything that is wrong with the arguments.
func NewInbox(client InboxClient, table, consumer string, opts ...InboxOption) (*Inbox, error) {
	i := &Inbox{inboxConfig: inboxConfig{ttl: 30 * 24 * time.Hour, claim: time.Minute, cache: 10_000}, client: client}
	var errs []error
	if isNil(client) {
		errs = append(errs, errors.New("the DynamoDB client is nil"))
	}
	if table == "" {
		errs = append(errs, errors.New("the name of the inbox table is empty"))
	}
	errs = append(errs, inbox.CheckConsumer(consumer))
	errs = append(errs, applyAll(opts, func(o InboxOption) error { return o.applyInbox(&i.inboxConfig) }))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox: NewInbox: %w", err)
	}
	i.table = inbox.Table{Client: client, Name: table, Consumer: consumer, TTL: i.ttl}
	i.done = recent.New[inbox.Event](i.cache)
	return i, nil
}

// Create creates the table, billed per request, with partition key "eventId" (S), sort key "consumer" (S) and time to live on
// "expiresAt", unless it exists, and waits until it is active. Several processes may call it at once. A table of another form is an
// error.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html.
func (i *Inbox) Create(ctx context.Context) error {
	if err := inbox.Create(ctx, i.client, i.table.Name); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// WithInboxTTL sets how long an Inbox remembers an event, counted from when it was handled. Default: 30 days; at least 24 hours, at
// most 100 years. It must outlast the stream's retention (24 hours to 365 days) and every later delivery that you make yourself, such
// as a replay of dead letters: an event that is delivered after its row is gone is handled again. DynamoDB deletes hours to days
// late, and until then the row counts.
func WithInboxTTL(ttl time.Duration) InboxOption {
	return inboxOption(func(c *inboxConfig) error {
		if ttl < minTTL || ttl > maxTTL {
			return fmt.Errorf("WithInboxTTL: want 24 hours to 100 years, have %s", ttl)
		}
		c.ttl = ttl
		return nil
	})
}

// WithClaimDuration sets for how long a guarded handler may run (WithInbox) when its context has no deadline, as in a Worker. Default:
// a minute; 1 second to 12 hours. The handler's context ends a second before that, or a tenth of the time if that is less. After a
// crash the event waits for as long, unless a Worker of the same leases takes the shard over, so do not choose much more than the
// slowest handler needs. When the handler's context has a deadline, as in Lambda, the claim lasts until then, but no longer than 90
// minutes, the longest invocation of Lambda, or this duration, whichever is more.
func WithClaimDuration(d time.Duration) InboxOption {
	return inboxOption(func(c *inboxConfig) error {
		if d < time.Second || d > 12*time.Hour {
			return fmt.Errorf("WithClaimDuration: want 1 second to 12 hours, have %s", d)
		}
		c.claim = d
		return nil
	})
}

// WithInboxCache sets how many handled events an Inbox remembers in memory, the latest ones. A duplicate of one of them costs no call.
// Default: 10,000, which take about 3 MB with short ids; 0 to 1,000,000. With 0 every duplicate asks the table.
func WithInboxCache(events int) InboxOption {
	return inboxOption(func(c *inboxConfig) error {
		if events < 0 || events > 1_000_000 {
			return fmt.Errorf("WithInboxCache: want 0 to 1,000,000, have %d", events)
		}
		c.cache = events
		return nil
	})
}

// WithInbox gives a Consumer its Inbox, which HandleTx needs, and guards its plain handlers (Handle, HandleType): all of them, or only
// those of the given event types. Default: no Inbox, and handlers see every delivery.
//
// A guarded handler runs after a claim on its event was written, and the claim becomes the mark "handled" when it returns nil. An event
// that is marked is finished without a run. While another delivery has the claim, the delivery fails with ErrClaimed: a Worker tries
// again when the claim has ended, and does not count it as an attempt. When the handler fails, panics or ends its goroutine, the claim
// is given back, and the next delivery runs it again. If no claim can be written, the delivery fails without a run, which is no attempt
// either.
//
// A crash between the effect and the mark leads to one more run; pass e.ID to the provider as its idempotency key. The same holds when
// the mark cannot be written after the effect (logged as a warning), and when a handler ignores the end of its context and outlives its
// claim. So a handler must heed its context. Claims compare the wall clocks of machines: a clock that is ahead by more than a second
// (the margin between the end of the handler's context and of the claim) may take over a claim while its handler still runs; one that is
// behind waits longer. Keep the clocks synchronized, as machines of AWS are (NTP).
//
// A guarded delivery costs a conditional write before the handler and one after it. The guard is inside the middleware, which sees
// every delivery, those that are finished without a run included. After a crash in Lambda the event fails until the claim has ended:
// leave the mapping enough attempts, or better no limit but age. A Worker that takes over the shard of another takes its claims over
// at once, since the other's handlers have been cancelled before.
//
// With event types, the handlers of other types are not guarded; HandleTx handlers never are, whether named or not, since they need
// no claim. A type that has no handler when the first event is handled is logged as an error: its name may be mistyped.
func WithInbox(i *Inbox, eventTypes ...string) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		switch {
		case i == nil:
			return errors.New("WithInbox: the Inbox is nil")
		case c.inbox != nil:
			return errors.New("WithInbox: a Consumer has one Inbox")
		case slices.Contains(eventTypes, ""):
			return errors.New("WithInbox: an event type is empty")
		}
		c.inbox, c.guarded = i, slices.Clone(eventTypes)
		return nil
	})
}

// ErrClaimed says that another delivery of the event is being handled at the moment; the error that matches it says until when its
// claim lasts. Deliver the event again. A Worker does so by itself, without counting it as an attempt at the handler.
var ErrClaimed = errors.New("another delivery of the event is being handled")

// claimedError matches ErrClaimed.
type claimedError struct {
	text  string
	until time.Time
}

func (e *claimedError) Error() string        { return e.text }
func (e *claimedError) Is(target error) bool { return target == ErrClaimed }

// inboxError turns what the table says about an event into what callers get to see.
func inboxError(err error) error {
	if claimed := (*inbox.ClaimedError)(nil); errors.As(err, &claimed) {
		return &claimedError{ErrClaimed.Error() + ": " + claimed.Error(), claimed.Until}
	}
	if other := (*inbox.OtherEventError)(nil); errors.As(err, &other) {
		return Permanent(fmt.Errorf("outbox: %w", err))
	}
	return err
}

// eventOf returns what the inbox knows a record by.
func (i *Inbox) eventOf(r *Record) (inbox.Event, error) {
	e := inbox.Event{ID: r.ID, Type: r.Type, AggregateID: r.AggregateID}
	if err := e.Check(); err != nil {
		return e, Permanent(fmt.Errorf("outbox: an inbox cannot keep the event: %w", err))
	}
	return e, nil
}

// remembered reports whether this process knows that the event was handled.
func (i *Inbox) remembered(e inbox.Event) (bool, error) {
	have, known := i.done.Get(e.ID)
	if known && have != e {
		return false, inboxError(&inbox.OtherEventError{Want: e, Have: have})
	}
	return known, nil
}

// remember keeps copies, since the strings of a record hold all of it in memory.
func (i *Inbox) remember(e inbox.Event) {
	if i.cache == 0 {
		return
	}
	all := strings.Clone(e.ID + e.Type + e.AggregateID)
	n, m := len(e.ID), len(e.ID)+len(e.Type)
	i.done.Add(all[:n], inbox.Event{ID: all[:n], Type: all[n:m], AggregateID: all[m:]})
}
