package differential

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/explain"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

var questionsFlag = flag.Int("questions", 150, "how many packets explain is asked about, for each world")

// What explain says of a packet is what becomes of it on the wire: of proxyarpd,
// by the daemon that runs, and of the kernel, by a host that forwards itself.
func TestExplain(t *testing.T) {
	t.Parallel()
	eachWorld(t, worlds, func(t *testing.T, p *pair, seed uint64) {
		w := p.w
		var frames []*Frame
		for _, c := range classes {
			if !slices.Contains([]string{"plain", "protocol", "tos", "route", "spoof", "local"}, c.name) {
				continue
			}
			for i := range *questionsFlag / 6 {
				if f := generate(seed, w, c, i); !w.dead(f.Port) && f.Vnet == [vnetLen]byte{} && askable(f.Bytes) && !p.own.has(wire.IPv4(f.Bytes[14:]).Src()) {
					frames = append(frames, f)
				}
			}
		}
		x := newExchange(p)
		results, err := x.run(frames)
		if err != nil {
			t.Fatal(err)
		}
		kernel, req := viewOf(t, p, w)
		asked, unlike := 0, 0
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
			asked++
			ok := p.agrees(ours.Forward.Verdict, ours.Forward.Out, r.ours)
			if v := ours.Forward.Verdict; v != nil && *v == "punt" { // what is left to the kernel goes its way
				ok = p.agrees(ours.Kernel.Verdict, ours.Kernel.Out, r.ours)
			}
			ok = !netstate.CanAskFor(q.Dst, q.Proto) || p.agrees(theirs.Kernel.Verdict, theirs.Kernel.Out, r.kernel) && ok
			if !ok && !undecided(w, theirs) {
				if unlike++; unlike <= *showFlag {
					t.Errorf("-seed %d -world %s, %s:%d\n%s\nexplained as %s, the kernel's as %s", seed, w.name, r.frame.Class, r.frame.Index, show(r, false),
						said(ours.Forward.Verdict, ours.Forward.Reason, ours.Forward.Out), said(theirs.Kernel.Verdict, theirs.Kernel.Reason, theirs.Kernel.Out))
				}
			}
		}
		t.Logf("%d questions, %d unlike the wire", asked, unlike)
	})
}

// askable reports whether a frame bears what a question can describe.
func askable(frame []byte) bool {
	ip := wire.IPv4(frame[min(14, len(frame)):])
	if wire.Ethernet(frame).Type() != wire.EtherTypeIPv4 || !ip.Valid() || !ip.HeaderValid() || !ip.ChecksumOK() {
		return false
	}
	const smallest = 68 // bytes that every link takes (RFC 791)
	return len(ip.Options()) == 0 && ip.TTL() > 1 && !ip.IsFragment() && (ip.DontFragment() || ip.TotalLen() <= smallest)
}

// question asks about the packet of a frame.
func question(f *Frame) explain.Question {
	ip := wire.IPv4(f.Bytes[14:])
	q := explain.Question{Dst: ip.DstAddr(), IIF: ports[f.Port].name, From: ip.SrcAddr(), Proto: ip.Protocol(), TOS: ip.TOS(), Len: max(ip.TotalLen(), explain.MinLen)}
	if l4 := ip.Payload(); len(l4) >= 4 {
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
		if o.port >= 0 && !p.own.has(wire.IPv4(o.frame[14:]).Src()) {
			left = append(left, ports[o.port].name)
		}
	}
	if *verdict != "forward" && *verdict != "queue" {
		return len(left) == 0
	}
	return len(left) == 1 && out != nil && left[0] == *out
}

// undecided are answers of which the kernel is not told all: the hash of a
// multipath route is that of a packet, and it is asked with less.
func undecided(w *world, a *explain.Answer) bool {
	return strings.HasPrefix(w.name, "hash") || strings.Contains(w.name, "multi")
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
