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
	records  []modelRecord
	stored   int // finished without a gap when it was stored
	earlier  map[string]int
	stopping bool
	begun    int // what lies before it is finished after a stop
	poison   int
	blocked  map[string]bool
}

type modelRecord struct {
	aggregate string
	started   bool
	attempts  int
	finished  bool
}

// finished is how many records are finished without a gap.
func (m *model) finished() int {
	n := slices.IndexFunc(m.records, func(r modelRecord) bool { return !r.finished })
	if n < 0 {
		n = len(m.records)
	}
	return n
}

func (m *model) room(want int) int {
	free := m.limit - (len(m.records) - m.stored)
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
	return !m.stopping || !r.started && i < m.begun
}

func (m *model) attempts() map[string]int {
	kept := map[string]int{}
	for i, r := range m.records {
		if r.attempts > 0 && !r.finished && len(kept) < maxRemembered {
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
	for i := range 3 {
		m.earlier[fmt.Sprint(5*i)] = i + 1
	}
	l := New(limit, Progress{Checkpoint: "start", Attempts: m.earlier}, t0)
	var saving *Progress // what was asked for, and not stored yet
	savingAt := 0
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
		case 0, 1, 2:
			batch := make([]string, arg%9)
			for j := range batch {
				batch[j] = fmt.Sprint(len(m.records) + j)
			}
			room := m.room(len(batch))
			first, n := l.Add(batch, t0.Add(time.Duration(len(m.records))*time.Second))
			require.Equal(t, room, n, what...)
			require.EqualValues(t, len(m.records), first, what...)
			for j := range n {
				id := len(m.records)
				m.records = append(m.records, modelRecord{aggregate: []string{"", "a", "b", "c"}[(id+j)%4], attempts: m.earlier[fmt.Sprint(id)]})
				delete(m.earlier, fmt.Sprint(id))
			}
		case 3, 4, 5:
			i := open[arg%len(open)]
			r := &m.records[i]
			may := m.mayStart(i)
			require.Equal(t, may, l.MayStart(Slot(i), r.aggregate), what...)
			if may {
				r.started = true
				m.begun = max(m.begun, i+1)
			}
		case 6, 7, 8, 9:
			i := open[arg%len(open)]
			before := m.finished()
			m.records[i].finished = true
			moved := m.finished() > before
			require.Equal(t, moved && m.finished()-m.stored >= min(500, max(limit/4, 1)), l.Settled(Slot(i)), what...)
		case 10, 11:
			i := open[arg%len(open)]
			m.records[i].attempts++
			require.Equal(t, m.records[i].attempts, l.Failed(Slot(i)), what...)
		case 12:
			i := open[arg%len(open)]
			l.Left(Slot(i), m.records[i].aggregate)
			if id := m.records[i].aggregate; id != "" {
				m.blocked[id] = true
			}
			if m.stopping {
				m.begun = min(m.begun, i)
			}
		case 13:
			p := l.Progress()
			saving, savingAt = &p, m.finished()
		case 14:
			if saving != nil {
				l.Stored(*saving, t0)
				m.stored, saving = savingAt, nil
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
			}
		}
		finished := m.finished()
		want := Status{Unfinished: len(m.records) - finished, Unstored: finished - m.stored, Oldest: l.Status().Oldest}
		require.Equal(t, want, l.Status(), what...)
		require.Equal(t, want.Unfinished == 0, want.Oldest.IsZero(), what...)
		require.LessOrEqual(t, want.Unfinished+want.Unstored, limit, what...)
		p, checkpoint := l.Progress(), "start"
		if finished > 0 {
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
