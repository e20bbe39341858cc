package dissect

import "time"

// timeStamp prints the packet's time as -t says, and a space.
func (p *Printer) timeStamp(t time.Time) {
	switch p.opt.TimeStamp {
	case 0:
		p.clock(t.In(p.opt.Location))
	case 1:
		return
	case 2:
		p.num(int(t.Unix()))
		p.fraction(t.Nanosecond())
	case 4:
		p.date(t.In(p.opt.Location))
		p.char(' ')
		p.clock(t.In(p.opt.Location))
	default:
		p.sinceThen(t)
	}
	p.char(' ')
}

// sinceThen prints the time since the packet before (-ttt) or since the first (-ttttt).
func (p *Printer) sinceThen(t time.Time) {
	if p.then.IsZero() {
		p.then = t
	}
	d := p.precise(t).Sub(p.precise(p.then))
	p.char(' ')
	if d < 0 {
		p.out[len(p.out)-1] = '-'
		d = d.Abs()
	}
	s := int(d / time.Second)
	p.pad2(s / 3600 % 24) // days do not show
	p.char(':')
	p.pad2(s / 60 % 60)
	p.char(':')
	p.pad2(s % 60)
	p.fraction(int(d % time.Second))
	if p.opt.TimeStamp == 3 {
		p.then = t
	}
}

// precise is t as precise as it is printed.
func (p *Printer) precise(t time.Time) time.Time {
	if p.opt.Nano {
		return t
	}
	return t.Truncate(time.Microsecond)
}

func (p *Printer) date(t time.Time) {
	y, m, d := t.Date()
	p.padded(y, 4)
	p.char('-')
	p.pad2(int(m))
	p.char('-')
	p.pad2(d)
}

func (p *Printer) clock(t time.Time) {
	h, m, s := t.Clock()
	p.pad2(h)
	p.char(':')
	p.pad2(m)
	p.char(':')
	p.pad2(s)
	p.fraction(t.Nanosecond())
}

// fraction prints the part of a second that ns nanoseconds are.
func (p *Printer) fraction(ns int) {
	p.char('.')
	if p.opt.Nano {
		p.padded(ns, 9)
	} else {
		p.padded(ns/1000, 6)
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
