// Package lease shares the shards of one stream among a fleet of workers, with nothing but conditional writes on one table.
//
// It knows groups, workers, leases, fences, checkpoints and the lineage of shards. It must not know Kinesis's client, events
// or handlers: a function, Config.Consume, reads a shard.
//
// # The protocol
//
// A worker's row has a beat, which the worker counts up. A lease is alive while its owner's beat moves. Each observer judges this by its own
// monotonic clock, from when it first saw the beat to a little more than Duration later: the owner's Duration, or the observer's if that is
// longer. The worker itself counts Duration from when it sent the beat, which is earlier, and then ends all its work. So the worker has
// stopped before anybody takes its leases.
//
// A lease changes hands in one of three ways. Each is a conditional write that steps the fence:
//
//   - Nobody has the lease, and a worker acquires it.
//   - An observer marks the owner dead, on condition that the beat is still the one seen. Then a worker acquires the lease.
//   - Another worker wants the lease. The owner drains and hands it over.
//
// A worker that was marked dead can beat no more. It registers under another name at once, ends what it did under the old one, and marks
// the old name dead for good when nothing of it runs any more, so that nobody needs to wait.
//
// Who should have which lease is a pure function of the table, plan. Workers that see the same table agree.
//
//   - A beat that failed is repeated with a new number. The row takes only higher numbers, so a late copy is no sign of life.
//   - A worker that stops says so with a beat, and goes on reading for a tick and a half at most. The others ask for its leases
//     meanwhile, and each shard stands still only as long as in any handover. A worker that is alone stops at once.
//   - A lost answer proves nothing. The next look at the table finds an acquisition without an answer. A release is repeated until its
//     answer is certain. A save has a number, so that a late copy cannot move the checkpoint back.
//   - The row of a dead worker stays for as long as a lease. A lease that another worker still hands over to it is then free at once.
//   - A child is read once each parent has ended, or is forgotten by both the table and a listing that has the child.
//   - A shard has ended when it was read to its end and all of it is finished but some records, the holes. Its row names them, and its
//     lease is held, handed over and acquired like any other until they are finished. A worker that holds the lease of a child, or of a
//     child's child, learns from each view which keys are among the holes, and begins no record with such a key. After its end a shard has
//     no new holes, so a view that is old only makes the child wait longer; a view that is older than the end is not acted on.
//   - Leases of listed shards are created children first. So a child whose parent has a row is new, and starts at TrimHorizon.
//   - A shard that its source has forgotten is not deleted but marked, and its row expires later: a late copy of its creation must
//     not make the shard new.
//   - A handler that hangs keeps no shard. A second after its context has ended, which is after Drain in a handover, its lease is given up.
//
// # Doubts
//
// An answer may lack something, be old, or come from elsewhere. Nothing in the table that cannot be undone rests on one answer or one worker.
//
//   - A view without the worker's own row, or with a beat before its last confirmed one, is no view. Nor is a view with a lease that lacks
//     its checkpoint or its fence. A row that is missing from two views is gone.
//   - An acquisition, or the group's beginning, whose answer does not have what was written is read again.
//   - Two workers must miss a shard before it is marked gone: one leaves its name in the row, another marks it. The owner is not the first.
//     A worker that is alone does both, after three minutes of listings made alone. A shard that is listed again is read on at its checkpoint.
//   - An end keeps the checkpoint before it. If listings over two minutes have the shard as open, and no shard continues it, the end is
//     taken back.
//   - A listing with none of the shards that are still to be read is a failure. If no other worker is able after five minutes of such
//     listings, they are believed: after an outage longer than the retention all shards are others.
//
// # Ability
//
// Beats say that a worker lives. Whether it can do the work, its row says. A worker is unable before its first listing if two have
// failed or none has come within Duration, later if none has succeeded for two minutes (2 List), or if
// a shard has failed for so long and no other shard of it is read. It takes no leases, and others ask for its leases. If no worker is able,
// all take.
//
// A worker that beats and gets no view for half a minute is unable for five minutes. It keeps what it has, since it cannot see who asks for
// it. If it may not look at all (a permission is missing), for two minutes, it gives everything up, and registers anew when it may.
//
// A worker that reads other shards refuses only the shard that fails: the shard goes to a worker that does not refuse it, unless all do.
// It refuses as well what its own last listings lack and the table has, unless it holds the shard and its reading does not fail.
// So a shard that nobody can read costs the others nothing. A refusal, and inability for failing shards, last five minutes, and twice as
// long after each relapse, up to an hour; an answer that the shard gives ends them. A new worker acquires nothing before its first listing
// has succeeded or it has told the others that it is unable.
//
// # Looks and views
//
// A worker takes a view of the whole table only when something has changed. Otherwise it looks at the workers' rows, which are few and
// small. A worker's row counts its moves: all it has done that others plan by (it has acquired, asked for, released, ended, created or
// marked gone a lease). A beat that follows at once carries the count, and so does every later beat. Rows that appear, die, drain or
// beat for the first time are changes themselves. A worker that dies before it could tell is marked dead, which is a change, too.
//
//   - A look is eventually consistent, for half the price. It may only delay: an old beat is seen later, and a worker is marked dead
//     on condition of the beat that a consistent view shows. Whatever a look says that calls for an action, a view comes first.
//   - A look without the worker's own row is no look. A row that appears, or has vanished though its worker was not dead, needs a view.
//   - A request may be carried out long after it was sent, when the others have looked. So a worker steps its moves once more when its
//     view leaves nothing to do: then the others see all that it has seen.
//   - A worker of a release that does not count moves does not tell. While there is one, every tick is a view.
//   - A view is also taken after each listing, and at least every minute and a half, because people can change rows.
//   - The rows of finished shards cost only views. A dead worker's row is deleted by the first view after a lease's duration.
//   - With more than 50 workers the looks come up to half as often. A dead worker is still found in time: each of the others judges by
//     itself, exactly when the time has passed, and the first one's mark is a change for all.
//
// # Invariants
//
// The simulations of this package and of whole workers check these, and name them in what they report, except I9
// (TestHandleTxCommitsOnceWhereverProcessesDie) and the second half of I10 (TestAttemptsSurviveAWorkerThatReadsNothing,
// TestManyFailingEventsDoNotStopTheRest):
//
//   - I1: Accepted checkpoints of a lease carry fences that never decrease, and a fence has one owner.
//   - I2: A checkpoint never goes back, and never passes a record that is neither acknowledged nor stored as a hole. A hole is stored until it
//     is acknowledged.
//   - I3: No record of a child reaches a handler before all its parents are at ShardEnd: read to their end, and what of them still waits is
//     stored.
//   - I4: The leases that are not at ShardEnd always cover the whole range of hash keys.
//   - I5: Nothing is lost under kills, pauses, partitions, throttling, lost and duplicated answers, splits and merges: every event is handled
//     or a dead letter.
//   - I6: A crash repeats at most as many records as the bound above the checkpoint. A clean handover or stop repeats none.
//   - I7: Handlers of one aggregate never overlap within a fence, and start in the order of arrival.
//   - I8: After the last fault every lease has an owner, the shares differ by one at most unless a worker refuses shards, and they stay as they
//     are.
//   - I9: With an inbox each event has exactly one committed effect.
//   - I10: The attempts at a record that always fails are bounded over restarts and owners, and other aggregates go on.
//   - I11: Goroutines and memory are bounded by the shards that a worker owns.
//   - I12: A lost answer of the table never costs a lease.
//   - I13: A worker that cannot reach the table for Duration has no running handler after it, but for the time that a handler takes to
//     notice the end of its context.
//   - I14: Run returns within Drain, unless a handler does not notice the end of its context, with every lease released or about to
//     expire. The next owner starts exactly at the end of what is finished.
//   - I15: No lease changes its owner unless it was released, handed over, or its owner was marked dead.
//   - I16: After the last fault every record is handled, or told of, within a bounded time, even if one worker stays sick in one
//     dependency for ever.
//   - I17: No record of an aggregate reaches a handler in a shard before all of the aggregate in the shards before it are acknowledged.
package lease
