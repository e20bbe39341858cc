package dissect

import "bytes"

var beepKinds = []struct{ start, name string }{
	{"MSG", "MSG"}, {"RPY ", "RPY"}, {"ERR ", "ERR"}, {"ANS ", "ANS"}, {"NUL ", "NUL"}, {"SEQ ", "SEQ"}, {"END", "END"},
}

// beep prints which of RFC 3080's frames this begins. A segment of less than four bytes begins none.
func (p *Printer) beep(b []byte, length int) {
	p.proto = "beep"
	p.str(" BEEP ")
	for _, k := range beepKinds {
		want := []byte(k.start)
		if len(want) == 3 {
			want = append(want, 0) // tcpdump compares the end of its string, too
		}
		if length >= len(want) && bytes.HasPrefix(b, want) {
			p.str(k.name)
			return
		}
	}
	p.str("(payload or undecoded)")
}

// rpki prints that a segment holds RFC 8210.
func (p *Printer) rpki() {
	p.proto = "rpki_rtr"
	p.str(", RPKI-RTR")
}

// msdp prints RFC 3618's messages.
func (p *Printer) msdp(b []byte, length int) {
	p.proto = "msdp"
	p.str(": msdp")
	kind, n := p.u8(b, 0), int(p.u16(b, 1))
	if n > 1500 || n < 3 || kind == 0 || kind > 7 {
		p.trunc()
		return
	}
	for length > 0 {
		kind, n = p.u8(b, 0), int(p.u16(b, 1))
		if n > 1400 || p.opt.Verbose > 0 {
			p.printf(" [len %d]", n)
		}
		if n < 3 || length < n {
			p.trunc()
			return
		}
		p.msdpMessage(kind, b[3:], n)
		b, length = from(b, n), length-n
	}
}

func (p *Printer) msdpMessage(kind uint8, b []byte, n int) {
	switch kind {
	case 1, 3:
		p.str(flagStr(kind == 1, " SA", " SA-Response"))
		entries := int(p.u8(b, 0))
		p.printf(" %d entries", entries)
		if size := entries*12 + 8; size < n {
			p.str(" [w/data]")
			if p.opt.Verbose > 1 {
				p.char(' ')
				p.ipv4(from(b, size-3), n-size)
			}
		}
	case 2:
		p.str(" SA-Request")
		p.addr4At(" for ", b, 1)
	case 4:
		p.str(" Keepalive")
		if n != 3 {
			p.printf("[len=%d] ", n)
		}
	case 5:
		p.str(" Notification")
	default:
		p.printf(" [type=%d len=%d]", kind, n)
	}
}
