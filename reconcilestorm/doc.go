// Package reconcilestorm loses a fifth of the records between the table and the stream, and looks from outside whether Reconcile finds each of
// them, whether each event has its effect once in the end, and whether what Reconcile counts is so. It is test code: nothing can import it.
//
// A seed decides what a world is made of, and the faults of its stream and its requests; in which order its goroutines come to them is chance, so a
// seed may need several runs to fail again. A world takes place in a bubble of testing/synctest: functions behind mappings, Workers, and processes
// that call Reconcile each second, all at once; a stream that drops, doubles and delays; requests that fail, whose answers are lost, or that leave
// keys unread; processes that die at some request, before or after it. Half of the worlds have WithOrder, and half of the others dead letters, of
// which some are discarded.
//
//   - link: what stands between a process and the services.
//   - process: clients, Consumer and tables of one process, which can be killed.
//   - world: the stream, the processes, and what must hold.
//
// A bug is planted for each check, and this check must see it (planted_test.go).
package reconcilestorm
