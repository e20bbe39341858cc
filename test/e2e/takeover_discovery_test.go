package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// TestTakeoverDiscovery: over reloads and take-overs each request and solicitation has
// one answer, of some hundred a second: of a pod for its gateway, of its duplicate address
// detection for that, and of a station for a workload's address. No group is left, and
// nothing is announced that was. The engine is af_packet first, then ebpf, and af_packet again.
func TestTakeoverDiscovery(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	s.snoops(s.sw, "sw")
	s.route(0, true)
	s.route6(0, true)
	config := func(engine, more string) string {
		return fmt.Sprintf("engine: %s\nanswer-uplink: [%s, %s%s]\n", engine, lanCIDR, lanCIDR6, more)
	}
	c := startConfigured(t, s.Lab, "host0", config("af_packet", ""))
	s.d = append(s.d, c.Process)
	await(t, "both are announced", func() bool { return s.of(0, lanUplink).Sent == 2*arpd.AnnounceNum })
	const group = "port0 grp ff02::1:ff00:50"
	await(t, "the switch has the group", func() bool { return strings.Contains(run(t, s.Lab, s.sw, "bridge mdb show dev sw"), group) })
	groups := spawn(t, s.Lab, s.sw, "bridge monitor mdb")
	heard := [2]*station{listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_ARP), listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6)}

	pod := pods6(t, s.Lab, 0)[0]
	overflowed := nstest.BacklogDrops(t)
	var asks []*asker
	var names []string
	ask := func(name, node, dev string, protocol int, q func(*station) (frame []byte, is func(wire.Ethernet) bool)) {
		station := listen(t, s.Lab, node, dev, protocol)
		frame, is := q(station)
		asks, names = append(asks, startAskerOf(station, frame, is)), append(names, name)
	}
	solicits := func(target, from string) func(*station) ([]byte, func(wire.Ethernet) bool) {
		return func(s *station) ([]byte, func(wire.Ethernet) bool) {
			q := s.whoHas6(target, from)
			return q.frame(), q.isAnswer
		}
	}
	ask("gateway", pod.Node, "eth0", unix.ETH_P_IPV6, solicits(gateway6, ip(pod)))
	ask("duplicate address detection of the gateway", pod.Node, "eth0", unix.ETH_P_IPV6, solicits(gateway6, ""))
	ask("workload", s.station, lanUplink, unix.ETH_P_IPV6, solicits(lanPodIP6, lanHostIP6))
	ask("workload, ARP", s.station, lanUplink, unix.ETH_P_ARP, func(s *station) ([]byte, func(wire.Ethernet) bool) {
		return s.whoHas(lanPodIP, lanHostIP).frame(), func(f wire.Ethernet) bool {
			a := wire.ARP(f.Payload())
			return a.Op() == wire.ARPReply && a.SenderIP().String() == lanPodIP
		}
	})
	for i, step := range []string{"take-over", "SIGHUP", "take-over", "reload"} {
		switch step {
		case "take-over":
			next := c.Successor(t, "--config", c.file)
			if err := c.Wait(t); err != nil {
				t.Fatalf("taken over: %v\n%s\n%s", err, c.Stderr(), next.Stderr())
			}
			c.Process, s.d[0] = next, next
		case "reload":
			if out, errw, code := c.reload(config("af_packet", ", 2001:db8:99::/64")); code != 0 {
				t.Fatalf("reload: exit %d: %s%s", code, out, errw)
			}
		case "SIGHUP":
			c.write(config("ebpf", ""))
			reloads := func() (n int) {
				var st configStatus
				c.StatusJSON(t, &st)
				return st.Config.Reloads
			}
			before := reloads()
			if err := c.Cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			await(t, "the file is read", func() bool { return reloads() > before })
		}
		c.AwaitReady(t)
		if a := s.of(0, lanUplink); a != (announced{Held: 2, Taken: 2, Sent: 2 * arpd.AnnounceNum}) {
			t.Errorf("%s %d: %+v", step, i, a)
		}
		var st struct {
			ND struct {
				Groups int
				Joined int `json:"groups_joined"`
			}
		}
		if c.StatusJSON(t, &st); st.ND.Groups != st.ND.Joined || st.ND.Groups < 3 {
			t.Errorf("%s %d: %+v", step, i, st)
		}
	}
	for i, a := range asks {
		a.once(t, names[i], overflowed)
	}
	isNew := [2]func(wire.Ethernet) bool{
		func(f wire.Ethernet) bool { return isAnnouncement(f, lanPodIP) },
		func(f wire.Ethernet) bool { target, ok := advertised(f); return ok && target.String() == lanPodIP6 },
	}
	for i, h := range heard {
		if h.next(50*time.Millisecond, isNew[i]) != nil {
			t.Error("an address is announced again, that no station had lost")
		}
	}
	if out := groups.output(); strings.Contains(out, "ff00:50") {
		t.Errorf("the group was left, or joined anew:\n%s", out)
	}
	// A restart is a new beginning: another host may have had the address meanwhile.
	c.Stop(t)
	await(t, "the group is left", func() bool { return !strings.Contains(run(t, s.Lab, s.sw, "bridge mdb show dev sw"), group) })
	s.d[0] = labtest.Daemon(t, s.Lab, "host0", "--config", c.file)
	for i, h := range heard {
		if h.next(patience, isNew[i]) == nil {
			t.Error("it is not announced behind a restart")
		}
	}
	if mac := s.solicits(lanPodIP6); mac != macOf(t, s.Lab, "host0", lanUplink) {
		t.Errorf("%q answers", mac)
	}
}
