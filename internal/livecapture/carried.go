package livecapture

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Carried shows what eBPF programs do with packets on their own, while somebody
// captures: [claim.Shown].
type Carried interface {
	// Want says how many bytes of a packet are wanted, and of which interfaces.
	// It may be called beside Next.
	Want(snap int, wants func(ifindex int32) bool) error
	// Next waits for a packet; os.ErrClosed ends it.
	Next(*claim.ShownPacket) error
	// Lost is how many packets were not shown, because they came too fast.
	Lost() uint64
	// Passed grows with what Next has given and been called again after; Filled is
	// what it will be when all that is there by now has been given.
	Passed() uint64
	Filled() uint64
	// Stop ends Next. Close comes after that.
	Stop() error
	Close() error
}

// carriedTap hands to the sessions what a Carried shows.
type carriedTap struct {
	h     *Hub
	shown Carried
	done  chan struct{}
	left  []byte // scratch: the frame as it left
}

// carriedPart is a session's part of a carriedTap, which may have ended.
type carriedPart struct {
	tap    *carriedTap
	from   uint64 // of lost, when it began
	before uint64 // lost of others before
}

// lost is how many packets the session was not shown; nil: none.
func (c *carriedPart) lost() uint64 {
	if c == nil {
		return 0
	}
	return c.before + c.tap.lost() - c.from
}

// showCarried has a session be shown what the programs carry, if they do; switching is held.
func (h *Hub) showCarried(s *session) {
	if h.carried != nil {
		s.carried.Store(&carriedPart{tap: h.carried, from: h.carried.lost(), before: s.carried.Load().lost()})
	}
}

// startCarried begins to look at what the programs carry, if they do and nobody
// looks yet; switching is held.
func (h *Hub) startCarried() error {
	if h.carried != nil {
		return nil
	}
	shown, err := h.cfg.Sources.ShowCarried()
	if err != nil || shown == nil {
		return err
	}
	h.carried = &carriedTap{h: h, shown: shown, done: make(chan struct{})}
	go h.carried.run()
	return nil
}

// follow has the programs show what somebody wants to see, and no more. switching
// is held.
func (t *carriedTap) follow() {
	v := t.h.view.Load()
	if v == nil {
		return
	}
	if err := t.shown.Want(v.snap(), v.wants); err != nil {
		t.h.cfg.Log.Warn("a capture does not show all that eBPF programs forward", "err", err)
	}
}

// snap is how much of a packet sessions want, bytes. A filter may ask for any.
func (v *view) snap() (n int) {
	for _, s := range v.sessions {
		if s.req.Filter != "" {
			return pcapfile.MaxSnapLen
		}
		n = max(n, s.req.Snap)
	}
	return n
}

// wants reports whether a session asked for an interface.
func (v *view) wants(ifindex int32) bool {
	for i := range v.sessions {
		if v.shows(i, ifindex) {
			return true
		}
	}
	return false
}

// settleCarried waits until sessions have been shown what programs have carried so far, for a time at most.
func (h *Hub) settleCarried(most time.Duration) {
	h.switching.Lock() // nobody closes it meanwhile
	t := h.carried
	if t == nil {
		h.switching.Unlock()
		return
	}
	all, end := t.shown.Filled(), time.Now().Add(most)
	h.switching.Unlock()
	for t.shown.Passed() < all && time.Now().Before(end) {
		select {
		case <-t.done:
			return
		case <-time.After(settleTick):
		}
	}
}

const settleTick = time.Millisecond

// lost is how many packets it was not shown since it began.
func (t *carriedTap) lost() uint64 { return t.shown.Lost() }

// stop ends it, and waits for that.
func (t *carriedTap) stop() {
	err := t.shown.Stop()
	<-t.done
	if err = errors.Join(err, t.shown.Close()); err != nil {
		t.h.cfg.Log.Warn("eBPF programs go on to copy packets for captures", "err", err)
	}
}

func (t *carriedTap) run() {
	defer close(t.done)
	var p claim.ShownPacket
	for n := 0; ; n++ {
		switch err := t.shown.Next(&p); {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			t.h.cfg.Log.Warn("a capture does not show what eBPF programs forward any more", "err", err)
			return
		}
		if v := t.h.view.Load(); v != nil {
			t.look(v, &p)
		}
		if n%64 == 63 {
			runtime.Gosched()
		}
	}
}

