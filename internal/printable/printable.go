// Package printable makes visible what would act on a terminal, or not show:
// control characters, bytes that are no UTF-8, format and private characters.
// The name of an interface, and with it many an error, may hold any of them.
// All that the program prints passes here, but for captured data.
package printable

import (
	"io"
	"strconv"
	"unicode/utf8"
)

// String gives s with what is not printable as Go's escapes: \x1b, \xff, \u202e.
func String(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return string(appendText(make([]byte, 0, len(s)+8), s, ""))
		}
	}
	return s
}

// UTF8 gives s with the bytes that are no UTF-8 as \xff: for JSON, which has no
// bytes. What is valid stays as it is.
func UTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s)+8)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = appendHex(b, s[i])
		} else {
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// appendText appends s, escaped but for the bytes in keep.
func appendText(b []byte, s, keep string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = appendHex(b, s[i])
		case strconv.IsPrint(r) || n == 1 && contains(keep, s[i]):
			b = append(b, s[i:i+n]...)
		default:
			q := strconv.AppendQuoteRuneToASCII(nil, r)
			b = append(b, q[1:len(q)-1]...)
		}
		i += n
	}
	return b
}

func appendHex(b []byte, c byte) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'x', digits[c>>4], digits[c&15])
}

func contains(s string, c byte) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == c {
			return true
		}
	}
	return false
}

// NewWriter gives a writer of text to w, as String makes it. New lines and tabs
// remain, and a carriage return at the beginning or the end of what is written
// at once: they are the program's own.
func NewWriter(w io.Writer) io.Writer { return &writer{w: w} }

type writer struct {
	w    io.Writer
	rest []byte // of a character whose end has not come yet
	out  []byte
}

// Write implements io.Writer. Of what it is given, all counts as written or
// nothing does.
func (w *writer) Write(p []byte) (int, error) {
	all := p
	if len(w.rest) > 0 {
		all = append(w.rest, p...)
		w.rest = nil
	}
	whole := len(all) - incomplete(all)
	body := all[:whole]
	w.out = w.out[:0]
	if len(body) > 0 && body[0] == '\r' {
		w.out, body = append(w.out, '\r'), body[1:]
	}
	end := len(body) > 0 && body[len(body)-1] == '\r'
	if end {
		body = body[:len(body)-1]
	}
	w.out = appendText(w.out, string(body), "\n\t")
	if end {
		w.out = append(w.out, '\r')
	}
	w.rest = append([]byte(nil), all[whole:]...)
	if len(w.out) > 0 {
		if _, err := w.w.Write(w.out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// incomplete is the length of the beginning of a character that b ends with.
func incomplete(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// NewJSONWriter gives a writer to w of what encoding/json has made: what is not
// printable in its strings becomes \u001b, which means the same.
func NewJSONWriter(w io.Writer) io.Writer { return jsonWriter{w} }

type jsonWriter struct{ w io.Writer }

// Write implements io.Writer. An encoder writes each value at once.
func (w jsonWriter) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		if r == '\n' || strconv.IsPrint(r) {
			out = append(out, p[i:i+n]...)
		} else {
			out = appendUTF16(out, r)
		}
		i += n
	}
	if _, err := w.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// appendUTF16 appends a character as JSON escapes it, in one or two parts.
func appendUTF16(b []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		return appendUTF16(appendUTF16(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
