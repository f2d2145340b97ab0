package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/oklog/ulid/v2"

	"github.com/seed-1b628d3f/outbox"
)

// Order is a row of the orders table.
type Order struct {
	ID          string `json:"orderId" dynamodbav:"orderId"`
	Version     int64  `json:"version" dynamodbav:"version"` // the sequence of the order's latest event
	Description string `json:"description" dynamodbav:"description"`
	Email       string `json:"email,omitempty" dynamodbav:"email,omitempty"` // where to confirm; may be empty
	Request     string `json:"-" dynamodbav:"request"`                       // a hash of what was asked for when the order was placed
}

// OrderCreated announces a new order. It is the order's event 1.
type OrderCreated struct {
	OrderID     string `json:"orderId"`
	Description string `json:"description"`
	Email       string `json:"email,omitempty"`
}

// EventType is the name under which the event is stored and handled.
func (OrderCreated) EventType() string { return "ORDER_CREATED" }

const (
	maxBody        = 64 << 10
	maxDescription = 1000
	maxEmail       = 254
)

// EventsKept is for how long events can be replayed, well beyond the stream's retention. MarksKept is for how long the inbox knows that a copy of
// an event was handled, as outbox replay --again writes it. It is longer, since DynamoDB deletes rows days late.
const (
	EventsKept = 30 * 24 * time.Hour
	MarksKept  = EventsKept + 7*24*time.Hour
)

// api answers HTTP requests. It is safe for concurrent use.
type api struct {
	client *dynamodb.Client
	table  string
	writer *outbox.Writer
}

// NewAPI returns the HTTP side: POST / places an order, GET /orders/{id} reads one, and POST /orders/{id}/changes changes one. Every answer is
// JSON. The options are added to those of its Writer. It is safe for concurrent use.
func NewAPI(client *dynamodb.Client, c Config, opts ...outbox.WriterOption) (http.Handler, error) {
	opts = append([]outbox.WriterOption{outbox.WithHeaders(traceHeaders), outbox.WithTTL(EventsKept)}, opts...)
	writer, err := outbox.NewWriter(client, c.EventsTable, opts...)
	if err != nil {
		return nil, err
	}
	a := &api{client: client, table: c.OrdersTable, writer: writer}
	mux := http.NewServeMux()
	mux.HandleFunc("/", nothing)
	for route, handle := range a.routes() {
		if strings.HasSuffix(route, "/") {
			route += "{$}" // only this path, as in an HTTP API
		}
		Handle(mux, route, handle)
	}
	return OnlyCleanPaths(mux), nil
}

// routes are the API's, in the syntax of an HTTP API of Amazon API Gateway.
func (a *api) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /":                    a.placeOrder,
		"GET /orders/{id}":          a.getOrder,
		"POST /orders/{id}/changes": a.changeOrder,
	}
}

// Routes returns the routes of NewAPI, in the syntax of an HTTP API of Amazon API Gateway.
func Routes() []string { return slices.Sorted(maps.Keys((&api{}).routes())) }

// patience is how long a request waits for DynamoDB. Its answer comes before a server gives up writing it.
const patience = 20 * time.Second

func (a *api) placeOrder(w http.ResponseWriter, r *http.Request) {
	order, err := readOrder(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, err)
		return
	}
	if order.ID, err = orderID(r); err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(withTraceParent(r.Context(), r.Header.Get("Traceparent")), patience)
	defer cancel()
	if err := a.place(ctx, order); err != nil {
		fail(ctx, w, err, order.ID, "placed")
		return
	}
	Answer(w, http.StatusCreated, map[string]string{"orderId": order.ID})
}

// place commits the order and its first event together. An order that is placed again, by a client that has lost the answer or by another
// instance, has the same id: it is there, and nothing is written.
func (a *api) place(ctx context.Context, order Order) error {
	item, err := attributevalue.MarshalMap(order)
	if err != nil {
		return err
	}
	err = a.writer.Transact(ctx, []types.TransactWriteItem{{Put: &types.Put{
		TableName: &a.table, Item: item, ConditionExpression: aws.String("attribute_not_exists(orderId)"),
	}}}, outbox.NewSequenced(order.ID, order.Version, OrderCreated{OrderID: order.ID, Description: order.Description, Email: order.Email}))
	if !lostRace(err) {
		return err
	}
	placed, err := a.stored(ctx, order.ID)
	switch {
	case errors.Is(err, errNoOrder): // its event is there
		return errRemoved
	case err == nil && placed.Request != order.Request:
		return errOtherOrder
	}
	return err
}

