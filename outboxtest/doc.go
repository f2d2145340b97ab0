// Package outboxtest is the part of AWS that an outbox on DynamoDB needs, inside
// the test's own process: DynamoDB with its Kinesis streaming destination and
// DynamoDB Streams, Kinesis Data Streams, and Lambda's event source mapping.
//
//	func TestOrders(t *testing.T) {
//		cloud := outboxtest.Start(t)
//		// cloud.DynamoDB, cloud.Kinesis and cloud.Streams are ordinary SDK clients:
//		// hand them to your code, create whatever it needs with them.
//		cloud.CreateOutbox(t, "events", "changes", 2)
//		_, err := cloud.Map(outboxtest.EventSource{Stream: "changes", ReportBatchItemFailures: true}, consumer.Invoke)
//		...
//		err = cloud.Drain(t.Context()) // every change has been delivered and handled
//	}
//
// [Start] is for tests. [New] returns the bare [Server], an [net/http.Handler]
// that speaks the real protocols, for use over a real listener or from another
// language.
//
// # What is real
//
// The wire protocols, the validations and the error texts are real. So are
// conditions, transactions and their cancellation reasons; the change records as
// DynamoDB writes them; shards, their splitting and merging, sequence numbers and
// iterators; batches, partial failures, bisecting and giving up in the mapping.
// README.md beside this file lists what is emulated and what is not.
//
// # Time
//
// Points in time follow the clock of [WithClock]: timestamps, expiry, retention,
// the ten minutes of transaction tokens. Waits use the time package: batching
// windows, pauses between retries, the timeout of a function, the delays of
// faults. Inside a [testing/synctest] bubble both are the bubble's clock, and
// waiting is free: there is no network, and the bubble knows every goroutine.
//
// # Faults
//
// [WithFaults] makes requests fail, loses answers, and delivers change records
// late, twice or in another order. A seed decides which. [WithRandomFaults] takes
// another seed in every run and logs it, so that a failure can be replayed.
// [Server.StopFaults] ends the faults, so that a test can check what is left
// after the storm. [Server.Cut] cuts the network of one service until it is
// healed. A [Process] has clients of its own, and dies where a test says.
//
// The package knows the services, not the library: it never imports the outbox
// package.
package outboxtest
