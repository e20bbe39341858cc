package dissect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// errCut is what the readers below panic with if a packet ends before what they read; Printer.packet recovers it.
// It is tcpdump's longjmp, and as there nothing more of the packet is printed.
var errCut = errors.New("dissect: packet ends")

// cut ends the packet with [|proto].
func (p *Printer) cut() {
	panic(errCut)
}

// trunc prints [|proto] and goes on: for what tcpdump bounds by ND_TCHECK and a return.
func (p *Printer) trunc() {
	p.str(" [|")
	p.str(p.proto)
	p.char(']')
}

// invalid prints tcpdump's word for a header that can't be.
func (p *Printer) invalid() {
	p.str(" (invalid)")
}

// need ends the packet if b has less than n bytes.
func (p *Printer) need(b []byte, n int) {
	if len(b) < n {
		p.cut()
	}
}

// from is b from i on, and nothing if that lies beyond b's end.
func from(b []byte, i int) []byte {
	return b[min(i, len(b)):]
}

// upto is b's first n bytes, or all if it has less.
func upto(b []byte, n int) []byte {
	return b[:min(max(n, 0), len(b))]
}

// u8 and the like read network byte order at offset i, and end the packet if b ends before.
func (p *Printer) u8(b []byte, i int) uint8 {
	p.need(b, i+1)
	return b[i]
}

func (p *Printer) u16(b []byte, i int) uint16 {
	p.need(b, i+2)
	return binary.BigEndian.Uint16(b[i:])
}

func (p *Printer) u24(b []byte, i int) uint32 {
	p.need(b, i+3)
	return uint32(b[i])<<16 | uint32(b[i+1])<<8 | uint32(b[i+2])
}

func (p *Printer) u32(b []byte, i int) uint32 {
	p.need(b, i+4)
	return binary.BigEndian.Uint32(b[i:])
}

func (p *Printer) u64(b []byte, i int) uint64 {
	p.need(b, i+8)
	return binary.BigEndian.Uint64(b[i:])
}

// part is n bytes of b from i on; it ends the packet if b has less.
func (p *Printer) part(b []byte, i, n int) []byte {
	p.need(b, i+n)
	return b[i : i+n]
}

func (p *Printer) str(s string) {
	p.out = append(p.out, s...)
}

func (p *Printer) char(c byte) {
	p.out = append(p.out, c)
}

// dec prints v as %u does.
func (p *Printer) dec(v uint64) {
	p.out = strconv.AppendUint(p.out, v, 10)
}

// num prints v as %d does.
func (p *Printer) num(v int) {
	p.out = strconv.AppendInt(p.out, int64(v), 10)
}

// hex prints v as %x does, with at least width digits.
func (p *Printer) hex(v uint64, width int) {
	const digits = "0123456789abcdef"
	n := 1
	for n < 16 && v>>(4*n) != 0 {
		n++
	}
	for i := max(n, width) - 1; i >= 0; i-- {
		if i >= 16 {
			p.char('0')
			continue
		}
		p.char(digits[v>>(4*i)&15])
	}
}

// printf is for what is rare: it allocates.
func (p *Printer) printf(format string, args ...any) {
	p.out = fmt.Appendf(p.out, format, args...)
}

// tok is a value and its name; see tokStr and bitStr.
type tok struct {
	v uint32
	s string
}

// tokStr is v's name in toks; if it has none, format with v (%d, %x ...) or without, as tcpdump's tok2str.
func tokStr(toks []tok, format string, v uint32) string {
	for _, t := range toks {
		if t.v == v {
			return t.s
		}
	}
	if format == "" {
		return fmt.Sprintf("#%d", int32(v))
	}
	return sprintf1(format, v)
}

// sprintf1 formats v, and leaves it out if format has no verb.
func sprintf1(format string, v uint32) string {
	for i := range len(format) {
		if format[i] == '%' {
			return fmt.Sprintf(format, v)
		}
	}
	return format
}

// bitStr names the bits of v that are set, with sep between, as tcpdump's bittok2str_internal; if none has a name,
// it is format.
func bitStr(toks []tok, format string, v uint32, sep string) string {
	var s string
	for _, t := range toks {
		if t.v != 0 && v&t.v == t.v {
			if s != "" {
				s += sep
			}
			s += t.s
		}
	}
	if s != "" {
		return s
	}
	if format == "" {
		format = "#%d"
	}
	return sprintf1(format, v)
}

// safe prints b with what is not printable as tcpdump's safeputchar does: ^A, M-x, never raw.
func (p *Printer) safe(b []byte) {
	for _, c := range b {
		p.safeChar(c)
	}
}

// safeString is safe up to the first NUL.
func (p *Printer) safeString(b []byte) {
	for _, c := range b {
		if c == 0 {
			return
		}
		p.safeChar(c)
	}
}

// safeChar is fn_print_char.
func (p *Printer) safeChar(c byte) {
	if c&0x80 != 0 {
		c &= 0x7f
		p.str("M-")
	}
	if c < 0x20 || c == 0x7f {
		p.char('^')
		c ^= 0x40
	}
	p.char(c)
}

// hexBytes prints two digits a byte.
func (p *Printer) hexBytes(b []byte) {
	for _, c := range b {
		p.hex(uint64(c), 2)
	}
}

// timeUnits are the units of relativeTime, in seconds.
var timeUnits = []tok{{31536000, "y"}, {604800, "w"}, {86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}}

// relativeTime prints seconds as years, weeks, days and so on: 1y2w3d4h5m6s.
func (p *Printer) relativeTime(secs uint32) {
	if secs == 0 {
		p.str("0s")
	}
	for _, unit := range timeUnits {
		if n := secs / unit.v; n > 0 {
			p.dec(uint64(n))
			p.str(unit.s)
			secs -= n * unit.v
		}
	}
}
