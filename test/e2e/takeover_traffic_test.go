package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestTakeoverTransfer has a daemon taken over again and again while iperf3 fills the way between two pods, in both
// directions and within a host: no connection is reset, and none stands still for a second.
func TestTakeoverTransfer(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "iperf3")
	const (
		seconds  = 8
		interval = 0.1 // s
	)
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	labtest.Daemon(t, l, "host1")
	p := labtest.Daemon(t, l, "host0")
	here, there := pods(l, 0), pods(l, 1)
	type result struct {
		name, out string
	}
	results := make(chan result, 3)
	for _, c := range []struct {
		name string
		to   lab.Pod
		args string
	}{{"across", there[0], ""}, {"across, back", there[1], "-R"}, {"within", here[1], "-P2"}} {
		server := spawn(t, l, c.to.Node, "iperf3 -s -1 --forceflush")
		server.await("Server listening")
		labtest.Warm(t, l, here[0].Node, ip(c.to))
		go func() {
			out, _ := try(t, l, here[0].Node, fmt.Sprintf("iperf3 -J -i %v -t %d -c %s %s", interval, seconds, ip(c.to), c.args))
			results <- result{c.name, out}
		}()
	}
	began, successors := time.Now(), 0
	for ; successors < 3 && time.Since(began) < seconds*time.Second/2; successors++ {
		time.Sleep(time.Second / 2)
		next := p.Successor(t)
		if err := p.Wait(t); err != nil {
			t.Fatalf("taken over: %v\n%s\n%s", err, p.Stderr(), next.Stderr())
		}
		p = next
	}
	t.Logf("%d take-overs, the last of which was over after %v", successors, time.Since(began))
	for range 3 {
		r := <-results
		var report struct {
			iperf3
			Intervals []struct {
				Sum struct{ Start, End, Bytes float64 }
			}
		}
		if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Error != "" || report.End.Received.Bytes == 0 {
			t.Errorf("%s: %v\n%s", r.name, err, r.out)
			continue
		}
		still, longest := 0.0, 0.0 // s
		for _, i := range report.Intervals {
			if still += i.Sum.End - i.Sum.Start; i.Sum.Bytes > 0 {
				still = 0
			}
			longest = max(longest, still)
		}
		t.Logf("%s: %.0f Mbit/s, %.0f retransmissions, nothing sent for %.1f s at most", r.name, report.End.Received.BPS/1e6, report.End.Sent.Retransmits, longest)
		if longest > 1 {
			t.Errorf("%s: it stands still for %.1f s", r.name, longest)
		}
	}
}

// TestTakeoverWaiting: packets that wait for their next hop's MAC go over, and each leaves once when it is known.
func TestTakeoverWaiting(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	p := labtest.Daemon(t, l, "host0")
	from, to := pods(l, 0)[0], pods(l, 0)[1]
	labtest.Warm(t, l, from.Node, ip(to))
	// The kernel asks for longer than the take-overs take.
	if err := l.SetSysctl("host0", "net.ipv4.neigh."+to.Iface+".mcast_solicit", "60"); err != nil {
		t.Fatal(err)
	}
	received := labtest.ListenUDP(t, l, to.Node, netip.AddrPortFrom(to.Addr.Addr(), 4000))
	run(t, l, to.Node, "ip link set "+to.Peer+" arp off")
	run(t, l, "host0", "ip neigh del "+ip(to)+" dev "+to.Iface)
	sender := labtest.ListenUDP(t, l, from.Node, netip.AddrPortFrom(from.Addr.Addr(), 0))
	const packets = 3
	for i := range packets {
		if _, err := sender.WriteToUDPAddrPort([]byte{byte(i)}, netip.AddrPortFrom(to.Addr.Addr(), 4000)); err != nil {
			t.Fatal(err)
		}
	}
	waits := func() int64 { return statusOf(t, p).Forward.Waiting }
	await(t, "the packets wait", func() bool { return waits() == packets })
	for range 2 {
		next := p.Successor(t)
		if err := p.Wait(t); err != nil {
			t.Fatalf("taken over: %v\n%s\n%s", err, p.Stderr(), next.Stderr())
		}
		p = next
		p.AwaitReady(t)
		if n := waits(); n != packets {
			t.Errorf("%d packets wait, of %d", n, packets)
		}
	}
	run(t, l, to.Node, "ip link set "+to.Peer+" arp on")
	var got []string
	b := make([]byte, 16)
	for {
		// The kernel asks once a second.
		patience := 5 * time.Second
		if len(got) >= packets {
			patience = 300 * time.Millisecond
		}
		_ = received.SetReadDeadline(time.Now().Add(patience))
		n, err := received.Read(b)
		if err != nil {
			break
		}
		got = append(got, fmt.Sprint(b[:n]))
	}
	if strings.Join(got, "") != "[0][1][2]" {
		t.Errorf("received %v\n%s", got, p.Stderr())
	}
}
