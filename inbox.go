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
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/recent"
)

// InboxClient is what an Inbox needs of the SDK. *dynamodb.Client implements it. HandleTx uses GetItem and PutItem, guarded
// handlers and WithOrder use UpdateItem and DeleteItem as well, replay.Events.Reconcile uses BatchGetItem, and Create uses the methods from CreateTable on.
type InboxClient interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

// Inbox remembers in a DynamoDB table which events a consumer has handled, so that an event that is delivered again has no second
// effect. There are two ways to use it. [HandleTx] commits what a handler writes in one transaction with the mark "handled", so
// the effects happen exactly once. [WithInbox] guards plain handlers, whose effects lie elsewhere (a mail, a payment): one handler
// at a time runs for an event, and none after a success. A crash between the effect and the mark leads to one more run.
//
// The table has a row for each consumer and event, with a time to live (WithInboxTTL). The row is found by the event's id and its events
// table ([Record].Table), and keeps the type and the aggregate id as well. A known id with another type or aggregate id is a Permanent
// error, never a silent skip. One id in two events tables is two events; so a Record made for Process must name its table, if the same
// event may also come from a stream, a redrive or a replay, which name it. A change record that names no table, as from other sources, is another
// event than its replay. Tables are told apart by their names alone: those of one name in two accounts or Regions need an inbox each.
//
// NewInbox makes an Inbox. It is safe for concurrent use.
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

