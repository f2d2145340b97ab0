package order

import "time"

// Position is what a consumer has done of one aggregate. The zero value is that of an aggregate of which it has handled nothing.
type Position struct {
	// Sequence is the last number that is handled. So is every number from First on up to it.
	Sequence int64
	// First is where the consumer began. 0 means 1.
	First int64
	// At is the latest time of an event that has moved the position, or zero.
	At time.Time
	// Began says that the position is stored.
	Began bool
}

// Over is the position behind an event that was the next one.
func (p Position) Over(e Event) Position {
	p.Sequence, p.First, p.Began = e.Sequence, max(p.First, 1), true
	if e.Time.After(p.At) {
		p.At = e.Time
	}
	return p
}

// Event is what a decision needs of an event.
type Event struct {
	Sequence  int64
	Time      time.Time // what its writer says
	ChangedAt time.Time // when its row was written; zero if nobody knows
}

// Step is what comes next for an event.
type Step int

const (
	// Run says that everything before the event is handled. It is handled now, and moves the position from the number before to its own.
	Run Step = iota
	// Duplicate says that the event was handled.
	Duplicate
	// Heal says that the numbers behind the position are read, and handled first.
	Heal
	// Begin says that the consumer knows nothing of the aggregate. The rows before the event say where it begins.
	Begin
	// Before says that the event is older than what the consumer wants.
	Before
	// Late says that the event can have no place in the order any more.
	Late
)

// Next says what comes next for an event at a position. Events from before from are not wanted; the zero time wants all of them.
func Next(p Position, e Event, from time.Time) Step {
	switch {
	case p.Began && e.Sequence < p.First:
		if e.before(from) {
			return Before
		}
		return Late
	case e.Sequence <= p.Sequence:
		// An event that has moved the position is no later than At. So this one has not: somebody uses the aggregate's id, or its numbers, again.
		if !p.At.IsZero() && e.Time.UnixMilli() > p.At.UnixMilli() {
			return Late
		}
		return Duplicate
	case !p.Began && e.before(from):
		return Before
	case e.Sequence == p.Sequence+1:
		return Run
	case !p.Began && !from.IsZero():
		return Begin
	}
	return Heal
}

// before judges by the time that the row has as well: when the row was written, only a delivery knows, and an aggregate must not begin elsewhere
// because its events come in another order. An event without a time is wanted.
func (e Event) before(from time.Time) bool { return !e.Time.IsZero() && e.Time.Before(from) }

// settled is how long a row may be missing although a later one is there: two rows of a transaction need not be seen at the same moment.
const settled = 10 * time.Second

// Young reports whether a row before the event may still be on its way. A clock that is off by more than that time knows nothing; then no event is
// young, and a missing row is an error that is told.
func (e Event) Young(now time.Time) bool {
	return !e.ChangedAt.IsZero() && now.Sub(e.ChangedAt).Abs() < settled
}

// Row is what a decision needs of a number's row in the events table.
type Row struct {
	Present   bool
	Time      time.Time
	ExpiresAt time.Time // zero: never
}

// Beginning says where an aggregate begins for a consumer that knows nothing of it, and was given the event n: at the first of the events before n
// that are wanted and there without a hole. rows are those of n-1, n-2 and so on. more says that all of them count, and that those before
// them have to be read.
//
// A row whose time is over counts as gone, whether or not it has been removed: time to live removes rows in no order.
func Beginning(n int64, rows []Row, from, now time.Time) (first int64, more bool) {
	for _, row := range rows {
		if !row.Present || row.Time.Before(from) || !row.ExpiresAt.IsZero() && !row.ExpiresAt.After(now) {
			return n, false
		}
		n--
	}
	return n, n > 1
}
