package storm

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// planted is something that breaks a promise, and the check that must see it.
type planted struct {
	name  string
	plan  func(seed uint64) *plan
	plant func(w *world)
	run   func(w *world, t *testing.T)
	seen  string // how the problem begins; alternatives are separated by |
}

func TestEachCheckSeesWhatItIsFor(t *testing.T) {
	redrive := func(w *world, t *testing.T) { w.redriveRun(t) }
	hotRun := func(w *world, t *testing.T) { w.hotRun(t, 40) }
	claims := func(w *world, t *testing.T) { w.claimsRun(t, 10) }
	transient := func(w *world, t *testing.T) { w.transientRun(t, 100) }
	for _, p := range []planted{
		{"two events arrive the other way round", calmPlan, func(w *world) { w.swapped = true }, redrive, "order:"},
		{"an event is passed over", calmPlan, through(passOver), redrive, "liveness: after five minutes neither"},
		{"a letter is acknowledged and not stored", calmPlan, dropped("TransactWriteItems", `"letters"`, `"payload"`), redrive, "liveness: after five minutes neither"},
		{"letters are not removed", calmPlan, dropped("TransactWriteItems", `"letters"`, `"Delete"`), redrive, "liveness: letters left"},
		{"effects are committed twice", calmPlan, changed("TransactWriteItems", `":one":{"N":"1"}`, `":one":{"N":"2"}`), redrive, "effects:"},
		{"locks are given to everybody", calmPlan, changed("UpdateItem", `"ConditionExpression":"`, `"ConditionExpression":"attribute_not_exists(never) OR `), redrive, "overlap:"},
		{"a discard takes the next letter along", calmPlan, func(w *world) { w.discardsTwo = true }, redrive, "order:|lost:|liveness: after five minutes neither"},
		{"a lost race is permanent", hotPlan, through(permanently(outbox.ErrConditionFailed)), hotRun, "letters:"},
		{"amounts are added twice", hotPlan, changed("TransactWriteItems", `":next":{"N":"820"}`, `":next":{"N":"821"}`), hotRun, "effects:"},
		{"a claim is permanent", hotPlan, through(permanently(outbox.ErrClaimed)), claims, "letters:"},
		{"a hook tells everything twice", calmPlan, func(w *world) {
			w.consumerOptions = append(w.consumerOptions, outbox.WithConsumerHooks(w.hooks(true)))
		}, redrive, "hooks:"},
		{"a handler runs three times", transientPlan, through(thrice), transient, "runs:"},
	} {
		t.Run(p.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 15; seed++ {
				var problems []string
				inBubble(t, func(t *testing.T) {
					w := newWorld(t, p.plan(seed))
					p.plant(w)
					p.run(w, t)
					problems = w.problems
				})
				for _, problem := range problems {
					_, text, _ := strings.Cut(strings.TrimSpace(problem), " ")
					if slices.ContainsFunc(strings.Split(p.seen, "|"), func(begin string) bool { return strings.HasPrefix(text, begin) }) {
						t.Logf("seed %d: %s", seed, text)
						return
					}
				}
			}
			t.Errorf("no problem began with %q", p.seen)
		})
	}
}

func TestTheDeadlineCheckSeesAHandlerThatIgnoresItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, deadlinePlan())
		defer w.close()
		w.write(t, 1)
		through(func(next outbox.Handler) outbox.Handler {
			return func(ctx context.Context, r outbox.Record) error {
				time.Sleep(3 * time.Second)
				return next(ctx, r)
			}
		})(w)
		w.invokeBy(t, w.start("instance", 0), w.batch(t), 2*time.Second)
		require.NotEmpty(t, w.problems)
		require.Contains(t, w.problems[0], "deadline: an answer after 3")
	})
}

// TestAProcessWithAnotherClockSeesAnotherTime shows that the change of frame is one: what a process with a late clock stores is late for the others.
func TestAProcessWithAnotherClockSeesAnotherTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, deadlinePlan())
		defer w.close()
		w.plan.skews = true
		w.write(t, 1)
		p := w.start("instance", 0)
		require.Greater(t, p.link.skew.Abs(), time.Minute)
		w.invokeBy(t, p, w.batch(t), time.Minute)
		for letter, err := range p.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			seen := w.kept(t.Context())["PLAIN-2/1"].StoredAt
			require.Equal(t, p.link.skew.Round(time.Second), seen.Sub(letter.StoredAt).Round(time.Second))
			return
		}
		t.Fatal("no letter")
	})
}

// calmPlan is a redrive run in which nothing is wrong but what is planted.
func calmPlan(seed uint64) *plan {
	p := planOf(seed)
	p.streams, p.both = false, false
	p.lambda, p.shards, p.reshard, p.faultShare = true, 1, 0, 0
	p.kills, p.pauses, p.skews = false, false, false
	return p
}

func through(middleware func(outbox.Handler) outbox.Handler) func(*world) {
	return func(w *world) { w.consumerOptions = append(w.consumerOptions, outbox.WithMiddleware(middleware)) }
}

func passOver(next outbox.Handler) outbox.Handler {
	return func(ctx context.Context, r outbox.Record) error {
		if bytes.Contains(r.Payload, []byte(`"N":3}`)) {
			return nil
		}
		return next(ctx, r)
	}
}

func permanently(sentinel error) func(outbox.Handler) outbox.Handler {
	return func(next outbox.Handler) outbox.Handler {
		return func(ctx context.Context, r outbox.Record) error {
			err := next(ctx, r)
			if errors.Is(err, sentinel) {
				return outbox.Permanent(errors.New("planted"))
			}
			return err
		}
	}
}

func thrice(next outbox.Handler) outbox.Handler {
	return func(ctx context.Context, r outbox.Record) error {
		return errors.Join(next(ctx, r), next(ctx, r), next(ctx, r))
	}
}

// dropped answers requests with a success that have all of some texts, and does not carry them out.
func dropped(operation string, texts ...string) func(*world) {
	return func(w *world) {
		w.tamper = func(of string, request []byte) ([]byte, bool) {
			for _, text := range texts {
				if !bytes.Contains(request, []byte(text)) {
					return request, false
				}
			}
			return nil, of == operation
		}
	}
}

// changed replaces a text in requests.
func changed(operation, from, to string) func(*world) {
	return func(w *world) {
		w.tamper = func(of string, request []byte) ([]byte, bool) {
			if of == operation {
				request = bytes.ReplaceAll(request, []byte(from), []byte(to))
			}
			return request, false
		}
	}
}
