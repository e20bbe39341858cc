package arpd

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

// The stations of the tests.
var (
	podMAC    = mustMAC("02:00:00:00:00:01")
	answerMAC = mustMAC("ee:ee:ee:ee:ee:ee")
	deviceMAC = mustMAC("02:aa:aa:aa:aa:aa")
	aliasMAC  = mustMAC("02:bb:bb:bb:bb:bb")
	otherMAC  = mustMAC("02:cc:cc:cc:cc:cc")

	podIP     = netip.MustParseAddr("10.20.1.2")
	gatewayIP = netip.MustParseAddr("169.254.1.1")
	remoteIP  = netip.MustParseAddr("10.20.1.3")  // in --proxy, routed elsewhere
	noRouteIP = netip.MustParseAddr("10.20.1.99") // in --proxy, not routed
	localIP   = netip.MustParseAddr("10.20.1.1")  // in --proxy, the host's own
	ownIP     = netip.MustParseAddr("10.20.1.4")  // in --proxy, routed elsewhere, podMAC's own
	outsideIP = netip.MustParseAddr("192.0.2.1")  // routed, not in --proxy
)

func mustMAC(s string) wire.MAC {
	m, err := wire.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// request is a frame in its fields, so that a test says only what is odd.
type request struct {
	dst, src           wire.MAC
	etherType          wire.EtherType
	hardware, protocol uint16
	hlen, plen         uint8
	op                 wire.ARPOp
	sha, tha           wire.MAC
	spa, tpa           netip.Addr
	trailer            int
}

// who has target, as the pod's kernel asks it.
func who(target netip.Addr) request {
	return request{
		dst: wire.Broadcast, src: podMAC, etherType: wire.EtherTypeARP,
		hardware: 1, protocol: 0x0800, hlen: 6, plen: 4, op: wire.ARPRequest,
		sha: podMAC, spa: podIP, tpa: target,
	}
}

func (r request) with(f func(*request)) request { f(&r); return r }

func (r request) bytes() []byte {
	b := make([]byte, ReplyLen+r.trailer)
	eth := wire.Ethernet(b)
	eth.SetDst(r.dst)
	eth.SetSrc(r.src)
	eth.SetType(r.etherType)
	a := eth.Payload()
	binary.BigEndian.PutUint16(a[0:], r.hardware)
	binary.BigEndian.PutUint16(a[2:], r.protocol)
	a[4], a[5] = r.hlen, r.plen
	binary.BigEndian.PutUint16(a[6:], uint16(r.op))
	spa, tpa := r.spa.As4(), r.tpa.As4()
	copy(a[8:], r.sha[:])
	copy(a[14:], spa[:])
	copy(a[18:], r.tha[:])
	copy(a[24:], tpa[:])
	for i := range r.trailer {
		b[ReplyLen+i] = 0xa5
	}
	return b
}

// answer is what becomes of a frame, without a Responder.
func answer(reply, frame []byte, p *Policy) (int, Verdict) {
	var q Request
	if v := q.Read(frame); v != NotSpecified {
		return 0, v
	}
	return Answer(reply, &q, p)
}

// noUplink is the part of Routes that a workload interface seldom asks for.
type noUplink struct{}

func (noUplink) Uplink(netip.Addr, netip.Addr, wire.MAC, int) UplinkDecision { return UplinkNo }
func (noUplink) Uses(netip.Addr, wire.MAC, int) bool                         { return false }

type routesFunc func(target, sender netip.Addr, ifindex int) ProxyDecision

func (f routesFunc) Proxy(target, sender netip.Addr, ifindex int) ProxyDecision {
	return f(target, sender, ifindex)
}

// Routed knows podIP alone.
func (f routesFunc) Routed(sender netip.Addr, _ int) bool { return sender == podIP }

// Uses knows that ownIP is podMAC's.
func (f routesFunc) Uses(address netip.Addr, station wire.MAC, _ int) bool {
	return address == ownIP && station == podMAC
}

func (f routesFunc) Uplink(target, sender netip.Addr, asker wire.MAC, ifindex int) UplinkDecision {
	switch {
	case target == localIP:
		return UplinkLocal
	case f(target, sender, ifindex) != ProxyYes:
		return UplinkNo
	case f.Uses(target, asker, ifindex):
		return UplinkOwn
	case sender == outsideIP:
		return UplinkElsewhere
	}
	return UplinkYes
}

func testRoutes(target, _ netip.Addr, _ int) ProxyDecision {
	switch target {
	case remoteIP, outsideIP, ownIP:
		return ProxyYes
	case localIP:
		return ProxyLocal
	}
	return ProxyNo
}

func testPolicy() *Policy {
	return &Policy{
		Index: 7, Name: "cali1", Own: deviceMAC, Answer: answerMAC, Alias: []wire.MAC{aliasMAC},
		Gateways: []netip.Addr{gatewayIP},
		Proxy:    []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24")},
		Routes:   routesFunc(testRoutes),
	}
}

// uplinkPolicy answers on an uplink for what testPolicy proxies.
func uplinkPolicy() *Policy {
	return &Policy{Index: 8, Name: "ens1", Own: deviceMAC, Answer: deviceMAC, Routes: routesFunc(testRoutes),
		Uplink: &Uplink{Targets: []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24")}, Others: []wire.MAC{aliasMAC}}}
}

// checkReply demands the one right answer to a well-formed request.
func checkReply(t *testing.T, reply, req []byte, answer wire.MAC) {
	t.Helper()
	if len(reply) != ReplyLen {
		t.Fatalf("reply has %d bytes, want %d", len(reply), ReplyLen)
	}
	q, e, a := wire.ARP(req[wire.EthernetLen:]), wire.Ethernet(reply), wire.ARP(reply[wire.EthernetLen:])
	for _, c := range []struct {
		field     string
		got, want any
	}{
		{"destination", e.Dst(), q.SenderMAC()},
		{"source", e.Src(), answer},
		{"EtherType", e.Type(), wire.EtherTypeARP},
		{"ar$hrd", a.HardwareType(), wire.ARPHardwareEthernet},
		{"valid", a.Valid() && a.IsIPv4OverEthernet(), true},
		{"ar$op", a.Op(), wire.ARPReply},
		{"ar$sha", a.SenderMAC(), answer},
		{"ar$spa", a.SenderIP(), q.TargetIP()},
		{"ar$tha", a.TargetMAC(), q.SenderMAC()},
		{"ar$tpa", a.TargetIP(), q.SenderIP()},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v, want %v", c.field, c.got, c.want)
		}
	}
}
