package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// deaf makes a pod answer no ARP request at all.
func deaf(t *testing.T, l *lab.Lab, node string) {
	t.Helper()
	if err := l.SetSysctl(node, "net.ipv4.conf.all.arp_ignore", "8"); err != nil {
		t.Fatal(err)
	}
}

// TestDeafPods has pods that answer no ARP request, new ones too, reached by the
// replies to their first packet: they have asked for their gateway before.
func TestDeafPods(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	for _, engine := range []string{"af_packet", "ebpf", "none"} {
		w := start(t, lab.Spec{Form: lab.FormCalico}, "--engine", engine)
		if engine == "none" {
			for _, host := range []string{"host0", "host1"} {
				if err := w.SetSysctl(host, "net.ipv4.ip_forward", "1"); err != nil {
					t.Fatal(err)
				}
			}
		}
		far := ip(pods(w.Lab, 1)[0])
		reached := func(p lab.Pod) {
			t.Helper()
			deaf(t, w.Lab, p.Node)
			if ttl := ping(t, w.Lab, p.Node, far, "-W5"); ttl != 62 {
				t.Errorf("engine %s, %s: ttl %d", engine, p.Name, ttl)
			}
		}
		reached(pods(w.Lab, 0)[0])
		const more = 20
		for range more {
			p, err := w.AddPod(t.Context(), 0, lab.PodOptions{})
			if err != nil {
				t.Fatal(err)
			}
			reached(p)
		}
		s := statusOf(t, w.d[0])
		if k := s.Kernel; k.Learned < 1 || k.Learned > 1+more || k.Unlearned+k.Unwritten+k.PutBack != 0 {
			t.Errorf("engine %s: %+v", engine, k)
		}
		if out := w.d[0].Status(t); !strings.Contains(out, fmt.Sprintf("\nneighbours: learned %d\n", s.Kernel.Learned)) {
			t.Errorf("engine %s: status says\n%s", engine, out)
		}
		for _, d := range w.d {
			d.Stop(t)
		}
	}
}

// TestNeighboursSurvive: the MAC that an interface is given, and given back at the
// end, takes none of its neighbours away.
func TestNeighboursSurvive(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 1})
	pod := pods(l, 0)[0]
	try(t, l, "host0", "ping -n -c1 -W1 "+ip(pod)) // makes the entry; nobody answers the pod yet
	deaf(t, l, pod.Node)
	const some = "lladdr 02:00:5e:00:53:01 "
	kinds := map[string]string{"10.20.2.1": some + "nud stale", "10.20.2.2": some + "nud noarp", "10.20.2.3": some + "nud reachable extern_learn",
		"10.20.2.4": some + "nud permanent", ip(pod): ""}
	for address, what := range kinds {
		if what != "" {
			run(t, l, "host0", "ip neigh add "+address+" dev veth0 "+what)
		}
	}
	before := map[string]string{}
	stable := strings.NewReplacer("REACHABLE", "STALE", "DELAY", "STALE")
	for address := range kinds {
		before[address] = stable.Replace(entry(t, l, address))
	}
	same := func(when string) {
		t.Helper()
		for address, want := range before {
			if got := stable.Replace(entry(t, l, address)); got != want {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
	}
	d := labtest.Daemon(t, l, "host0", flags(lab.FormSlash32)...)
	if s := statusOf(t, d); s.port("veth0").MAC != answerMAC {
		t.Fatalf("%+v", s.port("veth0"))
	}
	same("with the MAC that it was given")
	// The pod asks for its gateway once a second, and the third time in vain loses what waited.
	await(t, "the pod answers the host", func() bool {
		_, code := try(t, l, "host0", "ping -n -c1 -W3 "+ip(pod))
		return code == 0
	})
	d.Stop(t)
	same("with its own again")
}

// TestPodsAreTold: when an interface gets back its MAC, pods that know the host's own
// addresses, or a gateway by which the kernel forwards, by the other MAC are told.
func TestPodsAreTold(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	labtest.NeedIPv6(t)
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 1})
	pod := pods(l, 0)[0]
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := l.SetSysctl("host0", key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	run(t, l, "host0", "ip addr add fe80::1/64 dev veth0 nodad")
	run(t, l, "host0", "ip addr add 10.77.0.1/32 dev veth0")
	run(t, l, pod.Node, "ip route add 10.77.0.1 dev eth0 scope link")
	own := macOf(t, l, "host0", "veth0")
	d := labtest.Daemon(t, l, "host0", flags(lab.FormSlash32)...)
	peers := []string{"fe80::1", "10.77.0.1", gateway6}
	knows := func(mac string) (wrong string) {
		for _, peer := range peers {
			if got := run(t, l, pod.Node, "ip neigh show dev eth0 to "+peer); !strings.Contains(got, mac) || strings.Contains(peer, ":") != strings.Contains(got, "router") {
				wrong += got + "\n"
			}
		}
		return wrong
	}
	try(t, l, pod.Node, "ping -n -c1 -W1 10.77.0.1")
	try(t, l, pod.Node, "ping -n -c1 -W1 fe80::1%eth0")
	try(t, l, pod.Node, "ping -n -c1 -W1 2001:db8::1")
	if wrong := knows(answerMAC); wrong != "" {
		t.Fatal(wrong)
	}
	d.Stop(t)
	wrong := ""
	if !labtest.Within(3*time.Second, func() bool { wrong = knows(own); return wrong == "" }) { // the kernel asks again after some 30 s
		t.Errorf("the pod has\n%s", wrong)
	}
	ping(t, l, pod.Node, "fe80::1%eth0")
}

