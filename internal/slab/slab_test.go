package slab

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A piece that was given out stays as it was, whatever follows, even if something is appended to a piece.
func TestPiecesDoNotOverlap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, s := range []*Slab{nil, New(1 << 20)} {
		var pieces [][]byte
		var texts, want []string
		for i := range 2000 {
			n := rng.IntN(200)
			if i%100 == 0 {
				n = rng.IntN(3 * chunkSize)
			}
			text := bytes.Repeat([]byte{byte('a' + i%26)}, n)
			room := s.Room(n + rng.IntN(50))
			require.Empty(t, room)
			b := append(room, text...)
			texts = append(texts, s.String(text))
			want = append(want, string(text))
			if i%7 == 0 {
				b = append(make([]byte, 0, n), text...) // not from the slab
			}
			pieces = append(pieces, s.Keep(b))
			s.Room(10) // given up
			if i%13 == 0 {
				_ = append(pieces[i], "too much"...)
			}
		}
		for i := range pieces {
			require.Equal(t, want[i], string(pieces[i]), i)
			require.Equal(t, want[i], texts[i], i)
		}
	}
}

func TestRoomThatIsNotKeptIsGivenAgain(t *testing.T) {
	s := New(1 << 20)
	first := append(s.Room(100), "first"...)
	second := append(s.Room(100), "second"...)
	require.Same(t, &first[0], &second[0])
	require.Equal(t, "second", string(s.Keep(second)))
	third := s.Keep(append(s.Room(100), "third"...))
	require.Equal(t, "second", string(second))
	require.Equal(t, "third", string(third))
}

func TestWhatIsKeptKeepsLittleBesides(t *testing.T) {
	s := New(1 << 20)
	long := s.Keep(append(s.Room(100_000), "short"...))
	require.Equal(t, "short", string(long))
	require.Less(t, cap(long), 1000)
	var none *Slab
	require.Less(t, cap(none.Keep(append(none.Room(100_000), "short"...))), 1000)
	require.NotNil(t, s.Keep(s.Room(0)))
	require.NotNil(t, none.Keep(none.Room(0)))
}

func TestAllocations(t *testing.T) {
	text := []byte(strings.Repeat("x", 60))
	s := New(1 << 20)
	require.Less(t, testing.AllocsPerRun(1000, func() {
		s.String(text)
		s.Keep(append(s.Room(300), text...))
	}), 0.5)
	require.Nil(t, New(1000), "a chunk is more than the few pieces of a small batch need")
}
