package e2e

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// Services of these tests, each by TCP and UDP: a ClusterIP's port 80, and a port of the node.
const (
	serviceRange = "10.96.0.0/12"
	podRange     = "10.65.0.0/16"
	nearIP       = "10.96.0.10" // of a pod of host0
	farIP        = "10.96.0.11" // of a pod of host1
	nearNodePort = 30080
	farNodePort  = 30081
	ownNodePort  = 30082 // of the pod of host0, externalTrafficPolicy Local
	servicePort  = 80
	podPort      = 8080
)

// service is one that kube-proxy would write rules for.
type service struct {
	name, ip  string
	nodePort  int
	ownPort   int // with externalTrafficPolicy Local; 0: none
	endpoints []string
}

// proxyMode writes the rules of services as kube-proxy does in one of its modes.
type proxyMode struct {
	name    string
	program string // that reads them from a file
	rules   func(all []service) string
}

var proxyModes = []proxyMode{
	{"iptables", "iptables-nft-restore", iptablesRules},
	{"iptables-legacy", "iptables-legacy-restore", iptablesRules},
	{"nftables", "nft -f", nftablesRules},
}

// iptablesRules are those of pkg/proxy/iptables of Kubernetes.
func iptablesRules(all []service) string {
	var nat, chains, services, ports strings.Builder
	chain := func(format string, args ...any) string {
		name := fmt.Sprintf(format, args...)
		fmt.Fprintf(&chains, ":%s - [0:0]\n", name)
		return name
	}
	rule := func(b *strings.Builder, format string, args ...any) { fmt.Fprintf(b, "-A "+format+"\n", args...) }
	for _, c := range []string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"} {
		chain("%s", c)
	}
	for _, s := range all {
		for _, proto := range []string{"tcp", "udp"} {
			id := strings.ToUpper(s.name + proto)
			svc, ext := chain("KUBE-SVC-%s", id), chain("KUBE-EXT-%s", id)
			rule(&services, `KUBE-SERVICES -d %s/32 -p %s -m comment --comment "default/%s cluster IP" -m %[2]s --dport %[4]d -j %[5]s`, s.ip, proto, s.name, servicePort, svc)
			rule(&nat, `%s ! -s %s -d %s/32 -p %s -m comment --comment "default/%s cluster IP" -m %[4]s --dport %[6]d -j KUBE-MARK-MASQ`, svc, podRange, s.ip, proto, s.name, servicePort)
			rule(&ports, `KUBE-NODEPORTS -p %s -m comment --comment "default/%s" -m %[1]s --dport %[3]d -j %[4]s`, proto, s.name, s.nodePort, ext)
			rule(&nat, `%s -m comment --comment "masquerade traffic for default/%s external destinations" -j KUBE-MARK-MASQ`, ext, s.name)
			rule(&nat, "%s -j %s", ext, svc)
			var seps []string
			for i, e := range s.endpoints {
				sep := chain("KUBE-SEP-%s%d", id, i)
				seps = append(seps, sep)
				rule(&nat, `%s -s %s/32 -m comment --comment "default/%s" -j KUBE-MARK-MASQ`, sep, e, s.name)
				rule(&nat, `%s -p %s -m comment --comment "default/%s" -m %[2]s -j DNAT --to-destination %[4]s:%[5]d`, sep, proto, s.name, e, podPort)
			}
			spread := func(from string) {
				for i, sep := range seps {
					if left := len(seps) - i; left > 1 {
						rule(&nat, `%s -m comment --comment "default/%s" -m statistic --mode random --probability %.11f -j %s`, from, s.name, 1/float64(left), sep)
					} else {
						rule(&nat, `%s -m comment --comment "default/%s" -j %s`, from, s.name, sep)
					}
				}
			}
			spread(svc)
			if s.ownPort != 0 {
				own, local := chain("KUBE-XLB-%s", id), chain("KUBE-SVL-%s", id)
				rule(&ports, `KUBE-NODEPORTS -p %s -m comment --comment "default/%s" -m %[1]s --dport %[3]d -j %[4]s`, proto, s.name, s.ownPort, own)
				rule(&nat, `%s -s %s -m comment --comment "pod traffic for default/%s external destinations" -j %s`, own, podRange, s.name, svc)
				rule(&nat, `%s -m comment --comment "masquerade LOCAL traffic for default/%s external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`, own, s.name)
				rule(&nat, `%s -m comment --comment "route LOCAL traffic for default/%s external destinations" -m addrtype --src-type LOCAL -j %s`, own, s.name, svc)
				rule(&nat, "%s -j %s", own, local)
				spread(local)
			}
		}
	}
	return "*nat\n" + chains.String() + `-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
` + services.String() + `-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
` + ports.String() + nat.String() + `COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`
}

