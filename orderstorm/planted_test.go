package orderstorm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// TestEachCheckOfTheOrderSeesWhatItIsFor plants bugs of WithOrder as they look from outside. Production code has no switch for them.
func TestEachCheckOfTheOrderSeesWhatItIsFor(t *testing.T) {
	for _, p := range []struct {
		bug   string
		plant func(*world)
		seen  string // how the problem begins; alternatives are separated by |
	}{
		{"the position's condition is weak", tampered(weak), "table:"},
		{"the position moves whatever it was, and the effect has no condition", tampered(func(carry exchange) exchange { return weak(unconditional(carry)) }), "effects:"},
		{"rows that are there are not found", tampered(hidden), "last:|liveness:"},
		{"a number that is not found is passed over", func(w *world) {
			w.tamper = hidden
			w.options = append(w.options, outbox.WithMiddleware(w.passing))
		}, "told:|predecessor:|table:"},
		{"a request that was lost is taken for a success", func(w *world) { w.tamper = w.believed }, "told:"},
		{"an unknown outcome is the handler's fault", func(w *world) {
			w.plan.letters, w.plan.fails = true, 0
			w.options = append(w.options, outbox.WithMiddleware(blamed(outbox.ErrUnknownOutcome)))
		}, "letters:"},
		{"a claim is the handler's fault", func(w *world) {
			w.plan.letters, w.plan.mixed, w.plan.fails = true, true, 0
			w.options = append(w.options, outbox.WithMiddleware(blamed(outbox.ErrClaimed)))
		}, "letters:"},
		{"the position that is read is one ahead", tampered(ahead), "told:|predecessor:"},
		{"the position moves before the effect", func(w *world) { w.tamper = func(carry exchange) exchange { return w.split(carry, false) } }, "told:|predecessor:"},
		{"the effect comes before the position moves", func(w *world) { w.tamper = func(carry exchange) exchange { return w.split(carry, true) } }, "table:|effects:|last:|liveness:"},
		{"an event is passed over", func(w *world) {
			w.options = append(w.options, outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
				return func(ctx context.Context, r outbox.Record) error {
					if r.Sequence == 4 {
						return nil
					}
					return next(ctx, r)
				}
			}))
		}, "told:"},
		{"a failure is taken for success", func(w *world) {
			w.plan.letters, w.plan.fails = false, 0.2
			w.options = append(w.options, outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
				return func(ctx context.Context, r outbox.Record) error {
					_ = next(ctx, r)
					return nil
				}
			}))
		}, "told:"},
	} {
		t.Run(p.bug, func(t *testing.T) {
			var all []string
			for seed := uint64(1); seed <= 40; seed++ {
				var w *world
				inBubble(t, func(t *testing.T) {
					w = newWorld(t, seed, planOf(seed))
					p.plant(w)
					w.run(t)
				})
				for _, problem := range w.problems {
					if slices.ContainsFunc(strings.Split(p.seen, "|"), func(begin string) bool { return strings.HasPrefix(problem, begin) }) {
						t.Logf("seed %d: %.200s", seed, problem)
						return
					}
				}
				all = append(all, w.problems...)
			}
			require.Failf(t, "nobody has seen it", "no problem began with %q: %.2000q", p.seen, all)
		})
	}
}

func tampered(tamper func(exchange) exchange) func(*world) {
	return func(w *world) { w.tamper = tamper }
}

// isCommit reports whether a request commits an effect together with the position.
func isCommit(operation string, request []byte) bool {
	return operation == "TransactWriteItems" && bytes.Contains(request, []byte(`"accounts"`)) && bytes.Contains(request, []byte(`#position"`))
}

// rewritten changes a request's text.
func rewritten(carry exchange, applies func(string, []byte) bool, pairs ...string) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if applies(operation, request) {
			request = []byte(strings.NewReplacer(pairs...).Replace(string(request)))
		}
		return carry(operation, request)
	}
}

func weak(carry exchange) exchange {
	return rewritten(carry, isCommit, "attribute_not_exists(#sequence) AND", "(attribute_not_exists(#sequence) OR attribute_exists(#sequence)) AND",
		"#sequence = :was AND", "(#sequence = :was OR attribute_exists(#sequence)) AND")
}

func unconditional(carry exchange) exchange {
	return rewritten(carry, isCommit, `"attribute_not_exists(#last)"`, `"attribute_not_exists(nothing)"`, `"#last = :before"`, `"#last = :before OR attribute_not_exists(nothing)"`)
}

func hidden(carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if operation == "BatchGetItem" {
			return 200, []byte(`{"Responses":{"events":[]},"UnprocessedKeys":{}}`)
		}
		return carry(operation, request)
	}
}

// passing passes the next number over when it is missing, as a person may.
func (w *world) passing(next outbox.Handler) outbox.Handler {
	return func(ctx context.Context, r outbox.Record) error {
		err := next(ctx, r)
		if !errors.Is(err, outbox.ErrSequenceMissing) && !strings.Contains(errText(err), "not in table") {
			return err
		}
		config := w.cloud.Config()
		config.HTTPClient = w.client
		inbox := must(outbox.NewInbox(dynamodb.NewFromConfig(config), "inbox", "consumer"))
		if position := must(inbox.Position(ctx, "events", r.AggregateID)); position < r.Sequence-1 {
			_ = inbox.Pass(ctx, "events", r.AggregateID, position+1)
		}
		return err
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (w *world) believed(carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if isCommit(operation, request) && w.oneIn(5) {
			return 200, []byte(`{}`)
		}
		return carry(operation, request)
	}
}

// blamed makes an error one of the handler.
func blamed(sentinel error) func(outbox.Handler) outbox.Handler {
	return func(next outbox.Handler) outbox.Handler {
		return func(ctx context.Context, r outbox.Record) error {
			if err := next(ctx, r); err == nil || !errors.Is(err, sentinel) {
				return err
			}
			return errors.New("planted")
		}
	}
}

// ahead changes the position in what is read.
func ahead(carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		status, answer := carry(operation, request)
		if operation != "GetItem" || !bytes.Contains(request, []byte(`#position"`)) {
			return status, answer
		}
		var out struct{ Item map[string]map[string]any }
		must(0, json.Unmarshal(answer, &out))
		if sequence, there := out.Item["sequence"]; there {
			sequence["N"] = strconv.FormatInt(must(strconv.ParseInt(sequence["N"].(string), 10, 64))+1, 10)
			answer = must(json.Marshal(out))
		}
		return status, answer
	}
}

// oneIn is true for a share of the calls.
func (w *world) oneIn(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.luck.IntN(n) == 0
}

// split makes two transactions of one: of its first operation, the effect, and of its last one, the position.
func (w *world) split(carry exchange, effectFirst bool) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if !isCommit(operation, request) {
			return carry(operation, request)
		}
		var in struct{ TransactItems []json.RawMessage }
		must(0, json.Unmarshal(request, &in))
		alone := func(i int) (int, []byte) {
			return carry(operation, must(json.Marshal(map[string]any{"TransactItems": in.TransactItems[i : i+1]})))
		}
		order := []int{len(in.TransactItems) - 1, 0}
		if effectFirst {
			slices.Reverse(order)
		}
		if status, answer := alone(order[0]); status != 200 {
			return status, answer
		}
		if w.oneIn(5) { // the process dies between the two, or the second one fails
			return 500, failure("InternalServerError", "")
		}
		return alone(order[1])
	}
}
