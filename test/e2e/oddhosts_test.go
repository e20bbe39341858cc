package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// tunnel makes a device without link-layer header in a node, of a type as
// tunnels and modems have it, and answers every echo request behind it.
func tunnel(t *testing.T, l *lab.Lab, node, name string, arphrd int) {
	t.Helper()
	var tun *os.File
	err := l.Do(node, func() error {
		fd, err := nstest.OpenTUN(name, unix.IFF_TUN|unix.IFF_NO_PI)
		if err != nil {
			return err
		}
		err = unix.IoctlSetInt(fd, unix.TUNSETLINK, arphrd)
		if err != nil {
			_ = unix.Close(fd)
			return err
		}
		tun = os.NewFile(uintptr(fd), name) // not before it is a device: the poller would see an error
		return nil
	})
	if err != nil {
		nstest.Skip(t, "TUN devices: %v", err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	run(t, l, node, "ip link set "+name+" up")
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := tun.Read(buf)
			if err != nil {
				return
			}
			if reply := echoReply(buf[:n]); reply != nil {
				_, _ = tun.Write(reply)
			}
		}
	}()
}

// echoReply answers an echo request of either family; nil: it is none.
func echoReply(packet []byte) []byte {
	if p := wire.IPv6(packet); p.Valid() && p.Version() == 6 {
		msg := p.Payload()
		if p.NextHeader() != wire.ProtoICMPv6 || len(msg) < wire.ICMPv6Len || msg[0] != wire.ICMPv6EchoRequest {
			return nil
		}
		out := append(make([]byte, wire.IPv6Len), msg...)
		wire.PutIPv6(out, 0, 0, len(msg), wire.ProtoICMPv6, 64, p.Dst(), p.Src())
		wire.PutICMPv6(out[wire.IPv6Len:], wire.ICMPv6EchoReply, 0, binary.BigEndian.Uint32(msg[4:]), p.Dst(), p.Src())
		return out
	}
	p := wire.IPv4(packet)
	if !p.Valid() || !p.HeaderValid() || p.Protocol() != wire.ProtoICMP || p.Payload()[0] != wire.ICMPEcho {
		return nil
	}
	reply := append([]byte(nil), p.Payload()...)
	reply[0] = wire.ICMPEchoReply
	wire.PutICMP(reply, 0, 0, binary.BigEndian.Uint32(reply[4:]))
	out := append(make([]byte, wire.IPv4MinLen), reply...)
	wire.PutIPv4(out, 0, len(out), 1, 0, 64, wire.ProtoICMP, p.Dst(), p.Src())
	return out
}

