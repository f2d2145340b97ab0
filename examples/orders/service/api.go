package service

import (
	"bytes"
	"context"
	"crypto/sha256"
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

// EventsKept is for how long events can be replayed, well beyond the stream's retention.
const EventsKept = 30 * 24 * time.Hour

// api answers HTTP requests. It is safe for concurrent use.
type api struct {
	client *dynamodb.Client
	table  string
	writer *outbox.Writer
}

// NewAPI returns the HTTP side: POST / places an order, GET /orders/{id} reads one. The options are added to those of its Writer. It
// is safe for concurrent use.
func NewAPI(client *dynamodb.Client, c Config, opts ...outbox.WriterOption) (http.Handler, error) {
	opts = append([]outbox.WriterOption{outbox.WithHeaders(traceHeaders), outbox.WithTTL(EventsKept)}, opts...)
	writer, err := outbox.NewWriter(client, c.EventsTable, opts...)
	if err != nil {
		return nil, err
	}
	a := &api{client: client, table: c.OrdersTable, writer: writer}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		Answer(w, http.StatusNotFound, problem{"there is nothing here"})
	})
	for route, handle := range a.routes() {
		method, path, _ := strings.Cut(route, " ")
		if strings.HasSuffix(path, "/") {
			path += "{$}" // only this path, as in an HTTP API
		}
		mux.HandleFunc(method+" "+path, handle)
		mux.HandleFunc(path, otherMethod(method)) // no path has two routes
	}
	return mux, nil
}

// otherMethod answers requests to a path whose one method is another.
func otherMethod(method string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		allowed := method
		if method == http.MethodGet {
			allowed += ", " + http.MethodHead
		}
		w.Header().Set("Allow", allowed)
		Answer(w, http.StatusMethodNotAllowed, problem{"the method " + r.Method + " is not allowed here, want " + allowed})
	}
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

func (a *api) placeOrder(w http.ResponseWriter, r *http.Request) {
	order, err := readOrder(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status, err = http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit)
		}
		Answer(w, status, problem{err.Error()})
		return
	}
	order.ID = orderID(r.Header.Get("Idempotency-Key"))
	ctx := withTraceParent(r.Context(), r.Header.Get("Traceparent"))
	if err := a.place(ctx, order); err != nil {
		status, text := explain(err, order)
		level := slog.LevelError
		if status < http.StatusInternalServerError { // a matter of the client
			level = slog.LevelInfo
		}
		slog.Log(ctx, level, "order not placed", "order", order.ID, "error", err)
		Answer(w, status, problem{text})
		return
	}
	Answer(w, http.StatusCreated, map[string]string{"orderId": order.ID})
}

// orderID is a new id, or the one that belongs to a client's idempotency key.
func orderID(key string) string {
	if key == "" {
		return ulid.Make().String()
	}
	sum := sha256.Sum256([]byte(key))
	return ulid.ULID(sum[:16]).String()
}

// place commits the order and its event together. The event's id follows from the order's, so that an order that is placed
// again, by a client that has lost the answer or by another instance, is the same event and is written once.
func (a *api) place(ctx context.Context, order Order) error {
	event := outbox.NewEvent(order.ID, OrderCreated{OrderID: order.ID, Description: order.Description, Email: order.Email})
	event.ID = "ORDER_CREATED#" + order.ID
	return a.writer.Put(ctx, a.table, order, event)
}

// explain turns an error of the Writer into an answer.
func explain(err error, order Order) (status int, text string) {
	switch {
	case errors.Is(err, outbox.ErrEventConflict):
		return http.StatusUnprocessableEntity, "this idempotency key was used for another order"
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
		Answer(w, http.StatusNotFound, problem{"there is no such order"})
		return
	}
	out, err := a.client.GetItem(r.Context(), &dynamodb.GetItemInput{
		TableName:      aws.String(a.table),
		Key:            map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: r.PathValue("id")}},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		slog.ErrorContext(r.Context(), "order not read", "error", err)
		Answer(w, http.StatusServiceUnavailable, problem{"the order cannot be read at the moment"})
		return
	}
	if out.Item == nil {
		Answer(w, http.StatusNotFound, problem{"there is no such order"})
		return
	}
	var order Order
	if err := attributevalue.UnmarshalMap(out.Item, &order); err != nil {
		slog.ErrorContext(r.Context(), "order not understood", "error", err)
		Answer(w, http.StatusInternalServerError, problem{"the stored order cannot be understood"})
		return
	}
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
		return fmt.Sprintf("%s is a JSON %s: want a %s", wrong.Field, wrong.Value, wrong.Type)
	case errors.As(err, &wrong):
		return "the body is a JSON " + wrong.Value
	}
	return err.Error()
}

// readOrder reads and checks the body of a new order. It is JSON whatever its Content-Type says: that of curl -d says form.
func readOrder(body io.Reader) (Order, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return Order{}, fmt.Errorf("the body cannot be read: %w", err)
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
	case err != nil:
		return err
	case address.Address != text || address.Name != "":
		return errors.New("want only an address, like a@example.com")
	case len(text) > maxEmail:
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(text), maxEmail)
	}
	return nil
}

type problem struct {
	Error string `json:"error"`
}

// Answer writes an answer in JSON.
func Answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Warn("answer not written", "error", err)
	}
}
