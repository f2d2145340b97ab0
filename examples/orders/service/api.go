package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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
	Description string `json:"description" dynamodbav:"description"`
	Email       string `json:"email,omitempty" dynamodbav:"email,omitempty"` // where to confirm; may be empty
}

// OrderCreated announces a new order.
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

// EventsKept is for how long events can be replayed, well beyond the stream's retention. MarksKept is for how long the inbox knows what was
// handled. It is longer, since DynamoDB deletes rows days late.
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

// NewAPI returns the HTTP side: POST / places an order, GET /orders/{id} reads one. Every answer is JSON. The options are added to those
// of its Writer. It is safe for concurrent use.
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
		"POST /":           a.placeOrder,
		"GET /orders/{id}": a.getOrder,
	}
}

// Routes returns the routes of NewAPI, in the syntax of an HTTP API of Amazon API Gateway.
func Routes() []string { return slices.Sorted(maps.Keys((&api{}).routes())) }

// patience is how long a request waits for DynamoDB. Its answer comes before a server gives up writing it.
const patience = 20 * time.Second

func (a *api) placeOrder(w http.ResponseWriter, r *http.Request) {
	order, err := readOrder(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status, err = http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit)
		}
		Answer(w, status, Problem{err.Error()})
		return
	}
	if order.ID, err = orderID(r); err != nil {
		Answer(w, http.StatusBadRequest, Problem{err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(withTraceParent(r.Context(), r.Header.Get("Traceparent")), patience)
	defer cancel()
	if err := a.place(ctx, order); err != nil {
		status, text := explain(err, order)
		level := slog.LevelError
		if status < http.StatusInternalServerError { // a matter of the client
			level = slog.LevelInfo
		}
		slog.Log(ctx, level, "order not placed", "order", order.ID, "error", err)
		Answer(w, status, Problem{text})
		return
	}
	Answer(w, http.StatusCreated, map[string]string{"orderId": order.ID})
}

// place commits the order and its event together. The event's id follows from the order's, so that an order that is placed
// again, by a client that has lost the answer or by another instance, is the same event and is written once. The event expires, and the
// order does not: it is never written again.
func (a *api) place(ctx context.Context, order Order) error {
	item, err := attributevalue.MarshalMap(order)
	if err != nil {
		return err
	}
	event := outbox.NewEvent(order.ID, OrderCreated{OrderID: order.ID, Description: order.Description, Email: order.Email})
	event.ID = "ORDER_CREATED#" + order.ID
	return a.writer.Transact(ctx, []types.TransactWriteItem{{Put: &types.Put{
		TableName: &a.table, Item: item, ConditionExpression: aws.String("attribute_not_exists(orderId)"),
	}}}, event)
}

// explain turns an error of the Writer into an answer.
func explain(err error, order Order) (status int, text string) {
	switch {
	case errors.Is(err, outbox.ErrEventConflict):
		return http.StatusUnprocessableEntity, "this idempotency key was used for another order"
	case errors.Is(err, outbox.ErrConditionFailed): // its event has expired, so nobody knows whether it was the same order
		return http.StatusConflict, "this idempotency key was used long ago, for order " + order.ID + ": look it up, or take a new key"
	case errors.Is(err, outbox.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "the order is too large"
	case errors.Is(err, outbox.ErrUnknownOutcome):
		return http.StatusServiceUnavailable, "it is not known whether order " + order.ID + " was placed: repeat it with the same Idempotency-Key, or look it up"
	case errors.Is(err, outbox.ErrConflict):
		return http.StatusServiceUnavailable, "the order was not placed, please try again"
	default: // a missing table or permission, say: trying again does not help
		return http.StatusInternalServerError, "the order was not placed"
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
	if _, err := ulid.ParseStrict(r.PathValue("id")); err != nil { // no key that DynamoDB would refuse
		Answer(w, http.StatusNotFound, Problem{"there is no such order"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	out, err := a.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(a.table),
		Key:            map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: r.PathValue("id")}},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		slog.ErrorContext(r.Context(), "order not read", "error", err)
		Answer(w, http.StatusServiceUnavailable, Problem{"the order cannot be read at the moment"})
		return
	}
	if out.Item == nil {
		Answer(w, http.StatusNotFound, Problem{"there is no such order"})
		return
	}
	var order Order
	if err := attributevalue.UnmarshalMap(out.Item, &order); err != nil {
		slog.ErrorContext(r.Context(), "order not understood", "error", err)
		Answer(w, http.StatusInternalServerError, Problem{"the stored order cannot be understood"})
		return
	}
	order.Email = "" // whoever finds the order's id does not get an address with it
	Answer(w, http.StatusOK, order)
}

// inWords says what is wrong with a request's JSON to somebody who does not know Go's types.
func inWords(err error) string {
	wrong := (*json.UnmarshalTypeError)(nil)
	switch {
	case errors.Is(err, io.EOF):
		return "the body is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the body ends too early"
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Sprintf("%s is a JSON %s: want a string", wrong.Field, wrong.Value)
	case errors.As(err, &wrong):
		return "the body is a JSON " + wrong.Value
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// readOrder reads and checks the body of a new order. It is JSON whatever its Content-Type says: that of curl -d says form.
func readOrder(body io.Reader) (Order, error) {
	text, err := io.ReadAll(body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return Order{}, err
	}
	if err != nil {
		slog.Info("body not read", "error", err)
		return Order{}, errors.New("the body cannot be read")
	}
	if !utf8.Valid(text) { // encoding/json would put U+FFFD in its place, and the mail would show it
		return Order{}, errors.New("the body is not valid UTF-8")
	}
	var request struct {
		Description string `json:"description"`
		Email       string `json:"email"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return Order{}, fmt.Errorf(`want a JSON object like {"description":"two coffees"}: %s`, inWords(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Order{}, errors.New("there is more after the JSON object")
	}
	order := Order{Description: strings.TrimSpace(request.Description), Email: request.Email}
	switch {
	case strings.ContainsRune(request.Description, utf8.RuneError), strings.ContainsRune(request.Email, utf8.RuneError):
		return Order{}, errors.New("a character was lost on the way here: there is a U+FFFD, or half of a surrogate pair")
	case order.Description == "":
		return Order{}, errors.New("the description is empty")
	case len(order.Description) > maxDescription:
		return Order{}, fmt.Errorf("the description has %d bytes, at most %d are allowed", len(order.Description), maxDescription)
	}
	if order.Email != "" {
		if err := checkAddress(order.Email); err != nil {
			return Order{}, fmt.Errorf("the email: %w", err)
		}
	}
	return order, nil
}

// checkAddress returns what is wrong with a bare mail address.
func checkAddress(text string) error {
	address, err := mail.ParseAddress(text)
	switch {
	case err != nil, address.Address != text || address.Name != "":
		return errors.New("want only an address, like a@example.com")
	case len(text) > maxEmail:
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(text), maxEmail)
	}
	return nil
}
