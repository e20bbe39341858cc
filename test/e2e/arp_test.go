package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// arping is run by its real name: it gives the MAC that answered, and how many
// replies came.
func arping(t *testing.T, l *lab.Lab, node, args string) (mac string, replies, code int) {
	t.Helper()
	return arpingBy(t, l, node, "eth0", args)
}

// arpingBy is arping by an interface.
func arpingBy(t testing.TB, l *lab.Lab, node, name, args string) (mac string, replies, code int) {
	t.Helper()
	out, code := try(t, l, node, "arping -I "+name+" "+args)
	if m := regexp.MustCompile(`reply from \S+ \[(.*?)\]`).FindStringSubmatch(out); m != nil {
		mac = strings.ToLower(m[1])
	}
	m := regexp.MustCompile(`Received (\d+) response`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("%s# arping %s:\n%s", node, args, out)
	}
	replies, _ = strconv.Atoi(m[1])
	return mac, replies, code
}

func TestArping(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "arping", "ip")
	w := start(t, lab.Spec{PodsPerHost: 2}, "--gateway", gateway, "--gateway", "10.20.1.1")
	for _, c := range []struct {
		name, args    string
		mac           string
		replies, code int
	}{
		// The first request is broadcast, the next ones go to the MAC that answered.
		{"gateway, broadcast and unicast", "-c2 -w5 " + gateway, answerMAC, 2, 0},
		{"gateway, broadcast only", "-b -c2 -w5 " + gateway, answerMAC, 2, 0},
		{"second gateway", "-c1 -w3 10.20.1.1", answerMAC, 1, 0},
		{"proxied target on the other host", "-c1 -w3 10.20.1.3", answerMAC, 1, 0},
		{"proxied target on the same host", "-c1 -w3 10.20.1.4", answerMAC, 1, 0},
		{"target without route", "-c1 -w1 10.20.1.77", "", 0, 1},
		{"routed target that is not proxied", "-c1 -w1 10.20.2.1", "", 0, 1},
		// -D: exit 1 says that the address is in use.
		{"probe for a gateway", "-D -c1 -w3 " + gateway, answerMAC, 1, 1},
		{"probe for a proxied target", "-D -c1 -w1 10.20.1.3", "", 0, 0},
	} {
		mac, replies, code := arping(t, w.Lab, "ns0", c.args)
		if mac != c.mac || replies != c.replies || code != c.code {
			t.Errorf("%s: %q answers, %d replies, exit %d; want %q, %d, %d", c.name, mac, replies, code, c.mac, c.replies, c.code)
		}
	}
	// The host's own address is the kernel's to answer, also where --proxy covers it.
	if mac, replies, _ := arping(t, w.Lab, "ns0", "-b -c1 -w1 "+host0IP); mac != answerMAC || replies != 1 {
		t.Errorf("the host's address: %q answers %d times, want the device's MAC once", mac, replies)
	}
}

func TestOtherMAC(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "arping", "ip")
	const other = "02:00:5e:00:53:01"
	for _, keep := range []string{"--keep-mac=false", "--keep-mac"} {
		w := start(t, lab.Spec{}, "--mac", other, keep)
		if mac, _, _ := arping(t, w.Lab, "ns0", "-c1 -w3 "+gateway); mac != other {
			t.Errorf("%s: answer %q, want %q", keep, mac, other)
		}
		wantTTL(t, w.Lab, "ns0", "10.20.1.3", 62)
		wantTTL(t, w.Lab, "ns0", host0IP, 64)
		wantTTL(t, w.Lab, "host0", "10.20.1.2", 64)
		s := statusOf(t, w.d[0])
		if p := s.port("veth0"); p.Answers != other || (p.MAC == other) != (keep != "--keep-mac") {
			t.Errorf("%s: %+v", keep, p)
		}
	}
}

