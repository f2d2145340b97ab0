// Package fleetsim simulates fleets of Workers. It is test code, from the simulator to its tests: nothing can import it.
//
// It knows the root package by its exported names, as a caller does. It also knows how leases are stored (internal/lease) and how
// sequence numbers are ordered (internal/shardreader).
//
// A schedule runs in a bubble of testing/synctest: Workers, a handler whose effects are the history, and a cloud. A simLink
// stands between each process and the cloud. It loses, delays, doubles and refuses calls, and pauses and kills the process. There
// are two clouds:
//
//   - cheapCloud is a table and a stream behind the SDK's interfaces. It checks each write of the table as it happens.
//   - wireCloud is outboxtest behind the real SDK.
//
// At the end the history is compared with the stream. A violation names the invariant that is broken:
//
//	I1   A lease's fences only go up, and each has one owner. Only the owner moves the checkpoint.
//	I2   A checkpoint never goes back, and never passes a record that is not handled.
//	I3   A record of a shard is handled after all parents of the shard have ended.
//	I4   Each hash key belongs to a shard that is not finished.
//	I5   Each record is handled.
//	I6   A fence brings at most WithMaxUnfinished duplicates, and a stop in good order brings none.
//	I7   The events of an aggregate are handled one at a time within a process, in the order of their shard.
//	I8   After the last fault each lease has a living owner, and the owners' shares differ by one lease at most.
//	I10  The attempts at an event that always fails are bounded, whoever owns its shard.
//	I11  The number of goroutines is bounded.
//	I12  Lost, late and doubled answers cost no lease.
//	I13  A worker that has lost the lease table runs no handler when its leases have ended.
//	I14  Run returns by its drain timeout, with no handler running and every lease released.
//	I15  A lease changes hands only if it is released or handed over, or if its owner is marked dead.
package fleetsim