// look tells of a packet, as it came and as it left.
func (t *carriedTap) look(v *view, p *claim.ShownPacket) {
	if p.Verdict == claim.ShownAnswer {
		t.lookAnswer(v, p)
		return
	}
	came := sight{source: fromPrograms, known: true, ethernet: true, pktType: p.PktType, ifindex: p.In, length: p.Len, received: p.At, verdict: uint8(carriedVerdict(p.Verdict))}
	left := sight{source: fromPrograms, known: true, ethernet: true, out: true, ifindex: p.Out, length: p.LeftLen, verdict: uint8(route.Forward)}
	in, out := v.selected(&came, p.Data), uint64(0)
	if p.Verdict == claim.ShownForward {
		out = v.selected(&left, t.leaves(p))
	}
	if in == 0 && out == 0 {
		return
	}
	k := forward.Look{ID: t.h.ID(), Received: p.At, Ifindex: p.In, PktType: p.PktType, Ethernet: true, Verdict: carriedVerdict(p.Verdict), Memo: [2]uint64{v.id, in}}
	t.explain(&k, p)
	came.id, left.id = k.ID, k.ID
	if in != 0 {
		v.offer(&came, &k, p.Data, p.Len)
	}
	if out != 0 {
		k.Out, k.Ifindex, k.Sent, k.Memo = true, p.Out, p.At, [2]uint64{v.id, out}
		v.offer(&left, &k, t.left, p.LeftLen)
	}
}

func carriedVerdict(v claim.ShownVerdict) route.Verdict {
	switch v {
	case claim.ShownForward:
		return route.Forward
	case claim.ShownSmall:
		return route.DropPktTooSmall
	case claim.ShownNoMem:
		return route.DropNoMem
	}
	return route.NotSpecified
}

// leaves makes of a packet what left.
func (t *carriedTap) leaves(p *claim.ShownPacket) []byte {
	t.left = append(t.left[:0], p.Data[:min(len(p.Data), p.LeftLen)]...)
	if len(t.left) < wire.EthernetLen+wire.IPv4MinLen {
		return t.left
	}
	eth := wire.Ethernet(t.left)
	eth.SetDst(p.Dst)
	eth.SetSrc(p.Src)
	if eth.Type() == wire.EtherTypeIPv6 {
		wire.IPv6(eth.Payload()).DecrementHopLimit()
	} else {
		wire.IPv4(eth.Payload()).DecrementTTL()
	}
	return t.left
}

// explain works out route and next hop from the tables of this moment. If these
// lead elsewhere than the packet went, they have changed, and say nothing of it.
func (t *carriedTap) explain(k *forward.Look, p *claim.ShownPacket) {
	table := t.h.cfg.Sources.Table()
	if table == nil {
		return
	}
	k.Table, k.From = table, table.Link(p.In)
	if p.Out != 0 {
		k.To = table.Link(p.Out)
	}
	if k.From == nil || len(p.Data) < wire.EthernetLen+wire.IPv4MinLen {
		return
	}
	var d route.Decision
	switch packet := p.Data[wire.EthernetLen:]; {
	case wire.Ethernet(p.Data).Type() != wire.EtherTypeIPv6:
		table.Decide(wire.IPv4(packet), wire.IPv4MinLen, k.From, &d)
	case len(packet) >= wire.IPv6Len:
		table.Decide6(wire.IPv6(packet), wire.IPv6Len, k.From, &d)
	}
	if d.Verdict == route.Forward && d.Out == k.To {
		k.Rule, k.Route, k.Next, k.Neighbour = d.Rule, d.Route, d.Next, d.Neighbour
	}
}

// lookAnswer tells of a request or solicitation that was answered, and of the answer
// (forward/claim/bpf/answer.h).
func (t *carriedTap) lookAnswer(v *view, p *claim.ShownPacket) {
	if !t.answer(p) {
		return
	}
	e := sight{source: fromPrograms, arp: true, known: true, ethernet: true, pktType: p.PktType, ifindex: p.In, id: t.h.ID(),
		received: p.At, verdict: uint8(arpd.Answered), answer: p.Src}
	v.offer(&e, nil, p.Data, p.Len)
	e.out = true
	v.offer(&e, nil, t.left, len(t.left))
}

// answer makes of a request what was answered to it; false if it was shown too little of it.
func (t *carriedTap) answer(p *claim.ShownPacket) bool {
	eth := wire.Ethernet(p.Data)
	if !eth.Valid() {
		return false
	}
	if eth.Type() == wire.EtherTypeIPv6 {
		ip := wire.IPv6(eth.Payload())
		if !ip.Valid() || !wire.ND(ip.Payload()).Valid() {
			return false
		}
		target := wire.ND(ip.Payload()).Target().As16()
		t.left = slices.Grow(t.left[:0], wire.AdvertisementLen)[:wire.AdvertisementLen]
		wire.PutAdvertisement(t.left, p.Src, target, target, wire.NDRouter|wire.NDSolicited|wire.NDOverride, eth.Src(), ip.Src())
		return true
	}
	q := wire.ARP(eth.Payload())
	if !q.Valid() {
		return false
	}
	t.left = append(t.left[:0], p.Data[:wire.EthernetLen+wire.ARPLen]...)
	left := wire.Ethernet(t.left)
	left.SetDst(q.SenderMAC())
	left.SetSrc(p.Src)
	wire.PutARP(left.Payload(), wire.ARPReply, p.Src, q.TargetIP(), q.SenderMAC(), q.SenderIP())
	return true
}
