package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/deployment"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/fakeses"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// needs finds out what the code needs of a deployment, by running it.
func needs(t *testing.T, d *deployment.Deployment) deployment.Needs {
	return deployment.Needs{
		Tables: createdTables(t),
		Variables: map[string][]string{
			"api": service.Variables(service.RoleAPI), "consumer": service.Variables(service.RoleConsumer), "redrive": service.Variables(service.RoleRedrive),
			"reconcile": service.Variables(service.RoleReconcile),
		},
		Used:      used(t, d),
		Routes:    service.Routes(),
		Consumer:  "consumer",
		Scheduled: "redrive",
		Cycle: deployment.Cycle{Program: "reconcile", Every: service.ReconcileEvery, Length: service.ReconcileCycle,
			Found: deployment.Metric{Namespace: service.MetricNamespace, Name: service.UndeliveredMetric, Dimension: service.StackDimension, Value: names(t, d).Stack, Statistic: "Maximum"},
			Done:  deployment.Metric{Namespace: service.MetricNamespace, Name: service.ReconciledMetric, Dimension: service.StackDimension, Value: names(t, d).Stack, Statistic: "Sum"}},
		Kept:      service.EventsKept,
		Protected: true,
		Alarms: []deployment.Metric{{Namespace: service.MetricNamespace, Name: service.DeadLettersMetric, Dimension: service.StackDimension,
			Value: names(t, d).Stack, Statistic: "Sum"}},
		Gauges: []deployment.Metric{
			{Namespace: service.MetricNamespace, Name: service.WaitingMetric, Dimension: service.StackDimension, Value: names(t, d).Stack, Statistic: "Maximum"},
			{Namespace: service.MetricNamespace, Name: service.DestinationMetric, Dimension: service.StackDimension, Value: names(t, d).Stack, Statistic: "Maximum"},
		},
	}
}

// createdTables are the tables as the code creates them, by the variable that names each.
func createdTables(t *testing.T) map[string]deployment.Table {
	cloud := outboxtest.Start(t)
	require.NoError(t, setUp(t.Context(), cloud.DynamoDB, cloud.Kinesis))
	createOwn(t, cloud.DynamoDB, "inbox", "letters", "leases")
	tables := make(map[string]deployment.Table)
	for variable, name := range map[string]string{"ORDERS_TABLE": ordersTable, "EVENTS_TABLE": eventsTable, "INBOX_TABLE": "inbox",
		"DEAD_LETTERS_TABLE": "letters", "LEASES_TABLE": "leases"} {
		tables[variable] = described(t, cloud.DynamoDB, name)
	}
	return tables
}

func described(t *testing.T, client *dynamodb.Client, name string) deployment.Table {
	out, err := client.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &name})
	require.NoError(t, err)
	table := deployment.Table{Attributes: map[string]string{}}
	if b := out.Table.BillingModeSummary; b != nil {
		table.OnDemand = b.BillingMode == dynamodbtypes.BillingModePayPerRequest
	}
	for _, a := range out.Table.AttributeDefinitions {
		table.Attributes[*a.AttributeName] = string(a.AttributeType)
	}
	for _, k := range out.Table.KeySchema {
		if k.KeyType == dynamodbtypes.KeyTypeHash {
			table.Partition = *k.AttributeName
		} else {
			table.Sort = *k.AttributeName
		}
	}
	for _, i := range out.Table.GlobalSecondaryIndexes {
		table.Indexes = append(table.Indexes, *i.IndexName)
	}
	ttl, err := client.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &name})
	require.NoError(t, err)
	table.TTL = aws.ToString(ttl.TimeToLiveDescription.AttributeName)
	destinations, err := client.DescribeKinesisStreamingDestination(t.Context(), &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &name})
	require.NoError(t, err)
	for _, d := range destinations.KinesisDataStreamDestinations {
		table.Stream, table.Precision = *d.StreamArn, string(d.ApproximateCreationDateTimePrecision)
	}
	return table
}

// stage is an AWS on which the programs run. Until SES is healed it refuses mails to nobody@example.com, and all but the first one to
// once@example.com, breaks down at those to never@example.com, and throttles the first one to later@example.com.
type stage struct {
	cloud   *outboxtest.AWS
	mail    *fakeses.Server
	config  aws.Config
	healed  chan struct{}
	letters *outbox.DeadLetterTable // not recorded
	seen    map[string]*deployment.Recorder
}

