package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestBridgeUplink has the wire behind a bridge: the bridge is the uplink, its
// port is left alone, and no packet is handled twice.
func TestBridgeUplink(t *testing.T) {
	t.Parallel()
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 1})}
	for _, line := range []string{
		"ip link add br0 type bridge", "ip link set ens192 master br0", "ip link set br0 up",
		"ip addr del 192.168.1.32/24 dev ens192", "ip addr add 192.168.1.32/24 dev br0",
		"ip route add 10.65.1.0/24 via 192.168.1.16 dev br0",
	} {
		run(t, w.Lab, "host0", line)
	}
	w.daemons(t)
	from, to := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
	wantTTL(t, w.Lab, from.Node, ip(to), 62)
	wantTTL(t, w.Lab, to.Node, ip(from), 62)
	wantTTL(t, w.Lab, to.Node, host0IP, 63)
	s := statusOf(t, w.d[0])
	if s.port("br0") == nil || s.port(uplink) != nil {
		t.Errorf("ports %+v %+v, want br0 and not %s", s.Workloads, s.Uplinks, uplink)
	}
	if out := run(t, w.Lab, from.Node, "ping -n -c20 -i0.01 -W1 "+ip(to)); !strings.Contains(out, "20 received") || strings.Contains(out, "DUP") {
		t.Error(out)
	}
}

// TestVXLAN joins the hosts by a VXLAN device as Calico makes it: permanent
// neighbours, a MAC and a tunnel end for each other host, no learning. Over IPv4 and
// over IPv6 it carries packets of both families, and says what is too big for it.
func TestVXLAN(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "bridge", "iperf3", "tracepath")
	for _, c := range []struct {
		over string
		ends [2]string
		mtu  int // of the device, on a wire of 1500
		more string
	}{
		{"IPv4", [2]string{host0IP, host1IP}, 1450, ""},
		{"IPv6", [2]string{host0IP6, host1IP6}, 1430, " udp6zerocsumtx udp6zerocsumrx"},
	} {
		t.Run(c.over, func(t *testing.T) {
			t.Parallel()
			labtest.NeedIPv6(t)
			w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 1})}
			for host, own := range c.ends {
				node := fmt.Sprintf("host%d", host)
				mac := func(h int) string { return fmt.Sprintf("66:00:00:00:00:%02x", h) }
				run(t, w.Lab, node, "ip link add vxlan.calico address "+mac(host)+" type vxlan id 4096 dstport 4789 local "+own+" dev ens192 nolearning"+c.more)
				run(t, w.Lab, node, fmt.Sprintf("ip link set vxlan.calico mtu %d up", c.mtu))
				run(t, w.Lab, node, fmt.Sprintf("bridge fdb append %s dev vxlan.calico dst %s", mac(1-host), c.ends[1-host]))
				for _, family := range [][3]string{{"10.65.%d.255", "10.65.%d.0/24", "/32"}, {"fd00:10:65:%d::ff", "fd00:10:65:%d::/64", "/128"}} {
					address := func(h int) string { return fmt.Sprintf(family[0], h) }
					run(t, w.Lab, node, "ip addr add "+address(host)+family[2]+" dev vxlan.calico")
					run(t, w.Lab, node, "ip neigh add "+address(1-host)+" lladdr "+mac(1-host)+" dev vxlan.calico nud permanent")
					run(t, w.Lab, node, "ip route del "+fmt.Sprintf(family[1], 1-host)) // else its gateway would be sought there
					run(t, w.Lab, node, "ip route add "+fmt.Sprintf(family[1], 1-host)+" via "+address(1-host)+" dev vxlan.calico onlink")
				}
			}
			w.daemons(t)
			there := tcpdump(t, w.Lab, "host1", uplink, "-Q in udp port 4789")
			for _, inside := range w.families(t) {
				w.tunnelled(t, inside, c.mtu, "-n 20M")
			}
			if text := there.stop("-c 1"); !strings.Contains(text, "VXLAN") {
				t.Errorf("no VXLAN on the wire:\n%s", text)
			}
			for host, node := range []string{"host0", "host1"} {
				out := run(t, w.Lab, node, "ip neigh show dev vxlan.calico nud permanent")
				if strings.Count(out, fmt.Sprintf("66:00:00:00:00:%02x", 1-host)) != 2 {
					t.Errorf("%s: a permanent neighbour is gone: %s", node, out)
				}
			}
		})
	}
}

// pair are a pod of each host as a family sees them.
type pair struct{ from, to lab.Pod }

// families are the first pods of the hosts, by IPv4 and by IPv6.
func (w *world) families(t *testing.T) []pair {
	return []pair{{pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]}, {pods6(t, w.Lab, 0)[0], pods6(t, w.Lab, 1)[0]}}
}

