// Package slab gives the strings and payloads of one batch their memory in chunks, instead of an allocation for each. Chunks
// are small, so whoever keeps one string keeps little besides.
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

// Slab is the memory of one batch. A nil Slab gives every piece memory of its own. It must not be copied, and is not safe for
// concurrent use; what it has given out is.
type Slab struct {
	chunk []byte // as long as what is in use
	text  strings.Builder
}

// New returns a Slab for what is decoded from so many bytes. It is nil if chunks would be larger than that.
func New(input int) *Slab {
	if input < chunkSize/2 {
		return nil
	}
	return new(Slab)
}

// Room returns an empty slice with room for n bytes. It is the caller's once Keep has been called with it; until then the next
// call of Room may return it again.
func (s *Slab) Room(n int) []byte {
	if s == nil || n > chunkSize/share {
		return make([]byte, 0, n)
	}
	if s.chunk == nil || cap(s.chunk)-len(s.chunk) < n {
		s.chunk = make([]byte, 0, chunkSize)
	}
	return s.chunk[len(s.chunk):]
}

// Keep returns what the room that Room returned was filled with, without most of the room that is left.
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

// next reports whether b begins where the chunk is not in use yet.
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
