package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
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
// neighbours, a MAC and a tunnel end for each other host, no learning.
func TestVXLAN(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "bridge", "iperf3")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 1})}
	for host, own := range []string{host0IP, host1IP} {
		node, other := fmt.Sprintf("host%d", host), []string{host1IP, host0IP}[host]
		mac := func(h int) string { return fmt.Sprintf("66:00:00:00:00:%02x", h) }
		for _, line := range []string{
			"ip link add vxlan.calico address " + mac(host) + " type vxlan id 4096 dstport 4789 local " + own + " dev ens192 nolearning",
			"ip link set vxlan.calico mtu 1450 up",
			fmt.Sprintf("ip addr add 10.65.%d.255/32 dev vxlan.calico", host),
			fmt.Sprintf("ip neigh add 10.65.%d.255 lladdr %s dev vxlan.calico nud permanent", 1-host, mac(1-host)),
			fmt.Sprintf("bridge fdb append %s dev vxlan.calico dst %s", mac(1-host), other),
			fmt.Sprintf("ip route replace 10.65.%d.0/24 via 10.65.%d.255 dev vxlan.calico onlink", 1-host, 1-host),
		} {
			run(t, w.Lab, node, line)
		}
	}
	w.daemons(t)
	from, to := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
	there := tcpdump(t, w.Lab, "host1", uplink, "-Q in udp port 4789")
	wantTTL(t, w.Lab, from.Node, ip(to), 62)
	out, _ := try(t, w.Lab, from.Node, "ping -n -c1 -W1 -M do -s 1472 "+ip(to))
	if !strings.Contains(out, "Frag needed and DF set (mtu = 1450)") {
		t.Error(out)
	}
	transfer(t, w.Lab, from.Node, to, "-n 20M")
	if text := there.stop("-c 1"); !strings.Contains(text, "VXLAN") {
		t.Errorf("no VXLAN on the wire:\n%s", text)
	}
	for host, node := range []string{"host0", "host1"} {
		out := run(t, w.Lab, node, "ip neigh show dev vxlan.calico")
		if !strings.Contains(out, fmt.Sprintf("66:00:00:00:00:%02x", 1-host)) || !strings.Contains(out, "PERMANENT") {
			t.Errorf("%s: the permanent neighbour is gone: %s", node, out)
		}
	}
}

// TestTUN leads off the host by a device without a link-layer header.
func TestTUN(t *testing.T) {
	t.Parallel()
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
	w.daemons(t)
	go func() { // who answers every echo request behind the device
		buf := make([]byte, 2000)
		for {
			n, err := tun.Read(buf)
			if err != nil {
				return
			}
			p := wire.IPv4(buf[:n])
			if !p.Valid() || p.Protocol() != wire.ProtoICMP || p.Payload()[0] != wire.ICMPEcho {
				continue
			}
			reply := append([]byte(nil), p.Payload()...)
			reply[0] = wire.ICMPEchoReply
			wire.PutICMP(reply, 0, 0, uint32(reply[4])<<24|uint32(reply[5])<<16|uint32(reply[6])<<8|uint32(reply[7]))
			out := append(make([]byte, wire.IPv4MinLen), reply...)
			wire.PutIPv4(out, 0, len(out), 1, 0, 64, wire.ProtoICMP, p.Dst(), p.Src())
			_, _ = tun.Write(out)
		}
	}()
	pod := pods(w.Lab, 0)[0]
	wantTTL(t, w.Lab, pod.Node, "10.80.1.2", 63)
	out, _ := try(t, w.Lab, pod.Node, "ping -n -c1 -W1 -t1 10.80.1.2")
	if !strings.Contains(out, "Time to live exceeded") {
		t.Error(out)
	}
	if s := statusOf(t, w.d[0]); s.port("tun0") == nil {
		t.Errorf("uplinks %+v", s.Uplinks)
	}
}
