package orderstorm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// plantedBug is a bug of WithOrder, or a mistake of who changes over, as it looks from outside. Production code has no switch for it.
type plantedBug struct {
	bug   string
	plant func(*world)
	seen  check // the one that must see it
}

// requireSeen runs worlds with a planted bug until the check that is meant for it has seen it.
func requireSeen(t *testing.T, planOf func(seed uint64) plan, planted []plantedBug) {
	for _, p := range planted {
		t.Run(p.bug, func(t *testing.T) {
			var all []problem
			for seed := uint64(1); seed <= 40; seed++ {
				var w *world
				inBubble(t, func(t *testing.T) {
					w = newWorld(t, seed, planOf(seed))
					w.wanted = p.seen
					p.plant(w)
					w.run(t)
				})
				for _, problem := range w.problems {
					if problem.check == p.seen {
						t.Logf("seed %d: %s: %.200s", seed, problem.check, problem.text)
						return
					}
				}
				all = append(all, w.problems...)
			}
			require.Failf(t, "nobody has seen it", "the check %q has seen nothing, others have: %.2000q", p.seen, all)
		})
	}
}

// TestEachCheckOfTheOrderSeesWhatItIsFor plants bugs for all checks.
func TestEachCheckOfTheOrderSeesWhatItIsFor(t *testing.T) {
	planted := []plantedBug{
		{"the position's condition is weak", tampered(weak), checkTable},
		{"the position moves whatever it was, and the effect has no condition", crowded(tampered(func(carry exchange) exchange { return weak(unconditional(carry)) })), checkEffects},
		{"a claim's condition is weak, and answers are slow", func(w *world) { w.plan.mixed, w.tamper = true, w.weakClaim }, checkClaim},
		{"rows that are there are not found", func(w *world) {
			w.from, w.tamper = time.Time{}, hidden
			w.undropped()
		}, checkLiveness},
		{"a number that is not found is passed over", func(w *world) {
			w.tamper = hidden
			w.options = append(w.options, outbox.WithMiddleware(w.passing))
		}, checkPredecessor},
		{"rows are taken for older than what is wanted", func(w *world) {
			w.from, w.tamper = bubbleBegins, antedated
		}, checkBegan},
		{"a request that was lost is taken for a success", func(w *world) { w.tamper = w.believed }, checkTold},
		{"an unknown outcome is the handler's fault", func(w *world) {
			w.plan.letters, w.plan.fails, w.rates["TransactWriteItems"] = true, 0, rates{lost: 0.3, error: 0.5}
			w.options = append(w.options, outbox.WithMiddleware(blamed(outbox.ErrUnknownOutcome)))
		}, checkLetters},
		{"a claim is the handler's fault", func(w *world) {
			w.plan.letters, w.plan.mixed, w.plan.fails = true, true, 0
			w.options = append(w.options, outbox.WithMiddleware(blamed(outbox.ErrClaimed)))
		}, checkLetters},
		{"the position that is read is one ahead", tampered(ahead), checkPredecessor},
		{"the position that is written is one ahead, behind the last event", func(w *world) { w.tamper = w.beyond }, checkPosition},
		{"the position moves before the effect", func(w *world) { w.tamper = func(carry exchange) exchange { return w.split(carry, false) } }, checkPredecessor},
		{"the effect comes before the position moves", func(w *world) { w.tamper = func(carry exchange) exchange { return w.split(carry, true) } }, checkLast},
		{"an event is passed over", func(w *world) {
			w.options = append(w.options, outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
				return func(ctx context.Context, r outbox.Record) error {
					if r.Sequence == 4 {
						return nil
					}
					return next(ctx, r)
				}
			}))
		}, checkTold},
		{"a failure is taken for success", func(w *world) {
			w.plan.letters, w.plan.fails = false, 0.2
			w.options = append(w.options, outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
				return func(ctx context.Context, r outbox.Record) error {
					_ = next(ctx, r)
					return nil
				}
			}))
		}, checkTold},
	}
	for _, c := range checks {
		require.Truef(t, slices.ContainsFunc(planted, func(p plantedBug) bool { return p.seen == c }), "no bug is planted for the check %q", c)
	}
	requireSeen(t, planOf, planted)
}

