package filter

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// SyntaxError says what is wrong with an expression and where.
type SyntaxError struct {
	Expr string
	Pos  int    // byte offset in Expr of the word that is wrong; len(Expr) if something is missing at the end
	Msg  string // begins with libpcap's words if NoSense is set
	// NoSense says that the expression can be parsed, but not be compiled for the link type: for another one it may
	// be.
	NoSense bool
}

func (e *SyntaxError) Error() string {
	if e.NoSense {
		return fmt.Sprintf("filter: %s (column %d)", e.Msg, e.column()+1)
	}
	return fmt.Sprintf("filter: column %d: %s", e.column()+1, e.Msg)
}

func (e *SyntaxError) column() int {
	return utf8.RuneCountInString(e.Expr[:e.Pos])
}

// Words is what tcpdump would say of an error of this package, in its words as far as they go.
func Words(err error) string {
	var e *SyntaxError
	switch {
	case !errors.As(err, &e):
		return strings.TrimPrefix(err.Error(), "filter: ")
	case e.NoSense:
		return e.Msg
	}
	return "can't parse filter expression: " + strings.TrimPrefix(e.Error(), "filter: ")
}

// Caret returns the expression in one line and, in a second one, a caret under the word that is wrong.
func (e *SyntaxError) Caret() string {
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, e.Expr)
	return plain + "\n" + strings.Repeat(" ", e.column()) + "^"
}

// failure carries a SyntaxError from where it is found up to the end of parsing or code generation.
type failure struct{ err *SyntaxError }

// failf ends parsing or code generation with an error at pos.
func failf(pos int, format string, args ...any) {
	panic(failure{&SyntaxError{Pos: pos, Msg: fmt.Sprintf(format, args...)}})
}

// caught stores in err what failf was called with.
func caught(expr string, noSense bool, err *error) {
	switch r := recover().(type) {
	case nil:
	case failure:
		r.err.Expr, r.err.NoSense = expr, noSense
		*err = r.err
	default:
		panic(r)
	}
}