// TestLinkTypes has packets go out and come in by devices of all the types that
// have no link-layer header, whether the kernel forwards or not. The devices are
// TUN ones: drivers of their own they have nowhere here. IPv6 goes the same way.
func TestLinkTypes(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	const rawIP = 519
	types := []int{unix.ARPHRD_NONE, rawIP, unix.ARPHRD_PPP, unix.ARPHRD_SLIP, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT,
		unix.ARPHRD_IPGRE, unix.ARPHRD_IP6GRE}
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1})}
	labtest.NeedIPv6(t)
	pod := pods(w.Lab, 0)[0]
	for i, arphrd := range types {
		tunnel(t, w.Lab, "host0", fmt.Sprintf("tunl%d", i), arphrd)
		run(t, w.Lab, "host0", fmt.Sprintf("ip route add 10.80.%d.0/24 via 192.168.1.99 dev tunl%d onlink", i, i))
	}
	for round, forwards := range []string{"0", "1"} {
		forwarding(t, w.Lab, "host0", forwards)
		if err := w.SetSysctl("host0", "net.ipv6.conf.all.forwarding", forwards); err != nil {
			t.Fatal(err)
		}
		w.daemons(t)
		d := w.d[len(w.d)-1]
		for i, arphrd := range types {
			to, to6 := fmt.Sprintf("10.80.%d.%d", i, 7+round), fmt.Sprintf("2001:db8:80:%d::%d", i, 7+round) // whose MTU the pod has not learnt
			run(t, w.Lab, "host0", fmt.Sprintf("ip link set tunl%d mtu 1500", i))                            // with less than 1280 its IPv6 has gone
			run(t, w.Lab, "host0", fmt.Sprintf("ip route replace 2001:db8:80:%d::/64 dev tunl%d", i, i))
			wantTTL(t, w.Lab, pod.Node, to, 63)
			wantTTL(t, w.Lab, pod.Node, to6, 63)
			if i > 2 {
				continue // what follows is the same for all, and errors are rationed
			}
			if out, _ := try(t, w.Lab, pod.Node, "ping -n -c1 -W1 -t1 "+to); !strings.Contains(out, "Time to live exceeded") {
				t.Errorf("type %d, forwarding %s:\n%s", arphrd, forwards, out)
			}
			if out, _ := try(t, w.Lab, pod.Node, "ping -n -c1 -W1 -t1 "+to6); !strings.Contains(out, "Time exceeded: Hop limit") {
				t.Errorf("type %d, forwarding %s:\n%s", arphrd, forwards, out)
			}
			// Larger than the way: in fragments, or refused. IPv6 goes with such an MTU.
			run(t, w.Lab, "host0", fmt.Sprintf("ip link set tunl%d mtu 1300", i))
			await(t, "the new MTU, for IPv6", func() bool {
				out, _ := try(t, w.Lab, pod.Node, "ping -n -c1 -W1 -M do -s 1400 "+to6)
				return strings.Contains(out, "Packet too big: mtu=1300") || strings.Contains(out, "message too long")
			})
			run(t, w.Lab, "host0", fmt.Sprintf("ip link set tunl%d mtu 1000", i))
			await(t, "the new MTU", func() bool {
				out, _ := try(t, w.Lab, pod.Node, "ping -n -c1 -W1 -M do -s 1200 "+to)
				return strings.Contains(out, "Frag needed and DF set (mtu = 1000)") || strings.Contains(out, "message too long, mtu=1000")
			})
		}
		s := statusOf(t, d)
		for i := range types {
			if p := s.port(fmt.Sprintf("tunl%d", i)); p == nil {
				t.Errorf("tunl%d is not served: %+v", i, s.Uplinks)
			}
		}
		if n := s.Forward.Drops["PARP_IF_UNKNOWN"]; n != 0 || s.Forward.Verdicts["forward"] == 0 {
			t.Errorf("verdicts %v, drops %v", s.Forward.Verdicts, s.Forward.Drops)
		}
		d.Stop(t)
	}
}

// TestTunnelInPods has pods make a VXLAN over their own addresses: what they
// leave to the host to cut is of a type that no ring can take.
func TestTunnelInPods(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "iperf3", "ping", "ip")
	for _, claim := range []string{"tcx", "clsact"} {
		w := start(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2}, "--claim", claim)
		from, near := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
		for i, p := range []lab.Pod{from, near} {
			other := []lab.Pod{near, from}[i]
			run(t, w.Lab, p.Node, fmt.Sprintf("ip link add vx0 mtu 1450 type vxlan id 9 local %s remote %s dstport 4789", ip(p), ip(other)))
			run(t, w.Lab, p.Node, fmt.Sprintf("ip addr add 10.7.0.%d/24 dev vx0", i+1))
			run(t, w.Lab, p.Node, "ip link set vx0 up")
		}
		wantTTL(t, w.Lab, from.Node, "10.7.0.2", 64)
		inside := near
		inside.Addr = netip.MustParsePrefix("10.7.0.2/32")
		r := transfer(t, w.Lab, from.Node, inside, "-n 20M")
		if r.End.Received.Bytes < 10e6 {
			t.Errorf("%s: %.0f bytes", claim, r.End.Received.Bytes)
		}
		s := statusOf(t, w.d[0])
		if s.Forward.Drops["SKB_GSO_SEG"] != 0 || s.port(from.Iface).Received < 5_000 {
			t.Errorf("%s: received %d, drops %v", claim, s.port(from.Iface).Received, s.Forward.Drops)
		}
		t.Logf("%s: %.0f Mbit/s, %.0f retransmissions", claim, r.End.Received.BPS/1e6, r.End.Sent.Retransmits)
	}
}

// TestPriorityTags: a tag that names no VLAN is no tag, for packets and for ARP.
func TestPriorityTags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--claim", "auto"}, {"--claim", "none"}} {
		w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2}, args...)
		from, to := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP), listen(t, w.Lab, "ns1", "eth0", unix.ETH_P_IP)
		for i, tci := range []uint16{0, 5 << 13, 7 << 13} {
			from.send(tag(datagram(mac(t, answerMAC), from.mac, "10.20.1.2", "10.20.1.3", uint32(i+1), 20), tci))
			f := to.next(patience, func(f wire.Ethernet) bool { _, ok := number(f); return ok })
			if f == nil {
				t.Fatalf("%v: priority %d: lost", args, tci>>13)
			}
			if n, _ := number(f); n != uint32(i+1) {
				t.Errorf("%v: number %d arrives for %d", args, n, i+1)
			}
			from.send(tag(from.whoHas(gateway, "10.20.1.2").frame(), tci))
			if from.next(patience, func(f wire.Ethernet) bool { return f.Src() == mac(t, answerMAC) }) == nil {
				t.Errorf("%v: priority %d: not answered", args, tci>>13)
			}
		}
		if s := statusOf(t, w.d[0]); s.Forward.Verdicts["vlan-tagged"] != 0 || s.ARP.Verdicts["vlan-tagged"] != 0 {
			t.Errorf("%v: %v %v", args, s.Forward.Verdicts, s.ARP.Verdicts)
		}
	}
}