// entry is the neighbour entry of host0's veth0 for an address, as `ip neigh`
// shows it; "" is none.
func entry(t testing.TB, l *lab.Lab, address string) string {
	t.Helper()
	return strings.TrimSpace(run(t, l, "host0", "ip neigh show "+address+" dev veth0 nud all"))
}

// tell has a request sent for the gateway from an address and a MAC, and waits
// until what it brings about has been: those who ask are learnt one after another.
func (s *station) tell(l *lab.Lab, address string, mac wire.MAC) {
	s.t.Helper()
	fences++
	fence := netip.AddrFrom4([4]byte{10, 20, 2, byte(fences)}).String()
	run(s.t, l, "host0", "ip route replace "+fence+" dev veth0")
	q := s.whoHas(gateway, address)
	q.sha = mac
	s.send(q.frame())
	s.send(s.whoHas(gateway, fence).frame())
	await(s.t, "the next who asks is learnt", func() bool { return strings.Contains(entry(s.t, l, fence), s.mac.String()) })
}

var fences int // of TestLearns

// TestLearns is what becomes of the neighbour entry of who asks.
func TestLearns(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	const (
		pod  = "10.20.1.2"
		one  = "02:00:5e:00:53:01"
		two  = "02:00:5e:00:53:02"
		none = ""
	)
	for _, engine := range []string{"af_packet", "ebpf", "none"} {
		for _, filter := range []string{"1", "0"} {
			w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2}, "--engine", engine, "--rp-filter", filter)
			s := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
			spoofed := none
			if filter == "0" {
				spoofed = "lladdr " + one
			}
			fences = 0
			for _, c := range []struct {
				name, before, asker, want string
			}{
				{"no entry", none, pod, "lladdr " + one},
				{"stale, the same", "lladdr " + one + " nud stale", pod, "lladdr " + one + " STALE"},
				{"reachable, the same", "lladdr " + one + " nud reachable", pod, "lladdr " + one + " REACHABLE"},
				{"stale, another MAC", "lladdr " + two + " nud stale", pod, "lladdr " + one + " STALE"},
				{"reachable, another MAC", "lladdr " + two + " nud reachable", pod, "lladdr " + one + " STALE"},
				{"failed", "nud failed", pod, "lladdr " + one},
				{"permanent", "lladdr " + two + " nud permanent", pod, "lladdr " + two + " PERMANENT"},
				{"permanent, the same", "lladdr " + one + " nud permanent", pod, "lladdr " + one + " PERMANENT"},
				{"noarp", "lladdr " + two + " nud noarp", pod, "lladdr " + two + " NOARP"},
				{"extern_learn", "lladdr " + two + " nud reachable extern_learn", pod, "lladdr " + two + " extern_learn"},
				{"routed to another pod", none, "10.20.1.4", spoofed},
				{"routed to the uplink", none, "10.20.1.3", spoofed},
				{"routed nowhere", none, "10.99.0.1", spoofed},
				{"the host's", none, host0IP, none},
				{"broadcast", none, "192.168.1.255", none},
				{"probe", none, "0.0.0.0", none},
				{"in 127/8", none, "127.0.0.5", none},
			} {
				try(t, w.Lab, "host0", "ip neigh del "+c.asker+" dev veth0")
				if c.before != "" {
					run(t, w.Lab, "host0", "ip neigh replace "+c.asker+" dev veth0 "+c.before)
				}
				s.tell(w.Lab, c.asker, mac(t, one))
				if got := entry(t, w.Lab, c.asker); !strings.Contains(got, c.want) || (c.want == none) != (got == none) {
					t.Errorf("engine %s, --rp-filter %s: %s: %q, want %q", engine, filter, c.name, got, c.want)
				}
			}
			// The kernel by itself takes no other MAC for a second (locktime).
			for i := range 10 { // what is learnt at once has an end
				other := wire.MAC{2, 0, 0x5e, 0, 0x54, byte(i)}
				try(t, w.Lab, "host0", "ip neigh replace "+pod+" dev veth0 lladdr "+two+" nud stale")
				s.tell(w.Lab, pod, other)
				if got := entry(t, w.Lab, pod); !strings.Contains(got, other.String()) {
					t.Fatalf("engine %s: with MAC %v: %q", engine, other, got)
				}
			}
			for _, d := range w.d {
				d.Stop(t)
			}
		}
	}
}

