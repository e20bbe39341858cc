package capture

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// live is a lab in which tcpdump and the command look at the same frames.
type live struct {
	*world // daemon is nil without one
	pod    *injector
	tun    func([]byte)
	none   string // a control socket where nobody listens
}

// startLive makes host0 with its pods and a tunnel, with a daemon or without.
func startLive(t *testing.T, daemon bool) *live {
	t.Helper()
	labtest.Need(t, "ip", "ping", "tcpdump")
	l := &live{world: &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1})}, none: filepath.Join(t.TempDir(), "none")}
	l.world.pod, l.sibling = l.Pods()[0], l.Pods()[1]
	if err := l.Do("host0", func() error {
		_, l.tun = nstest.Tun(t, tunnel)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, l.Lab, "host0", "ip", "route", "add", "198.51.100.0/24", "dev", tunnel)
	labtest.Run(t, l.Lab, "host0", "ip", "route", "add", silent, "dev", l.sibling.Iface)
	labtest.Run(t, l.Lab, "host0", "ip", "neigh", "add", silent, "lladdr", l.sibling.PeerMAC, "dev", l.sibling.Iface, "nud", "permanent")
	if daemon {
		l.daemon = labtest.Daemon(t, l.Lab, "host0")
	}
	l.pod = inject(t, l.Lab, l.world.pod.Node, l.world.pod.Peer)
	// What is sent to the pod waits for nothing.
	labtest.Run(t, l.Lab, "host0", "ip", "neigh", "replace", ip(l.world.pod), "lladdr", l.world.pod.PeerMAC, "dev", l.world.pod.Iface, "nud", "permanent")
	return l
}

// ours starts the command on an interface of host0.
func (l *live) ours(t *testing.T, args ...string) *sniffer {
	t.Helper()
	s := l.launchOurs(t, args...)
	s.listens(t)
	return s
}

func (l *live) launchOurs(t *testing.T, args ...string) *sniffer {
	t.Helper()
	control := l.none
	if l.daemon != nil {
		control = l.daemon.Control
	}
	return launch(t, l.Lab, "host0", labtest.Binary(t), append([]string{"capture", "--control", control, "-lttB1024"}, args...)...)
}

// launchTheirs starts tcpdump.
func (l *live) launchTheirs(t *testing.T, args ...string) *sniffer {
	t.Helper()
	return launch(t, l.Lab, "host0", "tcpdump", append([]string{"-lttB8192", "--immediate-mode", "-Z", "root"}, args...)...)
}

var countsRE = regexp.MustCompile(`: (\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel`)

// settled waits until a tcpdump has printed all that its filter has let through:
// the filter is the kernel's, so all that it counts is printed.
func (s *sniffer) settled(t *testing.T) {
	t.Helper()
	for asked := 1; ; asked++ {
		s.cmd.Process.Signal(syscall.SIGUSR1)
		var m [][]string
		s.await(t, func(_, errw string) bool {
			m = countsRE.FindAllStringSubmatch(errw, -1)
			return len(m) >= asked
		})
		last := m[len(m)-1]
		if last[3] != "0" {
			t.Fatalf("%v: %s", s.cmd.Args, last[0])
		}
		if last[1] == last[2] {
			return
		}
	}
}

