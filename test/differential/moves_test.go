package differential

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// testMACChange: a flow follows its next hop to another MAC without loss.
func testMACChange(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	hop := c.hop(130)
	macs := [][6]byte{macOf(hop), {2, 9, 9, 9, 9, 1}, {2, 9, 9, 9, 9, 2}, {2, 9, 9, 9, 9, 3}}
	w.holders[hop] = macs[0]
	w.send(pod0, c.sender(1), hop, 32)
	w.until(grace)
	w.begin()
	const each = 300
	first := w.id + 1
	// While a next hop is not known, 36 of these may wait: no more are under way.
	const underWay, step = 16, 8
	flow := func(n int) {
		for i := range n {
			w.send(pod0, c.sender(1), hop, 32)
			w.until(100 * time.Microsecond)
			if i%step == 0 {
				w.await("the flow", func(ids []uint32) bool { return len(ids) >= int(w.id-first)+1-underWay })
			}
		}
	}
	// last is where a host sent the last packet to.
	last := func(h *host) [6]byte {
		for _, s := range slices.Backward(w.seen[h]) {
			if k, _ := classify(s.frame, p.own); k == forwarded {
				return [6]byte(s.frame[:6])
			}
		}
		return [6]byte{}
	}
	var ends []uint32 // by when each MAC should be used no more, had the daemon all the CPU it wants
	follow := func(n int) {
		w.holders[hop] = macs[n]
		ends = append(ends, w.id+each)
		flow(each)
		for end := time.Now().Add(patience); last(p.kernel) != macs[n] || last(p.ours) != macs[n]; flow(step) {
			if time.Now().After(end) {
				t.Fatalf("to % x by the kernel, % x by proxyarpd, want % x", last(p.kernel), last(p.ours), macs[n])
			}
		}
	}
	flow(each)
	for _, h := range w.hosts() {
		w.tell(h, up0, announced(hop, macs[1]))
	}
	follow(1)
	for _, h := range w.hosts() { // a new station asks for its gateway, as a new pod does
		w.tell(h, up0, askedBy(c.asked, hop, macs[2]))
	}
	follow(2)
	w.neigh("replace %s lladdr %s dev up0 nud reachable", hop, macString(macs[3]))
	follow(3)
	w.neigh("del %s dev up0", hop)
	flow(each)
	w.until(grace)
	sent, starved := int(w.id-first)+1, w.starved()
	for _, h := range w.hosts() {
		ids, _ := w.marked(h, forwarded)
		if len(ids) != sent {
			t.Errorf("%s: %d of %d came out", h.name, len(ids), sent)
		}
		count, used := [4]int{}, [4]uint32{}
		for _, s := range w.seen[h] {
			if k, id := classify(s.frame, p.own); k == forwarded {
				at := slices.Index(macs, [6]byte(s.frame[:6]))
				if at < 0 {
					t.Fatalf("%s: to % x", h.name, s.frame[:6])
				}
				count[at]++
				used[at] = id
			}
		}
		t.Logf("%s: to each MAC %v, the last of each %v of %v, the daemon waited %v for a CPU", h.name, count, used, ends, starved)
		for i, end := range ends {
			if used[i] > end && (h == p.kernel || starved < slack) {
				t.Errorf("%s: MAC %d is used for packet %d, want at most %d", h.name, i, used[i], end)
			}
		}
	}
}

// testAddressMoves: an address that moves to another interface takes its
// packets with it, whatever is remembered of it on the first.
func testAddressMoves(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	pod := c.moves
	for round, dev := range []string{"cali0", "up0", "cali0", "up0"} {
		port := pod0
		if dev == "up0" {
			port = up0
		}
		mac := [6]byte{2, 8, 8, 8, 8, byte(round)}
		w.holders[pod] = mac
		for _, l := range p.labs {
			p.w.ip(t, l, fmt.Sprintf("route replace %s dev %s\n", pod, dev))
			if round >= 2 { // the pod's interface was made anew, or the operator says so
				p.w.ip(t, l, fmt.Sprintf("neigh flush dev %s to %s\n", dev, pod))
			}
		}
		w.begin()
		for range 20 {
			w.send(up1, c.far, pod, 32)
		}
		w.await(fmt.Sprintf("round %d: 20 packets", round), func(ids []uint32) bool { return len(ids) >= 20 })
		w.until(grace)
		for _, h := range w.hosts() {
			n := 0
			for _, s := range w.seen[h] {
				if k, _ := classify(s.frame, p.own); k != forwarded {
					continue
				}
				n++
				if s.port != port || net.HardwareAddr(s.frame[:6]).String() != macString(mac) {
					t.Errorf("%s: round %d: out of %s to % x", h.name, round, ports[s.port].name, s.frame[:6])
				}
			}
			if n != 20 {
				t.Errorf("%s: round %d: %d of 20", h.name, round, n)
			}
		}
	}
}
