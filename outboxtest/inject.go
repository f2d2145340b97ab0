package outboxtest

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/fault"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// errRefused is what a client sees of a network that is cut.
func errRefused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// errReset is what a client sees of an answer that is lost.
func errReset() error {
	return &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
}

const (
	conflictText   = "Transaction is ongoing for the item"
	throughputText = "The level of configured provisioned throughput for the table was exceeded. " +
		"Consider increasing your provisioning level with the UpdateTable API."
	throttlingText = "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically scaling your table or index " +
		"so please try again shortly. If exceptions persist, check if you have a hot key: " +
		"https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html"
)

// injected returns the error that a request gets from a fault.
func (s *Server) injected(kind fault.Kind, service, operation string, body []byte) error {
	transaction := service == serviceDynamoDB && (operation == "TransactWriteItems" || operation == "TransactGetItems")
	switch kind {
	case fault.ServerError:
		if service == serviceKinesis {
			return &wire.Error{Code: "InternalFailure", Message: "Internal service failure.", Status: 500}
		}
		return &wire.Error{Code: wire.CodeInternal, Message: "Internal server error", Status: 500}
	case fault.TransactionInProgress:
		return wire.Errorf("TransactionInProgressException", "Transaction with the given request token is already in progress.")
	case fault.TransactionConflict:
		if transaction {
			return cancelled(body, "TransactionConflict", conflictText)
		}
		return wire.Errorf("TransactionConflictException", "%s", conflictText)
	}
	switch { // throttling
	case transaction:
		return cancelled(body, "ThrottlingError", throttlingText)
	case service == serviceDynamoDB:
		return wire.Errorf("ProvisionedThroughputExceededException", "%s", throughputText)
	case service == serviceStreams:
		return wire.Errorf("LimitExceededException", "Rate exceeded")
	case slices.Contains([]string{"PutRecord", "PutRecords", "GetRecords", "GetShardIterator"}, operation):
		return wire.Errorf("ProvisionedThroughputExceededException", "Rate exceeded for shard shardId-000000000000 under account %s.", s.settings.account)
	}
	return wire.Errorf("LimitExceededException", "Rate exceeded for operation %s under account %s.", operation, s.settings.account)
}

// cancelled is a transaction whose first action met the reason.
func cancelled(body []byte, code, message string) error {
	var request struct{ TransactItems []json.RawMessage }
	_ = json.Unmarshal(body, &request) // of a malformed request, one action is as good as any number
	type reason struct {
		Code    string
		Message string `json:",omitempty"`
	}
	reasons := []reason{{Code: code, Message: message}}
	codes := []string{code}
	for range max(len(request.TransactItems)-1, 0) {
		reasons, codes = append(reasons, reason{Code: "None"}), append(codes, "None")
	}
	return &wire.Error{
		Code:    "TransactionCanceledException",
		Message: "Transaction cancelled, please refer cancellation reasons for specific reasons [" + strings.Join(codes, ", ") + "]",
		Fields:  map[string]any{"CancellationReasons": reasons},
	}
}
