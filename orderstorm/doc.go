// Package orderstorm puts Consumers with WithOrder into a storm, and looks from outside whether each aggregate's events have had their effects in
// order, once and without a gap. It is test code: nothing can import it.
//
// A seed decides what a world is made of, and the faults of its stream and its requests; in which order its goroutines come to them is chance, so a
// seed may need several runs to fail again. A world takes place in a bubble of testing/synctest: a stream of several shards that drops, doubles,
// delays and reorders by any distance; functions behind mappings, and Workers beside them in a fifth of the worlds; requests that fail, or whose
// answers are lost; processes that die at some request, before or after it. The handlers are those of HandleTx; in a part of the worlds guarded
// ones and ignored types are between them.
//
// In the worlds of a change-over the consumer begins with marks, and comes to WithOrder as docs/ordering-and-duplicates.md says: with KeepMarks while
// processes of both versions run, or after a stop of all of them.
//
// The effect of an event is conditional on the effect before it, or, with marks, on its own absence. So a violation is a failed condition in the table itself.
//
//   - link: what stands between a process and the services, and sees what they do.
//   - process: clients, Consumer and tables of one process, which can be killed.
//   - world: the stream, the processes, and what must hold.
//   - changeover: which versions run when.
//
// A bug is planted for each check, and this check must see it (planted_test.go).
package orderstorm
