package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// stream is standard output or standard error. All that a command writes passes through it, so it is the place that keeps two promises: no
// control character of others reaches the terminal, and a write that failed is known at the end. It is safe for concurrent use.
type stream struct {
	to io.Writer
	// colours says that the colours of a paint may pass. They pass only to a terminal.
	colours bool

	mu     sync.Mutex
	begun  bool          // something was written
	failed error         // the first error; from then on nothing is written
	held   *bytes.Buffer // if not nil, what is written at the end of a screen
}

// Write makes the text visible and writes it. It keeps what a line of text, JSON or a completion script is made of. p must hold whole
// characters.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.begun = s.begun || len(p) > 0
		to := s.to
		if s.held != nil {
			to = s.held
		}
		_, s.failed = io.WriteString(to, visible(string(p), "\n\t", s.colours))
	}
	if s.failed != nil {
		return 0, s.failed
	}
	return len(p), nil
}

// err returns the first error of a write.
func (s *stream) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// empty reports whether nothing was written.
func (s *stream) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.begun
}

// printable makes a text of others fit for a place within a line: with it no text can add a line that looks like the command's own, or a
// column. What is left to the stream's Write is to keep the text from driving the terminal.
func printable(s string) string { return visible(s, "", false) }

// oneLine is printable for texts that may have several lines, such as joined errors.
func oneLine(s string) string {
	var parts []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	return printable(strings.Join(parts, "; "))
}

// ownColours are the sequences that a paint makes.
var ownColours = regexp.MustCompile(`^\x1b\[(0|1|2|22|31|32|33|36)m`)

// blankBraille is a picture without a dot.
const blankBraille = '\u2800'

// visible writes each character that has no picture of its own, such as controls, directions and what has no width, as JSON does, \u001b,
// and bytes that are no text as the replacement character. So JSON stays the same JSON.
func visible(s, keep string, colours bool) string {
	hidden := func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == blankBraille || r == utf8.RuneError
	}
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == '\x1b' && colours {
			size = max(size, len(ownColours.FindString(s[i:])))
		}
		switch {
		case r == '\x1b' && size > 1, strings.ContainsRune(keep, r):
			b.WriteString(s[i : i+size])
		case r == utf8.RuneError || !hidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}