// tunnelled sends through a tunnel between the hosts: who sends what is too big is told
// its MTU, and what fits arrives.
func (w *world) tunnelled(t *testing.T, p pair, mtu int, data string) {
	t.Helper()
	wantTTL(t, w.Lab, p.from.Node, ip(p.to), 62)
	wantTTL(t, w.Lab, p.to.Node, ip(p.from), 62)
	header, says := 28, "Frag needed and DF set (mtu = %d)"
	if p.to.Addr.Addr().Is6() {
		header, says = 48, "Packet too big: mtu=%d"
	}
	out, _ := try(t, w.Lab, p.from.Node, fmt.Sprintf("ping -n -c1 -W1 -M do -s %d %s", 1500-header, ip(p.to)))
	if want := fmt.Sprintf(says, mtu); !strings.Contains(out, want) {
		t.Errorf("want %q:\n%s", want, out)
	}
	ping(t, w.Lab, p.from.Node, ip(p.to), "-M", "do", "-s", fmt.Sprint(mtu-header)) // this fits exactly
	if out := run(t, w.Lab, p.from.Node, "tracepath -n "+ip(p.to)); !strings.Contains(out, fmt.Sprintf("Resume: pmtu %d hops 3 back 3", mtu)) {
		t.Errorf("tracepath:\n%s", out)
	}
	transfer(t, w.Lab, p.from.Node, p.to, data)
}

// TestTunnels joins the hosts by tunnels of the kernel's that have no link-layer header,
// as far as it has them.
func TestTunnels(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "iperf3", "tracepath")
	labtest.NeedIPv6(t)
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 1})}
	w.daemons(t)
	for _, c := range []struct {
		kind, args string
		over       [2]string
		ipv4, ipv6 bool // what it carries
	}{
		{"ipip", "", [2]string{host0IP, host1IP}, true, false},
		{"gre", "", [2]string{host0IP, host1IP}, true, true},
		{"sit", "", [2]string{host0IP, host1IP}, false, true},
		{"ip6tnl", " mode any encaplimit none", [2]string{host0IP6, host1IP6}, true, true},
		{"ip6gre", " encaplimit none", [2]string{host0IP6, host1IP6}, true, true},
	} {
		t.Run(c.kind, func(t *testing.T) {
			for host, own := range c.over {
				out, code := try(t, w.Lab, fmt.Sprintf("host%d", host), "ip link add tun6 type "+c.kind+" local "+own+" remote "+c.over[1-host]+c.args)
				if code != 0 {
					nstest.Excused(t, nstest.NoSuchPart, "no device of type %s: %s", c.kind, out)
				}
			}
			mtu := 0
			for host := range c.over {
				node := fmt.Sprintf("host%d", host)
				run(t, w.Lab, node, "ip link set tun6 up")
				defer run(t, w.Lab, node, "ip link del tun6")
				for _, r := range []string{fmt.Sprintf("10.65.%d.0/25", 1-host), fmt.Sprintf("fd00:10:65:%d::/65", 1-host)} {
					run(t, w.Lab, node, "ip route add "+r+" dev tun6")
				}
				m := regexp.MustCompile(` mtu (\d+) `).FindStringSubmatch(run(t, w.Lab, node, "ip link show tun6"))
				mtu, _ = strconv.Atoi(m[1])
			}
			for i, inside := range w.families(t) {
				if []bool{c.ipv4, c.ipv6}[i] {
					w.tunnelled(t, inside, mtu, "-n 5M")
				}
			}
		})
	}
}

// TestTUN leads off the host by a device without a link-layer header.
func TestTUN(t *testing.T) {
	t.Parallel()
	labtest.NeedIPv6(t)
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 1})}
	var tun *os.File
	err := w.Lab.Do("host0", func() error {
		fd, err := nstest.OpenTUN("tun0", unix.IFF_TUN|unix.IFF_NO_PI)
		if err != nil {
			return err
		}
		tun = os.NewFile(uintptr(fd), "tun0")
		return nil
	})
	if err != nil {
		nstest.Skip(t, "TUN devices: %v", err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	run(t, w.Lab, "host0", "ip link set tun0 up")
	run(t, w.Lab, "host0", "ip route add 10.80.0.0/16 dev tun0")
	run(t, w.Lab, "host0", "ip route add 2001:db8:80::/64 dev tun0")
	w.daemons(t)
	go func() { // who answers every echo request behind the device
		buf := make([]byte, 2000)
		for {
			n, err := tun.Read(buf)
			if err != nil {
				return
			}
			if reply := echoReply(buf[:n]); reply != nil {
				_, _ = tun.Write(reply)
			}
		}
	}()
	pod := pods(w.Lab, 0)[0]
	wantTTL(t, w.Lab, pod.Node, "10.80.1.2", 63)
	out, _ := try(t, w.Lab, pod.Node, "ping -n -c1 -W1 -t1 10.80.1.2")
	if !strings.Contains(out, "Time to live exceeded") {
		t.Error(out)
	}
	wantTTL(t, w.Lab, pod.Node, "2001:db8:80::2", 63)
	out, _ = try(t, w.Lab, pod.Node, "ping -n -c1 -W1 -t1 2001:db8:80::2")
	if !strings.Contains(out, "Time exceeded: Hop limit") {
		t.Error(out)
	}
	if s := statusOf(t, w.d[0]); s.port("tun0") == nil {
		t.Errorf("uplinks %+v", s.Uplinks)
	}
}
