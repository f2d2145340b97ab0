package adversary

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// calm is a world without faults, for a test of one kind of fault.
func calm() *plan {
	return &plan{seed: 1, shards: 4, members: 2, concurrency: 10, maxUnfinished: 1000, batch: 100, drain: 5 * time.Second, limited: true, pageShards: 2,
		aggregates: 30, every: 100 * time.Millisecond, failing: map[string]bool{}, core: []int{0, 1}}
}

// direct plays a script, and then wants every record to be handled or told of. It returns the history.
func direct(t *testing.T, p *plan, script func(*world)) *history {
	t.Helper()
	var w *world
	synctest.Test(t, func(*testing.T) {
		w = newWorld(p, &coverage{})
		w.faulty.Store(false)
		w.begin()
		script(w)
		w.tell(w.progress())
		w.end()
	})
	w.report(t, fmt.Sprintf("go test -count=1 -run '^%s$' ./adversary", t.Name()))
	for _, loss := range w.history.losses {
		require.NotContains(t, w.stream.byID, loss.Shard, "nothing has expired, and DataLost was called: %+v\n%s", loss, w.log)
	}
	return w.history
}

// often is how often an answer lies where no lease may be lost. A heartbeat needs a whole answer now and again.
func often(what fault) float64 {
	if what == noAttributes {
		return .2
	}
	return .5
}

// for ten seconds after ten of health, something is wrong with the members.
func tenSeconds(what fault, probability float64, members ...int) func(*world) {
	return func(w *world) {
		time.Sleep(10 * time.Second)
		w.set(what, probability, members...)
		time.Sleep(10 * time.Second)
		w.set(what, 0, members...)
	}
}

func (w *world) set(what fault, probability float64, members ...int) {
	for _, i := range members {
		w.members[i].faults.set(what, probability)
	}
}

// restarted stops a member in good order, and starts it again; meanwhile runs in between.
func (w *world) restarted(i int, meanwhile func()) {
	p := w.members[i].process()
	p.stop()
	<-p.done
	meanwhile()
	w.members[i].start()
}

// Kind 1: the absence of a field is believed.
func TestTheAbsenceOfAFieldIsNoEvidence(t *testing.T) {
	for _, what := range []fault{noNextIterator, emptyBody, noIterator, emptyListing, firstPageOnly, noRangeEnd, noAttributes, emptyQuery, cutQuery, noOldItem, noLag} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/streams=%v", what, streams), func(t *testing.T) {
				p := calm()
				p.streams = streams
				h := direct(t, p, tenSeconds(what, often(what), 0, 1))
				require.Empty(t, h.lost, "an answer without a field cost leases")
				require.Empty(t, h.repeats, "nobody crashed, and records were handled twice")
			})
		}
	}
}

func TestTheAbsenceOfAFieldAtAShardsEndIsNoEvidence(t *testing.T) {
	for _, what := range []fault{noChildren, emptyBody, noNextIterator, emptyListing, firstPageOnly, noRangeEnd} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/streams=%v", what, streams), func(t *testing.T) {
				p := calm()
				p.streams = streams
				direct(t, p, func(w *world) {
					time.Sleep(8 * time.Second)
					w.set(what, .5, 0, 1)
					w.stream.roll()
					time.Sleep(20 * time.Second)
					w.set(what, 0, 0, 1)
				})
			})
		}
	}
}

// What expires while nobody reads is told of.
func TestWhatExpiresUnreadIsToldOf(t *testing.T) {
	for _, streams := range []bool{false, true} {
		t.Run(fmt.Sprintf("streams=%v", streams), func(t *testing.T) {
			p := calm()
			p.streams, p.shards, p.members, p.core = streams, 1, 1, []int{0}
			var w *world
			synctest.Test(t, func(*testing.T) {
				w = newWorld(p, &coverage{})
				w.begin()
				time.Sleep(10 * time.Second)
				w.restarted(0, func() {
					time.Sleep(time.Minute)
					w.expire(0, 20*time.Second)
				})
				w.tell(w.progress())
				w.end()
			})
			w.report(t, t.Name())
			require.True(t, w.trimmed["shardId-000000000000"])
			require.Len(t, w.history.losses, 1)
		})
	}
}

