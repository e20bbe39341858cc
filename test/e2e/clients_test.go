package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// routers are two labs that are alike, but for who forwards and answers ARP in
// the hosts of the first: the kernel; and of the second: proxyarpd.
type routers [2]*lab.Lab

// wireMTU is that of the wire between the hosts; the pods' is 1500.
const wireMTU = 1280

func makeRouters(t *testing.T, podsPerHost int) (r routers) {
	spec := lab.Spec{Form: lab.FormSlash32, PodsPerHost: podsPerHost, WireMTU: wireMTU}
	for i := range r {
		r[i] = labtest.New(t, spec)
		for _, n := range r[i].Nodes() { // no limits: what comes must not depend on when
			if err := r[i].SetSysctl(n.Name, "net.ipv4.icmp_ratemask", "0"); err != nil {
				t.Fatal(err)
			}
		}
	}
	kernelForwards(t, r[0])
	(&world{Lab: r[1]}).daemons(t, "--proxy", "10.20.0.0/16")
	return r
}

// kernelForwards has the kernels of a lab's hosts do what proxyarpd would.
func kernelForwards(t *testing.T, l *lab.Lab) {
	t.Helper()
	set := func(host, key, value string) {
		t.Helper()
		if err := l.SetSysctl(host, key, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range l.Pods() {
		host := fmt.Sprintf("host%d", p.Host)
		set(host, "net/ipv4/conf/"+p.Iface+"/proxy_arp", "1")
		set(host, "net/ipv4/conf/"+p.Iface+"/rp_filter", "1")
		set(host, "net/ipv4/neigh/"+p.Iface+"/proxy_delay", "0")
	}
	for _, host := range []string{"host0", "host1"} {
		set(host, "net/ipv4/ip_forward", "1")
		run(t, l, host, "ip route add "+gateway+" dev "+uplink) // proxy_arp wants a way elsewhere
	}
}

// variable is what differs from one run of a client to the next: times, IDs,
// ports, sequence numbers, and who answers ARP.
var variable = regexp.MustCompile(`(?m)[\d.]+ ?ms|rtt .*|[Rr]ound-trip .*|\bM(ax|in) rtt.*|\bat \d{4}-\d\d-\d\d.*|in [\d.]+ seconds|\([\d.]+s\)` +
	`|\bid=\d+|\b(seq|port|win|expires)[= ]\d{2,}(sec)?|\d+ absolute|^\t\d+$|(\d\t)\d+$|:\d{4,5}\b|"(Last|Avg|Best|Wrst|StDev)": [\d.]+|\[[0-9A-F:]{17}\]`)

// constant is what a client says, without what is variable.
func constant(out string) string {
	return regexp.MustCompile(` {2,}`).ReplaceAllString(variable.ReplaceAllString(out, "_"), " ")
}

// same runs a command in one node of both labs, at once, and demands that what it
// prints is the same, that it ends alike, and that it says each of want.
func (r *routers) same(t *testing.T, node, line string, want ...string) {
	t.Helper()
	r.sameBut(t, node, line, func(out string) string { return out }, want...)
}

// sameBut is same for a client that prints some things by chance, which facts
// leaves out.
func (r *routers) sameBut(t *testing.T, node, line string, facts func(out string) string, want ...string) {
	t.Helper()
	missing := func(out string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(out, w) })
	}
	var said [2]string
	// Where the kernel does not make it in the time that the client waits, the machine is too busy for it.
	for try := 0; try == 0 || try < 5 && missing(said[0]); try++ {
		var wg sync.WaitGroup
		for i, l := range r {
			wg.Go(func() {
				out, errw, code := exec3(t, l, node, strings.Fields(line)[0], strings.Fields(line)[1:]...)
				said[i] = fmt.Sprintf("%s%sexit %d", out, errw, code)
			})
		}
		wg.Wait()
	}
	if facts(constant(said[0])) != facts(constant(said[1])) {
		t.Errorf("%s# %s\nthe kernel forwards:\n%s\nproxyarpd does:\n%s", node, line, said[0], said[1])
	}
	for _, w := range want {
		if !strings.Contains(said[1], w) {
			t.Errorf("%s# %s\nwant %q in\n%s", node, line, w, said[1])
		}
	}
}

// client is a pod of host0 and where it sends: a pod of the same host, one of
// the other, and beyond the uplink.
type client struct {
	routers
	node, addr        string // of the pod
	near, far, beyond string
	farNode           string
}

