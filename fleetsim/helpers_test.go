package fleetsim

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// values is a row of a table.
type values = map[string]types.AttributeValue

// orderCreated is the event that all Workers of a simulation handle.
type orderCreated struct {
	OrderID string `json:"orderId"`
}

func (orderCreated) EventType() string { return "ORDER_CREATED" }

// simSleep reports whether the time passed before the context ended.
func simSleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func simNumber(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}