func newStage(t *testing.T, c service.Config) *stage {
	s := &stage{cloud: outboxtest.Start(t), mail: &fakeses.Server{}, healed: make(chan struct{}), seen: map[string]*deployment.Recorder{}}
	throttled, once := false, false
	s.mail.Refuse(func(m fakeses.Mail) (int, string) {
		select {
		case <-s.healed:
			return 0, ""
		default:
		}
		switch {
		case m.To == "nobody@example.com":
			return http.StatusBadRequest, "MessageRejected"
		case m.To == "once@example.com" && !once:
			once = true
		case m.To == "once@example.com":
			return http.StatusBadRequest, "MessageRejected"
		case m.To == "never@example.com":
			return http.StatusInternalServerError, "InternalServiceErrorException"
		case m.To == "later@example.com" && !throttled:
			throttled = true
			return http.StatusTooManyRequests, "TooManyRequestsException"
		}
		return 0, ""
	})
	mux := http.NewServeMux()
	mux.Handle("/", s.cloud)
	mux.Handle("/v2/email/", s.mail)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.config = s.cloud.Config()
	s.config.BaseEndpoint, s.config.HTTPClient = &server.URL, nil
	s.config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	s.cloud.CreateTable(t, c.OrdersTable, "orderId")
	s.cloud.CreateOutbox(t, c.EventsTable, c.EventsStream, 1)
	createOwn(t, s.cloud.DynamoDB, c.InboxTable, c.DeadLettersTable, c.LeasesTable)
	var err error
	s.letters, err = outbox.NewDeadLetterTable(s.cloud.DynamoDB, c.DeadLettersTable, service.Group)
	require.NoError(t, err)
	return s
}

// sdk is the SDK's configuration of a program, whose calls are recorded.
func (s *stage) sdk(program string) aws.Config {
	s.seen[program] = &deployment.Recorder{}
	return s.seen[program].Config(s.config)
}

// everyCall is what used returns. It takes seconds, and is the same for all.
var everyCall struct {
	sync.Once
	calls map[string][]deployment.Grant
}

// used runs every program through everything that it can meet, and returns what each called, with the deployment's names.
func used(t *testing.T, d *deployment.Deployment) map[string][]deployment.Grant {
	// Here the tables are called like the variables that name them.
	c := service.Config{OrdersTable: "ORDERS_TABLE", EventsTable: "EVENTS_TABLE", EventsStream: "EVENTS_STREAM", InboxTable: "INBOX_TABLE",
		DeadLettersTable: "DEAD_LETTERS_TABLE", LeasesTable: "LEASES_TABLE", MailFrom: sender()["MailFrom"], MailRate: 10_000}
	everyCall.Do(func() {
		before := slog.Default()
		slog.SetDefault(slog.New(slog.DiscardHandler))
		defer slog.SetDefault(before)
		s := newStage(t, c)
		api := s.runAPI(t, c)
		s.runConsumer(t, c, api)
		s.runRedrive(t, c)
		s.runWorker(t, c, api)
		s.runReconcile(t, c)
		everyCall.calls = make(map[string][]deployment.Grant)
		for program, r := range s.seen {
			everyCall.calls[program] = r.Used()
		}
	})
	require.Len(t, everyCall.calls, 5, "the programs did not run to their end")
	named := names(t, d)
	arns := strings.NewReplacer(
		"table/"+c.OrdersTable, "table/"+named.OrdersTable, "table/"+c.EventsTable, "table/"+named.EventsTable, "table/"+c.InboxTable, "table/"+named.InboxTable,
		"table/"+c.DeadLettersTable, "table/"+named.DeadLettersTable, "table/"+c.LeasesTable, "table/"+named.LeasesTable, "stream/"+c.EventsStream, "stream/"+named.EventsStream)
	all := make(map[string][]deployment.Grant)
	for program, calls := range everyCall.calls {
		for _, g := range calls {
			g = deployment.Grant{Action: g.Action, Resource: arns.Replace(g.Resource)}
			all[program] = append(all[program], g)
			// A Worker reads what is parked, and asks for single aggregates only when 100,000 are: more than a test can park.
			// The consumer asks below that, and its calls are seen.
			if program == "worker" && g.Action == "dynamodb:Query" && strings.HasSuffix(g.Resource, "table/"+named.DeadLettersTable) {
				all[program] = append(all[program], deployment.Grant{Action: "dynamodb:BatchGetItem", Resource: g.Resource})
			}
		}
	}
	return all
}

