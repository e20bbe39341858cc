package dissect

import "time"

// A stamp is a time since 1970 as a capture has it: in a damaged one the fraction may be a second and more.
type stamp struct{ seconds, nanoseconds int64 }

// timeStamp prints the packet's time as -t says, and a space.
func (p *Printer) timeStamp(t stamp) {
	switch p.opt.TimeStamp {
	case 0:
		p.clock(t, p.opt.Location, false)
	case 1:
		return
	case 2:
		if !convertible(t.seconds) {
			p.unconverted()
			break
		}
		p.dec(uint64(uint32(t.seconds)))
		p.fraction(t.nanoseconds)
	case 4:
		p.clock(t, p.opt.Location, true)
	default:
		p.sinceThen(t)
	}
	p.char(' ')
}

// The seconds whose year fits into 32 bits, which is what localtime(3) bears.
const (
	firstSecond = -67768040609740800
	lastSecond  = 67768036191676799
)

// convertible says whether tcpdump converts a time. It does not where the lower half of the seconds is negative as 32
// bits: what lies between 2038 and 2106 is an error there.
func convertible(seconds int64) bool {
	return uint32(seconds)>>31 == 0
}

func (p *Printer) unconverted() {
	p.str("[Error converting time]")
}

// sinceThen prints the time since the packet before (-ttt) or since the first (-ttttt).
func (p *Printer) sinceThen(t stamp) {
	t = p.precise(t)
	if p.then == (stamp{}) {
		p.then = t
	}
	late, early, sign := t, p.then, byte(' ')
	if t.seconds < p.then.seconds || t.seconds == p.then.seconds && t.nanoseconds < p.then.nanoseconds {
		late, early, sign = p.then, t, '-'
	}
	d := stamp{late.seconds - early.seconds, late.nanoseconds - early.nanoseconds}
	if d.nanoseconds < 0 {
		d = stamp{d.seconds - 1, d.nanoseconds + 1e9}
	}
	p.char(sign)
	p.clock(d, time.UTC, false) // days do not show
	if p.opt.TimeStamp == 3 {
		p.then = t
	}
}

// precise is t as precise as it is printed.
func (p *Printer) precise(t stamp) stamp {
	if !p.opt.Nano {
		t.nanoseconds -= t.nanoseconds % 1000
	}
	return t
}

// clock prints a time of day, with the date before it or not.
func (p *Printer) clock(t stamp, where *time.Location, date bool) {
	if !convertible(t.seconds) || t.seconds < firstSecond || t.seconds > lastSecond {
		p.unconverted()
		return
	}
	c := time.Unix(t.seconds, 0).In(where)
	if date {
		y, m, d := c.Date()
		p.num(y)
		p.char('-')
		p.pad2(int(m))
		p.char('-')
		p.pad2(d)
		p.char(' ')
	}
	h, m, s := c.Clock()
	p.pad2(h)
	p.char(':')
	p.pad2(m)
	p.char(':')
	p.pad2(s)
	p.fraction(t.nanoseconds)
}

// fraction prints the part of a second that ns nanoseconds are: a second and more are not carried.
func (p *Printer) fraction(ns int64) {
	p.char('.')
	if p.opt.Nano {
		p.padded(int(uint32(ns)), 9)
	} else {
		p.padded(int(uint32(ns/1000)), 6)
	}
}

func (p *Printer) pad2(v int) {
	p.padded(v, 2)
}

// padded prints v with at least width digits.
func (p *Printer) padded(v, width int) {
	for n := 10; width > 1; width, n = width-1, n*10 {
		if v < n {
			for range width - 1 {
				p.char('0')
			}
			break
		}
	}
	p.num(v)
}
