package expr

// tokenKind classes the tokens of the expression language.
type tokenKind uint8

const (
	tokenEOF    tokenKind = iota
	tokenIdent            // a name or keyword
	tokenName             // #placeholder
	tokenValue            // :placeholder
	tokenNumber           // a list index
	tokenSymbol           // an operator or punctuation
	tokenBad              // a character the language does not know
)

// token is a token and its place in the source: AWS quotes both in syntax errors.
type token struct {
	kind       tokenKind
	text       string
	start, end int
}

// lex splits the whole source; it cannot fail, since a bad character is a token too. The last token
// is tokenEOF.
func lex(src string) []token {
	var out []token
	for i := 0; i < len(src); {
		c := src[i]
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			i++
			continue
		}
		kind, n := scan(src[i:])
		out = append(out, token{kind, src[i : i+n], i, i + n})
		i += n
	}
	return append(out, token{kind: tokenEOF, text: "<EOF>", start: len(src), end: len(src)})
}

// scan finds the kind and length of the token that src starts with.
func scan(src string) (tokenKind, int) {
	c := src[0]
	switch {
	case isLetter(c):
		return tokenIdent, run(src, 1)
	case c == '#' || c == ':':
		n := run(src, 1)
		if n == 1 {
			return tokenBad, 1
		}
		if c == '#' {
			return tokenName, n
		}
		return tokenValue, n
	case isDigit(c):
		n := 1
		for n < len(src) && isDigit(src[n]) {
			n++
		}
		return tokenNumber, n
	case c == '<' || c == '>':
		if len(src) > 1 && (src[1] == '=' || c == '<' && src[1] == '>') {
			return tokenSymbol, 2
		}
		return tokenSymbol, 1
	case c == '=' || c == '(' || c == ')' || c == '[' || c == ']' || c == ',' || c == '.' || c == '+' || c == '-':
		return tokenSymbol, 1
	}
	// A bad token is one whole character, so that errors quote valid UTF-8.
	n := 1
	for n < len(src) && src[n]&0xc0 == 0x80 {
		n++
	}
	return tokenBad, n
}

// run is the length of the name characters of src from i on.
func run(src string, i int) int {
	for i < len(src) && (isLetter(src[i]) || isDigit(src[i]) || src[i] == '_') {
		i++
	}
	return i
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
