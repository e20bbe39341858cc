package ndp

import (
	"bytes"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"proxyarpd/arpd"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// An interface without any IPv6 address, and without IPv6 in the kernel, is answered all
// the same.
func TestResponderAnswers(t *testing.T) {
	s := newLab(t).veth("cali1", deviceMAC, false)
	r := s.start(Options{})
	r.Publish(map[int]*Policy{s.index: s.policy()})

	s.ask(who(gatewayIP), answerMAC, true)
	s.ask(unicast(gatewayIP), answerMAC, true)
	s.ask(probe(gatewayIP), answerMAC, true)
	s.ask(who(remoteIP), answerMAC, false)

	ignored := []solicit{who(outsideIP), probe(remoteIP), who(gatewayIP).with(func(q *solicit) { q.hopLimit = 64 }),
		who(gatewayIP).with(func(q *solicit) { q.badSum = true }), who(gatewayIP).with(func(q *solicit) { q.dst = otherMAC }),
		who(gatewayIP).with(func(q *solicit) { q.typ = wire.ICMPv6NeighAdvert })}
	for _, q := range ignored {
		s.send(s.own(q).bytes())
	}
	s.send(s.own(who(gatewayIP).with(func(q *solicit) { q.next = wire.ProtoUDP })).bytes()) // not seen
	s.ask(who(gatewayIP), answerMAC, true)                                                  // none of them ended anything
	await(t, r, "every frame is counted", func(st arpd.Stats) bool {
		c := st.ByVerdict
		return st.Defended == 1 && st.Interfaces[s.index].Defended == 1 && c == st.Interfaces[s.index].ByVerdict && c == counts(map[Verdict]uint64{arpd.Answered: 5, arpd.IgnoreNDNotProxied: 1,
			arpd.IgnoreNDProbe: 1, arpd.DropNDHopLimit: 1, arpd.DropICMPCsum: 1, arpd.IgnoreOtherhost: 1, arpd.IgnoreAdvertisement: 1})
	})
}

// The pod's own kernel resolves its gateway, finds it there again by unicast probes
// while its carrier comes and goes, and sees that its address is taken when another one
// has it.
func TestKernelOfPod(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.veth("cali1", answerMAC, false)
	r := l.start(Options{})
	p := s.policy()
	r.Publish(map[int]*Policy{s.index: p})

	l.inPod(func() {
		l.sysctl("conf/eth-cali1/disable_ipv6", "0")
		l.sysctl("neigh/eth-cali1/base_reachable_time_ms", "200")
		l.sysctl("neigh/eth-cali1/delay_first_probe_time", "0")
	})
	pod, err := netlink.ParseAddr("fd00:65::2/128")
	l.must(err)
	l.must(l.podLinks.AddrAdd(s.link, pod))
	gateway := gatewayIP.AsSlice()
	l.must(l.podLinks.RouteAdd(&netlink.Route{LinkIndex: s.link.Attrs().Index, Gw: gateway, Dst: nil, Family: netlink.FAMILY_V6}))

	state := func() (n *netlink.Neigh) {
		all, err := l.podLinks.NeighList(s.link.Attrs().Index, netlink.FAMILY_V6)
		l.must(err)
		for i := range all {
			if all[i].IP.Equal(gateway) {
				n = &all[i]
			}
		}
		return n
	}
	talk := func() { // a packet by the gateway, to nobody
		l.inPod(func() { _ = exec.Command("ping", "-6", "-c1", "-W1", "-i0.2", "fd00:65::3").Run() })
	}
	for deadline := time.Now().Add(patience); ; {
		talk()
		if n := state(); n != nil && bytes.Equal(n.HardwareAddr, answerMAC[:]) && n.Flags&netlink.NTF_ROUTER != 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pod has not resolved its gateway: %+v, %s", state(), counted(r.Stats().ByVerdict))
		}
	}
	l.must(l.hostLinks.LinkSetDown(s.host))
	l.must(l.hostLinks.LinkSetUp(s.host))
	before := r.Stats().ByVerdict[arpd.Answered]
	for deadline := time.Now().Add(patience); ; {
		talk()
		n := state()
		if n != nil && n.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY) != 0 && r.Stats().ByVerdict[arpd.Answered] > before+1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the carrier was lost: %+v, %s", n, counted(r.Stats().ByVerdict))
		}
	}
	// Its gateway's address is not to be had.
	taken := &netlink.Addr{IPNet: netlink.NewIPNet(gateway)}
	l.must(l.podLinks.AddrAdd(s.link, taken))
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		all, err := l.podLinks.AddrList(s.link, netlink.FAMILY_V6)
		l.must(err)
		failed := false
		for _, a := range all {
			const dadFailed = 0x08
			failed = failed || a.IP.Equal(gateway) && a.Flags&dadFailed != 0
		}
		if failed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pod took the gateway's address: %v", all)
		}
	}
}