// TestClients has real clients measure the way through the kernel and through
// proxyarpd. Each has a pod of its own: what a pod has learnt of its paths stays.
func TestClients(t *testing.T) {
	names := []string{"ping", "traceroute", "tracepath", "mtr", "iperf3", "arping", "hping3", "nping"}
	tests := []func(*testing.T, *client){pingClient, tracerouteClient, tracepathClient, mtrClient, iperf3Client, arpingClient, hping3Client, npingClient}
	labtest.Need(t, "ip")
	r := makeRouters(t, len(names)+1)
	here, there := pods(r[0], 0), pods(r[0], 1)
	for i, name := range names {
		c := &client{r, here[i].Node, ip(here[i]), ip(here[len(names)]), ip(there[i]), host1IP, there[i].Node}
		t.Run(name, func(t *testing.T) {
			labtest.Need(t, name)
			t.Parallel()
			tests[i](t, c)
		})
	}
}

func pingClient(t *testing.T, c *client) {
	for _, to := range []string{c.near, c.far, c.beyond} {
		c.same(t, c.node, "ping -n -c1 -W2 -R "+to, "RR:", host0IP)
		c.same(t, c.node, "ping -n -c1 -W2 -T tsonly "+to, "TS:")
		c.same(t, c.node, "ping -n -c1 -W2 -T tsandaddr "+to, "TS:", host0IP)
		c.same(t, c.node, "ping -n -c1 -W2 -t 1 "+to, "From "+host0IP)
	}
	c.same(t, c.node, "ping -n -c1 -W2 -T tsprespec "+host0IP+" "+host1IP+" "+c.far, host1IP)
	c.same(t, c.node, "ping -n -c1 -W2 -t 2 "+c.far, "From "+host1IP)
	c.same(t, c.node, "ping -n -c1 -W2 -M dont -s 1400 "+c.far, "1408 bytes from")
	c.same(t, c.node, "ping -n -c1 -W2 -M do -s 1400 "+c.far, "From "+host0IP, "(mtu = 1280)")
	c.same(t, c.node, "ip route get "+c.far, "mtu 1280")
	c.same(t, c.node, "ping -n -c1 -W2 -M do -s 1400 "+c.far, "mtu=1280")
	c.same(t, c.node, "ping -n -c1 -W2 -M do -s 1252 "+c.far, "1260 bytes from")
	c.same(t, c.node, "ping -n -c1 -W2 -M do -s 1400 "+c.near, "1408 bytes from")
	c.same(t, c.node, "ping -n -c1 -W2 10.99.0.1", "Destination Net Unreachable")
}

func tracerouteClient(t *testing.T, c *client) {
	for _, how := range []string{"", "-U", "-I", "-T -p 80"} {
		for _, to := range []string{c.near, c.far, c.beyond} {
			c.same(t, c.node, "traceroute -n -q1 -w2 "+how+" "+to, " 1  "+host0IP, "  "+to)
		}
	}
	c.same(t, c.node, "traceroute -n -q1 -w2 -F "+c.far+" 1400", "!F-1280")
	c.same(t, c.node, "traceroute -n -q1 -w2 --mtu "+c.far, "F=1280", "  "+c.far)
	c.same(t, c.node, "traceroute -n -q1 -w2 10.99.0.1", "!N")
}

func tracepathClient(t *testing.T, c *client) {
	// A hop whose answer is later than the next question is told of twice.
	once := func(out string) string { return strings.Join(slices.Compact(strings.Split(out, "\n")), "\n") }
	c.sameBut(t, c.node, "tracepath -n "+c.near, once, "Resume: pmtu 1500 hops 2 back 2")
	c.sameBut(t, c.node, "tracepath -n "+c.far, once, "2:  "+host0IP, "pmtu 1280", "Resume: pmtu 1280 hops 3 back 3")
	c.sameBut(t, c.node, "tracepath -n "+c.beyond, once, "Resume: pmtu 1280 hops 2 back 2")
}

func mtrClient(t *testing.T, c *client) {
	for _, how := range []string{"", "--udp", "--tcp -P 80"} {
		c.same(t, c.node, "mtr -n -c 2 -i 0.1 -G 1 "+how+" --report --json "+c.far, host0IP, host1IP, c.far, `"Loss%": 0.0`)
	}
	c.same(t, c.node, "mtr -n -c 2 -i 0.1 -G 1 --udp --report --json "+c.beyond, host0IP, host1IP)
}

