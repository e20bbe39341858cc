package dissect

import "math"

// respReader reads the serialization protocol of Redis; see https://redis.io/docs/reference/protocol-spec.
type respReader struct {
	p      *Printer
	b      []byte
	length int
}

// resp prints a segment of RESP: the strings of its commands and replies.
func (p *Printer) resp(b []byte, length int) {
	p.proto = "resp"
	p.str(": RESP")
	r := respReader{p, b, length}
	for r.length > 0 {
		if !r.value() {
			p.trunc()
			return
		}
	}
}

// has says whether there are n more bytes, captured as well.
func (r *respReader) has(n int) bool { return r.length >= n && len(r.b) >= n }

// next says whether there is one more byte. It ends the packet if that was not captured.
func (r *respReader) next() bool {
	if r.length == 0 {
		return false
	}
	r.p.need(r.b, 1)
	return true
}

func (r *respReader) skip(n int) {
	r.b, r.length = r.b[n:], r.length-n
}

// value prints one value and says whether it was whole.
func (r *respReader) value() bool {
	if !r.next() {
		return false
	}
	switch r.b[0] {
	case '+', '-', ':':
		r.skip(1)
		n, ok := r.line()
		if !ok {
			return false
		}
		r.quote(n)
		r.skip(2)
		return true
	case '$':
		r.skip(1)
		return r.bulk()
	case '*':
		r.skip(1)
		return r.array()
	}
	return r.inline()
}

// line is how many bytes there are before the next CR LF.
func (r *respReader) line() (int, bool) {
	for n := 0; r.has(n + 2); n++ {
		if r.b[n] == '\r' && r.b[n+1] == '\n' {
			return n, true
		}
	}
	return 0, false
}

// quote prints n bytes and skips them.
func (r *respReader) quote(n int) {
	r.p.str(` "`)
	r.p.safe(r.b[:n])
	r.p.char('"')
	r.skip(n)
}

func (r *respReader) bulk() bool {
	n, ok := r.size()
	if !ok {
		return false
	}
	if n < 0 {
		return true
	}
	if n == 0 {
		r.p.str(" empty")
	} else if r.has(n) {
		r.quote(n)
	} else {
		return false
	}
	rest, ok := r.line()
	if ok {
		r.skip(rest + 2)
	}
	return ok
}

func (r *respReader) array() bool {
	n, ok := r.size()
	if n == 0 && ok {
		r.p.str(" empty")
	}
	for ; ok && n > 0; n-- {
		ok = r.value()
	}
	return ok
}

// inline is a command as one types it.
func (r *respReader) inline() bool {
	r.lineEnds()
	n := 0
	for {
		if n == r.length {
			return false
		}
		r.p.need(r.b, n+1)
		if r.b[n] == '\r' || r.b[n] == '\n' {
			break
		}
		n++
	}
	r.quote(n)
	r.lineEnds()
	return true
}

func (r *respReader) lineEnds() {
	for r.has(1) && (r.b[0] == '\r' || r.b[0] == '\n') {
		r.skip(1)
	}
}

// size reads the length of a string or an array. It prints what is not a length, and gives -1 then; ok is false if
// the length was cut.
func (r *respReader) size() (n int, ok bool) {
	negative := r.next() && r.b[0] == '-'
	if negative {
		r.skip(1)
	}
	large := false
	for digits := 0; ; digits++ {
		if !r.next() {
			return 0, false
		}
		c := r.b[0]
		if !isDigit(c) {
			if digits == 0 || c != '\r' {
				return r.notSize(" invalid")
			}
			break
		}
		if n = 10*n + int(c-'0'); n > math.MaxInt32 {
			n, large = n/10, true
		}
		r.skip(1)
	}
	r.skip(1)
	switch {
	case !r.next():
		return 0, false
	case r.b[0] != '\n':
		return r.notSize(" invalid")
	}
	r.skip(1)
	switch {
	case negative && n == 1 && !large:
		r.p.str(" null")
		return -1, true
	case negative:
		r.p.str(" length negative and not -1")
		return -1, true
	case large:
		r.p.str(" length too large")
		return -1, true
	}
	return n, true
}

func (r *respReader) notSize(text string) (int, bool) {
	r.skip(1)
	r.p.str(text)
	return -1, true
}
