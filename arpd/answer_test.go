package arpd

import (
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

func TestAnswer(t *testing.T) {
	var (
		zero      = netip.IPv4Unspecified()
		broadcast = limitedBroadcast
		loopback  = netip.MustParseAddr("127.0.0.1")
		multicast = netip.MustParseAddr("224.0.0.1")
		thisNet   = netip.MustParseAddr("0.1.2.3")
	)
	type mod = func(*request)
	for _, c := range []struct {
		name   string
		target netip.Addr
		mod    mod
		want   Verdict
	}{
		{"gateway, broadcast", gatewayIP, nil, Answered},
		{"gateway, unicast to the answered MAC", gatewayIP, func(r *request) { r.dst = answerMAC }, Answered},
		{"gateway, unicast to the device", gatewayIP, func(r *request) { r.dst = deviceMAC }, Answered},
		{"gateway, unicast to an alias", gatewayIP, func(r *request) { r.dst = aliasMAC }, Answered},
		{"gateway, to a group as the kernel takes it", gatewayIP, func(r *request) { r.dst = wire.MAC{1, 0, 0x5e, 0, 0, 1} }, Answered},
		{"gateway, padded to 60", gatewayIP, func(r *request) { r.trailer = 18 }, Answered},
		{"gateway, long trailer", gatewayIP, func(r *request) { r.trailer = 1472 }, Answered},
		{"gateway, IEEE 802 hardware type", gatewayIP, func(r *request) { r.hardware = 6 }, Answered},
		{"gateway, target MAC filled in", gatewayIP, func(r *request) { r.tha = wire.Broadcast }, Answered},
		{"gateway, sender MAC is not the frame's", gatewayIP, func(r *request) { r.src = otherMAC }, Answered},
		{"gateway, probe is defended", gatewayIP, func(r *request) { r.spa = zero }, Answered},
		{"gateway, sender from anywhere", gatewayIP, func(r *request) { r.spa = outsideIP }, Answered},
		{"gateway, sender in 0/8", gatewayIP, func(r *request) { r.spa = thisNet }, Answered},
		{"proxied target", remoteIP, nil, Answered},
		{"proxied target, unicast", remoteIP, func(r *request) { r.dst = answerMAC }, Answered},

		{"another station's", gatewayIP, func(r *request) { r.dst = otherMAC }, IgnoreOtherhost},
		{"reply", gatewayIP, func(r *request) { r.op = wire.ARPReply }, IgnoreReply},
		{"reply to another", gatewayIP, func(r *request) { r.op = wire.ARPReply; r.dst = otherMAC }, IgnoreReply},
		{"operation 0", gatewayIP, func(r *request) { r.op = 0 }, IgnoreOperation},
		{"RARP request", gatewayIP, func(r *request) { r.op = 3 }, IgnoreOperation},
		{"InARP request", gatewayIP, func(r *request) { r.op = 8 }, IgnoreOperation},
		{"operation 257", gatewayIP, func(r *request) { r.op = 257 }, IgnoreOperation},
		{"from the answered MAC", gatewayIP, func(r *request) { r.src, r.sha = answerMAC, answerMAC }, IgnoreOwnFrame},
		{"frame from the device", gatewayIP, func(r *request) { r.src = deviceMAC }, IgnoreOwnFrame},
		{"ARP sender is an alias", gatewayIP, func(r *request) { r.sha = aliasMAC }, IgnoreOwnFrame},
		{"announcement of the gateway", gatewayIP, func(r *request) { r.spa = gatewayIP }, IgnoreGratuitous},
		{"announcement of its own", podIP, nil, IgnoreGratuitous},
		{"announcement of a proxied target", remoteIP, func(r *request) { r.spa = remoteIP }, IgnoreGratuitous},
		{"announcement of the host's address", localIP, func(r *request) { r.spa = localIP }, IgnoreGratuitous},
		{"probe for a proxied target", remoteIP, func(r *request) { r.spa = zero }, IgnoreProbe},
		{"probe for its own", podIP, func(r *request) { r.spa = zero }, IgnoreProbe},
		{"probe for the host's address", localIP, func(r *request) { r.spa = zero }, Local},
		{"the host's address", localIP, nil, Local},
		{"in --proxy, no route", noRouteIP, nil, IgnoreNotProxied},
		{"its own, which is routed elsewhere, asked by another address of it", ownIP, nil, IgnoreOwnAddress},
		{"its own, announced", ownIP, func(r *request) { r.spa = ownIP }, IgnoreGratuitous},
		{"its own, probed", ownIP, func(r *request) { r.spa = zero }, IgnoreProbe},
		{"another's address, that it has not", ownIP, func(r *request) { r.src, r.sha = otherMAC, otherMAC }, Answered},
		{"routed, not in --proxy", outsideIP, nil, IgnoreNotProxied},
		{"in 0/8, not in --proxy", thisNet, nil, IgnoreNotProxied},

		{"not ARP", gatewayIP, func(r *request) { r.etherType = wire.EtherTypeIPv4 }, DropProtocol},
		{"tagged in band", gatewayIP, func(r *request) { r.etherType = wire.EtherTypeVLAN }, DropProtocol},
		{"hardware type 0", gatewayIP, func(r *request) { r.hardware = 0 }, DropBadHeader},
		{"hardware type 256", gatewayIP, func(r *request) { r.hardware = 256 }, DropBadHeader},
		{"protocol IPv6", gatewayIP, func(r *request) { r.protocol = 0x86dd }, DropBadHeader},
		{"hardware length 0", gatewayIP, func(r *request) { r.hlen = 0 }, DropBadHeader},
		{"hardware length 255", gatewayIP, func(r *request) { r.hlen = 255 }, DropBadHeader},
		{"protocol length 0", gatewayIP, func(r *request) { r.plen = 0 }, DropBadHeader},
		{"protocol length 16", gatewayIP, func(r *request) { r.plen = 16 }, DropBadHeader},
		{"lengths exchanged", gatewayIP, func(r *request) { r.hlen, r.plen = 4, 6 }, DropBadHeader},
		{"frame from a group", gatewayIP, func(r *request) { r.src = wire.Broadcast }, DropInvalidMAC},
		{"frame from zero", gatewayIP, func(r *request) { r.src = wire.MAC{} }, DropInvalidMAC},
		{"ARP sender is broadcast", gatewayIP, func(r *request) { r.sha = wire.Broadcast }, DropInvalidMAC},
		{"ARP sender is a group", gatewayIP, func(r *request) { r.sha = wire.MAC{1} }, DropInvalidMAC},
		{"ARP sender is zero", gatewayIP, func(r *request) { r.sha = wire.MAC{} }, DropInvalidMAC},
		{"sender multicast", gatewayIP, func(r *request) { r.spa = multicast }, DropInvalidSource},
		{"sender broadcast", gatewayIP, func(r *request) { r.spa = broadcast }, DropInvalidSource},
		{"target multicast", multicast, nil, DropInvalidTarget},
		{"target broadcast", broadcast, nil, DropInvalidTarget},
		{"target 0.0.0.0", zero, nil, DropInvalidTarget},
		{"probe for 0.0.0.0", zero, func(r *request) { r.spa = zero }, DropInvalidTarget},
		{"target loopback", loopback, nil, DropLocalnet},
		{"sender loopback", gatewayIP, func(r *request) { r.spa = loopback }, DropLocalnet},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := who(c.target)
			if c.mod != nil {
				c.mod(&q)
			}
			req := q.bytes()
			reply := make([]byte, 64)
			n, v := answer(reply, req, testPolicy())
			if v != c.want {
				t.Fatalf("verdict %v, want %v", v, c.want)
			}
			if v == Answered {
				checkReply(t, reply[:n], req, answerMAC)
			} else if n != 0 || [64]byte(reply) != [64]byte{} {
				t.Errorf("%d bytes of reply with verdict %v", n, v)
			}
		})
	}
}

