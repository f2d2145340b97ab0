package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// model is a ledger as simply as it can be said: all records there ever were, and what was done to each.
type model struct {
	limit    int
	now      time.Duration
	records  []modelRecord
	stored   int // up to the checkpoint when it was stored
	holes    int // that were stored
	head     int // the oldest record of the ring at the last look
	since    time.Duration
	earlier  map[string]int
	ended    bool
	stopping bool
	begun    int // what lies before it is finished after a stop
	poison   int
	blocked  map[string]bool
}

type modelRecord struct {
	aggregate string
	key       uint64
	known     bool
	deferred  bool
	started   bool
	begun     time.Duration
	attempts  int
	finished  bool
	hole      bool // the checkpoint has passed it unfinished
}

// finished is how many records the checkpoint has passed.
func (m *model) finished() int {
	n := slices.IndexFunc(m.records, func(r modelRecord) bool { return !r.finished && !r.hole })
	if n < 0 {
		n = len(m.records)
	}
	return n
}

func (m *model) open() (holes []Hole) {
	for i, r := range m.records {
		if r.hole && !r.finished {
			holes = append(holes, Hole{Slot(i), fmt.Sprint(i), r.key, r.attempts})
		}
	}
	return holes
}

func (m *model) most() int { return min(maxHoles, m.limit/2) }

// pass makes holes. drained says that nothing more is handled.
func (m *model) pass(drained bool) {
	if at := m.finished(); at != m.head {
		m.head, m.since = at, m.now
	}
	for at := m.finished(); at < len(m.records) && len(m.open()) < m.most() && at != m.poison; at = m.finished() {
		r := &m.records[at]
		behind := slices.ContainsFunc(m.records[at:], func(r modelRecord) bool { return r.finished })
		crowded := m.ended || len(m.records)-at > (m.limit-len(m.open()))/2
		same := slices.ContainsFunc(m.open(), func(h Hole) bool { return r.key != 0 && h.Key == r.key })
		slow := r.started && m.now-r.begun >= long || at == m.head && m.now-m.since >= long
		inTheWay := drained && behind || crowded && (r.attempts > 0 || r.deferred || same || slow)
		if !r.known || !inTheWay {
			return
		}
		r.hole = true
	}
}

func (m *model) room(want int) int {
	free := m.limit - (len(m.records) - m.stored) - m.holes
	if free < want && free < max(m.limit/8, 1) {
		return 0
	}
	return min(free, want)
}

func (m *model) mayStart(i int) bool {
	r := m.records[i]
	if i >= m.poison || m.blocked[r.aggregate] {
		return false
	}
	return !m.stopping || !r.started && i < m.begun && !r.hole
}

func (m *model) left(i int) {
	if id := m.records[i].aggregate; id != "" {
		m.blocked[id] = true
	}
	unfinished := 0
	for _, r := range m.records[:m.begun] {
		if !r.finished && !r.hole {
			unfinished++
		}
	}
	if m.stopping && !m.records[i].hole && unfinished <= m.most()-len(m.open()) {
		m.begun = min(m.begun, i)
	}
}