// NewInbox returns the Inbox of a consumer in a table (a name or an ARN). The consumer names the application whose handlers run. All
// its processes share the marks; another consumer handles the same events on its own. Many consumers may share a table. The
// consumer's name has 1 to 255 bytes of UTF-8 and no '#'. NewInbox makes no call. The error names everything that is wrong with
// the arguments.
func NewInbox(client InboxClient, table, consumer string, opts ...InboxOption) (*Inbox, error) {
	i := &Inbox{inboxConfig: inboxConfig{ttl: 30 * 24 * time.Hour, claim: time.Minute, cache: 10_000}, client: client}
	var errs []error
	if isNil(client) {
		errs = append(errs, errors.New("the DynamoDB client is nil"))
	}
	if err := names.Table(table); err != nil {
		errs = append(errs, fmt.Errorf("the inbox table: %w", err))
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

// made reports whether NewInbox has made the Inbox.
func (i *Inbox) made() error {
	if i.client == nil {
		return errors.New("an Inbox is made by NewInbox")
	}
	return nil
}

// Create creates the table, unless it exists, and waits until it is active: billed per request, with partition key "eventId" (S),
// sort key "consumer" (S) and time to live on "expiresAt". Several processes may call it at once. A table with other keys, or with
// its time to live on another attribute, is an error.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html.
func (i *Inbox) Create(ctx context.Context) error {
	if err := i.made(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := inbox.Create(ctx, i.client, i.table.Name); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// WithInboxTTL sets how long an Inbox remembers an event after it was handled. Default: 30 days; 24 hours to 100 years. An event
// that is delivered after its row is gone is handled again. So the row must outlast the stream's retention (24 hours to 365 days) and
// every later delivery that you make yourself, such as a replay or a redrive of dead letters. DynamoDB deletes the row hours to days
// late; until then it counts. The position of an aggregate (WithOrder) has no time to live.
func WithInboxTTL(ttl time.Duration) InboxOption {
	return inboxOption(func(c *inboxConfig) error {
		if ttl < minTTL || ttl > maxTTL {
			return fmt.Errorf("WithInboxTTL: want 24 hours to 100 years, have %s", ttl)
		}
		c.ttl = ttl
		return nil
	})
}

const longestClaim = 12 * time.Hour

// WithClaimDuration sets for how long a guarded handler may run (WithInbox) when its context has no deadline, as in a Worker. Default:
// a minute; 1 second to 12 hours. The handler's context ends a second before that, or a tenth of the time if that is less. After a
// crash the event waits for as long, unless a Worker of the same leases takes the shard over, so do not choose much more than the
// slowest handler needs. When the handler's context has a deadline, as in Lambda, the claim lasts until then, but no longer than 90
// minutes, the longest invocation of Lambda, or this duration, whichever is more.
func WithClaimDuration(d time.Duration) InboxOption {
	return inboxOption(func(c *inboxConfig) error {
		if d < time.Second || d > longestClaim {
			return fmt.Errorf("WithClaimDuration: want 1 second to 12 hours, have %s", d)
		}
		c.claim = d
		return nil
	})
}

// WithInboxCache sets how many handled events an Inbox remembers in memory: always the latest. A duplicate of such an event costs no
// call. Default: 10,000, which take about 3 MB with short ids; 0 to 1,000,000. With 0 every duplicate asks the table. So does a
// duplicate of an event whose table, id, type and aggregate id have more than 1,024 bytes together, which is not remembered.
func WithInboxCache(events int) InboxOption {
	return inboxOption(func(c *inboxConfig) error {
		if events < 0 || events > 1_000_000 {
			return fmt.Errorf("WithInboxCache: want 0 to 1,000,000, have %d", events)
		}
		c.cache = events
		return nil
	})
}

// WithInbox gives a Consumer its Inbox. HandleTx needs it. WithInbox also guards the plain handlers (Handle, HandleType): all of
// them, or only those of the given event types. Handlers of HandleTx are never guarded, since they need no claim. Default: no
// Inbox, and handlers see every delivery.
//
// A guarded handler runs under a claim on its event. The claim becomes the mark "handled" when the handler returns nil, and is given
// back when the handler fails, panics or ends its goroutine. The delivery of a marked event is a success without a run. While
// another delivery holds the claim, the delivery fails with ErrClaimed. If no claim can be written, it fails as well, without a
// run. Neither failure counts as an attempt.
//
// The handler runs once more if the process crashes between the effect and the mark, if the mark cannot be written (logged as a
// warning), or if the handler outlives its claim. So a handler must heed its context, and pass e.ID to the provider as its
// idempotency key.
//
// The guard is inside the middleware, which sees every delivery. A given event type that has no handler when the first event is
// handled is logged as an error: the name may be mistyped. Costs, clocks and the wait after a crash are in
// docs/ordering-and-duplicates.md.
func WithInbox(i *Inbox, eventTypes ...string) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		switch {
		case i == nil:
			return errors.New("WithInbox: the Inbox is nil")
		case i.made() != nil:
			return fmt.Errorf("WithInbox: %w", i.made())
		case c.inbox != nil:
			return errors.New("WithInbox: a Consumer has one Inbox")
		case slices.Contains(eventTypes, ""):
			return errors.New("WithInbox: an event type is empty")
		}
		c.inbox, c.guarded = i, slices.Clone(eventTypes)
		return nil
	})
}

// ErrClaimed says that another delivery of the event is being handled. The text of an error that matches it says when the claim
// ends. Deliver the event again after that. A Worker does so by itself. It is no attempt.
var ErrClaimed = errors.New("another delivery of the event is being handled")

// claimedError matches ErrClaimed, and knows when the claim ends.
type claimedError struct {
	text  string
	until time.Time
}

func (e *claimedError) Error() string        { return e.text }
func (e *claimedError) Is(target error) bool { return target == ErrClaimed }

// inboxError turns what the table says about an event into the error that callers see.
func inboxError(err error) error {
	if claimed := (*inbox.ClaimedError)(nil); errors.As(err, &claimed) {
		return &claimedError{ErrClaimed.Error() + ": " + claimed.Error(), claimed.Until}
	}
	if other := (*inbox.OtherEventError)(nil); errors.As(err, &other) {
		return Permanent(fmt.Errorf("outbox: %w", err))
	}
	return err
}

func inboxEvent(r *Record) inbox.Event {
	return inbox.Event{ID: r.ID, Type: r.Type, AggregateID: r.AggregateID, Table: r.Table}
}

// eventOf returns the identity of a record for the inbox. The error is permanent.
func (i *Inbox) eventOf(r *Record) (inbox.Event, error) {
	e := inboxEvent(r)
	if err := e.Check(); err != nil {
		return e, Permanent(fmt.Errorf("outbox: an inbox cannot keep the event: %w", err))
	}
	return e, nil
}

// remembered reports whether this process knows that the event was handled.
func (i *Inbox) remembered(ctx context.Context, e inbox.Event) (bool, error) {
	have, known := i.done.Get(e.Table + "#" + e.ID)
	if known = known && have.Table == e.Table && have.ID == e.ID; known && have != e {
		return false, inboxError(&inbox.OtherEventError{Want: e, Have: have})
	}
	if known {
		handledBefore(ctx)
	}
	return known, nil
}

// handled reports whether an event is known to be handled, to this process or to the table. The error says that the table cannot be asked.
func (i *Inbox) handled(ctx context.Context, r *Record) (bool, error) {
	e, err := i.eventOf(r)
	if err != nil {
		return false, nil // its handler says so
	}
	if done, err := i.remembered(ctx, e); done || err != nil {
		return done, nil
	}
	return handledEntry(ctx, &markEntry{i, e})
}

// handledEntry asks the table.
func handledEntry(ctx context.Context, e entry) (bool, error) {
	claimed, other := (*inbox.ClaimedError)(nil), (*inbox.OtherEventError)(nil)
	switch err := e.look(ctx, time.Now()); {
	case errors.Is(err, inbox.ErrHandled):
		handledBefore(ctx)
		e.remember(ctx)
		return true, nil
	case err == nil, errors.As(err, &claimed), errors.As(err, &other):
		return false, nil
	default:
		return false, err
	}
}

// maxRemembered bounds the memory of an event in the cache, in bytes of its names.
const maxRemembered = 1024

// remember notes that an event was handled. It copies the strings, since those of a record keep all of its memory alive.
func (i *Inbox) remember(e inbox.Event) {
	if i.cache == 0 || len(e.Table)+len(e.ID)+len(e.Type)+len(e.AggregateID) > maxRemembered {
		return
	}
	all := strings.Clone(e.Table + "#" + e.ID + e.Type + e.AggregateID)
	t, n := len(e.Table), len(e.Table)+1+len(e.ID)
	m := n + len(e.Type)
	i.done.Add(all[:n], inbox.Event{ID: all[t+1 : n], Type: all[n:m], AggregateID: all[m:], Table: all[:t]})
}
