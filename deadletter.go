package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/grace"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
)

// DeadLetterClient is what a DeadLetterTable needs of the SDK. *dynamodb.Client implements it. Only Create uses CreateTable and the methods
// that follow it.
type DeadLetterClient interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

// DeadLetterTable keeps the events that a consumer could not handle, until they are redriven or discarded. It is a DynamoDB table, which many
// consumers may share. WithDeadLetters makes a Consumer use it. It is safe for concurrent use.
type DeadLetterTable struct {
	client DeadLetterClient
	table  string
	store  *deadletter.Store
}

// NewDeadLetterTable returns the dead letters of a consumer in a table. consumer names the application whose handlers failed; all its instances
// share the name, which has 1 to 255 bytes of UTF-8 and no '#'. The table is a name or an ARN. NewDeadLetterTable makes no call. The error names
// all mistakes.
func NewDeadLetterTable(client DeadLetterClient, table, consumer string) (*DeadLetterTable, error) {
	store, err := deadletter.New(client, table, consumer)
	if isNil(client) {
		err = errors.Join(errors.New("the DynamoDB client is nil"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: NewDeadLetterTable: %w", err)
	}
	return &DeadLetterTable{client: client, table: table, store: store}, nil
}

// made reports whether NewDeadLetterTable has made the table.
func (t *DeadLetterTable) made() error {
	if t.store == nil {
		return errors.New("outbox: a DeadLetterTable is made by NewDeadLetterTable")
	}
	return nil
}

// Create creates the table unless it exists, and waits until it is active. The table is billed per request. It has partition key "group" (S),
// sort key "id" (S), and time to live on "expiresAt". Several processes may call Create at once. A table of another form is an error. Dead
// letters have no time to live: only Redrive and Discard remove them.
func (t *DeadLetterTable) Create(ctx context.Context) error {
	if err := t.made(); err != nil {
		return err
	}
	form := owntable.Form{What: "dead letter table", Partition: "group", Sort: "id", TTL: "expiresAt"}
	if err := form.Create(ctx, t.client, t.table); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// ErrNoDeadLetter says that there is no dead letter with an id. There never was one, or it has been redriven or discarded.
var ErrNoDeadLetter = errors.New("no such dead letter")

// DeadLetter is an event that could not be handled, or a later event of the same aggregate.
type DeadLetter struct {
	// ID names the dead letter within its consumer. It is mostly the aggregate's id, '#', and the event's id, but do not make one up or take
	// it apart: ids may be escaped, shortened, and followed by a hash.
	ID string
	// Record is the event with its payload, and where it was delivered from. If the record could not be decoded, Record says only the latter.
	// Its Fence is 0: the fence belonged to the worker that stored the letter.
	Record Record
	// Raw is the change record that could not be decoded; otherwise nil.
	Raw []byte
	// Error is the text of the last error, cut after 2 KB. The handler wrote it: it may quote the payload.
	Error string
	// Attempts counts failed calls and lost races, plus one for each failed redrive. It begins with 0 for a parked event or a record that cannot
	// be decoded.
	Attempts int
	// Parked says that no handler was called for the event, because an earlier event of its aggregate was a dead letter.
	Parked bool
	// Again is for the DeadLettered hook. It says that the event was delivered again and was a dead letter already. The letter is as it was.
	Again bool
	// StoredAt is when the event became a dead letter.
	StoredAt time.Time
	// TriedAt is when a redrive of the letter last failed; zero if no redrive failed.
	TriedAt time.Time
	// Order is the name of the events table by whose sequences the consumer orders the event (WithOrder), or empty. A letter that has it is
	// discarded by Inbox.Discard.
	Order string
	// Inbox is the consumer that NewInbox was given, if the letter has an Order: whose position the event waits for.
	Inbox string
}

// DeadLetterFilter selects dead letters. Every field that is set must match, so the zero value selects all letters.
type DeadLetterFilter struct {
	ID            string    // of the dead letter
	Type          string    // of the event
	AggregateID   string    // of the event
	ErrorContains string    // a part of the error's text, in the same case
	StoredBefore  time.Time // exclusive
	StoredAfter   time.Time // inclusive
}

func (f *DeadLetterFilter) matches(l *deadletter.Letter) bool {
	switch {
	case f.ID != "" && l.ID != f.ID,
		f.Type != "" && l.Event.Type != f.Type,
		f.AggregateID != "" && l.Event.AggregateID != f.AggregateID,
		!strings.Contains(l.Error, f.ErrorContains),
		!f.StoredBefore.IsZero() && !l.StoredAt.Before(f.StoredBefore),
		!f.StoredAfter.IsZero() && l.StoredAt.Before(f.StoredAfter):
		return false
	}
	return true
}

// List runs through the dead letters that the filter selects. If the filter names an aggregate, they come in the order of a redrive, otherwise
// in the order of their ids. List reads all letters of the aggregate, or of the consumer, a page at a time, and DynamoDB bills them. It ends
// with the first error.
func (t *DeadLetterTable) List(ctx context.Context, filter DeadLetterFilter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if err := t.made(); err != nil {
			yield(DeadLetter{}, err)
			return
		}
		for l, err := range t.letters(ctx, filter) {
			if err != nil {
				yield(DeadLetter{}, fmt.Errorf("outbox: %w", err))
				return
			}
			if !yield(deadLetter(&l), nil) {
				return
			}
		}
	}
}

func (t *DeadLetterTable) letters(ctx context.Context, filter DeadLetterFilter) iter.Seq2[deadletter.Letter, error] {
	if filter.ID != "" {
		return func(yield func(deadletter.Letter, error) bool) {
			l, err := t.store.Get(ctx, filter.ID)
			if err == nil && filter.matches(&l) || err != nil && !errors.Is(err, deadletter.ErrMissing) {
				yield(l, err)
			}
		}
	}
	queue := ""
	if filter.AggregateID != "" {
		queue = deadletter.QueueKey(filter.AggregateID)
	}
	return t.store.Letters(ctx, queue, filter.matches)
}

// Get returns a dead letter. The error matches ErrNoDeadLetter if no letter has the id.
func (t *DeadLetterTable) Get(ctx context.Context, id string) (DeadLetter, error) {
	if err := t.made(); err != nil {
		return DeadLetter{}, err
	}
	if id == "" {
		return DeadLetter{}, fmt.Errorf("outbox: %w: the id is empty", ErrNoDeadLetter)
	}
	l, err := t.store.Get(ctx, id)
	switch {
	case errors.Is(err, deadletter.ErrMissing):
		return DeadLetter{}, fmt.Errorf("outbox: %w: %q", ErrNoDeadLetter, shorten(id))
	case err != nil:
		return DeadLetter{}, fmt.Errorf("outbox: %w", err)
	}
	return deadLetter(&l), nil
}

// Discard removes a dead letter for good, without handling it. The letters behind it stay, and keep their aggregate parked until they are
// redriven or discarded. With the last letter of an aggregate its parking ends. The error matches ErrNoDeadLetter if no letter has the id. A
// letter of a sequenced event of a Consumer with WithOrder is refused, and stays: Inbox.Discard moves the position, too. A small row remembers
// for good that the event was discarded, so that replay.Events.Reconcile leaves it alone. An event with the id and another Time is another one.
func (t *DeadLetterTable) Discard(ctx context.Context, id string) error {
	if err := t.made(); err != nil {
		return err
	}
	return t.discard(ctx, id, func(l *deadletter.Letter) error {
		if l.Order != "" {
			return fmt.Errorf("outbox: dead letter %q is of a Consumer with WithOrder, whose position has to move: use Inbox.Discard", shorten(id))
		}
		return nil
	})
}

// discard removes a letter, if first agrees.
func (t *DeadLetterTable) discard(ctx context.Context, id string, first func(*deadletter.Letter) error) error {
	if id == "" {
		return fmt.Errorf("outbox: %w: the id is empty", ErrNoDeadLetter)
	}
	l, err := t.store.Head(ctx, id)
	missing := errors.Is(err, deadletter.ErrMissing)
	if err == nil {
		if err := first(&l); err != nil {
			return err
		}
		_, err = t.store.Discard(ctx, &l)
	}
	if queue := deadletter.QueueOf(id); (err == nil || missing) && queue != "" { // if the letter is missing, an earlier call may have failed here
		ctx, cancel := grace.After(ctx, storeTimeout) // no letter would lead to the queue any more
		defer cancel()
		if _, closeErr := t.store.Close(ctx, queue); closeErr != nil {
			err = closeErr
		}
	}
	switch {
	case errors.Is(err, deadletter.ErrMissing):
		return fmt.Errorf("outbox: %w: %q", ErrNoDeadLetter, shorten(id))
	case err != nil:
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

func deadLetter(l *deadletter.Letter) DeadLetter {
	text := l.Error
	if l.Incomplete {
		text = errIncomplete.Error()
	}
	return DeadLetter{
		ID: l.ID, Record: Record(l.Event), Raw: l.Raw, Error: text, Attempts: l.Attempts, Parked: l.Parked,
		StoredAt: l.StoredAt, TriedAt: l.TriedAt, Order: l.Order, Inbox: l.Inbox,
	}
}
