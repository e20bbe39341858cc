package differential

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/explain"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

var questionsFlag = flag.Int("questions", 150, "how many packets explain is asked about, for each world")

// asked are the classes of which questions are.
var asked = []string{"plain", "protocol", "tos", "class", "size", "scope", "route", "spoof", "local"}

// explained: what explain says of a packet is what becomes of it on the wire: of proxyarpd,
// by the daemon that runs, and of the kernel, by a host that forwards itself.
func explained(t *testing.T, p *pair, seed uint64) {
	t.Helper()
	w := p.w
	var frames []*Frame
	for _, c := range w.classes() {
		if !slices.Contains(asked, c.name) {
			continue
		}
		for i := range *questionsFlag / 6 {
			if f := generate(seed, w, c, i); !w.dead(f.Port) && f.Vnet == [vnetLen]byte{} && p.askable(f.Bytes) {
				frames = append(frames, f)
			}
		}
	}
	results, err := newExchange(p).run(frames)
	if err != nil {
		t.Fatal(err)
	}
	kernel, req := viewOf(t, p, w)
	questions, unlike := 0, 0
	for _, r := range results {
		q := question(r.frame)
		ours, err := daemon.Explain(t.Context(), p.daemon.Control, nil, q)
		if err != nil {
			t.Fatal(err)
		}
		var theirs *explain.Answer
		if err := p.kernel.lab.Do(node, func() error { theirs = kernel.Explain(q, req); return nil }); err != nil {
			t.Fatal(err)
		}
		questions++
		known := netstate.CanAskFor(q.Dst, q.Proto)
		ok := !known || p.agrees(theirs.Kernel.Verdict, theirs.Kernel.Out, r.kernel)
		if v := ours.Forward.Verdict; v != nil && (*v == "punt" || *v == "local") { // what is left to the kernel goes its way
			ok = ok && (!known || p.agrees(ours.Kernel.Verdict, ours.Kernel.Out, r.ours))
		} else {
			ok = ok && p.agrees(ours.Forward.Verdict, ours.Forward.Out, r.ours) && saysError(&ours.Forward, r.ours)
		}
		if !ok && !undecided(w, theirs) {
			if unlike++; unlike <= *showFlag {
				t.Errorf("-seed %d -world %s, %s:%d\n%s\nexplained as %s, the kernel's as %s", seed, w.name, r.frame.Class, r.frame.Index, show(r, false),
					said(ours.Forward.Verdict, ours.Forward.Reason, ours.Forward.Out), said(theirs.Kernel.Verdict, theirs.Kernel.Reason, theirs.Kernel.Out))
			}
		}
	}
	t.Logf("%d questions, %d unlike the wire", questions, unlike)
}

// askable reports whether a frame bears what a question can describe.
func (p *pair) askable(frame []byte) bool {
	if h := ipv6Of(frame); h != nil {
		return askable6(h)
	}
	ip := wire.IPv4(frame[min(14, len(frame)):])
	if wire.Ethernet(frame).Type() != wire.EtherTypeIPv4 || !ip.Valid() || !ip.HeaderValid() || !ip.ChecksumOK() || p.own.has(ip.Src()) {
		return false
	}
	const smallest = 68 // bytes that every link takes (RFC 791)
	return len(ip.Options()) == 0 && ip.TTL() > 1 && !ip.IsFragment() && (ip.DontFragment() || ip.TotalLen() <= smallest)
}

// askable6: neighbour discovery is not forwarded, and a question has no extension headers.
func askable6(h wire.IPv6) bool {
	switch {
	case h.SrcAddr().Is4In6() || h.DstAddr().Is4In6():
		return false // is written as an IPv4 address
	case h.Version() != 6 || h.HopLimit() < 2 || h.PayloadLen() != len(h)-wire.IPv6Len || len(h) < explain.MinLen-wire.IPv4MinLen+wire.IPv6Len:
		return false
	case h.NextHeader() == wire.ProtoICMPv6:
		typ := h.Payload()[0]
		return typ < wire.ICMPv6RouterSolicit || typ > wire.ICMPv6Redirect
	}
	proto, _ := upper6(h)
	return proto == h.NextHeader()
}

// question asks about the packet of a frame.
func question(f *Frame) explain.Question {
	q := explain.Question{IIF: ports[f.Port].name}
	var l4 []byte
	if h := ipv6Of(f.Bytes); h != nil {
		q.Dst, q.From, q.Proto, q.TOS, q.Len, l4 = h.DstAddr(), h.SrcAddr(), h.NextHeader(), h.TrafficClass(), len(h), h.Payload()
	} else {
		ip := wire.IPv4(f.Bytes[14:])
		q.Dst, q.From, q.Proto, q.TOS, q.Len, l4 = ip.DstAddr(), ip.SrcAddr(), ip.Protocol(), ip.TOS(), max(ip.TotalLen(), explain.MinLen), ip.Payload()
	}
	if len(l4) >= 4 {
		q.SPort, q.DPort = uint16(l4[0])<<8|uint16(l4[1]), uint16(l4[2])<<8|uint16(l4[3])
	}
	return q
}

// viewOf is that of the host whose kernel forwards.
func viewOf(t *testing.T, p *pair, w *world) (v *explain.View, req *netstate.Requester) {
	t.Helper()
	cfg := daemon.Default()
	cfg.Workloads, cfg.Uplinks, cfg.Transit, cfg.RPFilter = []string{"cali*"}, []string{"up*"}, true, w.rpFilter
	if err := p.kernel.lab.Do(node, func() (err error) {
		v, req, err = daemon.Survey(t.Context(), cfg)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = req.Close() })
	return v, req
}

// agrees reports whether a verdict is what came out: a packet that is forwarded
// leaves by the port that was named, and no other one does.
func (p *pair) agrees(verdict, out *string, outputs []output) bool {
	if verdict == nil {
		return false
	}
	var left []string
	for _, o := range outputs {
		if o.port < 0 {
			continue
		}
		if k, _ := classify(o.frame, p.own); k == forwarded {
			left = append(left, ports[o.port].name)
		}
	}
	if *verdict != "forward" && *verdict != "queue" || *verdict == "queue" && len(left) == 0 { // nobody is asked for a MAC
		return len(left) == 0
	}
	return len(left) == 1 && out != nil && left[0] == *out
}

// saysError reports whether an ICMP error that came out is the one that was named. Whether one
// is due is up to its receiver, too, and what the host itself is sent is the kernel's.
func saysError(f *explain.Forward, outputs []output) bool {
	if f.Verdict == nil || *f.Verdict == "local" {
		return true
	}
	for _, o := range outputs {
		if o.port < 0 {
			continue
		}
		typ, code, ok := errorOf(o.frame)
		redirect := typ == wire.ICMPRedirect && ipv6Of(o.frame) == nil || typ == wire.ICMPv6Redirect
		if ok && !redirect && (f.ICMP == nil || *f.ICMP != fmt.Sprintf("%d/%d", typ, code)) {
			return false
		}
	}
	return true
}

// undecided are answers of which the kernel is not told all: the hash of a
// multipath route is that of a packet, and it is asked with less.
func undecided(w *world, a *explain.Answer) bool {
	return strings.Contains(w.name, "hash")
}

func said(verdict, reason, out *string) string {
	s := ""
	for _, p := range []*string{verdict, reason, out} {
		if p != nil {
			s += *p + " "
		}
	}
	return s
}
