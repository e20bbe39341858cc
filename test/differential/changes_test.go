package differential

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// change is one that is made to both hosts alike.
type change struct {
	name    string
	ip      []string // for `ip -batch`
	sysctl  string   // key=value
	carrier string   // of up1: "up" or "down"
}

// gatewaysBack are neighbours that an interface forgets when it goes down.
var gatewaysBack = []string{
	"link set up0 up",
	"neigh replace 10.1.0.2 lladdr 02:70:00:00:00:02 dev up0 nud permanent",
	"neigh replace 10.1.0.3 lladdr 02:70:00:00:00:03 dev up0 nud permanent",
	"neigh replace 10.1.0.4 lladdr 02:70:00:00:00:04 dev up0 nud permanent",
}

// changes are made one after the other. What is said about 10.80.0.0/24 shows
// in what comes of the probes.
var changes = []change{
	{name: "a shorter prefix", ip: []string{"route add 10.80.0.0/16 via 10.1.0.2 dev up0"}},
	{name: "two metrics", ip: []string{"route add 10.80.0.0/24 via 10.2.0.2 dev up1 metric 10", "route add 10.80.0.0/24 via 10.1.0.3 dev up0 metric 20"}},
	{name: "the better is deleted", ip: []string{"route del 10.80.0.0/24 metric 10"}},
	{name: "the other is replaced", ip: []string{"route replace 10.80.0.0/24 via 10.2.0.2 dev up1 metric 20"}},
	{name: "a better one comes", ip: []string{"route add 10.80.0.0/24 via 10.1.0.4 dev up0 metric 10"}},
	{name: "one for a TOS", ip: []string{"route add prohibit 10.80.0.0/24 tos 0x10 metric 30"}},
	{name: "its device goes down", ip: []string{"link set up0 down"}},
	{name: "the device is back, its routes are not", ip: gatewaysBack},
	{name: "several next hops", ip: []string{"route replace 10.80.0.0/24 metric 5 nexthop via 10.1.0.2 dev up0 nexthop via 10.2.0.2 dev up1 weight 3"}},
	{name: "carrier will count", sysctl: "net/ipv4/conf/up1/ignore_routes_with_linkdown=1"},
	{name: "one has no carrier", carrier: "down"},
	{name: "no other way but a worse metric", ip: []string{"route del 10.80.0.0/24 metric 5",
		"route add 10.80.0.0/24 via 10.1.0.3 dev up0 metric 40"}},
	{name: "it has carrier again", carrier: "up"},
	{name: "one without a gateway", ip: []string{"route add 10.80.0.0/24 dev up0 scope link metric 3",
		"neigh add 10.80.0.7 lladdr 02:70:00:00:00:70 dev up0 nud permanent"}},
	{name: "and by a gateway beyond the subnets", ip: []string{"route replace 10.80.0.0/24 via 192.0.2.99 dev up1 onlink metric 3",
		"neigh add 192.0.2.99 lladdr 02:70:00:00:00:99 dev up1 nud permanent"}},
	{name: "a nexthop object", ip: []string{"nexthop add id 21 via 10.1.0.2 dev up0", "route replace 10.80.0.0/24 nhid 21 metric 3"}},
	{name: "is another", ip: []string{"nexthop replace id 21 via 10.1.0.4 dev up0"}},
	{name: "a group", ip: []string{"nexthop add id 22 via 10.2.0.2 dev up1", "nexthop add id 23 via 10.1.0.3 dev up0",
		"nexthop add id 30 group 21/22,4/23,2", "route replace 10.80.0.0/24 nhid 30 metric 3"}},
	{name: "a member is another", ip: []string{"nexthop replace id 22 via 10.2.0.12 dev up1",
		"neigh replace 10.2.0.12 lladdr 02:70:00:00:00:a9 dev up1 nud permanent"}},
	{name: "a member goes", ip: []string{"nexthop del id 23"}},
	{name: "the group is another", ip: []string{"nexthop add id 24 via 10.1.0.3 dev up0", "nexthop replace id 30 group 24,9/21"}},
	{name: "objects alone say where they lead", sysctl: "net/ipv4/nexthop_compat_mode=0"},
	{name: "the group is another then", ip: []string{"nexthop replace id 30 group 22/24,9"}},
	{name: "a member is another", ip: []string{"nexthop replace id 22 via 10.1.0.4 dev up0"}},
	{name: "a blackhole", ip: []string{"nexthop add id 40 blackhole", "route replace 10.80.0.0/24 nhid 40 metric 3"}},
	{name: "no blackhole any more", ip: []string{"nexthop replace id 40 via 10.1.0.2 dev up0"}},
	{name: "the object is gone", ip: []string{"nexthop del id 40"}},
	{name: "the group once more", ip: []string{"nexthop add id 25 via 10.2.0.2 dev up1", "nexthop replace id 30 group 25/24,9",
		"route add 10.80.0.0/24 nhid 30 metric 2"}},
	{name: "a member goes with its carrier", carrier: "down"},
	{name: "and does not come back", carrier: "up"},
	{name: "a device with objects goes down", ip: []string{"link set up0 down"}},
	{name: "and is back", ip: gatewaysBack},
	{name: "the last address goes", ip: []string{"addr flush dev up1"}},
}

