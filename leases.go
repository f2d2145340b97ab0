package outbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
)

// Leases keeps which worker reads which shard, and how far: a [*LeaseTable] for a fleet, [*MemoryLeases] for a single process. No
// other type implements it.
type Leases interface {
	store(stream string) (lease.Store, error)
	name() string // tells these leases from others: fences compare only within one name
}

// LeaseClient is what a LeaseTable needs of the SDK. *dynamodb.Client implements it. Only Create uses the methods from
// CreateTable on.
type LeaseClient interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

// LeaseTable keeps the leases of a fleet in a DynamoDB table. It is safe for concurrent use.
type LeaseTable struct {
	client       LeaseClient
	table, group string
}

// NewLeaseTable returns the leases of a group in a table. The group names the application that reads. Its workers share the
// shards of a stream; another group reads the same stream from its own checkpoints. Many groups and streams may share a table.
// NewLeaseTable makes no call. The table is a name or an ARN. The group has 1 to 2,048 bytes of UTF-8 and no '#'.
func NewLeaseTable(client LeaseClient, table, group string) (*LeaseTable, error) {
	var errs []error
	if isNil(client) {
		errs = append(errs, errors.New("the DynamoDB client is nil"))
	} else if _, err := dynamostore.New(client, table, group, "stream"); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox: NewLeaseTable: %w", err)
	}
	return &LeaseTable{client: client, table: table, group: group}, nil
}

// Create creates the table unless it exists, and waits until it is active. The table has partition key "group" (S), sort key "id"
// (S) and time to live on "ttl", and is billed per request. Several workers may call Create at once. If the table exists in
// another form, the result is an error.
func (t *LeaseTable) Create(ctx context.Context) error {
	if err := t.made(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := dynamostore.Create(ctx, t.client, t.table); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// made reports whether NewLeaseTable has made the table.
func (t *LeaseTable) made() error {
	if t.client == nil {
		return errors.New("a LeaseTable is made by NewLeaseTable")
	}
	return nil
}

func (t *LeaseTable) store(stream string) (lease.Store, error) {
	if err := t.made(); err != nil {
		return nil, err
	}
	return dynamostore.New(t.client, t.table, t.group, stream)
}

func (t *LeaseTable) name() string { return t.table + "#" + t.group }

// MemoryLeases keeps leases in this process. Workers of one process share the shards. Checkpoints end with the process, and the
// next process starts where its options say. The zero value is ready for use. MemoryLeases is safe for concurrent use.
type MemoryLeases struct {
	mu     sync.Mutex
	stores map[string]*lease.Memory
	id     string
}

func (m *MemoryLeases) store(stream string) (lease.Store, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stores == nil {
		m.stores = make(map[string]*lease.Memory)
	}
	if m.stores[stream] == nil {
		m.stores[stream] = &lease.Memory{}
	}
	return m.stores[stream], nil
}

func (m *MemoryLeases) name() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.id == "" {
		m.id = rand.Text()
	}
	return m.id
}
