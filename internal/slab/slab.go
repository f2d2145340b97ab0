// Package slab gives the strings and payloads of one batch their memory in chunks, which saves an allocation for each. Chunks are
// small, so a program that keeps one string keeps little besides.
//
// It knows bytes. It must not know what they mean.
package slab

import (
	"bytes"
	"strings"
)

const (
	chunkSize     = 16 << 10
	textChunkSize = 4 << 10
	share         = 4 // a piece that takes more than this part of a chunk has memory of its own
)

// Slab is the memory of one batch. A nil Slab gives every piece memory of its own. A Slab must not be copied and is not safe for
// concurrent use. The pieces it has given out are safe for concurrent use.
type Slab struct {
	chunk []byte // its length is what is in use
	text  strings.Builder
}

// New returns a Slab for what is decoded from input bytes. It returns nil if chunks would be larger than the input.
func New(input int) *Slab {
	if input < chunkSize/2 {
		return nil
	}
	return new(Slab)
}

// Room returns an empty slice with room for n bytes. Keep makes the slice the caller's. Until then the next call of Room may
// return the same room again.
func (s *Slab) Room(n int) []byte {
	if s == nil || n > chunkSize/share {
		return make([]byte, 0, n)
	}
	if s.chunk == nil || cap(s.chunk)-len(s.chunk) < n {
		s.chunk = make([]byte, 0, chunkSize)
	}
	return s.chunk[len(s.chunk):]
}

// Keep returns the slice that the caller filled in the room of Room, without most of the unused room.
func (s *Slab) Keep(b []byte) []byte {
	switch slack := cap(b) - len(b); {
	case s.next(b):
		s.chunk = s.chunk[:len(s.chunk)+len(b)]
		return b[:len(b):len(b)]
	case slack > 512+len(b)/4:
		return bytes.Clone(b)
	}
	return b
}

// next reports whether b begins at the unused part of the chunk.
func (s *Slab) next(b []byte) bool {
	if s == nil || cap(b) == 0 || len(s.chunk) == cap(s.chunk) {
		return false
	}
	return &b[:1][0] == &s.chunk[:len(s.chunk)+1][len(s.chunk)]
}

// String returns b as a string.
func (s *Slab) String(b []byte) string {
	if s == nil || len(b) > textChunkSize/share {
		return string(b)
	}
	if s.text.Cap()-s.text.Len() < len(b) {
		s.text = strings.Builder{}
		s.text.Grow(textChunkSize)
	}
	from := s.text.Len()
	s.text.Write(b)
	return s.text.String()[from:]
}