// TestNdisc6 asks as people do.
func TestNdisc6(t *testing.T) {
	nstest.Need(t, "ndisc6")
	l := newLab(t)
	s := l.veth("cali1", deviceMAC, false)
	r := l.start(Options{})
	r.Publish(map[int]*Policy{s.index: s.policy()})
	l.inPod(func() { l.sysctl("conf/eth-cali1/disable_ipv6", "0") })
	pod, err := netlink.ParseAddr("fd00:65::2/64")
	l.must(err)
	pod.Flags = 0x02 // IFA_F_NODAD
	l.must(l.podLinks.AddrAdd(s.link, pod))
	for target, answered := range map[string]bool{gatewayIP.String(): true, remoteIP.String(): true, noRouteIP.String(): false, localIP.String(): false} {
		var out []byte
		var err error
		l.inPod(func() {
			out, err = exec.Command("ndisc6", "-q", "-1", "-r", "3", "-w", "300", "-s", "fd00:65::2", target, "eth-cali1").CombinedOutput()
		})
		if (err == nil) != answered || answered && string(out) != "EE:EE:EE:EE:EE:EE\n" {
			t.Errorf("ndisc6 %s: %v, %s", target, err, out)
		}
	}
}

// taking is a tc program that takes all frames from the kernel's neighbour discovery, as
// forward/claim/bpf/nd.h does.
func taking(t *testing.T) *ebpf.Program {
	const otherHost, next = 3, -1 // PACKET_OTHERHOST, TCX_NEXT
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.StoreImm(asm.R1, 8, arpd.MarkTaken, asm.Word), // __sk_buff's mark
		asm.Mov.Imm(asm.R2, otherHost),
		asm.FnSkbChangeType.Call(),
		asm.Mov.Imm(asm.R0, next),
		asm.Return(),
	}})
	if err != nil {
		nstest.Skip(t, "needs eBPF: %v", err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return prog
}

// A frame that a tc program has taken from the kernel is answered by us alone; one that
// bore a VLAN tag is nobody's here.
func TestTakenFrames(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.veth("cali1", answerMAC, true)
	r := l.start(Options{})
	r.Publish(map[int]*Policy{s.index: s.policy()})
	answers := func(q solicit) (n int) {
		for s.send(s.own(q).bytes()); ; n++ {
			if _, err := s.advert(300 * time.Millisecond); err != nil {
				return n
			}
		}
	}
	n := 0
	for deadline := time.Now().Add(patience); n != 2 && time.Now().Before(deadline); { // it may be tentative yet
		n = answers(who(gatewayIP))
	}
	if n != 2 {
		t.Errorf("%d answers where the kernel has the address, too", n)
	}
	tcx, err := link.AttachTCX(link.TCXOptions{Interface: s.index, Program: taking(t), Attach: ebpf.AttachTCXIngress})
	if err != nil {
		nstest.Skip(t, "needs TCX: %v", err)
	}
	for _, q := range []solicit{who(gatewayIP), unicast(gatewayIP), probe(gatewayIP)} {
		if n := answers(q); n != 1 {
			t.Errorf("%d answers to a solicitation that was taken from the kernel", n)
		}
	}
	l.must(tcx.Close())
	tagged := s.own(who(gatewayIP)).bytes()
	s.send(append(append(append([]byte{}, tagged[:12]...), 0x81, 0, 0, 5), tagged[12:]...))
	await(t, r, "a VLAN's frame is told apart", func(st arpd.Stats) bool { return st.ByVerdict[arpd.IgnoreVLAN] == 1 })
}

// Who advertises a gateway's address on a workload's side is told of, and on an uplink
// who does so of a target.
func TestClaimed(t *testing.T) {
	l := newLab(t)
	pod, lan := l.veth("cali1", deviceMAC, false), l.veth("ens1", otherMAC, false)
	claims := make(chan arpd.Claim, 10)
	r := l.start(Options{Claimed: func(c arpd.Claim) { claims <- c }})
	up := uplinkPolicy()
	up.Index, up.Own, up.Answer, up.Uplink.Targets = lan.index, otherMAC, otherMAC, proxied[:1]
	r.Publish(map[int]*Policy{pod.index: pod.policy(), lan.index: up})
	say := func(s *station, target netip.Addr) {
		s.send(s.own(who(target)).with(func(q *solicit) {
			q.typ, q.from, q.to, q.options = wire.ICMPv6NeighAdvert, target, allNodes, lladdr(2, strangerMAC)
		}).bytes())
	}
	say(pod, remoteIP)  // a target is nobody's on a workload's side
	say(lan, gatewayIP) // and a gateway's address another router's on an uplink
	say(pod, gatewayIP)
	say(lan, remoteIP)
	for _, want := range []arpd.Claim{{Index: pod.index, IP: gatewayIP, MAC: strangerMAC}, {Index: lan.index, IP: remoteIP, MAC: strangerMAC}} {
		select {
		case got := <-claims:
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("not heard: %+v", want)
		}
	}
}
