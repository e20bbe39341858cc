package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

const second = "ens224"

// secondWire joins the hosts once more: 192.168.2.32 and .16.
func secondWire(t *testing.T, l *lab.Lab) {
	t.Helper()
	run(t, l, "host0", "ip link add "+second+" type veth peer name "+second+" netns "+l.Nodes()[1].Netns)
	for host, addr := range map[string]string{"host0": "192.168.2.32/24", "host1": "192.168.2.16/24"} {
		run(t, l, host, "ip addr add "+addr+" dev "+second)
		run(t, l, host, "ip link set "+second+" up")
	}
	for _, host := range []string{"host0", "host1"} {
		await(t, second+" is up", func() bool { return strings.Contains(run(t, l, host, "ip -br link show "+second), " UP ") })
	}
}

// TestTransit sends from uplink to uplink through host0.
func TestTransit(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	for _, uplinks := range []string{"auto", "ens*"} {
		l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
		secondWire(t, l)
		run(t, l, "host0", "ip route add 198.51.100.0/24 via "+host1IP)
		from := listen(t, l, "host1", second, unix.ETH_P_ARP)
		to := listen(t, l, "host1", uplink, unix.ETH_P_IP)
		frame := func(n uint32, dst string) []byte {
			return datagram(mac(t, linkMAC(t, l, "host0", second)), from.mac, "203.0.113.1", dst, n, 20)
		}
		off := labtest.Daemon(t, l, "host0", "--workload", "veth*", "--uplink", uplinks)
		for n := range uint32(5) {
			from.send(frame(n, "198.51.100.1"))
		}
		awaitDrops(t, off, "PARP_TRANSIT", 5)
		// From an uplink to a workload is no transit.
		pod := listen(t, l, "ns0", "eth0", unix.ETH_P_IP)
		from.send(frame(77, "10.20.1.2"))
		if pod.next(patience, func(f wire.Ethernet) bool { n, ok := number(f); return ok && n == 77 }) == nil {
			t.Error("from an uplink to a pod: lost")
		}
		off.Stop(t)

		on := labtest.Daemon(t, l, "host0", "--workload", "veth*", "--uplink", uplinks, "--transit")
		for n := uint32(100); n < 105; n++ {
			from.send(frame(n, "198.51.100.1"))
			f := to.next(patience, func(f wire.Ethernet) bool { _, ok := number(f); return ok })
			if f == nil {
				t.Fatalf("--uplink %s --transit: number %d is lost", uplinks, n)
			}
			if got, _ := number(f); got != n || wire.IPv4(f.Payload()).TTL() != 63 {
				t.Errorf("number %d arrives with TTL %d, want %d", got, wire.IPv4(f.Payload()).TTL(), n)
			}
		}
		if s := statusOf(t, on); s.Forward.Drops["PARP_TRANSIT"] != 0 {
			t.Errorf("--transit: drops %v", s.Forward.Drops)
		}
	}
}

// TestPunt leaves a destination to the kernel.
func TestPunt(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2}, "--punt", "10.20.1.3/32", "--punt", "10.20.1.4/31")
	for _, dst := range []string{"10.20.1.3", "10.20.1.4"} {
		if out, code := try(t, w.Lab, "ns0", "ping -n -c1 -W1 "+dst); code != 1 {
			t.Errorf("the kernel does not forward, but %s is reached:\n%s", dst, out)
		}
	}
	await(t, "two are counted as punted", func() bool {
		s := statusOf(t, w.d[0])
		return s.port("veth0").Punted == 2 && s.Forward.Verdicts["punt"] == 2
	})
	for _, host := range []string{"host0", "host1"} {
		if err := w.SetSysctl(host, "net.ipv4.ip_forward", "1"); err != nil {
			t.Fatal(err)
		}
	}
	before := statusOf(t, w.d[0])
	wantTTL(t, w.Lab, "ns0", "10.20.1.3", 62)
	wantTTL(t, w.Lab, "ns0", "10.20.1.4", 63)
	after := statusOf(t, w.d[0])
	// The kernel may have translated them, so that the replies are its own as well.
	if n := after.Forward.PacketsOut - before.Forward.PacketsOut; n != 0 {
		t.Errorf("%d packets forwarded here", n)
	}
	if n := after.Forward.Verdicts["punted-flow"]; n != 2 {
		t.Errorf("%d replies left to the kernel, want 2", n)
	}
	if n := after.port("veth0").Punted; n != 4 {
		t.Errorf("%d punted, want 4", n)
	}
	wantTTL(t, w.Lab, "ns2", "10.20.1.2", 63) // what is not punted stays ours
}

// TestFramesOfOthers sends what the kernel would not forward from this
// interface either: tagged frames, frames to another station or to all. Behind
// each comes one that has to be forwarded, and it is the next to arrive.
func TestFramesOfOthers(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	for _, args := range [][]string{{"--claim", "auto"}, {"--keep-mac"}, {"--claim", "none"}} {
		w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2}, args...)
		from := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
		for _, dst := range []string{"10.20.1.3", "10.20.1.4"} {
			node := map[string]string{"10.20.1.3": "ns1", "10.20.1.4": "ns2"}[dst]
			to := listen(t, w.Lab, node, "eth0", unix.ETH_P_IP)
			n := uint32(0)
			frame := func(mac wire.MAC) []byte {
				n++
				return datagram(mac, from.mac, "10.20.1.2", dst, n, 20)
			}
			host := mac(t, answerMAC)
			for i, c := range []struct {
				name  string
				frame []byte
				ours  bool
			}{
				{"to the answered MAC", frame(host), true},
				{"to the device's own MAC", frame(mac(t, linkMAC(t, w.Lab, "host0", "veth0"))), true},
				{"tagged", tag(frame(host), 7), false},
				{"tagged twice", tag(tag(frame(host), 7), 8), false},
				{"to another MAC", frame(wire.MAC{2, 0, 0, 0, 0, 1}), false},
				{"broadcast", frame(wire.Broadcast), false},
				{"to a group", frame(wire.MAC{1, 0, 0x5e, 0, 0, 1}), false},
				{"another ethertype", func() []byte { f := frame(host); f[13]++; return f }(), false},
			} {
				from.send(c.frame)
				behind := frame(host)
				from.send(behind)
				last, _ := number(behind)
				got := false
				for {
					f := to.next(patience, func(f wire.Ethernet) bool { _, ok := number(f); return ok })
					if f == nil {
						t.Fatalf("%v: %s: the frame behind it is lost", args, c.name)
					}
					n, _ := number(f)
					if n == last {
						break
					}
					got = got || n == uint32(i+1)
				}
				if got != c.ours {
					t.Errorf("%v: %s, to %s: forwarded %v, want %v", args, c.name, dst, got, c.ours)
				}
			}
		}
	}
}