func (s *stage) runAPI(t *testing.T, c service.Config) http.Handler {
	api, err := service.NewAPI(dynamodb.NewFromConfig(s.sdk("api")), c)
	require.NoError(t, err)
	first := send(t, api, http.MethodPost, "/", to("a@example.com"), "1")
	require.Equal(t, http.StatusCreated, first.Code, first.Body)
	require.Equal(t, http.StatusCreated, send(t, api, http.MethodPost, "/", to("a@example.com"), "1").Code)
	require.Equal(t, http.StatusUnprocessableEntity, send(t, api, http.MethodPost, "/", to("b@example.com"), "1").Code)
	require.Equal(t, http.StatusBadRequest, send(t, api, http.MethodPost, "/", "{", "").Code)
	id := strings.Split(first.Body.String(), `"`)[3]
	require.Equal(t, http.StatusOK, send(t, api, http.MethodGet, "/orders/"+id, "", "").Code)
	require.Equal(t, http.StatusOK, send(t, api, http.MethodPost, "/orders/"+id+"/changes", `{"description":"tea"}`, "").Code)
	require.Equal(t, http.StatusNotFound, send(t, api, http.MethodGet, "/orders/none", "", "").Code)
	return api
}

// parkedAggregates is more than the library reads at once of what is parked.
const parkedAggregates = 1001

func (s *stage) runConsumer(t *testing.T, c service.Config, api http.Handler) {
	consumer, err := service.Confirmations(s.sdk("consumer"), c, io.Discard)
	require.NoError(t, err)
	m := &mapping{client: s.cloud.Kinesis, stream: c.EventsStream, invoke: consumer.Invoke}
	require.NoError(t, s.cloud.SetFaults(outboxtest.Fault{Kind: outboxtest.DuplicateRecord, Probability: 1}))
	for _, address := range []string{"later@example.com", "never@example.com", "nobody@example.com", "b@example.com"} {
		require.Equal(t, http.StatusCreated, send(t, api, http.MethodPost, "/", to(address), address).Code)
	}
	s.copies(t, c, "d@example.com", "nobody@example.com")
	s.malformed(t, c)
	m.drain(t, s.cloud)
	s.changed(t, api, "e@example.com")
	m.drain(t, s.cloud)
	once := s.changed(t, api, "once@example.com")
	m.drain(t, s.cloud)
	inbox, err := outbox.NewInbox(s.cloud.DynamoDB, c.InboxTable, service.Group)
	require.NoError(t, err)
	require.NoError(t, inbox.Forget(t.Context(), c.EventsTable, once)) // so that the redrive reads what is before its letter
	for i := range parkedAggregates {
		require.Equal(t, http.StatusCreated, send(t, api, http.MethodPost, "/", to("nobody@example.com"), fmt.Sprint("parked", i)).Code)
	}
	m.drain(t, s.cloud)
	require.Equal(t, http.StatusCreated, send(t, api, http.MethodPost, "/", to("c@example.com"), "c").Code)
	m.drain(t, s.cloud)
	require.Len(t, s.mail.Mails(), 9) // to a, with the change, b, c, d, e, with the change, later, and once
}

// changed places an order whose change record is lost, and changes it: the order's first event has to be read from the table.
func (s *stage) changed(t *testing.T, api http.Handler, address string) (order string) {
	require.NoError(t, s.cloud.SetFaults(outboxtest.Fault{Kind: outboxtest.DropRecord, Calls: []int{1}}))
	defer s.cloud.StopFaults()
	placed := send(t, api, http.MethodPost, "/", to(address), address)
	require.Equal(t, http.StatusCreated, placed.Code)
	order = strings.Split(placed.Body.String(), `"`)[3]
	require.Equal(t, http.StatusOK, send(t, api, http.MethodPost, "/orders/"+order+"/changes", `{"description":"tea"}`, "").Code)
	require.NoError(t, s.cloud.Drain(t.Context()))
	return order
}