func (m *model) attempts() map[string]int {
	kept := map[string]int{}
	for i, r := range m.records {
		if r.attempts > 0 && !r.finished && !r.hole && len(kept) < maxRemembered {
			kept[fmt.Sprint(i)] = r.attempts
		}
	}
	for sequence, n := range m.earlier {
		kept[sequence] = n
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// play does what the bytes say to a ledger and to the model of it, and compares them after each.
func play(t require.TestingT, limit int, moves []byte) {
	m := &model{limit: limit, poison: 1 << 30, blocked: map[string]bool{}, earlier: map[string]int{}}
	inherited := limit % 3
	for i := range inherited {
		m.records = append(m.records, modelRecord{aggregate: "a", key: uint64(i), known: true, attempts: i, hole: true})
	}
	for i := range 3 {
		m.earlier[fmt.Sprint(5*i+inherited)] = i + 1
	}
	m.stored, m.holes = inherited, inherited
	l := New(limit, Progress{Checkpoint: "start", Attempts: m.earlier, Holes: m.open()}, t0)
	var saving *Progress // what was asked for, and not stored yet
	savingAt, savingHoles := 0, 0
	for at, move := range moves {
		what := []any{"move %d of %v, limit %d", at, moves, limit}
		var open []int
		for i, r := range m.records {
			if !r.finished {
				open = append(open, i)
			}
		}
		kind, arg := move%16, int(move/16)
		if kind >= 3 && kind <= 12 && len(open) == 0 {
			kind = 0
		}
		switch kind {
		case 2:
			m.now += time.Duration(arg) * time.Second
			m.pass(false)
			l.Due(t0.Add(m.now))
		case 0, 1:
			batch := make([]string, arg%9)
			for j := range batch {
				batch[j] = fmt.Sprint(len(m.records) + j)
			}
			room := m.room(len(batch))
			first, n := l.Add(batch, t0.Add(m.now))
			require.Equal(t, room, n, what...)
			require.EqualValues(t, len(m.records), first, what...)
			for j := range n {
				id := len(m.records)
				key := (id + j) % 4
				r := modelRecord{aggregate: []string{"", "a", "b", "c"}[key], attempts: m.earlier[fmt.Sprint(id)]}
				delete(m.earlier, fmt.Sprint(id))
				if arg != 5 { // the records of one batch are not decoded in time
					r.key, r.known = uint64(key), true
					l.Keys([]Slot{Slot(id)}, []uint64{r.key})
				}
				if arg == 7 && j == 0 {
					r.deferred = true
					l.Deferred(Slot(id))
				}
				m.records = append(m.records, r)
			}
		case 3, 4, 5:
			i := open[arg%len(open)]
			r := &m.records[i]
			may := m.mayStart(i)
			require.Equal(t, may, l.MayStart(Slot(i), r.aggregate), what...)
			if may {
				if !r.started {
					r.started, r.begun = true, m.now
				}
				m.begun = max(m.begun, i+1)
			}
		case 6, 7, 8, 9:
			i := open[arg%len(open)]
			before := m.finished()
			m.records[i].finished = true
			moved := m.finished() > before
			if moved && m.ended {
				m.pass(false)
			}
			due := m.finished()-m.stored >= min(500, max(limit/4, 1)) || m.ended && m.finished() == len(m.records)
			require.Equal(t, moved && due, l.Settled(Slot(i)), what...)
		case 10, 11:
			i := open[arg%len(open)]
			m.records[i].attempts++
			require.Equal(t, m.records[i].attempts, l.Failed(Slot(i)), what...)
		case 12:
			i := open[arg%len(open)]
			l.Left(Slot(i), m.records[i].aggregate)
			m.left(i)
		case 13:
			p := l.Progress()
			saving, savingAt, savingHoles = &p, m.finished(), len(m.open())
		case 14:
			if saving != nil {
				l.Stored(*saving, t0)
				m.stored, m.holes, saving = savingAt, savingHoles, nil
			}
		case 15:
			switch {
			case arg == 0:
				l.Stop()
				m.stopping = true
			case arg == 1 && len(open) > 0:
				i := open[0]
				l.Poison(Slot(i), errors.New("poison"))
				m.poison = min(m.poison, i)
				if !m.stopping {
					m.begun = max(m.begun, i)
				}
			case arg == 2:
				l.End()
				m.ended = true
			case arg == 3 && at == len(moves)-1:
				m.pass(true)
				l.Drained()
			}
		}
		finished := m.finished()
		want := Status{Unfinished: len(m.records) - finished + len(m.open()), Unstored: finished - m.stored, Oldest: l.Status().Oldest}
		require.Equal(t, want, l.Status(), what...)
		require.Equal(t, want.Unfinished == 0, want.Oldest.IsZero(), what...)
		// What a crash repeats now, were the stored Progress the one before: never more than the limit, but for what there was to begin with.
		require.LessOrEqual(t, len(m.records)-m.stored+m.holes, max(limit, inherited), what...)
		require.Equal(t, m.open(), l.Progress().Holes, what...)
		require.Equal(t, m.ended && finished == len(m.records), l.Progress().Ended, what...)
		p, checkpoint := l.Progress(), "start"
		if finished > inherited {
			checkpoint = fmt.Sprint(finished - 1)
		}
		require.Equal(t, checkpoint, p.Checkpoint, what...)
		if attempts := m.attempts(); len(attempts) <= maxRemembered {
			require.Equal(t, attempts, p.Attempts, what...)
		}
		require.LessOrEqual(t, len(p.Attempts), maxRemembered, what...)
		require.Equal(t, m.stopping, l.Stopping(), what...)
		require.Equal(t, m.poison < 1<<30, l.Poisoned() != nil, what...)
	}
}

func TestTheLedgerIsItsModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Log("seed", seed)
	for range 200 {
		moves := make([]byte, rng.IntN(200))
		for i := range moves {
			moves[i] = byte(rng.Uint32())
		}
		play(t, 1+rng.IntN(40), moves)
	}
}

func FuzzTheLedgerIsItsModel(f *testing.F) {
	f.Add(uint8(3), []byte{0x60, 0x03, 0x16, 0x06, 0x0d, 0x0e, 0x80})
	f.Add(uint8(16), []byte{0x80, 0x33, 0x0f, 0x13, 0x0c, 0x03})
	f.Fuzz(func(t *testing.T, limit uint8, moves []byte) {
		play(t, int(limit)%64+1, moves[:min(len(moves), 500)])
	})
}
