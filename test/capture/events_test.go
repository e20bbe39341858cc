package capture

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestTaggedARP: one frame is one line with one verdict, whatever its tag, and
// an untagged or priority-tagged request is answered.
func TestTaggedARP(t *testing.T) {
	t.Parallel()
	l := startLive(t, true)
	own, all := mac(t, l.world.pod.PeerMAC), mac(t, "ff:ff:ff:ff:ff:ff")
	host, other := mac(t, "ee:ee:ee:ee:ee:ee"), mac(t, "02:00:00:00:00:99")
	request := func(dst []byte, sender string, tags ...int) []byte {
		b := join(dst, own)
		for _, tci := range tags {
			b = join(b, be16(0x8100), be16(tci))
		}
		return join(b, be16(0x0806), arp(1, own, sender, "169.254.1.1"))
	}
	s := l.ours(t, "-eni", "any")
	l.pod.send(t, request(all, "10.65.0.101"), request(all, "10.65.0.102", 10), request(host, "10.65.0.103", 10), request(all, "10.65.0.104", 5<<13),
		request(host, "10.65.0.105"), request(all, "10.65.0.106", 10, 20), request(other, "10.65.0.107"), request(all, "10.65.0.108", 7<<13, 20), request(other, "10.65.0.109", 10))
	l.pod.send(t, request(all, "10.65.0.199"))
	s.awaitLine(t, `tell 10\.65\.0\.199`)
	s.awaitLine(t, `Reply 169\.254\.1\.1 .* => originate #`)
	out, _ := s.end(t)
	for sender, want := range map[string]string{
		"101": ` B   .* => answer is-at`, "102": ` B   .* => ignore vlan-tagged`, "103": ` In  .* => ignore vlan-tagged`, "104": ` B   .* => answer is-at`,
		"105": ` In  .* => answer is-at`, "106": `vlan 20.* => ignore vlan-tagged`, "107": ` P   .* => ignore OTHERHOST`, "109": ` P   .* => ignore vlan-tagged`, "108": `vlan 20.* => ignore (vlan-tagged|not-ip)`,
	} {
		lines := regexp.MustCompile(`(?m)^.*tell 10\.65\.0\.`+sender+`,.*$`).FindAllString(out, -1)
		if len(lines) != 1 || !regexp.MustCompile(want).MatchString(lines[0]) {
			t.Errorf("%s: want one line of %q:\n%s", sender, want, strings.Join(lines, "\n"))
		}
	}
	// On the interface itself a tag is shown as tcpdump shows it, that of a packet
	// that is forwarded in spite of it, too.
	s = l.ours(t, "-veni", l.world.pod.Iface, "udp")
	l.pod.send(t, join(host, own, be16(0x8100), be16(5<<13), be16(0x0800), ipv4(17, ip(l.world.pod), silent, udp(7, 7, 0))))
	s.awaitLine(t, `10\.65\.0\.200\.7: UDP`)
	out, _ = s.end(t)
	if !regexp.MustCompile(`ethertype 802\.1Q \(0x8100\), length 46: vlan 0, p 5, ethertype IPv4 .*\n.*\.7: UDP, length 0 => forward ` + l.sibling.Iface +
		` route 10\.65\.0\.200/32 #\d+\n\trule 32766, table main, .*ttl 64>63`).MatchString(out) {
		t.Errorf("a priority tag:\n%s", out)
	}
	s = l.ours(t, "-eni", l.world.pod.Iface, "arp")
	l.pod.send(t, request(all, "10.65.0.102", 10), request(all, "10.65.0.199"))
	s.awaitLine(t, `tell 10\.65\.0\.199`)
	out, _ = s.end(t)
	if lines := regexp.MustCompile(`(?m)^.*tell 10\.65\.0\.102,.*$`).FindAllString(out, -1); len(lines) != 1 ||
		!strings.Contains(lines[0], "ethertype 802.1Q (0x8100), length 46: vlan 10, p 0, ethertype ARP (0x0806), Request who-has 169.254.1.1 tell 10.65.0.102, length 28 => ignore vlan-tagged #") {
		t.Errorf("with its tag: %q", lines)
	}
}

