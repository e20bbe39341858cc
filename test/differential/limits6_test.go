package differential

import (
	"runtime"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// limited6 has the kernel's own limits on ICMPv6 messages.
var limited6 = world{name: "v6-limits", ipv6: true, sysctls: []string{
	"net/ipv6/icmp/ratelimit=1000", "net/ipv4/icmp_msgs_per_sec=1000", "net/ipv4/icmp_msgs_burst=1000"}}

// Bursts of one sender, the other a while after the one.
const (
	podBurst   = "hop limit, a pod's network"
	laterBurst = "hop limit, a pod's network, some time later"
)

// burst6 is many packets of one sender at once, each of which deserves a message.
func burst6(class string, port int, src addr6, n int, dst func(i int) addr6, hops byte) (all []*Frame) {
	for i := range n {
		p := packet6{port: port, src: src, dst: dst(i), hops: hops, proto: wire.ProtoUDP, l4: udp(1000, 2000, []byte{byte(i)}), l4sum: 6}
		all = append(all, p.frame(class, i))
	}
	return all
}

// TestLimits6: the same messages are kept back of those that a sender asks for too
// fast (net/ipv6/icmp.c, icmpv6_xrlim_allow), however it is reached; redirects are
// limited by their receiver and by the destination.
func TestLimits6(t *testing.T) {
	labtest.NeedIPv6(t)
	p := setUp(t, &limited6)
	runtime.LockOSThread() // and the thread ends with the test
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	to := func(a addr6) func(int) addr6 { return func(int) addr6 { return a } }
	each := func(net string) func(int) addr6 {
		return func(i int) addr6 { return up1Station6(net, 1+i) }
	}
	x := newExchange(p)
	var first time.Time // when the sender had its first burst that has another one later
	for _, frames := range [][]*Frame{
		burst6("unreachable, a host route back", pod0, podAddrs6[pod0][0], 10, to(ip6("2001:db8:69:1::1")), 64),
		burst6("prohibit, a short prefix back", up0, ip6("2001:db8:66::7:1"), 12, to(ip6("2001:db8:69:2::1")), 64),
		burst6(podBurst, pod1, ip6("fd00:73::7:1"), 12, to(podAddrs6[pod0][0]), 1),
		burst6("hop limit, on the link", up1, up1Station6("2001:db8:2::", 77), 12, to(podAddrs6[pod0][0]), 1),
		burst6(laterBurst, pod1, ip6("fd00:73::7:1"), 12, to(podAddrs6[pod0][0]), 1),
		burst6("redirect, one destination", up0, up0Station6(300), 9, to(ip6("2001:db8:70::1")), 64),
		burst6("redirect, many destinations", up0, up0Station6(301), 9, each("2001:db8:70:1::"), 64),
		burst6("redirect, behind an error", up0, up0Station6(302), 4, func(i int) addr6 {
			return [...]addr6{ip6("2001:db8:69:1::1"), ip6("2001:db8:70:2::1")}[i%2]
		}, 64),
	} {
		due := time.Now()
		switch frames[0].Class {
		case podBurst:
			first = due
		case laterBurst: // half of an interval before, and behind, the next message
			due = first.Add(3 * time.Second / 2)
			time.Sleep(time.Until(due))
		}
		results, err := x.run(frames)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(due) - grace
		sent := 0
		for _, r := range results {
			sent += len(withoutForwarded(r.ours))
			if !r.equal() && took > quick {
				t.Logf("%s: not compared: the burst took %v", r.frame.Class, took)
				break
			}
			if !r.equal() {
				t.Errorf("%s\n%s", r.frame.Class, show(r, false))
			}
		}
		t.Logf("%s: %d messages for %d packets", frames[0].Class, sent, len(frames))
	}
}

// withoutForwarded leaves errors and redirects.
func withoutForwarded(all []output) (rest []output) {
	for _, o := range all {
		if _, ok := errorType(o.frame); ok {
			rest = append(rest, o)
		}
	}
	return rest
}
