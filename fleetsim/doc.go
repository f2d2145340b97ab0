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
// At the end the history is compared with the stream. A violation names the invariant that is broken, by its number in the package comment of
// internal/lease.
package fleetsim
