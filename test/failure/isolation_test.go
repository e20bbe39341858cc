package failure

import (
	"fmt"
	"testing"
	"time"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestFloodIsolation: what one pod floods with costs the others time, and no
// packet.
func TestFloodIsolation(t *testing.T) {
	const (
		length = time.Second
		every  = 2 * time.Millisecond
		bound  = 1000.0 // ms, for the 99th percentile on a host that has other work
	)
	for _, form := range []string{"af_packet", "kernel"} {
		l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: 4})
		all := pods(l, 0)
		flooder, from, to, other := all[0], all[1], all[2], all[3]
		var p *labtest.Process
		if form == "kernel" { // for comparison: nothing is demanded of it
			set := map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.proxy_arp": "1"}
			for _, pod := range all {
				set["net.ipv4.neigh."+pod.Iface+".proxy_delay"] = "0"
			}
			for key, value := range set {
				if err := l.SetSysctl("host0", key, value); err != nil {
					t.Fatal(err)
				}
			}
			// The kernel answers for what it has a route to, elsewhere.
			run(t, l, "host0", "ip link add up0 type veth peer name up1")
			run(t, l, "host0", "ip link set up0 up")
			run(t, l, "host0", "ip link set up1 up")
			run(t, l, "host0", "ip route add default dev up0")
		} else {
			p = labtest.Daemon(t, l, "host0")
		}
		run(t, l, from.Node, "ping -n -c1 -W2 "+ip(to))
		for _, f := range []struct {
			name   string
			frames [][]byte
			police func(s *daemon.Status) uint64 // what must rise
		}{
			{"nothing", nil, nil},
			{"ARP for the gateway", [][]byte{whoHas(t, flooder, "169.254.1.1")}, func(s *daemon.Status) uint64 { return s.ARP.Verdicts["PARP_RATE_LIMIT"] + policed(s, flooder) }},
			{"ARP for anything", scan(func(n int) []byte { return whoHas(t, flooder, fmt.Sprintf("10.9.%d.%d", n>>8, n&255)) }), nil},
			{"IP to nowhere", [][]byte{datagram(t, flooder, "10.99.0.1")}, nil},
			{"IP to the pinged pod", [][]byte{datagram(t, flooder, ip(to))}, nil},
			{"IP to another pod", [][]byte{datagram(t, flooder, ip(other))}, nil},
			{"IP to itself", [][]byte{datagram(t, flooder, ip(flooder))}, nil},
			{"IP to the host", [][]byte{datagram(t, flooder, "192.168.1.32")}, nil},
		} {
			if p == nil && f.name != "nothing" && f.name != "IP to another pod" {
				continue
			}
			var before *daemon.Status
			if p != nil {
				before = status(t, p)
			}
			var fl *flood
			if f.frames != nil {
				fl = startFlood(t, l, flooder, f.frames...)
			}
			ping := startPing(t, l, from, ip(to), every)
			timer := time.NewTimer(length)
			<-timer.C
			seen := ping.stop(t)
			var sent uint64
			if fl != nil {
				sent = fl.stop()
			}
			line := fmt.Sprintf("%s, flood of %s, %d kpps: %v", form, f.name, sent/uint64(length.Milliseconds()), seen)
			if p == nil {
				t.Log(line)
				continue
			}
			after := status(t, p)
			t.Logf("%s; rate limit +%d", line, after.Forward.Drops["PARP_RATE_LIMIT"]-before.Forward.Drops["PARP_RATE_LIMIT"])
			if seen.unexplained > 0 || seen.sent == 0 || seen.percentile(99) > bound {
				t.Errorf("flood of %s: %v", f.name, seen)
			}
			if f.police != nil && after.ARP.Carried == before.ARP.Carried && f.police(after) == f.police(before) {
				t.Errorf("flood of %s: nothing was refused", f.name)
			}
		}
		if p != nil {
			if n := status(t, p).Forward.Drops["PARP_RATE_LIMIT"]; n == 0 {
				t.Error("no flood of packets met its limit")
			}
			balanced(t, p)
		}
	}
}

// policed is what of a pod's ARP the filter refused.
func policed(s *daemon.Status, pod lab.Pod) uint64 {
	for _, w := range s.Workloads {
		if w.Name == pod.Iface {
			return w.ARPVerdicts["PARP_RATE_LIMIT"]
		}
	}
	return 0
}

// scan makes many frames.
func scan(make func(n int) []byte) (all [][]byte) {
	for n := range 4096 {
		all = append(all, make(n))
	}
	return all
}

// TestManyFlooders: several pods flood together, with more than one of them
// may have of the ring.
func TestManyFlooders(t *testing.T) {
	const flooders = 4
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: flooders + 3})
	all := pods(l, 0)
	sink, from, to := all[flooders], all[flooders+1], all[flooders+2]
	p := labtest.Daemon(t, l, "host0")
	run(t, l, from.Node, "ping -n -c1 -W2 "+ip(to))
	var floods []*flood
	for _, pod := range all[:flooders] {
		floods = append(floods, startFlood(t, l, pod, datagram(t, pod, ip(sink))))
	}
	ping := startPing(t, l, from, ip(to), 2*time.Millisecond)
	timer := time.NewTimer(2 * time.Second)
	<-timer.C
	seen := ping.stop(t)
	var sent uint64
	for _, f := range floods {
		sent += f.stop()
	}
	drops := status(t, p).Forward.Drops
	undisturbed(t, fmt.Sprintf("beside %d floods of %d kpps together", flooders, sent/2000), seen)
	if drops["PARP_RATE_LIMIT"] == 0 && status(t, p).Forward.Carried == 0 || drops["FULL_RING"] > 0 {
		t.Errorf("drops %v", drops)
	}
	balanced(t, p)
}
