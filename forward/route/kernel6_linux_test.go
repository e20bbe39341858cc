package route

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// kernelHost is a random host with IPv6, as commands of ip(8) for the kernel, and as
// a Builder is told of it.
type kernelHost struct {
	rng      *rand.Rand
	commands []string
	b        *Builder
	routes   map[tableKey6][]Route // by table and destination
}

type tableKey6 struct {
	table  uint32
	prefix netip.Prefix
}

const kernelLinks, firstLink, blackholeID = 3, 100, 999_999

var (
	kernelPrefixes = parsed(netip.MustParsePrefix, "::/0", "2000::/3", "fc00::/7", "fd00::/8", "fd00:0:0:8000::/49", "fd00::/32", "fd00:0:0:1::/64",
		"fd00:0:0:1::/113", "fd00:0:0:1::4/126", "fd00:0:0:1::1/128", "fd00:0:0:1::2/128", "fd00:0:0:2::/64", "fd00:0:0:2::1/128", "fd00:0:0:8001::9/128")
	kernelAddrs = parsed(netip.MustParseAddr, "fd00:0:0:1::1", "fd00:0:0:1::2", "fd00:0:0:1::5", "fd00:0:0:1::8001", "fd00:0:0:2::1", "fd00:0:0:2::7",
		"fd00:0:0:8001::9", "fd00:0:0:9000::1", "fd00:1::1", "2001:db8::1", "4000::1", "fd77::1")
	kernelSources = parsed(netip.MustParsePrefix, "fd00::/8", "fd00:0:0:1::/64", "fd00:0:0:1::1/128", "2000::/3")
)

func parsed[T any](parse func(string) T, all ...string) (out []T) {
	for _, s := range all {
		out = append(out, parse(s))
	}
	return out
}

func (h *kernelHost) ip(format string, args ...any) {
	h.commands = append(h.commands, fmt.Sprintf(format, args...))
}

func (h *kernelHost) oneIn(n int) bool { return h.rng.IntN(n) == 0 }

func oneOf[T any](h *kernelHost, all ...T) T { return all[h.rng.IntN(len(all))] }

// device is an interface of the host, by its index: a, b, c. Their peers' are others.
func device(index int32) string { return string(rune('a' + index - firstLink)) }

// TestKernelRoutes6 asks the kernel, by RTM_GETROUTE, for the ways of packets that a
// router forwards, and compares: random tables and rules, metrics, preferences,
// sources, multipath routes and nexthop objects.
func TestKernelRoutes6(t *testing.T) {
	nstest.Need(t, "ip")
	seed := uint64(time.Now().UnixNano())
	for world := range 12 {
		t.Run(fmt.Sprint(world), func(t *testing.T) {
			nstest.Enter(t)
			t.Logf("seed %d", seed+uint64(world))
			h := &kernelHost{rng: rand.New(rand.NewPCG(seed+uint64(world), 0)), b: NewBuilder(Policy{IPv6: true, Transit: true}), routes: map[tableKey6][]Route{}}
			h.make(t)
			h.compare(t)
		})
	}
}

func (h *kernelHost) make(t *testing.T) {
	conf := DefaultHostConf
	conf.HashSeed, conf.V6.HashPolicy = h.rng.Uint32()>>1, uint8(h.rng.IntN(2))
	for path, value := range map[string]any{"ipv4/fib_multipath_hash_seed": conf.HashSeed, "ipv6/fib_multipath_hash_policy": conf.V6.HashPolicy} {
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(fmt.Sprint(value)), 0); err != nil {
			nstest.Skip(t, "settings of a network namespace: %v", err)
		}
	}
	h.b.SetHost(conf)
	h.links(t)
	own := netip.MustParsePrefix("fd77::1/128")
	h.ip("address add %v dev a nodad", own)
	h.routes[tableKey6{TableLocal, own}] = []Route{{Type: TypeLocal, Dev: firstLink}}
	h.routes[tableKey6{TableMain, own}] = []Route{{Type: TypeUnicast, Dev: firstLink, Metric: 256, Nexthops: []Nexthop{{Ifindex: firstLink, Weight: 1}}}}
	for range 4 + h.rng.IntN(14) {
		h.destination(oneOf(h, uint32(TableMain), TableMain, TableMain, 100, 200, TableDefault), oneOf(h, kernelPrefixes...))
	}
	h.rules()
	rules := slices.IndexFunc(h.commands, func(c string) bool { return strings.HasPrefix(c, "rule") })
	if rules < 0 {
		rules = len(h.commands)
	}
	h.run(t, "-6", []string{"link set lo up", fmt.Sprintf("nexthop add id %d blackhole", blackholeID)})
	h.run(t, "-batch", h.commands[:rules]) // groups of nexthops have no family
	for deadline := time.Now().Add(10 * time.Second); ; {
		if got, err := kernelRoute(own.Addr(), own.Addr(), firstLink, 0, 0, [2]uint16{}); got == "local table 255" {
			break
		} else if err != nil || time.Now().After(deadline) {
			t.Fatalf("the kernel adds no route to %v: %s, %v", own, got, err)
		}
	}
	h.run(t, "-6", h.commands[rules:])
	for at, routes := range h.routes {
		for i := range routes {
			routes[i].Table = at.table
		}
		h.b.SetRoutes(at.table, at.prefix, routes)
	}
}