// traffic sends all frames, and then frames that mark the end of each way to a
// capture: by the host, by programs that forward, by the datapath, by the responder.
func (l *live) traffic(t *testing.T, sentinel *sniffer, stacked bool) {
	t.Helper()
	for _, f := range ethernetFrames(t, l.world) {
		if stacked || binary.BigEndian.Uint16(f[12:]) != 0x88a8 {
			l.pod.send(t, f)
		}
	}
	for _, p := range rawPackets(l.world) {
		l.tun(p)
	}
	own, host := mac(t, l.world.pod.PeerMAC), mac(t, "ee:ee:ee:ee:ee:ee")
	l.pod.send(t, join(host, own, be16(0x88b6), []byte("the end")),
		join(host, own, be16(0x0800), ipv4(17, ip(l.world.pod), silent, udp(markPort, markPort, 0))),
		join(host, own, be16(0x0800), ipv4(17, ip(l.world.pod), "10.99.0.1", udp(markPort, markPort, 0))),
		join(mac(t, "ff:ff:ff:ff:ff:ff"), own, be16(0x0806), arp(1, own, "192.0.2.99", "169.254.1.1")))
	sentinel.awaitLine(t, `ethertype Unknown \(0x88b6\)`)
	if l.daemon != nil {
		sentinel.awaitLine(t, `\.4242: UDP, length 0 => forward from`)
		sentinel.awaitLine(t, `10\.99\.0\.1\.4242: UDP, length 0 => drop`)
		request := sentinel.awaitLine(t, `Request who-has 169\.254\.1\.1 tell 192\.0\.2\.99.* => answer`)
		sentinel.awaitLine(t, `Reply 169\.254\.1\.1 is-at .* => originate `+regexp.QuoteMeta(request[strings.LastIndex(request, "#"):])+`$`)
	} else {
		sentinel.awaitLine(t, `10\.99\.0\.1\.4242: UDP, length 0`)
		sentinel.awaitLine(t, `Request who-has 169\.254\.1\.1 tell 192\.0\.2\.99`)
	}
}

// record is what is printed of a packet.
type record struct{ text, verdict string }

var (
	stampRE   = regexp.MustCompile(`(?m)^(\d{10}\.\d{6,9}) `)
	verdictRE = regexp.MustCompile(`(?m) => (.*)$`)
	detailRE  = regexp.MustCompile(`(?m)^\t(?:(?:\w+ .*, )?took [\d.]+ us|rule .*, mtu \d+)$`) // what -v says of a verdict
)

// unprinted are frames whose payload tcpdump prints and the command does not.
var unprinted = regexp.MustCompile(`(?s)^(.*(?:dsap OSI|dsap IPX|Appletalk ARP)).*$`)

// records gives what was printed of packets of a time.
func records(out string, from, to time.Time) (all []record) {
	at := stampRE.FindAllStringSubmatchIndex(out, -1)
	for i, m := range at {
		seconds, err := strconv.ParseFloat(out[m[2]:m[3]], 64)
		if err != nil || seconds < float64(from.UnixNano())/1e9 || seconds > float64(to.UnixNano())/1e9 {
			continue
		}
		end := len(out)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		text := unprinted.ReplaceAllString(strings.TrimSpace(out[m[1]:end]), "$1")
		r := record{text: text}
		if v := verdictRE.FindStringSubmatch(text); v != nil {
			r = record{strings.TrimSpace(detailRE.ReplaceAllString(verdictRE.ReplaceAllString(text, ""), "")), v[1]}
		}
		if !strings.HasPrefix(r.verdict, "queue") {
			all = append(all, r)
		}
	}
	return all
}

// pastQdisc reports whether a packet left where only the daemon sees it.
func (r record) pastQdisc() bool {
	return strings.HasPrefix(r.verdict, "forward from") || strings.HasPrefix(r.verdict, "originate")
}

// same compares what both have printed: each packet as often, but for those that
// tcpdump can't see.
func same(ours, theirs []record) error {
	left := map[string]int{}
	for _, r := range theirs {
		left[r.text]++
	}
	var only []string
	for _, r := range ours {
		switch {
		case left[r.text] > 0:
			left[r.text]--
		case !r.pastQdisc():
			only = append(only, r.text+" => "+r.verdict)
		}
	}
	var missing []string
	for text, n := range left {
		for range n {
			missing = append(missing, text)
		}
	}
	if len(only)+len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("%d packets, tcpdump %d; ours alone:\n\t%s\ntcpdump's alone:\n\t%s", len(ours), len(theirs), strings.Join(only, "\n\t"), strings.Join(missing, "\n\t"))
}

// pair is what both are told besides the interface.
type pair struct{ ours, theirs []string }

func alike(args ...string) pair { return pair{args, args} }

// userland reports whether tcpdump's filter is not the kernel's alone, so that
// its counts do not tell when all has been printed.
func (p pair) userland() bool { return slices.Contains(p.theirs, "-Q") }

