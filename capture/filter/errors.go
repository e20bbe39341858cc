package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SyntaxError says what is wrong with an expression and where.
type SyntaxError struct {
	Expr string
	Pos  int // byte offset in Expr of the word that is wrong; len(Expr) if something is missing at the end
	Msg  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("filter: column %d: %s", e.column()+1, e.Msg)
}

func (e *SyntaxError) column() int {
	return utf8.RuneCountInString(e.Expr[:e.Pos])
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
func caught(expr string, err *error) {
	switch r := recover().(type) {
	case nil:
	case failure:
		r.err.Expr = expr
		*err = r.err
	default:
		panic(r)
	}
}