func (h *kernelHost) run(t *testing.T, option string, commands []string) {
	t.Helper()
	cmd := exec.Command("ip", option, "-batch", "-")
	if option == "-batch" {
		cmd = exec.Command("ip", option, "-")
	}
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, strings.Join(commands, "\n"))
	}
}

// destination draws the routes of a table to a prefix, in the kernel's order: that of
// metrics, and within one that in which they are added.
func (h *kernelHost) destination(table uint32, prefix netip.Prefix) {
	at := tableKey6{table, prefix}
	if h.routes[at] != nil {
		return
	}
	froms := []netip.Prefix{{}}
	if h.oneIn(4) {
		froms = append(froms, oneOf(h, kernelSources...))
	}
	if h.oneIn(3) {
		froms = froms[len(froms)-1:]
	}
	var all []Route
	for _, from := range froms {
		for _, metric := range [][]uint32{{7}, {7, 9}, {1, 1024}}[h.rng.IntN(3)] {
			all = append(all, h.metric(at, from, metric)...)
		}
	}
	h.routes[at] = all
}

// metric draws the routes of one metric: at most one that is no multipath route's and one
// that is.
func (h *kernelHost) metric(at tableKey6, from netip.Prefix, metric uint32) (all []Route) {
	add := func(typ string, r Route, how string) {
		source := ""
		if r.Metric, r.From = metric, from; from.IsValid() {
			source = fmt.Sprint(" from ", from)
		}
		h.ip("route append %s %v%s table %d metric %d %s", typ, at.prefix, source, at.table, metric, how)
		all = append(all, r)
	}
	if h.oneIn(3) {
		var r Route
		how := h.gateways(&r, !from.IsValid() && h.oneIn(3)) // the kernel has no objects with sources
		add("unicast", r, how)
	}
	if !from.IsValid() && h.oneIn(12) {
		add("unicast", Route{Type: TypeBlackhole, Object: true, Dev: 1}, fmt.Sprintf("nhid %d", blackholeID))
	}
	for range h.rng.IntN(3) {
		if h.oneIn(4) {
			r := Route{Type: oneOf(h, TypeBlackhole, TypeUnreachable, TypeProhibit, TypeThrow), Dev: 1}
			add(r.Type.String(), r, "")
			return all
		}
		index := firstLink + h.rng.Int32N(kernelLinks)
		if slices.ContainsFunc(all, func(r Route) bool { return len(r.Nexthops) == 1 && r.Dev == index }) {
			continue
		}
		r := Route{Type: TypeUnicast, Dev: index, Pref: oneOf(h, PrefMedium, PrefMedium, PrefLow, PrefHigh), Nexthops: []Nexthop{{Ifindex: index, Weight: 1}}}
		add("unicast", r, fmt.Sprintf("dev %s pref %s", device(index), map[Pref]string{PrefMedium: "medium", PrefLow: "low", PrefHigh: "high"}[r.Pref]))
	}
	return all
}

// gateways draws next hops that have gateways: a route, a multipath route, or a nexthop
// object.
func (h *kernelHost) gateways(r *Route, object bool) (how string) {
	r.Type = TypeUnicast
	n := 1 + h.rng.IntN(4)
	var ids []string
	for i := range n {
		nh := Nexthop{Ifindex: firstLink + h.rng.Int32N(kernelLinks), Weight: 1 + h.rng.IntN(3), Gateway: netip.MustParseAddr(fmt.Sprintf("fe80::%x", 16+i))}
		r.Nexthops = append(r.Nexthops, nh)
		switch id := len(h.commands) + 1000*i; {
		case object:
			h.ip("nexthop add id %d via %v dev %s", id, nh.Gateway, device(nh.Ifindex))
			ids = append(ids, fmt.Sprintf("%d,%d", id, nh.Weight))
		case n == 1:
			how = fmt.Sprintf("via %v dev %s", nh.Gateway, device(nh.Ifindex))
		default:
			how += fmt.Sprintf(" nexthop via %v dev %s weight %d", nh.Gateway, device(nh.Ifindex), nh.Weight)
		}
	}
	if r.Dev, r.Object = r.Nexthops[0].Ifindex, object; object {
		id := 100000 + len(h.commands)
		h.ip("nexthop add id %d group %s", id, strings.Join(ids, "/"))
		how = fmt.Sprintf("nhid %d", id)
	}
	return how
}