// nftablesRules are those of pkg/proxy/nftables of Kubernetes.
func nftablesRules(all []service) string {
	var chains strings.Builder
	var ips, ports []string
	for _, s := range all {
		for _, proto := range []string{"tcp", "udp"} {
			id := fmt.Sprintf("%s/%s", s.name, proto)
			id = strings.ReplaceAll(id, "/", "-")
			var spread string
			var seps []string
			for i, e := range s.endpoints {
				fmt.Fprintf(&chains, "chain endpoint-%s-%d {\n ip saddr %s jump mark-for-masquerade\n meta l4proto %s dnat to %s:%d\n}\n", id, i, e, proto, e, podPort)
				seps = append(seps, fmt.Sprintf("%d : goto endpoint-%s-%d", i, id, i))
			}
			spread = fmt.Sprintf("numgen random mod %d vmap { %s }", len(seps), strings.Join(seps, ", "))
			fmt.Fprintf(&chains, "chain service-%s {\n ip daddr %s %s dport %d ip saddr != %s jump mark-for-masquerade\n %s\n}\n", id, s.ip, proto, servicePort, podRange, spread)
			fmt.Fprintf(&chains, "chain external-%s {\n jump mark-for-masquerade\n goto service-%[1]s\n}\n", id)
			ips = append(ips, fmt.Sprintf("%s . %s . %d : goto service-%s", s.ip, proto, servicePort, id))
			ports = append(ports, fmt.Sprintf("%s . %d : goto external-%s", proto, s.nodePort, id))
			if s.ownPort != 0 {
				fmt.Fprintf(&chains, "chain own-%s {\n ip saddr %s goto service-%[1]s\n fib saddr type local jump mark-for-masquerade\n fib saddr type local goto service-%[1]s\n %[3]s\n}\n", id, podRange, spread)
				ports = append(ports, fmt.Sprintf("%s . %d : goto own-%s", proto, s.ownPort, id))
			}
		}
	}
	return `table ip kube-proxy {
chain mark-for-masquerade {
 meta mark set meta mark or 0x4000
}
chain masquerading {
 meta mark and 0x4000 == 0 return
 meta mark set meta mark xor 0x4000
 masquerade fully-random
}
` + chains.String() + `
map service-ips {
 type ipv4_addr . inet_proto . inet_service : verdict
 elements = { ` + strings.Join(ips, ", ") + ` }
}
map service-nodeports {
 type inet_proto . inet_service : verdict
 elements = { ` + strings.Join(ports, ", ") + ` }
}
chain services {
 ip daddr . meta l4proto . th dport vmap @service-ips
 fib daddr type local meta l4proto . th dport vmap @service-nodeports
}
chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept
 jump services
}
chain nat-output { type nat hook output priority -100; policy accept
 jump services
}
chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept
 jump masquerading
}
chain filter-forward { type filter hook forward priority -110; policy accept
 ct state invalid drop
}
}
`
}

// kubeHost is a lab whose host0 has services: of a pod of its own, and of one of host1. Each of the two answers by TCP
// and UDP with the address that it has seen.
type kubeHost struct {
	*world
	t         *testing.T
	from      lab.Pod
	near, far lab.Pod
	servers   map[string]*seenServer // by address
}

