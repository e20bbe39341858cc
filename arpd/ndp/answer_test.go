package ndp

import (
	"net/netip"
	"testing"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// malformed is what RFC 4861 section 7.1.1 and RFC 6980 have nobody heed, and what else
// the socket may get, with the verdict.
var malformed = []struct {
	name  string
	frame []byte
	want  Verdict
}{
	{"hop limit 254", who(gatewayIP).with(func(s *solicit) { s.hopLimit = 254 }).bytes(), arpd.DropNDHopLimit},
	{"checksum", who(gatewayIP).with(func(s *solicit) { s.badSum = true }).bytes(), arpd.DropICMPCsum},
	{"code", who(gatewayIP).with(func(s *solicit) { s.code = 1 }).bytes(), arpd.DropNDCode},
	{"shorter than a solicitation", who(gatewayIP).with(func(s *solicit) { s.options, s.cut = nil, 1 }).bytes(), arpd.DropTooSmall},
	{"a type alone", who(gatewayIP).with(func(s *solicit) { s.options, s.cut = nil, 23 }).bytes(), arpd.DropICMPCsum},
	{"no message", who(gatewayIP).with(func(s *solicit) { s.options, s.cut = nil, 24 }).bytes(), arpd.DropTooSmall},
	{"multicast target", who(gatewayIP).with(func(s *solicit) { s.target = group(gatewayIP) }).bytes(), arpd.DropInvalidTarget},
	{"target ::", who(anyIP).bytes(), arpd.DropInvalidTarget},
	{"target ::1", who(netip.IPv6Loopback()).bytes(), arpd.DropInvalidTarget},
	{"option of length 0", who(gatewayIP).with(func(s *solicit) { s.options = append(s.options, 14, 0, 1, 2, 3, 4, 5, 6) }).bytes(), arpd.DropNDOptions},
	{"option cut off", who(gatewayIP).with(func(s *solicit) { s.options = append(s.options, 14) }).bytes(), arpd.DropNDOptions},
	{"link-layer address of 14 bytes", who(gatewayIP).with(func(s *solicit) { s.options = append([]byte{1, 2}, make([]byte, 14)...) }).bytes(), arpd.DropNDOptions},
	{"DAD with a link-layer address", probe(gatewayIP).with(func(s *solicit) { s.options = lladdr(1, podMAC) }).bytes(), arpd.DropNDBadDAD},
	{"DAD to all nodes", probe(gatewayIP).with(func(s *solicit) { s.to = allNodes }).bytes(), arpd.DropNDBadDAD},
	{"DAD to the target", probe(gatewayIP).with(func(s *solicit) { s.to = gatewayIP }).bytes(), arpd.DropNDBadDAD},
	{"source ::1", who(gatewayIP).with(func(s *solicit) { s.from = netip.IPv6Loopback() }).bytes(), arpd.DropInvalidSource},
	{"multicast source", who(gatewayIP).with(func(s *solicit) { s.from = allNodes }).bytes(), arpd.DropInvalidSource},
	{"atomic fragment", who(gatewayIP).with(func(s *solicit) { s.next, s.headers = 44, []byte{58, 0, 0, 0, 0, 0, 0, 1} }).bytes(), arpd.DropNDFrag},
	{"first fragment", who(gatewayIP).with(func(s *solicit) { s.next, s.headers = 44, []byte{58, 0, 0, 1, 0, 0, 0, 1} }).bytes(), arpd.DropNDFrag},
	{"later fragment", who(gatewayIP).with(func(s *solicit) { s.next, s.headers = 44, []byte{58, 0, 0, 8, 0, 0, 0, 1} }).bytes(), arpd.IgnoreNDOther},
	{"fragment header cut off", who(gatewayIP).with(func(s *solicit) { s.next, s.options, s.cut = 44, nil, 20 }).bytes(), arpd.IgnoreNDOther},
	{"behind destination options", who(gatewayIP).with(func(s *solicit) { s.next, s.headers = 60, []byte{58, 0, 1, 4, 0, 0, 0, 0} }).bytes(), arpd.IgnoreNDOther},
	{"UDP", who(gatewayIP).with(func(s *solicit) { s.next = wire.ProtoUDP }).bytes(), arpd.IgnoreNDOther},
	{"advertisement", who(gatewayIP).with(func(s *solicit) { s.typ = wire.ICMPv6NeighAdvert }).bytes(), arpd.IgnoreAdvertisement},
	{"router solicitation", who(gatewayIP).with(func(s *solicit) { s.typ = wire.ICMPv6RouterSolicit }).bytes(), arpd.IgnoreNDOther},
	{"shorter than its header says", who(gatewayIP).with(func(s *solicit) { s.short = 1 }).bytes(), arpd.DropTruncated},
	{"version 4", who(gatewayIP).with(func(s *solicit) { s.version = 4 }).bytes(), arpd.DropIPv6Header},
	{"EtherType", who(gatewayIP).with(func(s *solicit) { s.etherType = wire.EtherTypeIPv4 }).bytes(), arpd.DropProtocol},
	{"no frame", []byte{1, 2, 3}, arpd.DropTooSmall},
	{"no packet", who(gatewayIP).bytes()[:wire.EthernetLen], arpd.DropTruncated},
}

func TestMalformed(t *testing.T) {
	for _, c := range malformed {
		for _, p := range []*Policy{testPolicy(), uplinkPolicy()} {
			if n, v := answer(make([]byte, AdvertisementLen), c.frame, p); v != c.want || n != 0 {
				t.Errorf("%s, %s: %v, want %v", c.name, p.Name, v, c.want)
			}
		}
	}
}

// asked are solicitations with which nothing is wrong, and their ends on a workload's
// interface and on an uplink.
var asked = []struct {
	name             string
	s                solicit
	workload, uplink Verdict
}{
	{"gateway", who(gatewayIP), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, from a link-local address", who(gatewayIP).with(func(s *solicit) { s.from = podLL }), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, unicast probe", unicast(gatewayIP), arpd.Answered, arpd.IgnoreOtherhost},
	{"gateway, to the device", unicast(gatewayIP).with(func(s *solicit) { s.dst = deviceMAC }), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, to the alias", unicast(gatewayIP).with(func(s *solicit) { s.dst = aliasMAC }), arpd.Answered, arpd.IgnoreOtherhost},
	{"gateway, to all nodes", who(gatewayIP).with(func(s *solicit) { s.to, s.dst = allNodes, wire.MulticastMAC(wire.AllNodes) }), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, without link-layer address", who(gatewayIP).with(func(s *solicit) { s.options = nil }), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, other options", who(gatewayIP).with(func(s *solicit) { s.options = append([]byte{14, 1, 1, 2, 3, 4, 5, 6}, s.options...) }), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, padded", who(gatewayIP).with(func(s *solicit) { s.trailer = 18 }), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, DAD: defended", probe(gatewayIP), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"gateway, DAD with a nonce", probe(gatewayIP).with(func(s *solicit) { s.options = []byte{14, 1, 1, 2, 3, 4, 5, 6} }), arpd.Answered, arpd.IgnoreNDNotProxied},
	{"proxied", who(remoteIP), arpd.Answered, arpd.Answered},
	{"proxied, unicast probe", unicast(remoteIP).with(func(s *solicit) { s.dst = deviceMAC }), arpd.Answered, arpd.Answered},
	{"proxied, DAD", probe(remoteIP), arpd.IgnoreNDProbe, arpd.Answered},
	{"not routed", who(noRouteIP), arpd.IgnoreNDNotProxied, arpd.IgnoreNDNoWorkload},
	{"of this host", who(localIP), arpd.Local, arpd.Local},
	{"own address, routed elsewhere", who(ownIP), arpd.IgnoreNDOwnAddress, arpd.IgnoreNDOwnAddress},
	{"not in --proxy", who(outsideIP), arpd.IgnoreNDNotProxied, arpd.IgnoreNDNotProxied},
	{"link-local, whatever routes say", who(otherLL), arpd.IgnoreNDNotProxied, arpd.IgnoreNDNotProxied},
	{"from the target itself", who(remoteIP).with(func(s *solicit) { s.from = remoteIP }), arpd.IgnoreNDOwnAddress, arpd.IgnoreNDOwnAddress},
	{"way back is elsewhere", who(remoteIP).with(func(s *solicit) { s.from = outsideIP }), arpd.Answered, arpd.IgnoreNDWayBack},
	{"on its way to another station", who(gatewayIP).with(func(s *solicit) { s.dst, s.to = deviceMAC, outsideIP }), arpd.IgnoreNDDestination, arpd.IgnoreNDDestination},
	{"to another station's MAC", unicast(remoteIP).with(func(s *solicit) { s.dst = otherMAC }), arpd.IgnoreOtherhost, arpd.IgnoreOtherhost},
	{"our own", who(gatewayIP).with(func(s *solicit) { s.src = deviceMAC }), arpd.IgnoreOwnFrame, arpd.IgnoreOwnFrame},
	{"says that it is ours", who(gatewayIP).with(func(s *solicit) { s.options = lladdr(1, aliasMAC) }), arpd.IgnoreOwnFrame, arpd.IgnoreOwnFrame},
	{"link-layer address of a group", who(gatewayIP).with(func(s *solicit) { s.options = lladdr(1, wire.Broadcast) }), arpd.DropInvalidMAC, arpd.DropInvalidMAC},
}

func TestAnswer(t *testing.T) {
	for _, c := range asked {
		for _, p := range []*Policy{testPolicy(), uplinkPolicy()} {
			want := c.workload
			if p.Uplink != nil {
				want = c.uplink
			}
			frame, reply := c.s.bytes(), make([]byte, AdvertisementLen)
			var s Solicitation
			if v := s.Read(frame); v != arpd.NotSpecified {
				t.Errorf("%s: read: %v", c.name, v)
				continue
			}
			n, v := Answer(reply, &s, p)
			if v != want {
				t.Errorf("%s, %s: %v, want %v", c.name, p.Name, v, want)
			}
			if v == arpd.Answered {
				checkReply(t, reply[:n], &s, p.Answer, p.IsGateway(s.Target))
			}
			if mac := c.s.src; len(c.s.options) == 0 && s.MAC != mac {
				t.Errorf("%s: asked by %v", c.name, s.MAC)
			}
		}
	}
}

func TestUnforwarded(t *testing.T) {
	p := uplinkPolicy()
	p.Uplink.Unforwarded = true
	if _, v := answer(make([]byte, AdvertisementLen), who(remoteIP).bytes(), p); v != arpd.IgnoreNDUnforwarded {
		t.Errorf("%v", v)
	}
}

// Each truncation of a solicitation ends, in a drop.
func TestEveryTruncation(t *testing.T) {
	frame := who(gatewayIP).bytes()
	for n := range len(frame) {
		if _, v := answer(make([]byte, AdvertisementLen), frame[:n], testPolicy()); v.Kind() != arpd.KindDrop || v == arpd.NotSpecified {
			t.Errorf("%d bytes: %v", n, v)
		}
	}
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	p, reply := testPolicy(), make([]byte, AdvertisementLen)
	for _, c := range asked {
		frame := c.s.bytes()
		if n := testing.AllocsPerRun(100, func() { answer(reply, frame, p) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestReadClaim(t *testing.T) {
	advert := func(f func(*solicit)) solicit {
		return who(remoteIP).with(func(s *solicit) {
			s.typ, s.from, s.to, s.options = wire.ICMPv6NeighAdvert, remoteIP, allNodes, lladdr(2, otherMAC)
			f(s)
		})
	}
	for _, c := range []struct {
		name string
		s    solicit
		ip   netip.Addr
		mac  wire.MAC
		none bool
	}{
		{"advertisement", advert(func(*solicit) {}), remoteIP, otherMAC, false},
		{"of another's address", advert(func(s *solicit) { s.from = podLL }), remoteIP, otherMAC, false},
		{"without option", advert(func(s *solicit) { s.options = nil }), remoteIP, podMAC, false},
		{"that was forwarded", advert(func(s *solicit) { s.hopLimit = 64 }), anyIP, otherMAC, true},
		{"with a wrong checksum", advert(func(s *solicit) { s.badSum = true }), anyIP, otherMAC, true},
		{"solicitation", who(gatewayIP), podIP, podMAC, false},
		{"DAD", probe(gatewayIP), anyIP, podMAC, true},
		{"another message", who(gatewayIP).with(func(s *solicit) { s.typ = wire.ICMPv6EchoRequest }), anyIP, podMAC, true},
	} {
		got, ok := readClaim(c.s.bytes(), 9)
		if ok == c.none || ok && got != (arpd.Claim{Index: 9, IP: c.ip, MAC: c.mac}) {
			t.Errorf("%s: %+v, %t", c.name, got, ok)
		}
	}
}
