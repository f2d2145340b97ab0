package dynamo

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// tokenLife is how long a token is remembered after its transaction completed.
const tokenLife = 10 * time.Minute

// doneToken is a client request token whose transaction succeeded.
type doneToken struct {
	sum       [sha256.Size]byte
	completed time.Time
	// reads are the sizes that a repetition is billed for.
	reads []doneRead
}

type doneRead struct {
	t    *table
	size int
}

// tokens remembers tokens for as long as they are valid.
type tokens struct {
	done map[string]*doneToken
	// order is the tokens by the time of their completion, so that old ones are found at once.
	order []string
}

func newTokens() tokens { return tokens{done: make(map[string]*doneToken)} }

// find is the token if it is valid; an error if it stands for another transaction.
func (t *tokens) find(token string, sum [sha256.Size]byte, now time.Time) (*doneToken, error) {
	d := t.done[token]
	if d == nil || now.Sub(d.completed) >= tokenLife {
		return nil, nil
	}
	if d.sum != sum {
		return nil, wire.Errorf("IdempotentParameterMismatchException",
			"DynamoDB rejected the request because you retried a request with a different payload but with an idempotent token that was already used.")
	}
	return d, nil
}

// keep remembers the token of a transaction that completed, and forgets those that are too old.
func (t *tokens) keep(token string, sum [sha256.Size]byte, outcomes []outcome, now time.Time) {
	for len(t.order) > 0 {
		oldest := t.order[0]
		if d := t.done[oldest]; d != nil {
			if now.Sub(d.completed) < tokenLife {
				break
			}
			delete(t.done, oldest)
		}
		t.order = t.order[1:]
	}
	d := &doneToken{sum: sum, completed: now}
	for _, o := range outcomes {
		d.reads = append(d.reads, doneRead{o.t, max(attr.ItemSize(o.oldItem()), attr.ItemSize(o.next))})
	}
	t.done[token] = d
	t.order = append(t.order, token)
}

// fingerprint is equal for transactions that mean the same: values count, not how they are written.
func fingerprint(in *transactWriteItemsInput) [sha256.Size]byte {
	h := sha256.New()
	for _, a := range in.TransactItems {
		switch {
		case a.Put != nil:
			printAction(h, "Put", a.Put.TableName, a.Put.Item, nil, &a.Put.conditional)
		case a.Update != nil:
			printAction(h, "Update", a.Update.TableName, a.Update.Key, a.Update.UpdateExpression, &a.Update.conditional)
		case a.Delete != nil:
			printAction(h, "Delete", a.Delete.TableName, a.Delete.Key, nil, &a.Delete.conditional)
		case a.ConditionCheck != nil:
			printAction(h, "ConditionCheck", a.ConditionCheck.TableName, a.ConditionCheck.Key, nil, &a.ConditionCheck.conditional)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func printAction(h hash.Hash, kind string, table *string, item map[string]attr.Raw, update *string, c *conditional) {
	// A hash never fails.
	_, _ = fmt.Fprintf(h, "%q %q %q %q %q", kind, str(table), str(update), str(c.ConditionExpression), str(c.ReturnValuesOnConditionCheckFailure))
	printValues(h, item)
	printValues(h, c.ExpressionAttributeValues)
	for _, name := range slices.Sorted(maps.Keys(c.ExpressionAttributeNames)) {
		_, _ = fmt.Fprintf(h, "%q=%q ", name, c.ExpressionAttributeNames[name])
	}
	_, _ = io.WriteString(h, "\n")
}

func printValues(h hash.Hash, raw map[string]attr.Raw) {
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		v, _ := raw[name].Value() // checked before
		_, _ = fmt.Fprintf(h, "%q:%s ", name, v.Canonical())
	}
	_, _ = io.WriteString(h, "; ")
}