// TestOtherVLANs counts what belongs to a VLAN as that, whether there is a device
// for it or not.
func TestOtherVLANs(t *testing.T) {
	t.Parallel()
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	from := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
	for range 3 {
		from.send(tag(datagram(mac(t, answerMAC), from.mac, "10.20.1.2", "10.20.1.3", 1, 20), 7))
	}
	await(t, "3 are counted", func() bool { return statusOf(t, w.d[0]).Forward.Verdicts["vlan-tagged"] == 3 })
}

// TestSameIndexTwice replaces a host end by another of the same name and index
// while the daemon does not run: it is another interface, whose frames have to be
// taken from the kernel anew.
func TestSameIndexTwice(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}
	forwarding(t, w.Lab, "host0", "1")
	forwarding(t, w.Lab, "host1", "1")
	w.daemons(t)
	pod, far := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
	wantTTL(t, w.Lab, pod.Node, ip(far), 62)
	process := w.d[0].Cmd.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	run(t, w.Lab, "host0", "ip link del "+pod.Iface)
	run(t, w.Lab, "host0", fmt.Sprintf("ip link add %s index %d address %s type veth peer name eth0 netns %s", pod.Iface, pod.Index, answerMAC, netnsOf(t, w.Lab, pod.Node)))
	for _, line := range []string{"ip addr add " + ip(pod) + "/32 dev eth0", "ip link set eth0 up",
		"ip route add 169.254.1.1 dev eth0 scope link", "ip route add default via 169.254.1.1 dev eth0"} {
		run(t, w.Lab, pod.Node, line)
	}
	run(t, w.Lab, "host0", "ip link set "+pod.Iface+" up")
	run(t, w.Lab, "host0", "ip route add "+ip(pod)+" dev "+pod.Iface+" scope link")
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, "its packets are ours again", func() bool {
		try(t, w.Lab, pod.Node, "ping -n -c1 -W1 "+ip(far))
		p := statusOf(t, w.d[0])
		return p.port(pod.Iface).took() > 0
	})
	out := run(t, w.Lab, pod.Node, "ping -n -c20 -i0.01 -W1 "+ip(far))
	if !strings.Contains(out, "20 received") || strings.Contains(out, "DUP") {
		t.Error(out)
	}
}

// TestNoCarrier: as in the kernel, the sender of a packet to a pod whose
// interface has no carrier is told in the end.
func TestNoCarrier(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := start(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
	from, to := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	wantTTL(t, w.Lab, from.Node, ip(to), 63)
	run(t, w.Lab, to.Node, "ip link set eth0 down")
	out, _ := try(t, w.Lab, from.Node, "ping -n -c6 -i1 -W1 "+ip(to))
	if !strings.Contains(out, "Destination Host Unreachable") {
		t.Error(out)
	}
	awaitDrops(t, w.d[0], "NEIGH_FAILED", 1)
}

// TestRouteToLoopback: a route that leads to lo ends as in the kernel, which
// hands such a packet to itself until its time is over.
func TestRouteToLoopback(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	for _, forwards := range []string{"1", "0"} {
		w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1})}
		run(t, w.Lab, "host0", "ip route add 203.0.113.0/24 dev lo")
		forwarding(t, w.Lab, "host0", forwards)
		w.daemons(t)
		out, _ := try(t, w.Lab, pods(w.Lab, 0)[0].Node, "ping -n -c1 -W1 203.0.113.7")
		if !strings.Contains(out, "Time to live exceeded") {
			t.Errorf("forwarding %s:\n%s", forwards, out)
		}
		s := statusOf(t, w.d[0])
		if forwards == "1" && s.Forward.Verdicts["transit"] != 1 || forwards == "0" && s.Forward.Drops["PARP_TTL_EXPIRED"] != 1 {
			t.Errorf("forwarding %s: verdicts %v, drops %v", forwards, s.Forward.Verdicts, s.Forward.Drops)
		}
	}
}