// lostRace reports whether an error says that an order has another version than was thought. Then nothing was written.
func lostRace(err error) bool {
	return errors.Is(err, outbox.ErrConditionFailed) || errors.Is(err, outbox.ErrSequenceTaken)
}

var (
	errNoOrder    = errors.New("there is no such order")
	errOtherOrder = errors.New("this idempotency key was used for another order")
	errRemoved    = errors.New("the order of this idempotency key was removed: choose another key")
	errUnreadable = errors.New("the order cannot be read at the moment")
)

// stored reads an order.
func (a *api) stored(ctx context.Context, id string) (order Order, err error) {
	if _, err := ulid.ParseStrict(id); err != nil { // no key that DynamoDB would refuse
		return Order{}, errNoOrder
	}
	out, err := a.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &a.table,
		Key:            map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: id}},
		ConsistentRead: aws.Bool(true),
	})
	switch {
	case err != nil:
		return Order{}, fmt.Errorf("%w: %w", errUnreadable, err)
	case out.Item == nil:
		return Order{}, errNoOrder
	}
	if err = attributevalue.UnmarshalMap(out.Item, &order); err == nil && order.Version < 1 {
		err = fmt.Errorf("its version is %d", order.Version)
	}
	return order, err
}

// refuse answers a request that is not understood.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		status, err = http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit)
	}
	Answer(w, status, Problem{err.Error()})
}

// fail logs why an order was not placed, read or changed, and answers what the client may know of it.
func fail(ctx context.Context, w http.ResponseWriter, err error, id, done string) {
	status, text := explain(err, id, done)
	level := slog.LevelError
	if status < http.StatusInternalServerError { // a matter of the client
		level = slog.LevelInfo
	}
	slog.Log(ctx, level, "order not "+done, "order", id, "error", err)
	Answer(w, status, Problem{text})
}

// explain turns an error into an answer.
func explain(err error, id, done string) (status int, text string) {
	switch {
	case errors.Is(err, errNoOrder):
		return http.StatusNotFound, errNoOrder.Error()
	case errors.Is(err, errOtherOrder):
		return http.StatusUnprocessableEntity, errOtherOrder.Error()
	case errors.Is(err, errRemoved):
		return http.StatusGone, errRemoved.Error()
	case errors.Is(err, outbox.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "the order is too large"
	case errors.Is(err, outbox.ErrUnknownOutcome):
		next := "look it up before you repeat it" // somebody may have changed it since
		if done == "placed" {
			next = "repeat it with the same Idempotency-Key, or look it up"
		}
		return http.StatusServiceUnavailable, "it is not known whether order " + id + " was " + done + ": " + next
	case errors.Is(err, outbox.ErrConflict), lostRace(err):
		return http.StatusServiceUnavailable, "the order was not " + done + ", please try again"
	case errors.Is(err, errUnreadable):
		return http.StatusServiceUnavailable, errUnreadable.Error()
	default: // a missing table or permission, say: trying again does not help
		return http.StatusInternalServerError, "the order was not " + done
	}
}

type traceParentKey struct{}

// traceParent is version 00 of https://www.w3.org/TR/trace-context/. Another header of this name is left out, as it says.
var traceParent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

func withTraceParent(ctx context.Context, value string) context.Context {
	if !traceParent.MatchString(value) {
		return ctx
	}
	return context.WithValue(ctx, traceParentKey{}, value)
}

// traceHeaders carries the trace of the request on with every event.
func traceHeaders(ctx context.Context) map[string]string {
	trace, ok := ctx.Value(traceParentKey{}).(string)
	if !ok {
		return nil
	}
	return map[string]string{"traceparent": trace}
}

func (a *api) getOrder(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	order, err := a.stored(ctx, r.PathValue("id"))
	if err != nil {
		fail(ctx, w, err, r.PathValue("id"), "read")
		return
	}
	show(w, order)
}

// show answers with an order.
func show(w http.ResponseWriter, order Order) {
	order.Email = "" // whoever finds the order's id does not get an address with it
	Answer(w, http.StatusOK, order)
}