// TestARPVerdicts sends single frames. Each is followed by a request that is
// answered: that reply is the first to come, where the frame got none.
func TestARPVerdicts(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	w := start(t, lab.Spec{PodsPerHost: 2}, "--proxy", "10.20.9.0/24", "--proxy", "192.168.1.0/24")
	for _, route := range []string{"blackhole 10.20.9.1", "unreachable 10.20.9.2", "prohibit 10.20.9.3",
		"10.20.9.4 dev veth0", "10.20.9.5 via " + host1IP, "10.99.0.1 via " + host1IP} {
		run(t, w.Lab, "host0", "ip route add "+route)
	}
	// The program follows the kernel's events in order: the last route is known.
	pod := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
	isReply := func(f wire.Ethernet) bool { return wire.ARP(f.Payload()).Op() == wire.ARPReply }
	await(t, "10.20.9.5 is answered", func() bool {
		pod.send(pod.whoHas("10.20.9.5", "10.20.1.2").frame())
		return pod.next(100*time.Millisecond, isReply) != nil
	})
	for pod.next(100*time.Millisecond, isReply) != nil {
	}

	with := func(target string, f func(*arp)) []byte {
		a := pod.whoHas(target, "10.20.1.2")
		f(&a)
		return a.frame()
	}
	asIs := func(*arp) {}
	host := mac(t, answerMAC)
	foreign := wire.MAC{2, 0, 0, 0, 0, 9}
	for _, c := range []struct {
		name, verdict string
		frame         []byte
		answered      bool
	}{
		{"gateway", "answer", with(gateway, asIs), true},
		{"gateway, to the answered MAC", "answer", with(gateway, func(a *arp) { a.dst = host }), true},
		{"gateway, probe", "answer", with(gateway, func(a *arp) { a.spa = "0.0.0.0" }), true},
		{"gateway, padded", "answer", append(with(gateway, asIs), make([]byte, 18)...), true},
		{"proxied", "answer", with("10.20.1.3", asIs), true},
		{"the host's own", "local", with(host0IP, asIs), true},
		{"gateway, to another MAC", "OTHERHOST", with(gateway, func(a *arp) { a.dst = foreign }), false},
		{"proxied, probe", "arp-probe-dad", with("10.20.1.3", func(a *arp) { a.spa = "0.0.0.0" }), false},
		{"announcement", "gratuitous", with("10.20.1.2", asIs), false},
		{"proxied and the sender's own", "gratuitous", with("10.20.1.3", func(a *arp) { a.spa = "10.20.1.3" }), false},
		{"reply", "arp-reply", with(gateway, func(a *arp) { a.op = wire.ARPReply }), false},
		{"reverse request", "arp-operation", with(gateway, func(a *arp) { a.op = 3 }), false},
		{"no route", "arp-not-proxied", with("10.20.9.77", asIs), false},
		{"blackhole", "arp-not-proxied", with("10.20.9.1", asIs), false},
		{"unreachable", "arp-not-proxied", with("10.20.9.2", asIs), false},
		{"prohibit", "arp-not-proxied", with("10.20.9.3", asIs), false},
		{"routed back to the asker", "arp-not-proxied", with("10.20.9.4", asIs), false},
		{"routed, not in --proxy", "arp-not-proxied", with("10.99.0.1", asIs), false},
		{"multicast target", "IP_INVALID_DEST", with("224.0.0.5", asIs), false},
		{"loopback target", "IP_LOCALNET", with("127.0.0.1", asIs), false},
		{"sender's MAC is a group", "MAC_INVALID_SOURCE", with(gateway, func(a *arp) { a.sha = wire.Broadcast }), false},
		{"our own frame", "own-frame", with(gateway, func(a *arp) { a.src, a.sha = host, host }), false},
		{"cut off", "HDR_TRUNC", with(gateway, asIs)[:30], false},
		{"hardware length", "PARP_ARP_BADHDR", func() []byte { b := with(gateway, asIs); b[18] = 8; return b }(), false},
		{"tagged", "vlan-tagged", tag(with(gateway, asIs), 5), false},
	} {
		before := statusOf(t, w.d[0])
		pod.send(c.frame)
		fence := pod.whoHas(gateway, "10.20.1.2")
		fence.spa = "10.20.1.200" // comes back in the reply
		pod.send(fence.frame())
		replies := uint64(0)
		for {
			f := pod.next(patience, isReply)
			if f == nil {
				t.Fatalf("%s: not even the request behind it is answered", c.name)
			}
			a := wire.ARP(f.Payload())
			if a.TargetIP().String() == fence.spa {
				break
			}
			replies++
			if a.SenderMAC() != host || f.Src() != host || f.Dst() != pod.mac {
				t.Errorf("%s: reply of %s from %s to %s", c.name, a.SenderMAC(), f.Src(), f.Dst())
			}
		}
		if (replies == 1) != c.answered || replies > 1 {
			t.Errorf("%s: %d replies", c.name, replies)
		}
		await(t, c.name+": verdict "+c.verdict, func() bool {
			after := statusOf(t, w.d[0])
			b, a := before.port("veth0"), after.port("veth0")
			want := b.ARPVerdicts[c.verdict] + 1
			if c.verdict == "answer" {
				want++
			}
			got, sent := a.ARPVerdicts[c.verdict], a.ARPReplies-b.ARPReplies
			if got > want {
				t.Fatalf("%s: %s counted %d times", c.name, c.verdict, got-b.ARPVerdicts[c.verdict])
			}
			if c.verdict == "local" { // the reply was the kernel's
				sent++
			}
			return got == want && sent == replies+1
		})
	}
	s := statusOf(t, w.d[0])
	if p := s.port("veth0"); p.ARPRequests <= p.ARPReplies {
		t.Errorf("more replies than requests: %+v", p)
	}
}