// compare runs both with each of some arguments, at the same time on the same
// interface, and gives how many packets they had.
func (l *live) compare(t *testing.T, iface string, cases []pair) (packets int) {
	t.Helper()
	together := 24
	if l.daemon != nil {
		together = 7 // sessions of a daemon, less the sentinel's
	}
	for batch := range slices.Chunk(cases, together) {
		var ours, theirs []*sniffer
		for _, p := range batch {
			common := []string{"-nns2048", "-i", iface} // else tcpdump's buffer is one of few packets
			theirs = append(theirs, l.launchTheirs(t, append(common, p.theirs...)...))
			ours = append(ours, l.launchOurs(t, append(common, p.ours...)...))
		}
		for i := range batch { // they wait for the kernel, most of all: together
			theirs[i].listens(t)
			ours[i].listens(t)
		}
		sentinel := l.ours(t, "-nnei", l.world.pod.Iface, "-i", l.sibling.Iface) // last: what it has been shown, so have they
		from := time.Now()
		l.traffic(t, sentinel, iface != "any") // where the kernel names another type than stands before the inner tag
		to := time.Now()
		sentinel.end(t)
		for i := range batch {
			ours[i].interrupt()
		}
		all := make([][]record, len(batch))
		for i, p := range batch {
			got, _ := ours[i].wait(t)
			g := records(got, from, to)
			all[i] = g
			if p.userland() {
				n := len(slices.DeleteFunc(slices.Clone(g), record.pastQdisc))
				theirs[i].await(t, func(out, _ string) bool { return len(records(out, from, to)) >= n })
			} else {
				theirs[i].settled(t)
			}
			theirs[i].interrupt()
		}
		for i, p := range batch {
			g := all[i]
			want, _ := theirs[i].wait(t)
			w := records(want, from, to)
			if err := same(g, w); err != nil {
				t.Errorf("-i %s %s: %v", iface, strings.Join(p.ours, " "), err)
			}
			packets += len(w)
		}
	}
	return packets
}

// expressions are of all that pcap-filter(7) has for Ethernet.
var expressions = strings.Split(strings.TrimSpace(`
arp
rarp
ip
ip6
icmp
icmp6
tcp
udp
sctp
igmp
igrp
pim
vrrp
ah
esp
not ip
not arp and not ip6
arp or icmp
vlan
vlan 10
vlan 10 and udp
vlan and vlan
not vlan
vlan 0
stp
llc
llc s
iso
netbeui
ipx
aarp
lat
mpls
mpls 100
mpls and mpls
pppoed
pppoes
pppoes 7 and ip
ether proto 0x88b5
ether proto \arp
ether src HOSTMAC
ether src PODMAC
ether dst ff:ff:ff:ff:ff:ff
ether host PODMAC and arp
broadcast
multicast
ether broadcast
ether multicast
ip broadcast
ip multicast
ip6 multicast
inbound
outbound
ifindex IFINDEX
ifindex 4094
host PODIP
src host PODIP
dst host SILENT
arp host 169.254.1.1
net 10.65.0.0/24
dst net 224.0.0.0/4
port 80
udp port 9998
tcp dst port 443
portrange 20-90
not port 9998
less 60
greater 1000
len = 60
len <= 64 and ip
ip proto 253
ip6 proto 17
proto \udp
ip[8] < 64
ip[6:2] & 0x1fff != 0
ip[1] & 0xfc = 0xb8
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
udp[4:2] > 100
icmp[icmptype] = icmp-echo
ether[12:2] = 0x0806
ether[0] & 1 = 1
ip and not udp and not tcp
udp and dst host SILENT and greater 100
icmp or arp or port 22
`), "\n")

func (l *live) expression(e string) string {
	return strings.NewReplacer("PODMAC", l.world.pod.PeerMAC, "HOSTMAC", "ee:ee:ee:ee:ee:ee", "PODIP", ip(l.world.pod), "SILENT", silent, "IFINDEX", strconv.Itoa(l.world.pod.Index)).Replace(e)
}

// taken is what tcpdump says of an expression for a kind of interface, by name and expression before it is filled in.
var taken sync.Map // [2]string -> func() taking

type taking struct {
	ok   bool
	says string
}

