// Package ordermodel is the specification of the order by sequence: one aggregate, its rows, its position, its dead letters, and everybody who
// touches them, each call one atomic step. It is test code: nothing can import it.
//
// Of a world of up to 20,000 states all schedules are run, with every request and answer that may be lost and every place where a process may
// die; of larger ones many random schedules. What comes next for an event is decided by internal/order, as in the Consumer; what surrounds
// the decision is written here once more, and shorter.
//
//   - sched: processes as coroutines, and who goes next.
//   - world: the tables, and what must hold of them.
//   - consumer: the delivery of an event.
//   - people: redrives, discards, writers, time to live.
//   - worlds, random: the worlds, and the bugs that each of them must show.
//
// It leaves out: several aggregates, pages, payloads, fences of Workers.
package ordermodel