// TestForeignARP: a request on an interface that is none of the daemon's is one
// line, too.
func TestForeignARP(t *testing.T) {
	t.Parallel()
	l := startLive(t, true)
	for _, args := range [][]string{{"link", "add", "other0", "type", "veth", "peer", "name", "other1"}, {"link", "set", "other0", "up"}, {"link", "set", "other1", "up"}} {
		labtest.Run(t, l.Lab, "host0", "ip", args...)
	}
	l.carries(t, "other1")
	from := inject(t, l.Lab, "host0", "other1")
	own := []byte{2, 0, 0, 0, 0, 1}
	s := l.ours(t, "-ni", "other0")
	for _, sender := range []string{"192.0.2.7", "192.0.2.8"} {
		from.send(t, join(mac(t, "ff:ff:ff:ff:ff:ff"), own, be16(0x0806), arp(1, own, sender, "192.0.2.1")))
	}
	s.awaitLine(t, `tell 192\.0\.2\.8`)
	if out, _ := s.end(t); strings.Count(out, "tell 192.0.2.7") != 1 {
		t.Errorf("not once:\n%s", out)
	}
}

// TestWait: a packet that waits for its next hop is one packet where events are
// not told apart; where they are, how its wait ended is told under the same
// number, at the time when it ended.
func TestWait(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "tcpdump")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1})}
	w.pod, w.sibling = w.Pods()[0], w.Pods()[1]
	labtest.Run(t, w.Lab, "host0", "ip", "route", "add", "10.65.0.201", "dev", w.sibling.Iface) // where nobody answers
	labtest.Run(t, w.Lab, "host0", "ip", "route", "add", "10.65.0.202", "dev", w.sibling.Iface)
	labtest.Run(t, w.Lab, "host0", "ip", "neigh", "replace", ip(w.pod), "lladdr", w.pod.PeerMAC, "dev", w.pod.Iface, "nud", "permanent")
	w.daemon = labtest.Daemon(t, w.Lab, "host0")
	from := inject(t, w.Lab, w.pod.Node, w.pod.Peer)
	dir := t.TempDir()
	plain := filepath.Join(dir, "x.pcap")
	events := w.capture(t, "-lttvni", "any", "udp or icmp")
	in := w.capture(t, "-lttni", w.pod.Iface, "udp or icmp")
	packets := w.capture(t, "-lttni", "any", "--verdict", "off", "udp or icmp")
	file := w.capture(t, "-ni", "any", "-w", plain, "udp or icmp")
	three := w.capture(t, "-lnc", "3", "-i", "any", "udp or icmp")
	summary := w.capture(t, "-ni", "any", "--summary", "--verdict", "json", "udp or icmp")
	drops := w.capture(t, "-lni", "any", "--drops", "--verdict", "off")
	to := func(dst string) []byte {
		return join(mac(t, "ee:ee:ee:ee:ee:ee"), mac(t, w.pod.PeerMAC), be16(0x0800), ipv4(17, ip(w.pod), dst, udp(7, 7, 0)))
	}
	from.send(t, to("10.65.0.201"), to("10.65.0.202"))
	events.awaitLine(t, `> 10\.65\.0\.202\.7: UDP, length 0 => queue `)
	labtest.Run(t, w.Lab, "host0", "ip", "neigh", "replace", "10.65.0.202", "lladdr", w.sibling.PeerMAC, "dev", w.sibling.Iface, "nud", "permanent")
	events.awaitLine(t, `host 10\.65\.0\.201 unreachable`)
	events.awaitLine(t, `> 10\.65\.0\.202\.7: UDP, length 0 => forward from `+w.pod.Iface)

	line := func(out, pattern string) string {
		t.Helper()
		found := regexp.MustCompile(`(?m)^.*`+pattern+`.*\n\t.*$`).FindAllString(out, -1)
		if len(found) != 1 {
			t.Fatalf("%d lines of %s in\n%s", len(found), pattern, out)
		}
		return found[0]
	}
	out, _ := events.end(t)
	queued, failed := line(out, `> 10\.65\.0\.201\.7: UDP, length 0 => queue `), line(out, `> 10\.65\.0\.201\.7: UDP, length 0 => drop NEIGH_FAILED `)
	for _, what := range []string{w.sibling.Iface + " nh 10.65.0.201 route 10.65.0.201/32 #", "\n\trule 32766, table main, "} {
		if !strings.Contains(queued, what) || !strings.Contains(failed, strings.Replace(what, " #", " icmp 3/1 #", 1)) {
			t.Errorf("no %q in\n%s\n%s", what, queued, failed)
		}
	}
	idOf := func(l string) string { return regexp.MustCompile(`#(\d+)`).FindString(l) }
	if idOf(queued) != idOf(failed) {
		t.Errorf("two numbers:\n%s\n%s", queued, failed)
	}
	sorted(t, out)
	out, _ = in.end(t)
	ended := regexp.MustCompile(`(?m)^.*202\.7: UDP, length 0 => (queue|forward) `+w.sibling.Iface+` .*$`).FindAllString(out, -1)
	if len(ended) != 2 || idOf(ended[0]) != idOf(ended[1]) || !strings.Contains(ended[0], "=> queue") || !strings.Contains(ended[1], "=> forward") {
		t.Errorf("on the interface alone: %q", ended)
	}
	sorted(t, out)

	// As it came, twice; as it left, and the error: four packets.
	each := func(what, out string) {
		t.Helper()
		if n := strings.Count(out, "> 10.65.0.201.7: UDP"); n != 1 || strings.Count(out, "> 10.65.0.202.7: UDP") != 2 || strings.Count(out, "unreachable") != 1 {
			t.Errorf("%s:\n%s", what, out)
		}
	}
	out, errw := packets.end(t)
	each("--verdict off", out)
	if sorted(t, out); !strings.Contains(errw, "\n4 packets captured\n4 packets received by filter\n") {
		t.Error(errw)
	}
	_, errw = file.end(t)
	each(".pcap", command(t, "tcpdump", "-nr", plain))
	if !strings.Contains(errw, "\n4 packets captured\n") {
		t.Error(errw)
	}
	out, errw = three.wait(t)
	if !strings.Contains(errw, "3 packets captured\n") || strings.Count(out, "=> queue") != 2 {
		t.Errorf("-c 3:\n%s%s", out, errw)
	}
	out, _ = summary.end(t)
	counted := map[string]float64{}
	for row := range strings.Lines(out) {
		var o struct {
			Packets            float64
			Direction, Verdict string
		}
		if err := json.Unmarshal([]byte(row), &o); err != nil {
			t.Fatalf("%v: %s", err, row)
		}
		counted[o.Direction+" "+o.Verdict] += o.Packets
	}
	if len(counted) != 4 || counted["in drop"] != 1 || counted["in forward"] != 1 || counted["out forward"] != 1 || counted["out originate"] != 1 {
		t.Errorf("--summary: %v\n%s", counted, out)
	}
	if out, errw = drops.end(t); strings.Count(out, "> 10.65.0.201.7: UDP") != 1 || !strings.Contains(errw, "\n1 packet captured\n") {
		t.Errorf("--drops:\n%s%s", out, errw)
	}
}

// sorted sees that times do not go back.
func sorted(t *testing.T, out string) {
	t.Helper()
	last := ""
	for _, m := range stampRE.FindAllStringSubmatch(out, -1) {
		if m[1] < last {
			t.Errorf("%s after %s:\n%s", m[1], last, out)
		}
		last = m[1]
	}
}