func newKubeHost(t *testing.T, mode proxyMode) *kubeHost {
	t.Helper()
	program := strings.Fields(mode.program)
	labtest.Need(t, program[0])
	k := &kubeHost{t: t, world: &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}, servers: map[string]*seenServer{}}
	k.from, k.near, k.far = pods(k.Lab, 0)[0], pods(k.Lab, 0)[1], pods(k.Lab, 1)[0]
	calicoSettings(t, k.Lab)
	// As docs/CALICO.md says: what the kernel has of a flow that it has not seen all of is not INVALID.
	for _, host := range []string{"host0", "host1"} {
		if err := k.SetSysctl(host, "net.netfilter.nf_conntrack_tcp_be_liberal", "1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range k.Pods() { // the kernel answers for the gateway where a route leads on, and at once
		host := fmt.Sprintf("host%d", p.Host)
		if err := k.SetSysctl(host, "net.ipv4.neigh."+p.Iface+".proxy_delay", "0"); err != nil {
			t.Fatal(err)
		}
		run(t, k.Lab, host, "ip route replace default via 192.168.1.254 dev "+uplink)
	}
	rules := mode.rules([]service{
		{"near", nearIP, nearNodePort, ownNodePort, []string{ip(k.near)}},
		{"far", farIP, farNodePort, 0, []string{ip(k.far)}},
		// Nobody listens there: the chains are there, as in a real host, and some are long.
		{"many", "10.96.0.12", 30083, 0, []string{"10.65.0.77", "10.65.0.78", "10.65.1.77"}},
	})
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errw, code := exec3(t, k.Lab, "host0", program[0], append(program[1:], file)...); code != 0 {
		t.Fatalf("%s: %s%s\n%s", mode.program, out, errw, rules)
	}
	for _, p := range []lab.Pod{k.near, k.far} {
		k.servers[ip(p)] = serveSeen(t, k.Lab, p.Node, p.Addr.Addr())
	}
	return k
}

// seenServer answers each datagram, and each line of a connection, with the address of who sent it, and can send to
// who sent last.
type seenServer struct {
	udp *net.UDPConn

	mu    sync.Mutex
	conns map[string]net.Conn // of TCP, by the remote address and port
	peers map[string]netip.AddrPort
}

func serveSeen(t *testing.T, l *lab.Lab, node string, addr netip.Addr) *seenServer {
	t.Helper()
	s := &seenServer{conns: map[string]net.Conn{}, peers: map[string]netip.AddrPort{}}
	at := netip.AddrPortFrom(addr, podPort)
	s.udp = labtest.ListenUDP(t, l, node, at)
	var listener *net.TCPListener
	if err := l.Do(node, func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := s.udp.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.peers[string(b[:min(n, 16)])] = from
			s.mu.Unlock()
			answer := make([]byte, 0, n)
			answer = append(answer, from.Addr().String()...)
			if strings.HasPrefix(string(b[:n]), "long") {
				answer = append(answer, strings.Repeat(" ", 3000)...)
			}
			_, _ = s.udp.WriteToUDPAddrPort(answer, from)
		}
	})
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		s.udp.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		all.Wait()
	})
	return s
}