// A listing says that the shard is closed; it does not say that the shard has been read to its end.
func TestAClosedShardWithABacklogIsReadToItsEnd(t *testing.T) {
	for _, what := range []fault{emptyBody, noNextIterator, noChildren, shortPage} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/streams=%v", what, streams), func(t *testing.T) {
				p := calm()
				p.streams, p.batch = streams, 10
				direct(t, p, func(w *world) {
					w.set(what, .5, 0, 1)
					for range 10 {
						for i := range 100 {
							w.stream.write(fmt.Sprintf("a%d", i%p.aggregates))
						}
						w.stream.roll()
						time.Sleep(15 * time.Second)
					}
					w.set(what, 0, 0, 1)
				})
			})
		}
	}
}

// The first answers of the table to a worker that takes a shard over lack their attributes: the shard has a position nevertheless.
func TestAPositionIsNotForgottenWithAField(t *testing.T) {
	for _, what := range []fault{noAttributes, emptyQuery, cutQuery, noOldItem} {
		t.Run(string(what), func(t *testing.T) {
			p := calm()
			p.members, p.core = 1, []int{0}
			h := direct(t, p, func(w *world) {
				time.Sleep(20 * time.Second)
				w.restarted(0, func() { w.set(what, often(what), 0) })
				time.Sleep(20 * time.Second)
				w.set(what, 0, 0)
			})
			require.Empty(t, h.repeats, "the worker stopped in good order, and records were handled twice")
		})
	}
}

// An empty first page at the tip is no loss: direct wants DataLost to stay silent.
func TestAnEmptyFirstPageIsNoLoss(t *testing.T) {
	p := calm()
	p.members, p.core = 1, []int{0}
	direct(t, p, func(w *world) {
		for range 5 {
			time.Sleep(5 * time.Second)
			w.restarted(0, func() { w.set(shortPage, .7, 0) })
			time.Sleep(5 * time.Second)
			w.set(shortPage, 0, 0)
		}
	})
}

// Kind 2: one observer decides for all, for good.
func TestOneObserverDecidesNothingForAll(t *testing.T) {
	for _, what := range []fault{foreignListing, emptyListing, firstPageOnly, oldListing} {
		for seed := range uint64(2) { // of the same ids, and of others
			t.Run(fmt.Sprintf("%s/%d", what, seed), func(t *testing.T) {
				p := calm()
				p.seed, p.members, p.core = seed, 3, []int{0, 1, 2}
				direct(t, p, func(w *world) {
					time.Sleep(5 * time.Second)
					w.set(what, 1, 0)
					time.Sleep(time.Minute)
					w.stream.split(1)
					time.Sleep(4 * time.Minute)
					w.set(what, 0, 0)
					time.Sleep(2 * time.Minute) // a worker that stops as the last one believes its last listing
				})
			})
		}
	}
}

// A worker that begins in a wrong Region lists another stream from its first call on.
func TestAWorkerThatBeginsElsewhereDecidesNothing(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := calm()
			p.seed = seed
			direct(t, p, func(w *world) {
				time.Sleep(5 * time.Second)
				w.restarted(0, func() { w.set(foreignListing, 1, 0) })
				time.Sleep(5 * time.Minute)
				w.set(foreignListing, 0, 0)
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

// Kind 3: liveness is measured on the wrong thing.
func TestAWorkerThatCannotDoTheWorkGivesItUp(t *testing.T) {
	for _, what := range []fault{cannotList, cannotRead, cannotLease, frozen, noIterator, emptyBody, foreignListing} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/streams=%v", what, streams), func(t *testing.T) {
				p := calm()
				p.members, p.core, p.streams = 3, []int{1, 2}, streams
				direct(t, p, func(w *world) {
					time.Sleep(10 * time.Second)
					w.set(what, 1, 0) // for ever
					w.stream.roll()
				})
			})
		}
	}
}

// The process cannot end its old life, because a handler of it hangs, and begins a new one beside it.
func TestAHungHandlerAndAnOutageLeaveTheRestWorking(t *testing.T) {
	p := calm()
	p.members, p.core = 1, []int{0}
	direct(t, p, func(w *world) {
		w.members[0].hang()
		time.Sleep(10 * time.Second)
		w.set(cannotLease, 1, 0)
		time.Sleep(12 * time.Second)
		w.set(cannotLease, 0, 0)
	})
}

