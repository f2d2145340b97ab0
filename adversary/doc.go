// Package adversary simulates fleets of Workers in a world that means them ill. It is test code: nothing can import it.
//
// The world is written from the documentation of AWS, of its SDK, and of the root package's exported names, and knows nothing of how the
// library works. So it does not share the library's picture of the world, as fleetsim does: it imports nothing internal.
//
// A seed decides a schedule, which runs in a bubble of testing/synctest. In its first phase members are sick, answers lie, clocks are off,
// processes die. Then a core of the members is healed, and whatever else was wrong stays wrong for ever. From then on every record must be
// handled, or told of, within a bounded time.
//
//   - stream: shards and records, behind a Kinesis data stream or a DynamoDB stream, with the limits of the services.
//   - table: DynamoDB tables with the operations and the expressions of the real ones.
//   - link: what stands between a process and the services. Each fault is switched on or off once for a run.
//   - history: what handlers, hooks, logs and the lease table showed, and what must hold of it.
//
// Each fault is counted: in 2,000 seeds or more, a fault that no seed reaches fails the run.
package adversary
