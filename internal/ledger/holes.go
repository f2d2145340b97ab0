package ledger

import "time"

// maxHoles bounds the holes of a Progress. With their sequence numbers of 56 digits they take some 4.4 KB of a row.
const maxHoles = 50

// long is for how long a record has to keep a crowded ring waiting before it becomes a hole although its handler has not failed.
const long = 5 * time.Second

// Hole is an unfinished record that the checkpoint has passed.
type Hole struct {
	Slot     Slot // in this ledger
	Sequence string
	Key      uint64 // of its aggregate, as Keys was told; 0 if it has none
	Attempts int
}

func (l *Ledger) tell(now time.Time) { l.now = max(l.now, now.Sub(l.created)) }

func (l *Ledger) get(s Slot) *entry {
	if e := l.holes[s]; e != nil {
		return e
	}
	return l.recent.get(s)
}

func (l *Ledger) addHole(s Slot, e entry) {
	l.holes[s] = &e
	l.byKey[e.key]++
}

func (l *Ledger) removeHole(s Slot) {
	key := l.holes[s].key
	if l.byKey[key]--; l.byKey[key] == 0 {
		delete(l.byKey, key)
	}
	delete(l.holes, s)
	l.changes++
}

// pass makes holes of the oldest records as far as they are in the way: of those that have failed or take long, and those behind them in
// their aggregates. The ring has to be crowded, or the shard read to its end, so that in calm times there are none. When nothing more is
// handled, the records in the way of finished ones become holes, as far as there is room for holes, and none behind a poison.
func (l *Ledger) pass() {
	r := &l.recent
	if r.from != l.head {
		l.head, l.headSince = r.from, l.now
	}
	last := r.from // one past the last finished record
	if l.drained {
		for s := r.from; s < r.to; s++ {
			if r.at(s).state == done {
				last = s + 1
			}
		}
	}
	for r.from < r.to && len(l.holes) < l.maxHoles && r.from != l.poison {
		e := r.at(r.from)
		crowded := l.ended || int(r.to-r.from) > (l.limit-len(l.holes))/2
		inTheWay := l.drained && r.from < last || crowded && l.holdsUp(r.from, e)
		if !e.known || !inTheWay {
			return
		}
		l.addHole(r.from, *e)
		l.changes++
		l.checkpoint = r.drop()
	}
}

// holdsUp reports whether the oldest record of the ring may keep it waiting.
func (l *Ledger) holdsUp(s Slot, e *entry) bool {
	switch {
	case l.failed[s].attempts > 0, e.deferred, e.key != 0 && l.byKey[e.key] > 0:
		return true
	case e.state == started && l.now-e.begun >= long:
		return true
	}
	return s == l.head && l.now-l.headSince >= long // its lane waits for another shard, or for a place
}

// Deferred says that a record waits for one that is not in the lanes, perhaps for long.
func (l *Ledger) Deferred(s Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.get(s).deferred = true
}

// End says that the shard was read to its end: nothing more is added.
func (l *Ledger) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.changes++
}

// Drained says that nothing more is handled. Of what is unfinished, as much as possible becomes holes, so that what is finished behind it is
// not handled again.
func (l *Ledger) Drained() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drained = true
	l.pass()
}
