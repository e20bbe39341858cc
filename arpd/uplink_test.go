package arpd

import (
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

// TestAnswerUplink has each rule of an uplink decide.
func TestAnswerUplink(t *testing.T) {
	zero := netip.IPv4Unspecified()
	for _, c := range []struct {
		name   string
		target netip.Addr
		mod    func(*request)
		policy func(*Policy)
		want   Verdict
	}{
		{"a workload's", remoteIP, nil, nil, Answered},
		{"a workload's, unicast to the uplink", remoteIP, func(r *request) { r.dst = deviceMAC }, nil, Answered},
		{"probe for a workload's", remoteIP, func(r *request) { r.spa = zero }, nil, Answered},
		{"announcement of a workload's", remoteIP, func(r *request) { r.spa = remoteIP }, nil, IgnoreGratuitous},
		{"reply for a workload's", remoteIP, func(r *request) { r.op = wire.ARPReply }, nil, IgnoreReply},
		{"unicast to another uplink of ours", remoteIP, func(r *request) { r.dst = aliasMAC }, nil, IgnoreOtherhost},
		{"from another uplink of ours", remoteIP, func(r *request) { r.src, r.sha = aliasMAC, aliasMAC }, nil, IgnoreOwnFrame},
		{"from this uplink", remoteIP, func(r *request) { r.sha = deviceMAC }, nil, IgnoreOwnFrame},
		{"a gateway of workloads", gatewayIP, nil, nil, IgnoreNotProxied},
		{"routed to a workload, not in --answer-uplink", outsideIP, nil, nil, IgnoreNotProxied},
		{"the host's address", localIP, nil, nil, Local},
		{"the host's address, probed", localIP, func(r *request) { r.spa = zero }, nil, Local},
		{"no route", noRouteIP, nil, nil, IgnoreNoWorkload},
		{"probe, no route", noRouteIP, func(r *request) { r.spa = zero }, nil, IgnoreNoWorkload},
		{"the workload itself asks", ownIP, nil, nil, IgnoreOwnAddress},
		{"the workload itself probes", ownIP, func(r *request) { r.spa = zero }, nil, IgnoreOwnAddress},
		{"the way back is by another interface", remoteIP, func(r *request) { r.spa = outsideIP }, nil, IgnoreWayBack},
		{"nobody forwards", remoteIP, nil, func(p *Policy) { p.Uplink.Unforwarded = true }, IgnoreUnforwarded},
		{"nobody forwards, the host's address", localIP, nil, func(p *Policy) { p.Uplink.Unforwarded = true }, Local},
		{"tables not read yet", remoteIP, nil, func(p *Policy) { p.Routes = nil }, IgnoreNoWorkload},
		{"sender multicast", remoteIP, func(r *request) { r.spa = netip.MustParseAddr("224.0.0.1") }, nil, DropInvalidSource},
	} {
		p := uplinkPolicy()
		if c.policy != nil {
			c.policy(p)
		}
		q := who(c.target)
		if c.mod != nil {
			q = q.with(c.mod)
		}
		reply := make([]byte, ReplyLen)
		n, v := answer(reply, q.bytes(), p)
		if v != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
		if v == Answered {
			checkReply(t, reply[:n], q.bytes(), deviceMAC)
		}
	}
}

// TestReadClaim: a request or a reply for IPv4 over Ethernet claims its sender's
// address, all else nothing.
func TestReadClaim(t *testing.T) {
	for _, c := range []struct {
		name string
		mod  func(*request)
		want bool
	}{
		{"request", nil, true},
		{"reply", func(r *request) { r.op = wire.ARPReply }, true},
		{"RARP", func(r *request) { r.op = 3 }, false},
		{"no IPv4", func(r *request) { r.protocol = 0x86dd }, false},
		{"no ARP", func(r *request) { r.etherType = wire.EtherTypeIPv4 }, false},
	} {
		q := who(remoteIP)
		if c.mod != nil {
			q = q.with(c.mod)
		}
		got, ok := readClaim(q.bytes(), 9)
		if ok != c.want || ok && got != (Claim{Index: 9, IP: podIP, MAC: podMAC}) {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
	for n := range ReplyLen {
		if c, ok := readClaim(who(remoteIP).bytes()[:n], 9); ok {
			t.Errorf("%d bytes: %+v", n, c)
		}
	}
}