// Reading a shard fails as a whole for a moment, and begins anew beside the handler that hangs.
func TestAHungHandlerDoesNotKeepAShardFromBeginningAnew(t *testing.T) {
	for _, what := range []fault{cannotRead, cannotList, noIterator, emptyBody} {
		t.Run(string(what), func(t *testing.T) {
			p := calm()
			p.members, p.core, p.aggregates = 1, []int{0}, 300
			direct(t, p, func(w *world) {
				w.members[0].hang()
				time.Sleep(20 * time.Second)
				w.set(what, 1, 0)
				time.Sleep(3 * time.Second)
				w.set(what, 0, 0)
				time.Sleep(time.Minute)
			})
		})
	}
}

// Kind 4: N scans, and from the start after each failure.
func TestManyShardsEndTogether(t *testing.T) {
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprintf("streams=%v", streams), func(t *testing.T) {
			p := calm()
			p.streams, p.shards, p.pageShards, p.aggregates, p.members, p.core = streams, 30, 10, 100, 2, []int{0, 1}
			direct(t, p, func(w *world) {
				for range 7 { // the shards of a day: a listing has 24 pages
					w.stream.roll()
				}
				time.Sleep(30 * time.Second)
				w.stream.roll()
				time.Sleep(20 * time.Second)
			})
		})
	}
}

// Kind 5: a fixed timeout around work that grows. At 20 KB a second an answer of all records takes minutes.
func TestASlowLinkMakesProgress(t *testing.T) {
	p := calm()
	p.shards, p.batch, p.padding, p.every = 1, 10_000, 2500, time.Second
	direct(t, p, func(w *world) {
		for i := range 1500 {
			w.stream.write(fmt.Sprintf("a%d", i%p.aggregates))
		}
		w.set(slowBytes, 1, 0, 1)
	})
}

// Kind 6: a scalar checkpoint over parallel work.
func TestAFailingEventHoldsBackItsAggregateOnly(t *testing.T) {
	begin := func() *plan {
		p := calm()
		p.shards, p.maxUnfinished, p.aggregates, p.every = 1, 100, 300, 50*time.Millisecond
		p.failing["a3-0"], p.failing["a5-1"] = true, true
		return p
	}
	scripts := map[string]func(*world){
		"in a shard":       func(*world) { time.Sleep(time.Minute) },
		"at a shard's end": func(w *world) { time.Sleep(12 * time.Second); w.stream.split(0); time.Sleep(12 * time.Second) },
		"over two ends": func(w *world) {
			for range 2 {
				time.Sleep(12 * time.Second)
				w.stream.split(0)
			}
		},
		"over a good stop": func(w *world) { time.Sleep(12 * time.Second); w.restarted(0, func() {}); time.Sleep(12 * time.Second) },
		"over a killed one": func(w *world) {
			time.Sleep(12 * time.Second)
			w.members[0].process().kill()
			time.Sleep(2 * time.Second)
			w.members[0].start()
		},
		"over many restarts": func(w *world) {
			for range 4 {
				time.Sleep(12 * time.Second)
				w.members[0].process().kill()
				w.members[1].process().kill()
				w.members[0].start()
				w.members[1].start()
			}
		},
		"over lost iterators": func(w *world) {
			w.set(expiredIterator, .3, 0, 1)
			time.Sleep(time.Minute)
			w.set(expiredIterator, 0, 0, 1)
		},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			direct(t, begin(), script)
		})
	}
	t.Run("a hung handler at a shard's end", func(t *testing.T) {
		p := begin()
		clear(p.failing)
		direct(t, p, func(w *world) {
			w.members[0].hang()
			w.members[1].hang()
			time.Sleep(10 * time.Second)
			w.stream.split(0)
			time.Sleep(time.Minute)
		})
	})
}

// Kind 7: a worker's clock is taken for the stream's.
func TestTheStreamsClockDecidesWhereLatestIs(t *testing.T) {
	for _, skew := range []time.Duration{-5 * time.Minute, 5 * time.Minute} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/streams=%v", skew, streams), func(t *testing.T) {
				p := calm()
				p.latest, p.skew, p.streams = true, skew, streams
				direct(t, p, func(*world) { time.Sleep(30 * time.Second) })
			})
		}
	}
}

// A client of the user's own returns neither an answer nor an error, or a nil pointer as its error.
func TestNoAnswerAndNoErrorIsAnError(t *testing.T) {
	for _, what := range []fault{nilAnswer, nilError} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/streams=%v", what, streams), func(t *testing.T) {
				p := calm()
				p.streams, p.letters = streams, true
				direct(t, p, tenSeconds(what, .3, 0, 1))
			})
		}
	}
}