// takes reports whether tcpdump takes an expression for an interface of host0. It is asked once for all labs.
func (l *live) takes(t *testing.T, iface, expression string) (ok bool, says string) {
	t.Helper()
	ask, _ := taken.LoadOrStore([2]string{iface, expression}, sync.OnceValue(func() taking {
		out, _, code := labtest.Exec(t, l.Lab, "host0", "sh", "-c", `exec tcpdump -i "$0" -d -- "$1" 2>&1`, iface, l.expression(expression))
		lines := strings.Split(strings.TrimSpace(out), "\n")
		return taking{code == 0, strings.TrimPrefix(lines[len(lines)-1], "tcpdump: ")}
	}))
	v := ask.(func() taking)()
	return v.ok, v.says
}

// TestAsTcpdump: expression by expression and option by option, a live capture
// is tcpdump's on the same interface at the same time.
func TestAsTcpdump(t *testing.T) {
	for _, daemon := range []bool{false, true} {
		t.Run(map[bool]string{false: "without daemon", true: "with daemon"}[daemon], func(t *testing.T) {
			t.Parallel()
			l := startLive(t, daemon)
			for _, iface := range []string{l.world.pod.Iface, "any", tunnel} {
				cases := []pair{alike("-e")}
				for _, template := range expressions {
					e := l.expression(template)
					switch ok, says := l.takes(t, iface, template); {
					case iface == "any" && (!ok || otherOnAny.MatchString(e)):
					case !ok:
						l.refused(t, iface, e, says)
					default:
						cases = append(cases, l.pair(iface, e))
					}
				}
				for _, p := range printings {
					if iface != tunnel && (iface != "any" || !slices.Contains(p, "vlan")) {
						cases = append(cases, alike(p...))
					}
				}
				began := time.Now()
				n := l.compare(t, iface, cases)
				if t.Log(iface, len(cases), "captures,", n, "packets, in", time.Since(began)); n < 100 {
					t.Errorf("%s: %d packets are too few to compare", iface, n)
				}
			}
		})
	}
}

// otherOnAny are expressions that libpcap applies to the cooked header, and the
// command to the Ethernet header that is there: loads from it, and what 802.3
// frames have, of which libpcap finds none.
var otherOnAny = regexp.MustCompile(`ether\[|^(stp|iso|netbeui|ipx)$`)

// pair is an expression for both. On one interface libpcap drops the first
// packet that it selects by what the kernel knows beside the bytes; -Q says the
// same there.
func (l *live) pair(iface, e string) pair {
	p := alike("-e", e)
	if iface == "any" {
		return p
	}
	switch e {
	case "inbound":
		p.theirs = []string{"-e", "-Q", "in"}
	case "outbound":
		p.theirs = []string{"-e", "-Q", "out"}
	case l.expression("ifindex IFINDEX"):
		if p.theirs = []string{"-e"}; iface != l.world.pod.Iface {
			p = alike("-e", "less 1")
		}
	}
	return p
}

// printings are options of what is printed.
var printings = [][]string{
	{"ip"}, {"-q", "ip"}, {"-v", "icmp"}, {"-x", "udp", "port", "9998"}, {"-XX", "arp"}, {"-A", "tcp"}, {"-S", "tcp"}, {"-K", "udp"}, {"-s", "60", "-e", "udp"}, {"-s", "60", "vlan", "or", "greater", "1000"},
	{"-Q", "in", "ip"}, {"-Q", "out", "ip"}, {"-Q", "inout", "-e", "arp"}, {"-N", "ip"}, {"-T", "vxlan", "udp", "port", "9998"}, {"--nano", "icmp"},
}

// refused sees that the command refuses what tcpdump does, in its words.
func (l *live) refused(t *testing.T, iface, expression, says string) {
	t.Helper()
	control := l.none
	if l.daemon != nil {
		control = l.daemon.Control
	}
	out, err := l.Command(labtest.Soon(t), "host0", labtest.Binary(t), "capture", "--control", control, "-i", iface, expression).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "proxyarpd: capture: "+says) {
		t.Errorf("-i %s %s: %v\n%s; tcpdump says %q", iface, expression, err, out, says)
	}
}
