package filter

import (
	"net/netip"
	"regexp"
	"strings"
	"sync"
)

type tokenKind int

const (
	tokEnd       tokenKind = iota
	tokSymbol              // text is the operator: "and", "or" and "not" are here too
	tokProto               // proto
	tokKeyword             // text
	tokNumber              // num
	tokName                // text: to be looked up
	tokIPv4                // text: two to four numbers with dots between
	tokIPv6                // text
	tokEther               // text
	tokElsewhere           // a word of other link types: text
)

type token struct {
	kind  tokenKind
	text  string
	num   uint32
	proto proto
	pos   int
}

func (t token) String() string {
	if t.kind == tokEnd {
		return "the end of the expression"
	}
	return `"` + t.text + `"`
}

// lex splits an expression into words; the longest possible word counts, as with lex(1).
func lex(expr string) []token {
	var toks []token
	for pos := 0; pos < len(expr); {
		if strings.IndexByte(" \r\n\t", expr[pos]) >= 0 {
			pos++
			continue
		}
		t := lexOne(expr[pos:], pos)
		toks = append(toks, t)
		pos += len(t.text)
		if t.kind == tokName && t.text[0] == '\\' {
			toks[len(toks)-1].text = t.text[1:]
		}
	}
	return append(toks, token{kind: tokEnd, pos: len(expr)})
}

// lexOne returns the word that s begins with; its text is as long as what it takes of s.
func lexOne(s string, pos int) token {
	if s[0] == '\\' {
		if n := strings.IndexAny(s, " !()\n\t"); n != 1 && len(s) > 1 {
			if n < 0 {
				n = len(s)
			}
			return token{kind: tokName, text: s[:n], pos: pos}
		}
		failf(pos, `nothing follows the "\"`)
	}
	best := token{kind: tokName, text: s[:nameLen(s)], pos: pos}
	// From the weakest to the strongest, where two words are of the same length.
	if s[0] == ':' || isHex(s[0]) {
		p := patterns()
		if n := matchLen(p.badEther, s); n > len(best.text) {
			best = token{kind: tokElsewhere, text: s[:n], pos: pos}
		}
		for _, c := range []struct {
			kind tokenKind
			re   *regexp.Regexp
		}{{tokIPv6, p.ipv6}, {tokIPv4, p.ipv4}, {tokNumber, p.number}, {tokEther, p.ether}} {
			if n := matchLen(c.re, s); n > 0 && n >= len(best.text) {
				best = token{kind: c.kind, text: s[:n], pos: pos}
			}
		}
	}
	switch {
	case best.text == "":
		return lexSymbol(s, pos)
	case best.kind == tokName:
		return keyword(best)
	case best.kind == tokNumber:
		best.num = number(best.text, pos)
	case best.kind == tokIPv6:
		if _, err := netip.ParseAddr(best.text); err != nil {
			failf(pos, "%q is not an IPv6 address", best.text)
		}
	case best.kind == tokElsewhere:
		failf(pos, "%q is not an Ethernet address", best.text)
	}
	return best
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// nameLen is the length of the name that s begins with: letters, digits, and inside "-", "_" and ".".
func nameLen(s string) int {
	if !isAlnum(s[0]) {
		return 0
	}
	n := 1
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case isAlnum(c), c == '.':
			n = i + 1
		case c != '-' && c != '_':
			return n
		}
	}
	return n
}

type lexPatterns struct{ ipv6, ipv4, number, ether, badEther *regexp.Regexp }

// patterns are what libpcap's scanner.l takes for numbers and addresses; which of them are valid is found out later.
var patterns = sync.OnceValue(func() lexPatterns {
	const (
		n  = `([0-9]+|0[xX][0-9A-Fa-f]+)`
		b  = `[0-9A-Fa-f]{1,2}`
		b2 = `[0-9A-Fa-f]{4}`
		w  = `[0-9A-Fa-f]{1,4}`
		v4 = n + `\.` + n + `\.` + n + `\.` + n
	)
	groups := func(n int) string { return strings.TrimSuffix(strings.Repeat(w+":", n), ":") }
	// A "::" may stand anywhere among at most seven groups; the last two groups may be an IPv4 address.
	ipv6 := []string{groups(8), groups(6) + ":" + v4}
	for before := range 8 {
		for after := 0; before+after <= 7; after++ {
			ipv6 = append(ipv6, groups(before)+"::"+groups(after))
			if before+after <= 5 {
				tail := v4
				if after > 0 {
					tail = groups(after) + ":" + v4
				}
				ipv6 = append(ipv6, groups(before)+"::"+tail)
			}
		}
	}
	six := func(sep string) string { return strings.TrimSuffix(strings.Repeat(b+sep, 6), sep) }
	ether := []string{six(":"), six("-"), six(`\.`), b2 + `\.` + b2 + `\.` + b2, b2 + b2 + b2}
	return lexPatterns{
		ipv6:     longest(ipv6...),
		ipv4:     longest(n+`\.`+n, n+`\.`+n+`\.`+n, v4),
		number:   longest(n),
		ether:    longest(ether...),
		badEther: longest(b + ":+(" + b + ":+)+"),
	}
})

func longest(alternatives ...string) *regexp.Regexp {
	re := regexp.MustCompile("^(?:" + strings.Join(alternatives, "|") + ")")
	re.Longest()
	return re
}

func matchLen(re *regexp.Regexp, s string) int {
	if m := re.FindStringIndex(s); m != nil {
		return m[1]
	}
	return 0
}

func lexSymbol(s string, pos int) token {
	for _, sym := range []string{">=", "<=", "!=", "==", "<<", ">>", "&&", "||"} {
		if strings.HasPrefix(s, sym) {
			return token{kind: tokSymbol, text: sym, pos: pos}
		}
	}
	if strings.IndexByte("+-*/%:[]!<>()&|^=", s[0]) < 0 {
		failf(pos, "%q cannot stand here", []rune(s)[0])
	}
	return token{kind: tokSymbol, text: s[:1], pos: pos}
}

// number reads a decimal, octal (leading 0) or hexadecimal (leading 0x) number of 32 bits.
func number(s string, pos int) uint32 {
	base, digits := uint64(10), s
	switch {
	case len(s) > 1 && (s[1] == 'x' || s[1] == 'X'):
		base, digits = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base, digits = 8, s[1:]
	}
	var n uint64
	for _, c := range []byte(strings.ToLower(digits)) {
		d := uint64(strings.IndexByte("0123456789abcdef", c))
		n = n*base + d
		if d >= base {
			failf(pos, "%q begins with 0 but is not an octal number", s)
		}
		if n > 0xffffffff {
			failf(pos, "%q does not fit into 32 bits", s)
		}
	}
	return uint32(n)
}