func TestAnswerEveryTruncation(t *testing.T) {
	req := who(gatewayIP).bytes()
	for n := range req {
		want := DropTruncated
		if n < wire.EthernetLen {
			want = DropTooSmall
		}
		if _, v := answer(make([]byte, ReplyLen), req[:n], testPolicy()); v != want {
			t.Errorf("%d bytes: %v, want %v", n, v, want)
		}
	}
}

func TestAnswerProxyRules(t *testing.T) {
	for _, c := range []struct {
		name     string
		decision ProxyDecision
		proxy    bool
		gateway  bool
		want     Verdict
	}{
		{"routed elsewhere", ProxyYes, true, false, Answered},
		{"routed elsewhere, not configured", ProxyYes, false, false, IgnoreNotProxied},
		{"no route", ProxyNo, true, false, IgnoreNotProxied},
		{"local", ProxyLocal, true, false, Local},
		{"local, not configured", ProxyLocal, false, false, Local},
		{"gateway that is local", ProxyLocal, false, true, Answered},
		{"gateway without a route", ProxyNo, false, true, Answered},
		{"gateway and proxied", ProxyNo, true, true, Answered},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testPolicy()
			p.Gateways, p.Proxy = nil, nil
			if c.proxy {
				p.Proxy = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
			}
			if c.gateway {
				p.Gateways = []netip.Addr{remoteIP}
			}
			p.Routes = routesFunc(func(target, sender netip.Addr, ifindex int) ProxyDecision {
				if target != remoteIP || sender != podIP || ifindex != p.Index {
					t.Errorf("asked for %v from %v on %d", target, sender, ifindex)
				}
				return c.decision
			})
			if _, v := answer(make([]byte, ReplyLen), who(remoteIP).bytes(), p); v != c.want {
				t.Errorf("%v, want %v", v, c.want)
			}
		})
	}
	p := testPolicy()
	p.Routes = nil
	if _, v := answer(make([]byte, ReplyLen), who(remoteIP).bytes(), p); v != IgnoreNotProxied {
		t.Errorf("without routes: %v", v)
	}
}

// With --keep-mac off the device has the answered MAC itself.
func TestAnswerDeviceHasAnsweredMAC(t *testing.T) {
	p := testPolicy()
	p.Own, p.Alias = answerMAC, nil
	reply := make([]byte, ReplyLen)
	q := who(gatewayIP).with(func(r *request) { r.dst = answerMAC }).bytes()
	if _, v := answer(reply, q, p); v != Answered {
		t.Fatal(v)
	}
	checkReply(t, reply, q, answerMAC)
	q = who(gatewayIP).with(func(r *request) { r.dst = deviceMAC }).bytes()
	if _, v := answer(reply, q, p); v != IgnoreOtherhost {
		t.Errorf("to the MAC it had before: %v", v)
	}
}