// copies writes events that have no place in an order, as those that outbox replay --again has copied.
func (s *stage) copies(t *testing.T, c service.Config, addresses ...string) {
	writer, err := outbox.NewWriter(s.cloud.DynamoDB, c.EventsTable)
	require.NoError(t, err)
	for _, address := range addresses {
		require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("copy to "+address, service.OrderCreated{OrderID: "1", Description: "tea", Email: address})))
	}
}

// malformed puts a record into the stream that is no change record.
func (s *stage) malformed(t *testing.T, c service.Config) {
	_, err := s.cloud.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: &c.EventsStream, PartitionKey: aws.String("p"), Data: []byte("nonsense")})
	require.NoError(t, err)
}

func (s *stage) runRedrive(t *testing.T, c service.Config) {
	redrive, err := service.Redrives(s.sdk("redrive"), c, io.Discard)
	require.NoError(t, err)
	asked := map[string]string{} // a letter of each kind
	for l, err := range s.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		switch {
		case l.Raw != nil:
			asked["malformed"] = l.ID
		case l.Parked:
		case l.Order == "":
			asked["copy"] = l.ID
		case l.Record.Sequence > 1:
			asked["later"] = l.ID
		default:
			asked["first"] = l.ID
		}
	}
	require.Len(t, asked, 4, "%v", asked)
	for _, want := range []string{`{"busy":0,"failed":4,"redriven":0}`, `{"busy":0,"failed":1,"redriven":4}`, `{"busy":0,"failed":0,"redriven":0}`} {
		if want == `{"busy":0,"failed":1,"redriven":4}` { // also the event before the later one, which is a letter now
			close(s.healed)
		}
		if want != `{"busy":0,"failed":0,"redriven":0}` {
			for _, id := range asked {
				n, err := s.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{ID: id})
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
		}
		answer, err := redrive.Invoke(t.Context(), []byte(`{"source":"aws.events"}`))
		require.NoError(t, err)
		require.JSONEq(t, want, string(answer))
	}
}

// runWorker has a worker read the stream from its beginning, where it meets what the consumer has met, and then events of its own. It redrives
// two of them on request.
func (s *stage) runWorker(t *testing.T, c service.Config, api http.Handler) {
	sdk := s.sdk("worker")
	consumer, err := service.Confirmations(sdk, c, io.Discard)
	require.NoError(t, err)
	leases, err := outbox.NewLeaseTable(dynamodb.NewFromConfig(sdk), c.LeasesTable, service.Group)
	require.NoError(t, err)
	worker, err := outbox.NewWorker(kinesis.NewFromConfig(sdk), c.EventsStream, consumer, leases, outbox.WithLeaseDuration(2*time.Second))
	require.NoError(t, err)
	var refused atomic.Int32
	s.mail.Refuse(func(m fakeses.Mail) (int, string) {
		if m.To == "late@example.com" && refused.Add(1) <= 2 {
			return http.StatusBadRequest, "MessageRejected"
		}
		return 0, ""
	})
	stop := running(t, worker)
	s.malformed(t, c)
	s.changed(t, api, "f@example.com")
	before := time.Now()
	s.copies(t, c, "late@example.com")
	require.Equal(t, http.StatusCreated, send(t, api, http.MethodPost, "/", to("late@example.com"), "late").Code)
	late := outbox.DeadLetterFilter{StoredAfter: before, Type: "ORDER_CREATED", ErrorContains: "confirm order"}
	require.Eventually(t, func() bool {
		n, err := s.letters.RequestRedrive(t.Context(), late)
		return err == nil && n == 2
	}, 5*time.Minute, time.Second) // it comes after all that was parked, of which each answer lists a thousand
	require.Eventually(t, func() bool { // both mails to f
		return slices.ContainsFunc(s.mail.Mails(), func(m fakeses.Mail) bool {
			return m.To == "f@example.com" && strings.HasPrefix(m.Text, "Your order is now")
		})
	}, 5*time.Minute, time.Second)
	require.Eventually(t, func() bool {
		n, err := s.letters.PendingRedrives(t.Context())
		return err == nil && n == 0
	}, 5*time.Minute, time.Second)
	stop()

	// The next worker clears away what the first one has left.
	worker, err = outbox.NewWorker(kinesis.NewFromConfig(sdk), c.EventsStream, consumer, leases, outbox.WithLeaseDuration(2*time.Second))
	require.NoError(t, err)
	stop = running(t, worker)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(s.seen["worker"].Used(), func(g deployment.Grant) bool {
			return g.Action == "dynamodb:DeleteItem" && strings.HasSuffix(g.Resource, "/"+c.LeasesTable)
		})
	}, 3*time.Minute, 100*time.Millisecond) // a calm worker takes a view every 60 to 90 s
	stop()
}

