package daemon

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/shortage"
)

// take notes which interfaces have their MAC now.
func (m macsSet) take(o *owner) error {
	var again []int
	for i, err := range m.errs {
		c := &m.changes[i]
		l, p := o.find(m.refs[i])
		if p == nil || errors.Is(err, unix.ENODEV) { // gone, or about to be
			continue
		}
		again = append(again, c.Ifindex)
		switch {
		case shortage.Passing(err):
			p.mac = short
			o.fellShort(l, "the MAC is not set yet", err)
		case err != nil:
			p.mac = never
			o.log.Warn("MAC not set; answers give it all the same", "interface", l.Name, "err", err)
		default:
			if p.mac = done; l.MAC == c.Current {
				changed := *l // the event that says so is under way
				changed.MAC = c.Want
				o.links[c.Ifindex] = &changed
				o.taps.SetLink(&changed, true)
			}
		}
	}
	o.look(again...)
	return o.failed
}

// take notes that the tc program is attached, or why it is not.
func (c claimed) take(o *owner) error {
	if c.later {
		// Each attachment to a TCX hook holds the kernel's RTNL lock for an RCU grace
		// period, some 10 ms (kernel/bpf/tcx.c, include/net/tcx.h: tcx_entry_sync): twice
		// that time is left to others in between.
		o.work.rest = time.After(2 * c.took)
	}
	l, p := o.find(c.ref)
	if p == nil {
		return nil // closePort has it released
	}
	if c.err == nil && c.eng != nil && c.eng != o.eng {
		c.err = o.eng.Claim(int32(c.index)) // it is, but that engine has not heard of it
	}
	p.claimed(o, l, c.err)
	o.warnDescriptors()
	o.look(c.index)
	return o.failed
}

func (p *port) claimed(o *owner, l *netstate.Link, err error) {
	switch {
	case err == nil:
		p.claim = done
	case errors.Is(err, unix.ENODEV): // its event is under way
	case shortage.Passing(err) && l.Forwards:
		p.claim = short
		o.fail(l, p, err)
	case shortage.Passing(err):
		p.claim = short
		o.fellShort(l, "originals are not claimed yet; the kernel drops them, as its forwarding is 0", err)
	case l.Forwards && !errors.Is(err, claim.ErrNotSupported):
		p.claim = never
		o.fail(l, p, err)
	default:
		p.claim = never
		o.log.Warn("originals are not claimed; the kernel drops them where its forwarding is 0", "interface", l.Name, "err", err)
	}
}

func (released) take(*owner) error { return nil }

func (putBack) take(*owner) error { return nil }

// take notes whether a device takes frames to --mac.
func (m memberAsked) take(o *owner) error {
	l, p := o.find(m.ref)
	if p == nil {
		return nil
	}
	switch {
	case shortage.Passing(m.err):
		p.member = short
		o.fellShort(l, "--keep-mac: the interface is not asked to take frames to another MAC yet", m.err)
	case m.err != nil:
		p.member, p.ownMAC = done, true
		o.log.Warn("--keep-mac: answers give the interface's own MAC, for it can't be asked to take frames to another", "interface", l.Name, "mac", macAddr(l.MAC), "err", m.err)
	default:
		p.member = done
	}
	o.look(m.index)
	return o.failed
}
