package differential

import (
	"encoding/binary"
	"slices"

	"proxyarpd/internal/wire"
)

// redirectBurst is how many redirects a station gets at once, and how many there are about
// one destination (XRLIM_BURST_FACTOR in net/ipv4/inetpeer.c).
const redirectBurst = 6

// markLimited6 says of which frames it is a matter of milliseconds whether a redirect is due.
// An error takes from its receiver what a redirect would need.
func markLimited6(results []*result) {
	type had struct{ redirects, errors int }
	stations := map[addr6]*had{}
	of := func(a addr6) *had {
		if stations[a] == nil {
			stations[a] = &had{}
		}
		return stations[a]
	}
	for _, r := range results {
		h := ipv6Of(r.frame.Bytes)
		if !r.frame.IPv6 || h == nil {
			continue
		}
		src, dst := of(h.Src()), of(h.Dst())
		for _, s := range []*had{src, dst} {
			r.limited = r.limited || s.errors > 0 || s.redirects >= redirectBurst
		}
		for _, o := range slices.Concat(r.kernel, r.ours) {
			switch typ, ok := errorType(o.frame); {
			case ok && typ == wire.ICMPv6Redirect:
				src.redirects++
				dst.redirects++
			case ok:
				src.errors++
			}
		}
	}
}

// probeOptions6 has an option for which any host sends a parameter problem, to where no world
// forbids it.
func probeOptions6(i int) *Frame {
	from := [...]addr6{ip6("fd00:72::ff:1"), ip6("fd00:73::ff:1"), ip6("2001:db8:66::ff:1"), ip6("2001:db8:67:8000::ff:1")}[i]
	p := packet6{port: i, src: from, dst: podAddrs6[(i+1)%2][0], hops: 64, proto: wire.ProtoUDP, l4: udp(9, 9, nil), l4sum: 6}
	p.hop(option6(0x9e, 1))
	return p.frame("probe", i)
}

func fence6(i int) []byte {
	from := [...]addr6{podAddrs6[pod0][0], podAddrs6[pod1][0], ip6("2001:db8:66::fe"), ip6("2001:db8:67::fe")}
	to := [...]addr6{podAddrs6[pod1][0], podAddrs6[pod0][0], podAddrs6[pod0][0], podAddrs6[pod1][0]}
	p := packet6{port: i, src: from[i], dst: to[i], hops: 64, proto: wire.ProtoUDP, l4: udp(fencePort, fencePort, make([]byte, 16)), l4sum: 6}
	f := p.frame("fence", i)
	f.mark(uint32(1 + i))
	return append(f.Vnet[:], f.Bytes...)
}

func isFence6(h wire.IPv6) bool {
	return h.FlowLabel() < firstID && h.NextHeader() == wire.ProtoUDP && len(h) >= wire.IPv6Len+4 && binary.BigEndian.Uint16(h[wire.IPv6Len:]) == fencePort
}
