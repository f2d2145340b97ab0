package changerec

import (
	"bytes"
	"strings"

	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// piece is one string of an event. All strings of an event share one allocation.
type piece struct {
	text   []byte
	quoted bool   // text is a JSON string, quotes included
	err    *Error // why the piece must not be used
	end    int    // where the piece ends in the joined string
}

// join joins the pieces and notes where each ends. Short strings share the memory of s with other events.
func join(pieces []piece, s *slab.Slab) string {
	var space [512]byte
	joined := space[:0]
	for i := range pieces {
		p := &pieces[i]
		ok := true
		switch {
		case p.quoted:
			joined, ok = jsonscan.UnquoteWithin(joined, p.text)
		case len(p.text) <= cap(joined)-len(joined):
			joined = append(joined, p.text...)
		default:
			ok = false
		}
		if !ok {
			return joinLong(pieces)
		}
		p.end = len(joined)
	}
	return s.String(joined)
}

// joinLong is join for long strings. It allocates what they need and no more.
func joinLong(pieces []piece) string {
	n := 0
	for _, p := range pieces {
		if p.quoted {
			n += jsonscan.UnquotedLen(p.text)
		} else {
			n += len(p.text)
		}
	}
	var b strings.Builder
	b.Grow(n)
	for i := range pieces {
		p := &pieces[i]
		if p.quoted {
			jsonscan.WriteUnquoted(&b, p.text)
		} else {
			b.Write(p.text)
		}
		p.end = b.Len()
	}
	return b.String()
}

// table returns the name of the record's table, as far as the record names it.
func (r *record) table() (piece, *Error) {
	switch {
	case r.tableName != nil && !jsonscan.IsNull(r.tableName):
		if !jsonscan.IsString(r.tableName) {
			return piece{}, errorf("tableName", "want a string, have %s", clip(r.tableName))
		}
		return piece{text: r.tableName, quoted: true}, nil
	case jsonscan.IsString(r.sourceARN):
		// arn:aws:dynamodb:<region>:<account>:table/<name>/stream/<label>
		_, rest, _ := bytes.Cut(jsonscan.Text(r.sourceARN), []byte(":table/"))
		name, _, _ := bytes.Cut(rest, []byte("/"))
		return piece{text: name}, nil
	}
	return piece{}, nil
}

// strings fills in all strings of the event, its headers included.
func (r *record) strings(e *event.Event, table piece, layout *Layout) *Error {
	const fixed = 5
	var space [fixed]piece
	pieces := append(space[:0], table)
	for _, a := range [fixed - 1]attribute{id, typ, aggregateID, contentType} {
		p, err := stringPiece(r.image[a], layout.name(a), a == aggregateID)
		if err != nil {
			return err
		}
		pieces = append(pieces, p)
	}
	withHeaders := false
	if r.image[headers].raw != nil {
		var more [fixed + 2*8]piece
		var err *Error
		if pieces, withHeaders, err = headerPieces(append(more[:0], pieces...), r.image[headers], layout.Headers); err != nil {
			return err
		}
	}

	all, from := join(pieces, r.slab), 0
	cut := func(i int) (s string) {
		s, from = all[from:pieces[i].end], pieces[i].end
		return s
	}
	e.Table, e.ID, e.Type, e.AggregateID, e.ContentType = cut(0), cut(1), cut(2), cut(3), cut(4)
	if e.ID == "" {
		return errorf(layout.ID, "empty: an event needs an id")
	}
	if e.Type == "" {
		return errorf(layout.Type, "empty: an event needs a type")
	}
	if e.Headers = nil; !withHeaders {
		return nil
	}
	// Of two headers with the same name the later counts, and only the later must be valid.
	e.Headers = make(map[string]string, min((len(pieces)-fixed)/2, 16)) // more pieces may be one name many times
	for i := len(pieces) - 2; i >= fixed; i -= 2 {
		name := all[pieces[i-1].end:pieces[i].end]
		if _, later := e.Headers[name]; later {
			continue
		}
		if pieces[i+1].err != nil {
			return pieces[i+1].err
		}
		e.Headers[name] = all[pieces[i].end:pieces[i+1].end]
	}
	return nil
}

// stringPiece is the piece of a string attribute. If numberToo is set, it may also be a number.
func stringPiece(v value, where string, numberToo bool) (piece, *Error) {
	kind, inner, err := v.typed(where)
	switch {
	case err != nil || kind == none:
		return piece{}, err
	case kind != str && (kind != num || !numberToo):
		return piece{}, errorf(where, "want type S, have %s", kind)
	case !jsonscan.IsString(inner):
		return piece{}, errorf(where, "want a string in %s, have %s", kind, clip(inner))
	}
	return piece{text: inner, quoted: true}, nil
}

// headerPieces appends a name and a value for each header of an M of S. ok is false if there is no such attribute.
func headerPieces(pieces []piece, v value, where string) (out []piece, ok bool, err *Error) {
	kind, inner, err := v.typed(where)
	switch {
	case err != nil || kind == none:
		return pieces, false, err
	case kind != object:
		return pieces, false, errorf(where, "want type M, have %s", kind)
	case len(inner) == 0 || inner[0] != '{':
		return pieces, false, errorf(where, "want an object in M, have %s", clip(inner))
	}
	n := 0
	c := jsonscan.New(inner)
	c.Enter('{')
	for _, ok := c.RawKey(true); ok; _, ok = c.RawKey(false) {
		c.Value()
		n += 2
	}
	if n > cap(pieces)-len(pieces) {
		pieces = append(make([]piece, 0, len(pieces)+n), pieces...)
	}
	c = jsonscan.New(inner)
	c.Enter('{')
	for name, ok := c.RawKey(true); ok; name, ok = c.RawKey(false) {
		kind, inner, err := read(&c).typed(where)
		if err == nil && (kind != str || !jsonscan.IsString(inner)) {
			err = errorf(where, "want type S for every value")
		}
		value := piece{text: inner, quoted: true}
		if err != nil {
			value = piece{err: err}
		}
		pieces = append(pieces, piece{text: name, quoted: true}, value)
	}
	return pieces, true, nil
}

func (l *Layout) name(a attribute) string {
	switch a {
	case id:
		return l.ID
	case typ:
		return l.Type
	case aggregateID:
		return l.AggregateID
	}
	return l.ContentType
}