func (h *kernelHost) rules() {
	rules := []Rule{{Action: RuleToTable, Table: TableLocal, SuppressPrefixLen: -1}, {Priority: 32766, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}}
	for i := range uint32(h.rng.IntN(6)) {
		r := Rule{Priority: 10 + i, Action: RuleToTable, Table: oneOf(h, uint32(TableMain), 100, 200, TableDefault, 300), SuppressPrefixLen: -1, Invert: h.oneIn(5)}
		var s strings.Builder
		fmt.Fprintf(&s, "rule add pref %d", r.Priority)
		if r.Invert {
			s.WriteString(" not")
		}
		if h.oneIn(3) {
			r.From = oneOf(h, kernelSources...)
			fmt.Fprintf(&s, " from %v", r.From)
		}
		if h.oneIn(3) {
			r.To = oneOf(h, kernelPrefixes[1:]...)
			fmt.Fprintf(&s, " to %v", r.To)
		}
		if h.oneIn(4) {
			r.IIF = oneOf(h, "a", "b", "lo", "none")
			fmt.Fprintf(&s, " iif %s", r.IIF)
		}
		if h.oneIn(4) {
			r.TOS = oneOf[uint8](h, 4, 0x10, 0xe0)
			fmt.Fprintf(&s, " tos %#x", r.TOS)
		}
		if h.oneIn(4) {
			r.Proto = oneOf[uint8](h, wire.ProtoUDP, wire.ProtoTCP)
			fmt.Fprintf(&s, " ipproto %d", r.Proto)
		}
		if h.oneIn(4) {
			r.DPort = PortMatch{Low: 1000, High: 2000}
			s.WriteString(" dport 1000-2000")
		}
		switch h.rng.IntN(8) {
		case 0:
			r.Action = oneOf(h, RuleBlackhole, RuleUnreachable, RuleProhibit)
			fmt.Fprintf(&s, " type %v", r.Action)
		case 1:
			r.Action, r.Goto = RuleGoto, r.Priority+1+h.rng.Uint32N(3)
			fmt.Fprintf(&s, " goto %d", r.Goto)
		default:
			fmt.Fprintf(&s, " table %d", r.Table)
			if h.oneIn(4) {
				r.SuppressPrefixLen = oneOf(h, 0, 8, 64)
				fmt.Fprintf(&s, " suppress_prefixlength %d", r.SuppressPrefixLen)
			}
		}
		h.ip("%s", s.String())
		rules = append(rules, r)
	}
	if len(rules) > 2 && h.oneIn(4) { // the kernel notices the lack of it if there was ever another rule
		h.ip("rule del pref 32766")
		rules = slices.Delete(rules, 1, 2)
	}
	h.b.SetRules(IPv6, rules)
}

func (h *kernelHost) compare(t *testing.T) {
	table := h.b.Publish()
	counts := map[Verdict]int{}
	for range 300 {
		src, dst := oneOf(h, kernelAddrs...), oneOf(h, kernelAddrs...)
		in := firstLink + h.rng.Int32N(kernelLinks)
		class, label := oneOf[uint8](h, 0, 4, 0x10, 0xe0, 0xe1), h.rng.Uint32N(2)*h.rng.Uint32N(1<<20)
		ports := [2]uint16{uint16(h.rng.Uint32()), oneOf[uint16](h, 999, 1000, 1500, 2001)}
		ip := make([]byte, wire.IPv6Len+8)
		wire.PutIPv6(ip, class, label, 8, wire.ProtoUDP, 64, src.As16(), dst.As16())
		binary.BigEndian.PutUint16(ip[40:], ports[0])
		binary.BigEndian.PutUint16(ip[42:], ports[1])
		var d Decision
		table.Decide6(ip, len(ip), table.Link(in), &d)
		counts[d.Verdict]++
		want, err := kernelRoute(src, dst, in, class, label, ports)
		if err != nil {
			t.Fatal(err)
		}
		if got := says(&d); got != want {
			t.Errorf("%v > %v iif %s class %#x label %#x ports %v: %s, the kernel: %s\n%+v\n%s", src, dst, device(in), class, label, ports, got, want, d, strings.Join(h.commands, "\n"))
			return
		}
	}
	t.Log(counts)
}

// says puts a decision in the words of kernelRoute.
func says(d *Decision) string {
	switch {
	case d.Route == nil || d.Route == ruleUnreachable:
		return unix.ENETUNREACH.Error()
	case d.Route.Type == TypeUnreachable:
		return unix.EHOSTUNREACH.Error()
	case d.Route.Type == TypeProhibit:
		return unix.EACCES.Error()
	case d.Route.Type == TypeBlackhole:
		return unix.EINVAL.Error()
	case d.Nexthop == nil:
		return fmt.Sprintf("%v table %d", d.Route.Type, d.Route.Table)
	}
	return fmt.Sprintf("%v table %d dev %d via %v", d.Route.Type, d.Route.Table, d.Nexthop.Ifindex, d.Next)
}