// TestRouteChanges makes the same changes in both hosts and waits until they do
// the same.
func TestRouteChanges(t *testing.T) {
	t.Parallel()
	w := &world{name: "changes", sysctls: []string{"net/ipv4/fib_multipath_hash_seed=77"}}
	p := setUp(t, w)
	runtime.LockOSThread() // and the thread ends with the test
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	x := newExchange(p)
	if err := x.begin(); err != nil {
		t.Fatal(err)
	}
	for i, c := range changes {
		for _, h := range []*host{p.kernel, p.ours} {
			h.make(t, p, &c)
		}
		began := time.Now()
		var differ string
		for same := 0; same < 3; { // the news take a moment, on both sides
			if differ = x.probe(t, i); differ == "" {
				same++
				continue
			}
			if same = 0; time.Since(began) > patience {
				t.Fatalf("%s:\n%s%s", c.name, differ, p.daemon.Status(t, "-o", "json"))
			}
		}
		t.Logf("%-45s the same after %v", c.name, time.Since(began).Round(time.Millisecond))
	}
}

func (h *host) make(t *testing.T, p *pair, c *change) {
	t.Helper()
	if len(c.ip) > 0 {
		ipBatch(t, h.lab, strings.Join(c.ip, "\n"))
	}
	if key, value, ok := strings.Cut(c.sysctl, "="); ok {
		if err := h.lab.SetSysctl(node, key, value); err != nil {
			t.Fatal(err)
		}
	}
	if c.carrier != "" {
		ipBatch(t, p.far, fmt.Sprintf("link set %sup1 %s", h.name, c.carrier))
		h.awaitCarrier(t, c.carrier == "up")
	}
}

// awaitCarrier waits for the kernel's linkwatch, which may take a second.
func (h *host) awaitCarrier(t *testing.T, up bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		if state := labtest.Run(t, h.lab, node, "ip", "-br", "link", "show", "up1"); strings.Contains(state, " UP ") == up {
			return
		} else if time.Now().After(end) {
			t.Fatalf("carrier of up1: %s", state)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// probe sends datagrams of several flows, TOS and sizes to 10.80.0.0/24 through
// both hosts and tells what differs. Ports of up0 and up1 may be down: fences go
// from pod to pod.
func (x *exchange) probe(t *testing.T, seed int) string {
	t.Helper()
	var all []*result
	for n := range 24 {
		p := packet{port: pod0, src: addr{10, 72, byte(seed), byte(1 + x.next%250)}, dst: addr{10, 80, 0, byte(n)}, ttl: 64,
			proto: wire.ProtoUDP, l4: udp(uint16(5000+n), 9, nil), l4sum: 6, tos: byte(n%3) << 3}
		f := p.frame("probe", n)
		f.mark(x.marks(1))
		x.byID[f.ID] = &result{frame: f}
		all = append(all, x.byID[f.ID])
	}
	x.pass(t, x.p.kernel, all, func(r *result, o output) { r.kernel = append(r.kernel, o) })
	x.pass(t, x.p.ours, all, func(r *result, o output) { r.ours = append(r.ours, o) })
	var b strings.Builder
	for _, r := range all {
		if !r.equal() {
			b.WriteString(show(r, false))
		}
	}
	return b.String()
}

// pass is through with one fence; what is held back for the news of a route has
// come out when it has been waited for.
func (x *exchange) pass(t *testing.T, h *host, all []*result, got func(*result, output)) {
	t.Helper()
	for _, r := range all {
		if err := h.stations[pod0].send(append(r.frame.Vnet[:], r.frame.Bytes...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.stations[pod0].send(x.fence(pod0)); err != nil {
		t.Fatal(err)
	}
	for seen, end := 0, time.Now().Add(patience); seen == 0; {
		if time.Now().After(end) {
			t.Fatalf("no fence came through %s", h.name)
		}
		await(h.stations, time.Second)
		n, err := x.collect(h, got)
		if err != nil {
			t.Fatal(err)
		}
		seen += n
	}
	await(h.stations, time.Millisecond)
	if _, err := x.collect(h, got); err != nil {
		t.Fatal(err)
	}
}