// lostOrders is how many orders of each kind no delivery has brought: so many that the part which is read now has each kind.
const lostOrders = 500

// runReconcile finds orders that can be confirmed, that SES refuses, at which it breaks down until the attempts are spent, and that are behind a dead
// letter.
func (s *stage) runReconcile(t *testing.T, c service.Config) {
	var parked string
	for l, err := range s.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		parked = l.Record.AggregateID
	}
	require.NotEmpty(t, parked)
	writer, err := outbox.NewWriter(s.cloud.DynamoDB, c.EventsTable)
	require.NoError(t, err)
	var lost []outbox.AnyEvent
	for i := range lostOrders {
		for _, kind := range []string{"found", "refused", "broken", "behind"} {
			id := fmt.Sprint(kind, i)
			e := outbox.Event[service.OrderCreated]{ID: id, AggregateID: id, Time: time.Now().Add(-time.Hour), Data: service.OrderCreated{OrderID: id, Email: kind + "@example.com"}}
			if kind == "behind" {
				e.AggregateID = parked
			}
			lost = append(lost, e)
		}
	}
	for batch := range slices.Chunk(lost, 100) {
		require.NoError(t, writer.Transact(t.Context(), nil, batch...))
	}
	s.confirmed(t, c, writer, len(lost))
	s.mail.Refuse(func(m fakeses.Mail) (int, string) {
		switch m.To {
		case "refused@example.com":
			return http.StatusBadRequest, "MessageRejected"
		case "broken@example.com":
			return http.StatusInternalServerError, "InternalServiceErrorException"
		}
		return 0, ""
	})
	reconcile, err := service.Reconciles(s.sdk("reconcile"), c, io.Discard)
	require.NoError(t, err)
	for range 100 {
		if _, err = reconcile.Invoke(t.Context(), []byte(`{"source":"aws.events"}`)); err == nil {
			return
		}
	}
	require.NoError(t, err)
}

// confirmed writes events that the inbox has: with more that are missing than that, Reconcile takes the inbox for a wrong one.
func (s *stage) confirmed(t *testing.T, c service.Config, writer *outbox.Writer, n int) {
	inbox, err := outbox.NewInbox(s.cloud.DynamoDB, c.InboxTable, service.Group)
	require.NoError(t, err)
	consumer, err := outbox.NewConsumer(outbox.WithInbox(inbox, service.OrderCreated{}.EventType()))
	require.NoError(t, err)
	outbox.Handle(consumer, func(context.Context, outbox.Event[service.OrderCreated]) error { return nil })
	var events []outbox.AnyEvent
	var records []outbox.Record
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range n {
		id := fmt.Sprint("confirmed", i)
		events = append(events, outbox.Event[service.OrderCreated]{ID: id, AggregateID: id, Time: at, Data: service.OrderCreated{OrderID: id}})
		records = append(records, outbox.Record{ID: id, AggregateID: id, Type: service.OrderCreated{}.EventType(), Time: at, Payload: []byte("{}"), Table: c.EventsTable})
	}
	for batch := range slices.Chunk(events, 100) {
		require.NoError(t, writer.Transact(t.Context(), nil, batch...))
	}
	require.NoError(t, consumer.Process(t.Context(), records...))
}

// running runs a worker until stop is called, which must go well.
func running(t *testing.T, worker *outbox.Worker) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}