// TestTheStormSeesMistakesOfAChangeOver plants what docs/ordering-and-duplicates.md says must not be, and marks that nobody heeds.
func TestTheStormSeesMistakesOfAChangeOver(t *testing.T) {
	in := func(c change, m mistakes, tamper func(exchange) exchange) func(*world) {
		return func(w *world) { w.plan.change, w.planted, w.tamper = c, m, tamper }
	}
	hasty := func(c change) func(*world) {
		return func(w *world) {
			crowded(in(c, mistakes{hasty: true}, nil))(w)
			w.plan.pause = 2 * time.Second
		}
	}
	requireSeen(t, changeOf, []plantedBug{
		{"KeepMarks is not given", in(keeps, mistakes{noMarks: true}, nil), checkTable},
		{"marks are not looked at", in(keeps, mistakes{}, unmarked), checkTable},
		{"no marks are written", crowded(in(keeps, mistakes{}, unkept)), checkTable},
		{"nobody replays before KeepMarks goes", in(keeps, mistakes{noReplay: true}, nil), checkTable},
		{"a process with marks outlives KeepMarks", in(keeps, mistakes{oldStays: true}, nil), checkTable},
		{"a process with marks outlives the stop", in(stops, mistakes{oldStays: true}, nil), checkTable},
		{"what is not handled is older than the time of WithOrder", hasty(keeps), checkTold},
		{"what was not handled at the stop is older than the time of WithOrder", hasty(stops), checkTold},
	})
}

// crowded makes a world in which many do the same.
func crowded(plant func(*world)) func(*world) {
	return func(w *world) {
		plant(w)
		w.plan.functions, w.plan.accounts = 3, 3
	}
}

// undropped lets every record come.
func (w *world) undropped() {
	must(0, w.cloud.SetFaults(slices.DeleteFunc(w.plan.stream, func(f outboxtest.Fault) bool { return f.Kind == outboxtest.DropRecord })...))
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

// weakClaim lets a claim be written whatever the position is, and whoever has one. Some answers are slow, so that others go on meanwhile.
func (w *world) weakClaim(carry exchange) exchange {
	claims := func(operation string, request []byte) bool {
		return operation == "UpdateItem" && bytes.Contains(request, []byte(`#position"`)) && bytes.Contains(request, []byte(`"SET #owner = :owner`))
	}
	carry = rewritten(carry, claims, "attribute_not_exists(#sequence) AND", "(attribute_not_exists(#sequence) OR attribute_exists(#sequence)) AND",
		"#sequence = :was AND", "(#sequence = :was OR attribute_exists(#sequence)) AND",
		"attribute_not_exists(#claimedUntil)", "(attribute_not_exists(#claimedUntil) OR attribute_exists(#claimedUntil))")
	return func(operation string, request []byte) (int, []byte) {
		status, answer := carry(operation, request)
		if claims(operation, request) && w.oneIn(3) {
			time.Sleep(2 * time.Second)
		}
		return status, answer
	}
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

// isMark reports whether a request names the mark of an event.
func isMark(request []byte) bool { return bytes.Contains(request, []byte(`"consumer#events"}`)) }

// unmarked hides marks from who looks, and lets a position move beside a mark that is there.
func unmarked(carry exchange) exchange {
	carry = rewritten(carry, isCommit, `"attribute_not_exists(#id) OR (`, `"attribute_not_exists(nothing) OR attribute_not_exists(#id) OR (`)
	return func(operation string, request []byte) (int, []byte) {
		if operation == "GetItem" && isMark(request) {
			return 200, []byte(`{}`)
		}
		return carry(operation, request)
	}
}

// unkept writes the marks beside positions elsewhere.
func unkept(carry exchange) exchange {
	return rewritten(carry, isCommit, `"consumer#events"}`, `"another#events"}`)
}

// antedated gives the rows that are read for a beginning an early time.
func antedated(carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		status, answer := carry(operation, request)
		if operation == "BatchGetItem" && bytes.Contains(request, []byte("ProjectionExpression")) {
			answer = timestamp.ReplaceAll(answer, []byte(`"timestamp":{"N":"946684799999"}`))
		}
		return status, answer
	}
}

var timestamp = regexp.MustCompile(`"timestamp":\{"N":"\d+"\}`)

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
			_, _ = inbox.Pass(ctx, "events", r.AggregateID, position+1)
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

// beyond moves the position over one number more than there is, with the last event of an aggregate.
func (w *world) beyond(carry exchange) exchange {
	last := fmt.Sprintf(`":sequence":{"N":"%d"}`, w.plan.events)
	return rewritten(carry, isCommit, last, fmt.Sprintf(`":sequence":{"N":"%d"}`, w.plan.events+1))
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