// TestKeepMACOfFilteringDevice: a device that takes frames to its own MAC alone
// has that answered.
func TestKeepMACOfFilteringDevice(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})}
	station := pods(w.Lab, 0)[1].Node
	for _, line := range []string{
		"host0: ip link add low0 type veth peer name mv0 netns " + netnsOf(t, w.Lab, station), "host0: ip link set low0 up",
		"host0: ip link add calimv link low0 type macvlan mode bridge", "host0: ip link set calimv up",
		"host0: ip route add 10.65.9.9 dev calimv",
		station + ": ip addr add 10.65.9.9/32 dev mv0", station + ": ip link set mv0 up",
		station + ": ip route del default", station + ": ip route add 169.254.1.1 dev mv0 metric 1", station + ": ip route add default via 169.254.1.1 dev mv0",
		"host1: ip route add 10.65.9.9 via " + host0IP,
	} {
		node, command, _ := strings.Cut(line, ": ")
		run(t, w.Lab, node, command)
	}
	w.daemons(t, "--keep-mac")
	out := run(t, w.Lab, station, "ping -n -c1 -W1 -I 10.65.9.9 "+ip(pods(w.Lab, 1)[0]))
	if !strings.Contains(out, "1 received") {
		t.Error(out)
	}
	own := macOf(t, w.Lab, "host0", "calimv")
	s := statusOf(t, w.d[0])
	if p := s.port("calimv"); p.Answers != own || p.MAC != own {
		t.Errorf("%+v, want %s answered", p, own)
	}
	if p := s.port(pods(w.Lab, 0)[0].Iface); p.Answers != answerMAC {
		t.Errorf("%+v, want %s answered", p, answerMAC)
	}
	if log := w.d[0].Stderr(); strings.Count(log, "interface=calimv") != 1 {
		t.Errorf("said so often:\n%s", log)
	}
}

// TestHostWithoutAddresses: where no interface has ever had an address, the
// kernel takes all neighbours for broadcast addresses, and does not tell of them.
func TestHostWithoutAddresses(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	name := func(n string) string { return fmt.Sprintf("parp-bare-%d-%s", os.Getpid(), n) }
	ipCommand := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			nstest.Skip(t, "ip %s: %v %s", args, err, out)
		}
	}
	var nodes []lab.Node
	for _, n := range []string{"host", "a", "b"} {
		ipCommand("netns add " + name(n))
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name(n)).Run() })
		nodes = append(nodes, lab.Node{Name: n, Netns: name(n)})
	}
	for i, pod := range []string{"a", "b"} {
		ipCommand(fmt.Sprintf("-n %s link add cali%s type veth peer name eth0 netns %s", name("host"), pod, name(pod)))
		ipCommand(fmt.Sprintf("-n %s link set cali%s up", name("host"), pod))
		ipCommand(fmt.Sprintf("-n %s route add 10.65.0.%d dev cali%s", name("host"), i+2, pod))
		for _, line := range []string{"link set eth0 up", fmt.Sprintf("addr add 10.65.0.%d/32 dev eth0", i+2),
			"route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0"} {
			ipCommand("-n " + name(pod) + " " + line)
		}
	}
	l, err := lab.Adopt(nodes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	labtest.Daemon(t, l, "host")
	for range 3 {
		wantTTL(t, l, "a", "10.65.0.3", 63)
	}
	// Who has asked is known by that; the other one never did.
	if out := run(t, l, "host", "ip neigh show nud noarp"); !strings.Contains(out, "10.65.0.3 dev calib lladdr ff:ff:ff:ff:ff:ff") {
		t.Errorf("neighbours:\n%s", out)
	}
}

// TestFlushedNeighbours: a neighbour that somebody removes while it is resolved
// is asked for again at once, not after a time-out.
func TestFlushedNeighbours(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := start(t, lab.Spec{Form: lab.FormCalico})
	from, to := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
	wantTTL(t, w.Lab, from.Node, ip(to), 62)
	p := spawn(t, w.Lab, from.Node, "ping -n -i0.01 -c300 "+ip(to))
	flushed := time.NewTicker(100 * time.Millisecond)
	defer flushed.Stop()
	for alive := true; alive; {
		for range 5 {
			run(t, w.Lab, "host0", "ip neigh flush dev "+uplink)
		}
		select {
		case <-p.done:
			alive = false
		case <-flushed.C:
		}
	}
	out := p.end()
	if !strings.Contains(out, "300 received") {
		t.Error(out[strings.Index(out, "---"):])
	}
}