// iperf3Client fills the narrow wire in both directions: who sends learns its MTU.
func iperf3Client(t *testing.T, c *client) {
	for _, l := range c.routers {
		bulk(t, l, c, "-p 5201")
	}
	c.same(t, c.node, "ip route get "+c.far, "mtu 1280")
	for _, l := range c.routers {
		for _, family := range []string{"-4", "-6"} {
			run(t, l, c.node, "ip "+family+" route flush cache") // else its SYN says what it has learnt
		}
		bulk(t, l, c, "-p 5202 -R")
	}
	c.same(t, c.farNode, "ip route get "+c.addr, "mtu 1280")
}

// bulk runs iperf3 for a second, with a server of its own: one that goes on is
// away for a moment between two clients.
func bulk(t *testing.T, l *lab.Lab, c *client, how string) {
	t.Helper()
	spawn(t, l, c.farNode, "iperf3 -s -1 --forceflush "+strings.TrimSuffix(how, "-R")).await("Server listening")
	var got struct {
		End struct {
			Received struct{ Bytes int } `json:"sum_received"`
		}
	}
	out := run(t, l, c.node, "iperf3 -J -t 1 "+how+" -c "+c.far)
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.End.Received.Bytes < 1<<20 {
		t.Errorf("iperf3 %s: %v\n%s", how, err, out)
	}
}

func arpingClient(t *testing.T, c *client) {
	c.same(t, c.node, "arping -c2 -w3 -I eth0 "+gateway, "Received 2 response")
	for _, target := range []string{c.near, c.far} {
		c.same(t, c.node, "arping -c1 -w3 -I eth0 "+target, "Received 1 response")
	}
	for _, target := range []string{c.far, "10.20.1.250"} { // one that is routed, one that is not
		c.same(t, c.node, "arping -D -c1 -w1 -I eth0 "+target, "Received 0 response")
	}
	c.same(t, c.node, "arping -c1 -w1 -I eth0 10.20.1.250", "Received 0 response")
}

func hping3Client(t *testing.T, c *client) {
	for _, how := range []struct{ args, want string }{
		{"-S -p 80", "flags=RA"},
		{"-S -p 80 -t 1", "TTL 0 during transit from ip=" + host0IP},
		{"-S -p 80 -t 2", "TTL 0 during transit from ip=" + host1IP},
		{"-F -P -U -X -Y -p 80", "flags=RA"},
		{"-A -p 80", "flags=R "},
		{"-S -M 0 -L 0 -w 0 -p 0", "flags=RA"},
		{"-2 -p 9", "Port Unreachable from ip=" + c.far},
		{"-2 -p 9 -d 1400", "Port Unreachable from ip=" + c.far},
		{"-0 -H 99", "Protocol Unreachable from ip=" + c.far},
		{"-1", "icmp_seq=0"},
		{"-1 -G", host1IP},
		{"-S -p 80 -f -d 200", "flags=RA"},
		{"-S -p 80 -o 10", "flags=RA"},
		{"-1 -d 1400", "ip=" + c.far},
		{"-1 -d 1400 -y", "Fragmentation Needed/DF set from ip=" + host0IP},
	} {
		c.same(t, c.node, "hping3 -n -c 1 "+how.args+" "+c.far, how.want)
	}
	c.same(t, c.node, "hping3 -n -c 1 -S -p 80 "+c.beyond, "flags=RA")
	c.same(t, c.node, "hping3 -n -c 1 -1 -d 1400 -y "+c.beyond, "Fragmentation Needed/DF set from ip="+host0IP)
	c.same(t, c.node, "hping3 -n -c 1 -1 --lsrr "+host1IP+" "+c.far, "100% packet loss") // accept_source_route is 0
}

func npingClient(t *testing.T, c *client) {
	for _, how := range []struct{ args, want string }{
		{"--tcp -p 80 --ttl 1", "TTL=0 during transit"},
		{"--tcp -p 80 --flags fin,psh,urg,ece,cwr --data-length 100 --mtu 24", " RA "},
		{"--udp -p 9 --tos 0xb8", "Port unreachable"},
		{"--icmp --df --data-length 1400", "Next-Hop-MTU=1280"},
		{"--icmp --ip-options R", host1IP + " " + c.far},
	} {
		c.same(t, c.node, "nping -c 1 "+how.args+" "+c.far, how.want)
	}
}
