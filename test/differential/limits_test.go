package differential

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// limited has the kernel's own limits on ICMP messages.
var limited = world{name: "limits", rpFilter: 1, sysctls: []string{
	"net/ipv4/icmp_ratelimit=1000", "net/ipv4/icmp_ratemask=6168", "net/ipv4/icmp_msgs_per_sec=1000", "net/ipv4/icmp_msgs_burst=50"}}

// quick is for how long a burst may be under way, through both hosts: after a longer time the one may have earned another
// message (one a second) and the other not.
const quick = 400 * time.Millisecond

// burst is many frames of one sender at once, each of which deserves a message.
func burst(class string, port int, src addr, n int, dst func(i int) addr, ttl func(i int) byte) (all []*Frame) {
	for i := range n {
		p := packet{port: port, src: src, dst: dst(i), ttl: ttl(i), proto: wire.ProtoUDP, l4: udp(1000, 2000, []byte{byte(i)}), l4sum: 6}
		all = append(all, p.frame(class, i))
	}
	return all
}

// TestLimits: the same messages of those that a sender asks for too fast are
// kept back, and of a flood from everywhere about as many.
func TestLimits(t *testing.T) {
	p := setUp(t, &limited)
	runtime.LockOSThread() // and the thread ends with the test
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	to := func(a addr) func(int) addr { return func(int) addr { return a } }
	live := func(int) byte { return 64 }
	dead := func(int) byte { return 1 }
	mixed := func(i int) byte { return byte(1 + 63*(i%2)) }
	x := newExchange(p)
	for _, frames := range [][]*Frame{
		burst("unreachable", pod0, ip("10.72.1.1"), 10, to(ip("10.69.1.1")), live),
		burst("prohibit", up0, ip("10.66.1.1"), 10, to(ip("10.69.2.1")), live),
		burst("ttl", pod1, ip("10.73.1.1"), 12, to(podAddrs[pod0][0]), dead),
		burst("ttl or unreachable", up1, ip("10.67.1.1"), 12, func(i int) addr {
			return [...]addr{podAddrs[pod0][0], ip("10.69.1.1")}[i%2]
		}, mixed),
		burst("redirect", up0, up0Station(300), 5, to(ip("10.66.1.2")), live),
		burst("redirect or unreachable", up0, up0Station(301), 8, func(i int) addr {
			return [...]addr{ip("10.69.1.1"), ip("10.66.1.2")}[i%2]
		}, live),
		burst("redirect or ttl", up0, up0Station(302), 8, to(ip("10.66.1.2")), mixed),
	} {
		began := time.Now()
		results, err := x.run(frames)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began) - grace
		if !labtest.OneWorker() && strings.HasSuffix(frames[0].Class, "or unreachable") {
			// To two destinations: which of them spends what the sender has depends on their order.
			sent := 0
			for _, r := range results {
				sent += len(r.ours)
			}
			if sent == 0 || sent == len(frames) {
				t.Errorf("%s: %d messages for %d packets", frames[0].Class, sent, len(frames))
			}
			continue
		}
		for _, r := range results {
			if !r.equal() && took > quick {
				t.Logf("%s: not compared: the burst took %v", r.frame.Class, took)
				break
			}
			if !r.equal() {
				t.Errorf("%s\n%s", r.frame.Class, show(r, false))
			}
		}
	}
	var flood []*Frame
	for i := range batchSize {
		flood = append(flood, burst("flood", pod0, addr{10, 72, 9, byte(i)}, 1, to(podAddrs[pod1][0]), dead)...)
	}
	results, err := x.run(flood)
	if err != nil {
		t.Fatal(err)
	}
	kernel, ours := 0, 0
	for _, r := range results {
		kernel, ours = kernel+len(r.kernel), ours+len(r.ours)
	}
	t.Logf("of a flood that deserved %d messages the kernel sent %d, proxyarpd %d", len(flood), kernel, ours)
	// The kernel takes 0 to 2 of its 50 for each message, by chance.
	if ours < kernel/3 || ours > 3*kernel || ours == len(flood) {
		t.Error("not about as many")
	}
}
