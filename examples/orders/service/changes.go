package service

import (
	"context"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// OrderChanged announces another description of an order.
type OrderChanged struct {
	OrderID     string `json:"orderId"`
	Description string `json:"description"`
	Email       string `json:"email,omitempty"`
}

// EventType is the name under which the event is stored and handled.
func (OrderChanged) EventType() string { return "ORDER_CHANGED" }

func (a *api) changeOrder(w http.ResponseWriter, r *http.Request) {
	description, err := readChange(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(withTraceParent(r.Context(), r.Header.Get("Traceparent")), patience)
	defer cancel()
	order, err := a.change(ctx, r.PathValue("id"), description)
	if err != nil {
		fail(ctx, w, err, r.PathValue("id"), "changed")
		return
	}
	show(w, order)
}

// mostTries is how many changes of one order at once are too many.
const mostTries = 10

// change gives an order another description. The version that was read is the condition of the write, and the next one is the event's sequence: if
// somebody else was faster, nothing is written, and the order is read again. A request that is repeated finds its description, and is no change. After
// another change it is one more, and undoes the other one.
func (a *api) change(ctx context.Context, id, description string) (order Order, err error) {
	for range mostTries {
		order, err = a.stored(ctx, id)
		if err != nil || order.Description == description {
			return order, err
		}
		version := strconv.FormatInt(order.Version, 10)
		order.Version++
		order.Description = description
		err = a.writer.Transact(ctx, []types.TransactWriteItem{{Update: &types.Update{
			TableName:           &a.table,
			Key:                 map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: order.ID}},
			UpdateExpression:    aws.String("SET description = :description, version = :next"),
			ConditionExpression: aws.String("version = :version"),
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":description": &types.AttributeValueMemberS{Value: order.Description},
				":version":     &types.AttributeValueMemberN{Value: version},
				":next":        &types.AttributeValueMemberN{Value: strconv.FormatInt(order.Version, 10)},
			},
		}}}, outbox.NewSequenced(order.ID, order.Version, OrderChanged{OrderID: order.ID, Description: order.Description, Email: order.Email}))
		if !lostRace(err) {
			return order, err
		}
	}
	return Order{}, err
}
