package forward

import (
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
)

// rcvOptions is ip_rcv_options (net/ipv4/ip_input.c): what it refuses, or nil.
func (w world) rcvOptions(p *packetOf, oif int32) []outcome {
	bad, source := w.compileOptions(p)
	switch {
	case bad >= 0:
		return refuse(route.DropIPInHdr, 12, 0, uint32(bad)<<24)
	case source == 0:
		return nil
	case !p.in.Conf.AcceptSourceRoute:
		return drop(route.DropSourceRoute)
	case source == 137:
		return refuse(route.DropIPInHdr, 12, 0, 16<<24)
	}
	return nil
}

// compileOptions is __ip_options_compile (net/ipv4/ip_options.c): the offset of
// what is wrong or -1, and the type of a source route or 0.
func (w world) compileOptions(p *packetOf) (bad int, source byte) {
	ip := p.ip()
	seen := map[byte]bool{}
	for at := 20; at < p.header; {
		switch ip[at] {
		case 0:
			for ; at < p.header; at++ {
				ip[at] = 0
			}
			return -1, source
		case 1:
			at++
			continue
		}
		left := p.header - at
		if left < 2 || ip[at+1] < 2 || int(ip[at+1]) > left {
			return at, source
		}
		kind, length := ip[at], int(ip[at+1])
		pointer := 0
		if length > 2 {
			pointer = int(ip[at+2])
		}
		switch kind {
		case 137, 131: // source routes
			switch {
			case length < 3:
				return at + 1, source
			case pointer < 4:
				return at + 2, source
			case source != 0:
				return at, source
			}
			source = kind
		case 7: // record route
			switch {
			case seen[7]:
				return at, source
			case length < 3:
				return at + 1, source
			case pointer < 4:
				return at + 2, source
			case pointer <= length && pointer+3 > length:
				return at + 2, source
			case pointer <= length:
				w.fillIn(p, at+pointer-1, w.specDst(p))
				p.record = at + pointer - 1
				ip[at+2] += 4
			}
		case 68: // timestamp
			if seen[68] {
				return at, source
			}
			if wrong := w.compileTimestamp(p, at, length); wrong >= 0 {
				return at + wrong, source
			}
		case 134: // CIPSO, of which no host here knows a domain
			switch {
			case seen[134]:
				return at, source
			case length < 8:
				return at + 1, source
			}
			return at + 2, source
		case 148: // router alert
			if length < 4 {
				return at + 1, source
			}
		}
		seen[kind] = true
		at += length
	}
	return -1, source
}

func (w world) compileTimestamp(p *packetOf, at, length int) int {
	ip := p.ip()
	if length < 4 {
		return 1
	}
	pointer, form := int(ip[at+2]), ip[at+3]&15
	if pointer < 5 {
		return 2
	}
	if pointer > length { // full
		if form != 3 {
			if ip[at+3]>>4 == 15 {
				return 3
			}
			ip[at+3] += 16
		}
		return -1
	}
	if pointer+3 > length || (form == 1 || form == 3) && pointer+7 > length {
		return 2
	}
	stamp := [4]byte{byte(p.millis >> 24), byte(p.millis >> 16), byte(p.millis >> 8), byte(p.millis)}
	entry := ip[at+pointer-1:]
	switch form {
	case 0:
		copy(entry, stamp[:])
		ip[at+2] += 4
	case 1:
		w.fillIn(p, at+pointer-1, w.specDst(p))
		copy(entry[4:], stamp[:])
		ip[at+2] += 8
	case 3:
		if !w.isUnicast(modelAddr(entry)) {
			copy(entry[4:], stamp[:])
			ip[at+2] += 8
		}
	}
	return -1
}

func (w world) fillIn(p *packetOf, at int, a netip.Addr) {
	var raw [4]byte
	if a.IsValid() {
		raw = a.As4()
	}
	copy(p.ip()[at:], raw[:])
}

// isUnicast is inet_addr_type() == RTN_UNICAST (net/ipv4/fib_frontend.c).
func (w world) isUnicast(a netip.Addr) bool {
	if nothing(a) || everyone(a) || a.IsMulticast() {
		return false
	}
	r, failed := w.tableLookup(255, a, 0)
	return failed != noError || r.Type == 1
}

// specDst is fib_compute_spec_dst (net/ipv4/fib_frontend.c).
func (w world) specDst(p *packetOf) netip.Addr {
	src := modelAddr(p.ip()[12:])
	r, failed := w.fibLookup(src, netip.AddrFrom4([4]byte{}), 1, p.ip()[1])
	if failed == noError {
		return w.prefSrc(r, &r.Nexthops[0])
	}
	return w.selectSource(p.in, src, 0)
}

// prefSrc is fib_result_prefsrc (net/ipv4/fib_semantics.c).
func (w world) prefSrc(r *routetest.Route, nh *route.Nexthop) netip.Addr {
	if r.Source.IsValid() {
		return r.Source
	}
	return w.selectSource(w.Link(nh.Ifindex), nh.Gateway, r.Scope)
}

// selectSource is inet_select_addr (net/ipv4/devinet.c).
func (w world) selectSource(l *routetest.Link, dst netip.Addr, scope uint8) netip.Addr {
	var first netip.Addr
	if l != nil {
		for _, a := range l.Addrs {
			own := a.Scope
			if l.Conf.RouteLocalnet && own > 253 {
				own = 253
			}
			if a.Secondary || own > scope {
				continue
			}
			if !dst.IsValid() || a.Prefix.Contains(dst) {
				return a.Local
			}
			if !first.IsValid() {
				first = a.Local
			}
		}
	}
	if first.IsValid() {
		return first
	}
	for i := range w.Links {
		for _, a := range w.Links[i].Addrs {
			if !a.Secondary && a.Scope != 253 && a.Scope <= scope {
				return a.Local
			}
		}
	}
	return netip.Addr{}
}

// forwardOptions is ip_forward_options (net/ipv4/ip_options.c).
func (w world) forwardOptions(p *packetOf, r *routetest.Route, nh *route.Nexthop, out *routetest.Link) {
	if p.record != 0 {
		w.fillIn(p, p.record, w.prefSrc(r, nh))
	}
}
