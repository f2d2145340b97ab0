// Package storm puts an outbox into a storm, and looks at its promises from outside. It is test code: nothing can import it.
//
// It is written from the README, the pages in docs and the comments of exported names, by somebody who had not read the library. It runs on
// outboxtest, with an injector of its own between each process and the services, and imports nothing internal.
//
// A seed decides a run, which takes place in a bubble of testing/synctest. Three kinds of run:
//
//   - redrive: events of a few aggregates, some of them poison that heals later; Workers or a Lambda function; redrives from several places;
//     kills, pauses, clocks that differ. Each aggregate's events must reach their handler in the order of their arrival, each of them.
//   - hot: many events of one aggregate, whose handlers lose races against each other. No event may become a dead letter.
//   - deadline: one request hangs, at each place in turn. Invoke must answer before its deadline.
//
// The pieces:
//
//   - link: what stands between a process and the services, with faults that are switched on once for a run.
//   - frame: what makes a process's clock differ from the services' clock.
//   - process: clients, Consumer and tables of one process, which can be killed and paused.
//   - history: what handlers did, and what must hold of it.
//
// Each check has a planted fault that it must see (planted_test.go).
package storm