func (s *seenServer) serve(c net.Conn) {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	defer c.Close()
	name := make([]byte, 16)
	for {
		if _, err := io.ReadFull(c, name); err != nil {
			return
		}
		s.mu.Lock()
		s.conns[string(name)] = c
		s.mu.Unlock()
		answer := fmt.Sprintf("%-16s", from.Addr())
		if strings.HasPrefix(string(name), "long") {
			answer += strings.Repeat(" ", 1<<20)
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// push has the server send to who is known by a name, without being asked.
func (s *seenServer) push(t *testing.T, name string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	name = fmt.Sprintf("%-16s", name)
	if c := s.conns[name]; c != nil {
		if _, err := io.WriteString(c, "news            "); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	} else if _, err := s.udp.WriteToUDPAddrPort([]byte("news"), s.peers[name]); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// flow is a connection, or a connected UDP socket: it takes answers from whom it asked alone.
type flow struct {
	net.Conn
	name string
}

// dial opens a flow from a node, by the port that is given, or any (0).
func (k *kubeHost) dial(proto, node, to, name string, port int) (*flow, error) {
	var c net.Conn
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	switch proto {
	case "tcp4", "tcp6":
		d.LocalAddr = &net.TCPAddr{Port: port}
	case "udp4", "udp6":
		d.LocalAddr = &net.UDPAddr{Port: port}
	}
	err := k.Do(node, func() (err error) {
		c, err = d.Dial(proto, to)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &flow{c, fmt.Sprintf("%-16s", name)}, nil
}

// ask says what the other side has seen as the source.
func (f *flow) ask() (string, error) {
	if _, err := io.WriteString(f.Conn, f.name); err != nil {
		return "", err
	}
	return f.hear()
}

// hear is the next that comes.
func (f *flow) hear() (string, error) {
	_ = f.SetReadDeadline(time.Now().Add(3 * time.Second))
	b := make([]byte, 1<<16)
	n, err := f.Read(b)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b[:n]))
	if _, tcp := f.Conn.(*net.TCPConn); tcp && strings.HasPrefix(f.name, "long") {
		for got := n; got < 16+1<<20; got += n {
			if n, err = f.Read(b); err != nil {
				return "", fmt.Errorf("after %d bytes: %w", got, err)
			}
		}
	}
	return text, nil
}

// reset ends a connection so that its port is free at once.
func (f *flow) reset() {
	if c, tcp := f.Conn.(*net.TCPConn); tcp {
		_ = c.SetLinger(0)
	}
	f.Close()
}

// matrix is who sees whom, over each way to a service.
func (k *kubeHost) matrix() map[string]string {
	seen := map[string]string{}
	for _, c := range []struct{ what, node, to string }{
		{"pod to ClusterIP, near", k.from.Node, fmt.Sprintf("%s:%d", nearIP, servicePort)},
		{"pod to ClusterIP, far", k.from.Node, fmt.Sprintf("%s:%d", farIP, servicePort)},
		{"pod to its own ClusterIP", k.near.Node, fmt.Sprintf("%s:%d", nearIP, servicePort)},
		{"pod to NodePort, near", k.from.Node, fmt.Sprintf("%s:%d", host0IP, nearNodePort)},
		{"pod to NodePort, far", k.from.Node, fmt.Sprintf("%s:%d", host0IP, farNodePort)},
		{"pod to its own NodePort", k.near.Node, fmt.Sprintf("%s:%d", host0IP, nearNodePort)},
		{"pod to NodePort, Local", k.from.Node, fmt.Sprintf("%s:%d", host0IP, ownNodePort)},
		{"outside to NodePort, near", "host1", fmt.Sprintf("%s:%d", host0IP, nearNodePort)},
		{"outside to NodePort, far", "host1", fmt.Sprintf("%s:%d", host0IP, farNodePort)},
		{"outside to NodePort, Local", "host1", fmt.Sprintf("%s:%d", host0IP, ownNodePort)},
		{"far pod to NodePort, Local", k.far.Node, fmt.Sprintf("%s:%d", host0IP, ownNodePort)},
		{"host to ClusterIP, near", "host0", fmt.Sprintf("%s:%d", nearIP, servicePort)},
		{"host to ClusterIP, far", "host0", fmt.Sprintf("%s:%d", farIP, servicePort)},
		{"pod to pod, near", k.from.Node, fmt.Sprintf("%s:%d", ip(k.near), podPort)},
		{"pod to pod, far", k.from.Node, fmt.Sprintf("%s:%d", ip(k.far), podPort)},
	} {
		for _, proto := range []string{"tcp4", "udp4"} {
			for _, kind := range []string{"short", "long"} {
				what := c.what + ", " + proto + ", " + kind
				f, err := k.dial(proto, c.node, c.to, kind, 0)
				if err == nil {
					seen[what], err = f.ask()
					f.reset()
				}
				if err != nil {
					seen[what] = err.Error()
				}
			}
		}
	}
	return seen
}

// compare says where two matrices differ.
func (k *kubeHost) compare(what string, want, got map[string]string) {
	k.t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if want[key] != got[key] {
			k.t.Errorf("%s: %s: seen as %q, want %q", what, key, got[key], want[key])
		}
	}
}

// standing opens flows that stay, each asked once.
func (k *kubeHost) standing() (all []*flow) {
	k.t.Helper()
	for i, c := range []struct{ node, to string }{
		{k.from.Node, fmt.Sprintf("%s:%d", nearIP, servicePort)},
		{k.from.Node, fmt.Sprintf("%s:%d", farIP, servicePort)},
		{"host1", fmt.Sprintf("%s:%d", host0IP, ownNodePort)},
		{"host1", fmt.Sprintf("%s:%d", host0IP, farNodePort)},
		{k.near.Node, fmt.Sprintf("%s:%d", nearIP, servicePort)},
		{k.from.Node, fmt.Sprintf("%s:%d", ip(k.far), podPort)}, // not the kernel's
	} {
		for _, proto := range []string{"tcp4", "udp4"} {
			f, err := k.dial(proto, c.node, c.to, fmt.Sprintf("%s%d", proto, i), 0)
			if err == nil {
				_, err = f.ask()
			}
			if err != nil {
				k.t.Fatalf("%s from %s to %s: %v", proto, c.node, c.to, err)
			}
			k.t.Cleanup(f.reset)
			all = append(all, f)
		}
	}
	return all
}

// pushAll has the servers send first in flows that stand.
func (k *kubeHost) pushAll(what string, all []*flow) {
	k.t.Helper()
	for _, f := range all {
		for _, s := range k.servers {
			s.mu.Lock()
			_, tcp := s.conns[f.name]
			_, udp := s.peers[f.name]
			s.mu.Unlock()
			if !tcp && !udp {
				continue
			}
			s.push(k.t, strings.TrimSpace(f.name))
			if text, err := f.hear(); err != nil || text != "news" {
				k.t.Errorf("%s: %s, from %s to %s: %q, %v", what, strings.TrimSpace(f.name), f.LocalAddr(), f.RemoteAddr(), text, err)
			}
		}
	}
}

// TestKubeProxy has a host with kube-proxy's rules, whose kernel forwards, beside a daemon that leaves it the services'
// range: all ways to a service work as they do without the daemon, with the same addresses seen at the other end, and
// so do flows that are older than the daemon and are silent until the server sends.
func TestKubeProxy(t *testing.T) {
	t.Parallel()
	for i, mode := range proxyModes {
		for j, engine := range []string{"af_packet", "ebpf"} {
			if os.Getenv("PROXYARPD_TEST_PART") != "all" && (i+j)%2 != 0 {
				continue
			}
			t.Run(mode.name+"/"+engine, func(t *testing.T) {
				t.Parallel()
				k := newKubeHost(t, mode)
				want := k.matrix()
				for what, seen := range want {
					if _, err := netip.ParseAddr(seen); err != nil {
						t.Fatalf("without a daemon: %s: %s", what, seen)
					}
				}
				old := k.standing()
				k.daemons(t, "--engine", engine, "--punt", serviceRange, "--bypass-policy")
				k.pushAll("older than the daemon", old)
				k.compare("with a daemon", want, k.matrix())
				k.pushAll("again", old)
				s := statusOf(t, k.d[0])
				if s.Forward.Verdicts["punted-flow"] == 0 || s.Forward.Verdicts["forward"] == 0 {
					t.Errorf("verdicts %v", s.Forward.Verdicts)
				}
				k.reusedPort("tcp4")
				k.reusedPort("udp4")
				k.takeOver(old, "--engine", engine, "--punt", serviceRange, "--bypass-policy")
				k.compare("after a take-over", want, k.matrix())
				k.d[0].Stop(t)
				k.pushAll("without a daemon", old)
				k.d[0] = labtest.Daemon(t, k.Lab, "host0", "--engine", engine, "--punt", serviceRange, "--bypass-policy")
				k.pushAll("after a restart", old)
			})
		}
	}
}

// takeOver has the daemon taken over while the servers send in flows that stand, without a pause. What the kernel has of
// translated flows is the kernel's in the successor, too.
func (k *kubeHost) takeOver(standing []*flow, args ...string) {
	k.t.Helper()
	p := k.d[0]
	before := statusOf(k.t, p).Forward.Verdicts["punted-flow"]
	next := p.Successor(k.t, args...)
	for over := false; !over; {
		over = strings.Contains(p.Stderr()+next.Stderr(), "taken over") // or it has not
		k.pushAll("during a take-over", standing)
	}
	if err := p.Wait(k.t); err != nil {
		k.t.Fatalf("taken over: %v\n%s\n%s", err, p.Stderr(), next.Stderr())
	}
	next.AwaitReady(k.t)
	k.d[0] = next
	k.pushAll("after a take-over", standing)
	if now := statusOf(k.t, next).Forward.Verdicts["punted-flow"]; now <= before {
		k.t.Errorf("%d packets were left to the kernel as of translated flows before the take-over, and %d are behind it", before, now)
	}
}

// reusedPort has a pod use a service, and then the same port for a flow that is none of the kernel's: its answers are
// not either. (To the kernel's conntrack they would be INVALID, which kube-proxy's rules drop.) Only where the answers
// would be the same in both flows, from the pod behind the service, the kernel has both, and gives one another port.
func (k *kubeHost) reusedPort(proto string) {
	k.t.Helper()
	const port = 40000
	kind := "short" // of what comes in fragments nobody can tell the port
	if proto == "tcp4" {
		kind = "long"
	}
	for _, to := range []lab.Pod{k.near, k.far} {
		service, err := k.dial(proto, k.from.Node, fmt.Sprintf("%s:%d", nearIP, servicePort), "service", port)
		if err == nil {
			_, err = service.ask()
			service.reset()
		}
		if err != nil {
			k.t.Errorf("%s: to the service: %v", proto, err)
			continue
		}
		before := statusOf(k.t, k.d[0]).Forward
		direct, err := k.dial(proto, k.from.Node, fmt.Sprintf("%s:%d", ip(to), podPort), kind, port)
		var seen string
		if err == nil {
			seen, err = direct.ask()
			direct.reset()
		}
		if err != nil || seen != ip(k.from) {
			k.t.Errorf("%s: to the pod by the same port: %q, %v", proto, seen, err)
		}
		after := statusOf(k.t, k.d[0]).Forward
		if n := after.Verdicts["punted-flow"] - before.Verdicts["punted-flow"]; (n > 0) != (to == k.near) {
			k.t.Errorf("%s: %d packets to %s and from it are left to the kernel\n%s", proto, n, to.Name, k.d[0].Status(k.t))
		}
	}
}

// TestNATOutgoing has Calico's natOutgoing: the kernel translates what pods send out of their pool. With --punt for all
// but the pool it goes on doing so, and what pods send each other is the daemon's. Without, doctor says what would come
// of it.
func TestNATOutgoing(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	k := &kubeHost{t: t, world: &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}}
	k.from, k.far = pods(k.Lab, 0)[0], pods(k.Lab, 1)[0]
	forwarding(t, k.Lab, "host0", "1")
	run(t, k.Lab, "host0", "nft add table ip calico")
	run(t, k.Lab, "host0", "nft add chain ip calico nat { type nat hook postrouting priority 100 ; }")
	run(t, k.Lab, "host0", "nft add rule ip calico nat ip saddr "+podRange+" ip daddr != "+podRange+" masquerade")
	server := serveSeen(t, k.Lab, "host1", netip.MustParseAddr(host1IP))
	far := serveSeen(t, k.Lab, k.far.Node, k.far.Addr.Addr())
	k.servers = map[string]*seenServer{host1IP: server, ip(k.far): far}
	outside, inside := fmt.Sprintf("%s:%d", host1IP, podPort), fmt.Sprintf("%s:%d", ip(k.far), podPort)

	flags := []string{"--bypass-policy", "--punt", serviceRange}
	k.d = append(k.d, labtest.Daemon(t, k.Lab, "host0", "--engine", "none"), labtest.Daemon(t, k.Lab, "host1"))
	f, err := k.dial("tcp4", k.from.Node, outside, "flow", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.reset()
	if seen, err := f.ask(); seen != host0IP || err != nil {
		t.Fatalf("the kernel: seen as %q, %v", seen, err)
	}
	has := func(id string, args ...string) bool {
		found, _ := diagnosed(t, k.Lab, append(append([]string{"--control", k.d[0].Control}, flags...), args...)...)
		return slices.ContainsFunc(found, func(f finding) bool { return f.ID == id })
	}
	if !has("nat-not-punted") || !has("conntrack-strict") {
		t.Error("doctor does not tell what would not be translated, or of what would be invalid")
	}
	for _, p := range others(podRange) {
		flags = append(flags, "--punt", p)
	}
	if has("nat-not-punted") {
		t.Error("doctor tells of flows that are punted")
	}
	k.d[0].Stop(t)
	k.d[0] = labtest.Daemon(t, k.Lab, "host0", flags...)
	k.pushAll("older than the daemon", []*flow{f})
	before := statusOf(t, k.d[0]).Forward.PacketsIn
	for _, proto := range []string{"tcp4", "udp4"} {
		for to, want := range map[string]string{outside: host0IP, inside: ip(k.from)} {
			f, err := k.dial(proto, k.from.Node, to, "other", 0)
			if err != nil {
				t.Errorf("%s to %s: %v", proto, to, err)
				continue
			}
			if seen, err := f.ask(); seen != want || err != nil {
				t.Errorf("%s to %s: seen as %q, %v", proto, to, seen, err)
			}
			f.reset()
		}
	}
	if s := statusOf(t, k.d[0]).Forward; s.PacketsIn == before || s.Verdicts["punt"] == 0 {
		t.Errorf("taken %d, verdicts %v", s.PacketsIn-before, s.Verdicts)
	}
}

// others are the prefixes that all other addresses have.
func others(prefix string) (all []string) {
	p := netip.MustParsePrefix(prefix)
	for bits := 1; bits <= p.Bits(); bits++ {
		b := p.Addr().As4()
		b[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8)
		all = append(all, netip.PrefixFrom(netip.AddrFrom4(b), bits).Masked().String())
	}
	return all
}
