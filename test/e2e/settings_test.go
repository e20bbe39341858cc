package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// TestSettingsFollowed writes sysctls while the program runs. Those that the
// kernel tells of count at once, others in a few seconds or on SIGHUP.
func TestSettingsFollowed(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	d := w.d[0]
	set := func(key, value string) {
		t.Helper()
		if err := w.SetSysctl("host0", key, value); err != nil {
			t.Fatal(err)
		}
	}
	pod, to := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	sender := listen(t, w.Lab, pod.Node, "eth0", unix.ETH_P_IP)
	// expired is the TTL of the error about a packet whose own ran out.
	expired := func() byte {
		frame := datagram(mac(t, answerMAC), sender.mac, ip(pod), ip(to), 1, 18)
		p := wire.IPv4(frame[wire.EthernetLen:])
		p[8] = 1
		p.UpdateHeaderChecksum()
		sender.send(frame)
		f := sender.next(time.Second, func(f wire.Ethernet) bool {
			p := wire.IPv4(f.Payload())
			return p.Valid() && p.Protocol() == wire.ProtoICMP && p.Payload()[0] == wire.ICMPTimeExceeded
		})
		if f == nil {
			return 0
		}
		return wire.IPv4(f.Payload()).TTL()
	}
	set("net.ipv4.icmp_ratemask", "0")
	set("net.ipv4.ip_default_ttl", "99")
	await(t, "ip_default_ttl is read again", func() bool { return expired() == 99 })
	set("net.ipv4.ip_default_ttl", "33")
	hangup(t, d)
	if ttl := expired(); ttl != 33 {
		t.Errorf("after SIGHUP: ttl %d, want 33", ttl)
	}

	// What comes by the uplink from an address that is routed to a pod.
	uplinkMAC := mac(t, linkMAC(t, w.Lab, "host0", uplink))
	far := listen(t, w.Lab, "host1", uplink, unix.ETH_P_IP)
	spoof := func() uint64 {
		before := statusOf(t, d).Forward
		far.send(datagram(uplinkMAC, far.mac, ip(pod), ip(to), 1, 18))
		var after status
		await(t, "a spoofed packet is through", func() bool {
			after = statusOf(t, d)
			return after.Forward.PacketsIn > before.PacketsIn
		})
		return after.Forward.Drops["IP_RPFILTER"] - before.Drops["IP_RPFILTER"]
	}
	for _, which := range []string{uplink, "all"} {
		for _, value := range []uint64{1, 0} {
			set("net.ipv4.conf."+which+".rp_filter", fmt.Sprint(value))
			// A probe takes some 50 ms, and settings are read again every five seconds.
			const most = 10
			probes := 0
			await(t, fmt.Sprintf("%s.rp_filter=%d", which, value), func() bool { probes++; return spoof() == value })
			if probes > most {
				t.Errorf("%s.rp_filter=%d counts at probe %d, want %d at most", which, value, probes, most)
			}
		}
	}

	// A setting of a workload interface is read in its turn, or on SIGHUP.
	localnet := func() uint64 {
		before := statusOf(t, d).Forward
		sender.send(datagram(mac(t, answerMAC), sender.mac, "127.0.0.5", ip(to), 1, 18))
		var after status
		await(t, "a packet from 127/8 is through", func() bool {
			after = statusOf(t, d)
			return after.Forward.PacketsIn > before.PacketsIn
		})
		return after.Forward.Drops["IP_LOCALNET"] - before.Drops["IP_LOCALNET"]
	}
	if localnet() != 1 {
		t.Error("IP_LOCALNET is not counted")
	}
	set("net.ipv4.conf."+pod.Iface+".route_localnet", "1")
	hangup(t, d)
	if localnet() != 0 {
		t.Error("route_localnet=1 does not count")
	}
}

// hangup sends SIGHUP and waits until all settings have been read.
func hangup(t *testing.T, p *labtest.Process) {
	t.Helper()
	const done = "settings read again"
	before := strings.Count(p.Stderr(), done)
	if err := p.Cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(t, done, func() bool { return strings.Count(p.Stderr(), done) > before })
}
