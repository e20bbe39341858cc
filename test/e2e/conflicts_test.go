package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

type conflictStatus struct {
	Conflicts []struct {
		Kind, Interface, Address, MAC, Other string
		OtherMAC                             string `json:"other_mac"`
		Count                                uint64
	}
	Workloads, Uplinks []struct {
		Name           string
		ForeignAnswers uint64 `json:"foreign_answers"`
		AddressTwice   uint64 `json:"address_twice"`
	}
}

// TestConflicts: a live daemon notices who else says that it is the gateway, on
// workload interfaces and uplinks, and who uses another workload's address.
func TestConflicts(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	d := labtest.Daemon(t, l, "host0")
	first, second := pods(l, 0)[0], pods(l, 0)[1]
	wantTTL(t, l, first.Node, ip(second), 63) // both are known by their MACs
	now := func() (s conflictStatus) { d.StatusJSON(t, &s); return s }
	if s := now(); len(s.Conflicts) > 0 {
		t.Fatalf("%+v", s.Conflicts)
	}
	other := wire.MAC{2, 0, 0x5e, 0, 0x53, 0x66}
	pod, far := listen(t, l, first.Node, "eth0", unix.ETH_P_ARP), listen(t, l, "host1", uplink, unix.ETH_P_ARP)
	announce := arp{dst: wire.Broadcast, src: other, sha: other, op: wire.ARPRequest, spa: gateway, tpa: gateway}
	pod.send(announce.frame())
	reply := arp{dst: mac(t, linkMAC(t, l, "host0", uplink)), src: other, sha: other, op: wire.ARPReply, spa: gateway, tpa: host0IP, tha: mac(t, linkMAC(t, l, "host0", uplink))}
	far.send(reply.frame())
	pod.send(pod.whoHas(gateway, ip(second)).frame())
	await(t, "all three are noticed", func() bool { return len(now().Conflicts) == 3 })
	seen := map[string]bool{}
	for _, c := range now().Conflicts {
		seen[strings.Join([]string{c.Kind, c.Interface, c.Address, c.MAC, c.Other, c.OtherMAC}, " ")] = true
		if c.Count != 1 {
			t.Errorf("%+v", c)
		}
	}
	for _, want := range []string{
		"foreign-answer " + first.Iface + " " + gateway + " " + other.String() + "  ",
		"foreign-answer " + uplink + " " + gateway + " " + other.String() + "  ",
		"address-twice " + first.Iface + " " + ip(second) + " " + pod.mac.String() + " " + second.Iface + " " + linkMAC(t, l, second.Node, "eth0"),
	} {
		if !seen[want] {
			t.Errorf("no %q in %v", want, seen)
		}
	}
	s := now()
	for _, i := range append(s.Workloads, s.Uplinks...) {
		wantForeign, wantTwice := uint64(0), uint64(0)
		switch i.Name {
		case first.Iface:
			wantForeign, wantTwice = 1, 1
		case uplink:
			wantForeign = 1
		}
		if i.ForeignAnswers != wantForeign || i.AddressTwice != wantTwice {
			t.Errorf("%+v", i)
		}
	}
	for _, want := range []string{"somebody else says that it is the gateway", "a workload uses an address that is routed to another one"} {
		if !strings.Contains(d.Stderr(), want) {
			t.Errorf("the log has no %q", want)
		}
	}
	if text := d.Status(t); !strings.Contains(text, other.String()+" claims the gateway's address "+gateway+": 1 times") {
		t.Errorf("status:\n%s", text)
	}
	out, _, _ := exec3(t, l, "host0", labtest.Binary(t), "doctor", "--control", d.Control)
	for _, want := range []string{"warning foreign-claim: " + uplink + ": the gateway " + gateway + " is claimed by " + other.String(), "error address-twice: " + first.Iface} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor has no %q:\n%s", want, out)
		}
	}
	// Of a flood it hears enough, and logs once.
	for range 5000 {
		pod.send(announce.frame())
	}
	await(t, "the flood is heard", func() bool { return now().Workloads[0].ForeignAnswers+now().Workloads[1].ForeignAnswers > 50 })
	if n := strings.Count(d.Stderr(), "somebody else says"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}
