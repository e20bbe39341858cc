package livecapture

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/forward/route"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// hostTap looks, while somebody captures, at what the daemon does not handle:
// packets of the host itself, of other protocols, of interfaces that are not
// its own. Its socket's filter keeps out what datapath and responder show.
type hostTap struct {
	h    *Hub
	ring *pktring.Socket
	only int // the interface that it looks at, 0: all; switching is held
	done chan struct{}
}

// hostSlots are those of that ring, which is there only while somebody captures.
const hostSlots = 1024

// startHost begins to look, if nobody does yet; switching is held.
func (h *Hub) startHost() error {
	if h.host != nil {
		return nil
	}
	src := h.cfg.Sources
	if err := src.SetMark(ownMark); err != nil {
		return err
	}
	ring, err := pktring.Open(hostConfig(src))
	if err != nil {
		return errors.Join(err, src.SetMark(0))
	}
	h.host = &hostTap{h: h, ring: ring, done: make(chan struct{})}
	h.watched.Store(true)
	go h.host.run()
	return nil
}

func hostConfig(src Sources) pktring.Config {
	return pktring.Config{Slots: hostSlots, Plain: true,
		Filter: func(fd int) error { return src.AttachWatch(fd, ownMark, pcapfile.MaxSnapLen) }}
}

// ownMark is that of what is sent while somebody captures ("parp"): it tells
// the filter of the capture that the datapath shows the frame. No mark leaves
// the host.
const ownMark = 0x70617270

// follow has it look at no more interfaces than somebody wants to see: on all
// others nothing is the slower for it. switching is held.
func (t *hostTap) follow() {
	v := t.h.view.Load()
	if v == nil || v.only == t.only {
		return
	}
	t.only = v.only
	if err := t.ring.Bind(t.only); err == nil {
		return
	}
	t.only = 0 // it has just gone
	if err := t.ring.Bind(t.only); err != nil {
		t.h.cfg.Log.Warn("a capture does not show what is left to the kernel any more", "err", err)
	}
}

// stop ends it, and waits for that.
func (t *hostTap) stop() {
	if err := t.h.cfg.Sources.SetMark(0); err != nil {
		t.h.cfg.Log.Warn("what is sent stays marked", "mark", ownMark, "err", err)
	}
	t.ring.Shut()
	<-t.done
	_ = t.ring.Close()
}

func (t *hostTap) run() {
	defer close(t.done)
	var slot pktring.Slot
	frame := make([]byte, pcapfile.MaxSnapLen)
	for {
		switch err := t.ring.Wait(-1); {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			t.h.cfg.Log.Warn("a capture does not show what is left to the kernel any more", "err", err)
			return
		}
		if t.ring.Lost() {
			t.ring.Seek()
		}
		for n := 0; t.ring.Next(&slot); n++ {
			t.look(&slot, frame)
			t.ring.Release(1)
			if n%64 == 63 {
				runtime.Gosched()
			}
		}
	}
}

// look tells of a frame. scratch is for one that did not fit its slot.
func (t *hostTap) look(s *pktring.Slot, scratch []byte) {
	v := t.h.view.Load()
	frame := s.Data
	if s.Copied { // to be taken from the queue even if nobody looks any more
		n, ok := t.ring.ReadCopy(scratch)
		if !ok {
			return
		}
		frame = scratch[:n]
	}
	if v == nil || s.Bad || s.Hatype == unix.ARPHRD_LOOPBACK && s.PktType == unix.PACKET_OUTGOING {
		return // what is sent over lo comes in there, too: once is enough, as in libpcap
	}
	e := sight{source: fromHost, out: s.PktType == unix.PACKET_OUTGOING, ethernet: isEthernet(s.Hatype),
		pktType: s.PktType, ifindex: s.Ifindex, received: s.Time}
	if e.tagged = s.Tagged && e.ethernet && len(frame) >= wire.EthernetLen; e.tagged {
		e.tci, e.tpid = s.TCI, s.TPID
	}
	if _, ok := v.links[e.ifindex]; ok {
		if e.verdict, e.known = leftToKernel(t.h.cfg.Sources, s); e.known && othersARP(s) {
			e.arp, e.verdict = true, uint8(arpd.IgnoreOtherhost) // the responder's to count, but it does not see tags
		}
		if e.out && announces(t.h.cfg.Sources, s) {
			e.arp, e.known = true, true // and sent by the daemon: described as originated
		}
	}
	if e.known {
		e.id = t.h.ID()
	}
	if e.known && !e.arp && route.Verdict(e.verdict) == route.DropRateLimit { // nobody else sees these
		t.h.atHost.keep(&e, nil, frame, s.Len, e.received)
	}
	v.offer(&e, nil, frame, s.Len)
}

// announces reports whether a frame that is sent is an announcement of the daemon's.
func announces(src Sources, s *pktring.Slot) bool {
	eth := wire.Ethernet(s.Data)
	if s.Hatype != unix.ARPHRD_ETHER || !eth.Valid() || eth.Type() != wire.EtherTypeARP {
		return false
	}
	a := wire.ARP(eth.Payload())
	return a.IsIPv4OverEthernet() && a.Valid() && a.Op() == wire.ARPRequest && a.SenderIP() == a.TargetIP() && src.Announces(int(s.Ifindex), a.SenderIP())
}

// othersARP reports whether a frame is ARP, of no VLAN, to another host.
func othersARP(s *pktring.Slot) bool {
	eth := wire.Ethernet(s.Data)
	return s.Hatype == unix.ARPHRD_ETHER && eth.Valid() && eth.Type() == wire.EtherTypeARP &&
		s.PktType == unix.PACKET_OTHERHOST && !(s.Tagged && s.TCI&pktring.VLANID != 0)
}