// TestLearnsFew: a flood of senders neither fills the neighbour table nor keeps
// another pod from being learnt.
func TestLearnsFew(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2}, "--rp-filter", "0")
	noisy := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
	began := time.Now()
	const flood = 4000
	for i := range flood {
		noisy.send(noisy.whoHas(gateway, fmt.Sprintf("10.30.%d.%d", i>>8, i&0xff)).frame())
	}
	calm := pods(w.Lab, 0)[1]
	deaf(t, w.Lab, calm.Node)
	wantTTL(t, w.Lab, calm.Node, "10.20.1.3", 62)
	var s status
	await(t, "all are answered, or were too many", func() bool {
		s = statusOf(t, w.d[0])
		p := s.port("veth0")
		return p.ARPReplies+p.ARPVerdicts["PARP_RATE_LIMIT"]+p.ARPVerdicts["PARP_SENDER_RATE"]+s.ARP.Verdicts["SOCKET_RCVBUFF"] >= flood
	})
	lines := strings.Count(run(t, w.Lab, "host0", "ip neigh show dev veth0"), "10.30.")
	// 64 at once and 10 a second, and what was written twice since its event was under way.
	if most := 64 + 10*int(time.Since(began).Seconds()+1); lines == 0 || lines > most {
		t.Errorf("%d entries, want 1 to %d", lines, most)
	}
	if p := s.port("veth0"); p.Unlearned == 0 || p.Unlearned != s.Kernel.Unlearned || p.Unlearned+uint64(lines) > flood {
		t.Errorf("%d left out, in all %d", p.Unlearned, s.Kernel.Unlearned)
	}
	if p := s.port(calm.Iface); p.Unlearned != 0 {
		t.Errorf("of another pod %d were left out", p.Unlearned)
	}
}

// TestLearnRace: somebody makes a pod's entry permanent, again and again, while
// the pod asks with one MAC after the other. In the end the permanent one stands.
func TestLearnRace(t *testing.T) {
	labtest.Need(t, "ip")
	w := start(t, lab.Spec{Form: lab.FormSlash32})
	s := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
	var host *netlink.Handle
	var veth netlink.Link
	if err := w.Do("host0", func() (err error) {
		if host, err = netlink.NewHandle(unix.NETLINK_ROUTE); err == nil {
			veth, err = host.LinkByName("veth0")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	n := &netlink.Neigh{LinkIndex: veth.Attrs().Index, Family: unix.AF_INET, IP: net.ParseIP("10.20.1.2"), Type: unix.RTN_UNICAST}
	over, asked := make(chan struct{}), make(chan int)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				asked <- i
				return
			case <-time.After(time.Millisecond): // as fast as an interface is learnt from, and faster
			}
			q := s.whoHas(gateway, "10.20.1.2")
			q.sha = wire.MAC{2, 0, 0x5e, 1, byte(i >> 8), byte(i)}
			s.send(q.frame())
		}
	}()
	stands := func() bool {
		all, err := host.NeighListExecute(netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(n.LinkIndex)})
		return err == nil && slices.ContainsFunc(all, func(o netlink.Neigh) bool {
			return o.IP.Equal(n.IP) && o.State == n.State && slices.Equal(o.HardwareAddr, n.HardwareAddr)
		})
	}
	rounds, late := 0, 0
	for began := time.Now(); time.Since(began) < 3*time.Second; rounds++ {
		n.State, n.HardwareAddr = unix.NUD_STALE, net.HardwareAddr{2, 0, 0x5e, 2, byte(rounds >> 8), byte(rounds)}
		if err := host.NeighSet(n); err != nil {
			t.Fatal(err)
		}
		for free := time.Now(); time.Since(free) < time.Duration(rounds%40)*50*time.Microsecond; { // may be learnt
			runtime.Gosched()
		}
		n.State = unix.NUD_PERMANENT
		if err := host.NeighSet(n); err != nil {
			t.Fatal(err)
		}
		if !stands() {
			late++
		}
		await(t, fmt.Sprintf("round %d: %v is permanent", rounds, n.HardwareAddr), stands)
	}
	n.State = unix.NUD_PERMANENT
	err := host.NeighSet(n)
	close(over)
	t.Logf("%d rounds, %d requests, missing for a moment %d times, %+v", rounds, <-asked, late, statusOf(t, w.d[0]).Kernel)
	if err != nil {
		t.Fatal(err)
	}
	s.send(s.whoHas(gateway, "10.20.1.2").frame())
	if s.next(patience, func(f wire.Ethernet) bool {
		a := wire.ARP(f.Payload())
		return a.Op() == wire.ARPReply && a.TargetMAC() == s.mac
	}) == nil {
		t.Error("no answer")
	}
	w.d[0].Stop(t) // whatever was under way is done
	if got := entry(t, w.Lab, "10.20.1.2"); !strings.Contains(got, "lladdr "+n.HardwareAddr.String()) || !strings.Contains(got, "PERMANENT") {
		t.Errorf("%q, want %v PERMANENT", got, n.HardwareAddr)
	}
}
