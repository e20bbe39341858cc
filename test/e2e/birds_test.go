package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// peering is how the BIRD of a host speaks to the other one: by a session on each wire.
// Routes that come by the session of the higher preference are taken; with equal ones
// both ways are.
type peering struct {
	host   int
	prefer [2]int // wire 1, wire 2
	// over6 has the sessions be over IPv6, on wire 1 between the hosts' addresses, on
	// wire 2 between these link-local ones, and bear the routes of both families: IPv4
	// by IPv6 next hops (RFC 8950).
	over6     bool
	linkLocal [2]string
	pods      []lab.Pod // that have routes of their own
}

func (p *peering) config() string {
	as := [2]int{32, 16}
	local, remote := as[p.host], as[1-p.host]
	var b strings.Builder
	fmt.Fprintf(&b, `log stderr all;
router id 192.168.1.%d;
protocol device { scan time 60; }
filter kept { if source = RTS_BGP || dest = RTD_BLACKHOLE then accept; reject; }
`, local)
	channel := func(family, more string, preference int) {
		fmt.Fprintf(&b, "  %s { import filter { bgp_local_pref = %d; accept; }; export where source = RTS_STATIC; next hop self; %s };\n", family, preference, more)
	}
	families := []string{"ipv4"}
	if p.over6 {
		families = append(families, "ipv6")
	}
	for _, family := range families {
		block := map[string]string{"ipv4": "10.65.%d.0/24", "ipv6": "fd00:10:65:%d::/64"}[family]
		fmt.Fprintf(&b, "protocol kernel { scan time 60; merge paths on; %s { import none; export filter kept; }; }\n", family)
		fmt.Fprintf(&b, "protocol static blocks%[1]s { %[1]s; route %[2]s blackhole; }\n", family, fmt.Sprintf(block, p.host))
		fmt.Fprintf(&b, "protocol static pods%[1]s { %[1]s;", family)
		for _, pod := range p.pods {
			address := pod.Addr
			if family == "ipv6" {
				address = pod.Addr6
			}
			fmt.Fprintf(&b, " route %s via \"%s\";", address, pod.Iface)
		}
		b.WriteString(" }\n")
	}
	for i, preference := range p.prefer {
		fmt.Fprintf(&b, "protocol bgp wire%d {\n", i+1)
		switch {
		case !p.over6:
			fmt.Fprintf(&b, "  local 192.168.%[1]d.%[2]d as 64512; neighbor 192.168.%[1]d.%[3]d as 64512;\n", i+1, local, remote)
		case i == 0:
			fmt.Fprintf(&b, "  local %s as 64512; neighbor %s as 64512;\n", []string{host0IP6, host1IP6}[p.host], []string{host0IP6, host1IP6}[1-p.host])
		default:
			fmt.Fprintf(&b, "  local %s as 64512; neighbor %s%%%s as 64512;\n", p.linkLocal[p.host], p.linkLocal[1-p.host], second)
		}
		b.WriteString("  direct; connect delay time 1; connect retry time 1; error wait time 1, 1;\n")
		if p.over6 {
			channel("ipv6", "", preference)
			channel("ipv4", "extended next hop on;", preference)
		} else {
			channel("ipv4", "", preference)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// bird is a running BIRD.
type bird struct {
	*program
	l    *lab.Lab
	node string
	dir  string
	peering
}

// birds starts the hosts' BIRDs, which speak to each other as peering says.
func birds(t testing.TB, l *lab.Lab, all peering) (b [2]*bird) {
	t.Helper()
	for host := range b {
		p := all
		p.host, p.pods = host, nil
		if all.over6 {
			p.pods = pods(l, host)
		}
		b[host] = startBird(t, l, p)
	}
	return b
}

func startBird(t testing.TB, l *lab.Lab, p peering) *bird {
	t.Helper()
	labtest.Need(t, "bird", "birdc")
	dir, err := os.MkdirTemp("", "bird") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bird{l: l, node: fmt.Sprintf("host%d", p.host), dir: dir, peering: p}
	b.write(t)
	b.program = spawn(t, l, b.node, fmt.Sprintf("bird -f -c %[1]s/conf -s %[1]s/ctl -P %[1]s/pid", dir))
	b.await("Started")
	return b
}

func (b *bird) write(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, "conf"), []byte(b.config()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// configure has it prefer other ways.
func (b *bird) configure(wire1, wire2 int) {
	b.t.Helper()
	b.prefer = [2]int{wire1, wire2}
	b.write(b.t)
	b.birdc("configure")
}

func (b *bird) birdc(command string) string {
	b.t.Helper()
	out := run(b.t, b.l, b.node, "birdc -s "+b.dir+"/ctl "+command)
	if strings.Contains(out, "error") {
		b.t.Fatalf("birdc %s: %s", command, out)
	}
	return out
}

// established waits until both sessions of a BIRD are.
func (b *bird) established() {
	b.t.Helper()
	await(b.t, "both sessions of "+b.node, func() bool { return strings.Count(b.birdc("show protocols"), "Established") == 2 })
}
