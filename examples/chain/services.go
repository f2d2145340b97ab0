package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// service is one of the three. Each has tables and a stream of its own, into which nobody else writes.
type service struct{ prefix, name string }

func (s service) rows() string     { return s.prefix + s.name }
func (s service) accounts() string { return s.prefix + s.name + "-accounts" } // of customers
func (s service) events() string   { return s.prefix + s.name + "-events" }   // the table
func (s service) stream() string   { return s.prefix + s.name + "-events" }   // what others read
func (s service) inbox() string    { return s.prefix + s.name + "-inbox" }
func (s service) letters() string  { return s.prefix + s.name + "-dead-letters" }
func (s service) leases() string   { return s.prefix + s.name + "-leases" }

// What the services tell one another. Each event is that of a customer, and has the number of the customer's order as its sequence. So each
// service handles what a customer has ordered in its order, whatever the streams do.

type OrderPlaced struct {
	OrderID string `json:"orderId"`
	Cents   int    `json:"cents"`
}

func (OrderPlaced) EventType() string { return "ORDER_PLACED" }

type PaymentTaken struct {
	OrderID   string `json:"orderId"`
	PaymentID string `json:"paymentId"`
}

func (PaymentTaken) EventType() string { return "PAYMENT_TAKEN" }

type ShipmentSent struct {
	OrderID    string `json:"orderId"`
	ShipmentID string `json:"shipmentId"`
}

func (ShipmentSent) EventType() string { return "SHIPMENT_SENT" }

// What they store. A payment and a shipment have an id of their own, a new one each time: an order that is paid twice has two rows.

type order struct {
	OrderID    string    `dynamodbav:"orderId"`
	CustomerID string    `dynamodbav:"customerId"`
	Number     int64     `dynamodbav:"number"` // of the customer's orders, from 1
	PlacedAt   time.Time `dynamodbav:"placedAt"`
	Cents      int       `dynamodbav:"cents"`
}

type payment struct {
	PaymentID string `dynamodbav:"paymentId"`
	OrderID   string `dynamodbav:"orderId"`
	Cents     int    `dynamodbav:"cents"`
}

type account struct {
	CustomerID string  `dynamodbav:"customerId"`
	Numbers    []int64 `dynamodbav:"numbers"`
}

type shipment struct {
	ShipmentID string `dynamodbav:"shipmentId"`
	OrderID    string `dynamodbav:"orderId"`
}

// placeOrder is the orders service. The event follows from the order alone, so a customer may ask again without fear.
func placeOrder(ctx context.Context, orders service, w *outbox.Writer, o order) error {
	event := outbox.NewSequenced(o.CustomerID, o.Number, OrderPlaced{OrderID: o.OrderID, Cents: o.Cents})
	event.Time = o.PlacedAt
	return w.Put(ctx, orders.rows(), o, event)
}

// takePayments is the payments service: for each order a payment, an entry in the customer's account and the event that tells of it, in one
// transaction with the position that says up to where the customer's events were handled.
func takePayments(c *outbox.Consumer, w *outbox.Writer, payments service, b *bank) {
	outbox.HandleTx(c, w, func(_ context.Context, e outbox.Event[OrderPlaced]) (outbox.Effects, error) {
		if err := b.check(e.Data); err != nil {
			return outbox.Effects{}, err
		}
		p := payment{PaymentID: rand.Text(), OrderID: e.Data.OrderID, Cents: e.Data.Cents}
		write, err := put(payments, p)
		return outbox.Effects{
			Writes: []types.TransactWriteItem{write, enter(payments, e.AggregateID, e.Sequence)},
			Events: []outbox.AnyEvent{outbox.NewSequenced(e.AggregateID, e.Sequence, PaymentTaken{OrderID: p.OrderID, PaymentID: p.PaymentID})},
		}, err
	})
}

// sendShipments is the shipments service: the same for each payment.
func sendShipments(c *outbox.Consumer, w *outbox.Writer, shipments service) {
	outbox.HandleTx(c, w, func(_ context.Context, e outbox.Event[PaymentTaken]) (outbox.Effects, error) {
		s := shipment{ShipmentID: rand.Text(), OrderID: e.Data.OrderID}
		write, err := put(shipments, s)
		return outbox.Effects{
			Writes: []types.TransactWriteItem{write},
			Events: []outbox.AnyEvent{outbox.NewSequenced(e.AggregateID, e.Sequence, ShipmentSent{OrderID: s.OrderID, ShipmentID: s.ShipmentID})},
		}, err
	})
}

// printLabels is the effect outside: the provider knows nothing of transactions, but takes an idempotency key. The handler is guarded:
// its Consumer's WithInbox says so.
func printLabels(c *outbox.Consumer, p provider) {
	outbox.Handle(c, func(ctx context.Context, e outbox.Event[ShipmentSent]) error {
		return p.Label(ctx, e.ID, e.Data.OrderID)
	})
}

func put(s service, row any) (types.TransactWriteItem, error) {
	item, err := attributevalue.MarshalMap(row)
	table := s.rows()
	return types.TransactWriteItem{Put: &types.Put{TableName: &table, Item: item}}, err
}

// enter writes the number of an order at the end of the customer's account. No condition keeps it from being the wrong one.
func enter(s service, customerID string, number int64) types.TransactWriteItem {
	table, list := s.accounts(), "SET numbers = list_append(if_not_exists(numbers, :none), :one)"
	return types.TransactWriteItem{Update: &types.Update{TableName: &table, UpdateExpression: &list,
		Key: map[string]types.AttributeValue{"customerId": &types.AttributeValueMemberS{Value: customerID}},
		ExpressionAttributeValues: map[string]types.AttributeValue{":none": &types.AttributeValueMemberL{},
			":one": &types.AttributeValueMemberL{Value: []types.AttributeValue{&types.AttributeValueMemberN{Value: strconv.FormatInt(number, 10)}}}}}}
}

// provider prints shipping labels.
type provider interface {
	Label(ctx context.Context, key, orderID string) error
}

// labels stands in for a provider. Like a good one it prints one label for each key. It is safe for concurrent use.
type labels struct {
	mu      sync.Mutex
	calls   int
	printed map[string]string // by key, the order
}

func (l *labels) Label(_ context.Context, key, orderID string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.printed == nil {
		l.printed = make(map[string]string)
	}
	l.printed[key] = orderID
	return nil
}

// byOrder counts the labels of each order.
func (l *labels) byOrder() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := make(map[string]int)
	for _, orderID := range l.printed {
		counts[orderID]++
	}
	return counts
}

// bank refuses one order of ten for good, until it is repaired: their events become dead letters.
type bank struct {
	mu       sync.Mutex
	repaired bool
}

func (b *bank) check(o OrderPlaced) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.repaired && o.Cents%10 == 3 {
		return outbox.Permanent(errors.New("the bank does not know this currency"))
	}
	return nil
}

func (b *bank) repair() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.repaired = true
}
