package differential

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/wire"
)

// addressKinds are the kinds of addresses, by prefix; the first that fits counts.
var addressKinds = []struct {
	name     string
	prefixes []netip.Prefix
}{
	{"unspecified", prefixes("::/128")},
	{"loopback", prefixes("::1/128")},
	{"mapped", prefixes("::ffff:0:0/96")},
	{"compatible", prefixes("::/96")},
	{"link-local", prefixes("fe80::/64")},
	{"link-local beyond /64", prefixes("fe80::/10")},
	{"site-local", prefixes("fec0::/10")},
	{"unique local", prefixes("fc00::/7")},
	{"documentation", prefixes("2001:db8::/32", "3fff::/20")},
	{"6to4", prefixes("2002::/16")},
	{"Teredo", prefixes("2001::/32")},
	{"NAT64", prefixes("64:ff9b::/96")},
	{"discard", prefixes("100::/64")},
	{"multicast, interface", prefixes("ff01::/16")},
	{"multicast, link", prefixes("ff02::/16")},
	{"multicast, site", prefixes("ff05::/16")},
	{"multicast, global", prefixes("ff0e::/16")},
	{"multicast, reserved", prefixes("ff00::/16", "ff0f::/16")},
	{"global", prefixes("2000::/3")},
}

func addressKind(a netip.Addr) string {
	for _, k := range addressKinds {
		for _, p := range k.prefixes {
			// Prefix.Contains takes a mapped address for one of IPv4.
			if in := a.As16(); netip.PrefixFrom(netip.AddrFrom16(in), p.Bits()).Masked() == p {
				return k.name
			}
		}
	}
	return "other"
}

// headerKinds name extension headers.
var headerKinds = map[byte]string{
	wire.ProtoHopByHop: "hop-by-hop", wire.ProtoRouting: "routing", wire.ProtoFragment: "fragment", wire.ProtoDestOpts: "destination options",
	wire.ProtoAH: "authentication", wire.ProtoESP: "ESP", wire.ProtoMobility: "mobility", 139: "HIP", 140: "shim6", 253: "experiment", wire.ProtoNone: "no next header",
}

// kinds6 are what is special about a frame of an IPv6 world.
func kinds6(f *Frame) (all []string) {
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	h := ipv6Of(f.Bytes)
	if h == nil || h.Version() != 6 {
		return []string{"no IPv6"}
	}
	switch n := h.HopLimit(); n {
	case 0, 1, 2, 64, 255:
		say("hop limit %d", n)
	}
	say("source %s", addressKind(h.SrcAddr()))
	say("destination %s", addressKind(h.DstAddr()))
	gso := f.Vnet[1] != 0
	switch have, said := len(h)-wire.IPv6Len, h.PayloadLen(); {
	case said == 0 && have > 0:
		say("payload length 0")
	case said < have:
		say("payload length less than the frame's")
	case said > have:
		say("payload length more than the frame's")
	}
	size := len(h)
	if gso {
		size = int(binary.NativeEndian.Uint16(f.Vnet[2:])) - ethernetLen + int(binary.NativeEndian.Uint16(f.Vnet[4:]))
	}
	for _, mtu := range mtus6[1:] {
		switch size - mtu {
		case 0:
			say("as long as MTU %d", mtu)
		case 1:
			say("longer than MTU %d by 1", mtu)
		}
	}
	chain := headersOf(h)
	if len(chain) > 1 {
		say("several headers")
	}
	for _, x := range chain {
		say("header %s", headerKinds[x.typ])
		all = append(all, inHeader(x)...)
	}
	if gso {
		kind := "TCP"
		if f.Vnet[1]&^0x80 == gsoUDPL4 {
			kind = "UDP"
		}
		say("super-packet %s", kind)
		if len(chain) > 0 {
			say("super-packet %s behind %s", kind, headerKinds[chain[0].typ])
		}
	}
	if f.Vnet[0]&vnetNeedsCsum != 0 && !gso {
		say("checksum left to the device")
	}
	if typ, l4 := upper6(h); typ == wire.ProtoICMPv6 && len(l4) > 1 && l4[0] <= 4 {
		say("ICMPv6 error %d/%d", l4[0], l4[1]&7)
	} else if typ == wire.ProtoICMPv6 && len(l4) > 1 && l4[0] >= 130 && l4[0] <= wire.ICMPv6Redirect {
		say("ICMPv6 %d", l4[0])
	}
	return all
}

// headersOf are the extension headers of a packet, each with its body.
func headersOf(h wire.IPv6) (all []header6) {
	typ, rest := h.NextHeader(), h.Payload()
	for headerKinds[typ] != "" {
		n := 8
		switch {
		case typ == wire.ProtoNone || typ == wire.ProtoESP || typ >= 139 || len(rest) < 8:
			return append(all, header6{typ, rest})
		case typ == wire.ProtoAH:
			n = (int(rest[1]) + 2) * 4
		case typ != wire.ProtoFragment:
			n += int(rest[1]) * 8
		}
		if n > len(rest) {
			return append(all, header6{typ, rest})
		}
		all = append(all, header6{typ, rest[:n]})
		typ, rest = rest[0], rest[n:]
	}
	return all
}

// inHeader is what is special in a header.
func inHeader(x header6) (all []string) {
	b := x.body
	if len(b) < 8 {
		return []string{"header cut off"}
	}
	switch x.typ {
	case wire.ProtoFragment:
		first, more := b[2] == 0 && b[3]&0xf8 == 0, b[3]&1 != 0
		switch {
		case first && more:
			return []string{"fragment, the first"}
		case first:
			return []string{"fragment, atomic"}
		case more:
			return []string{"fragment, in between"}
		}
		return []string{"fragment, the last"}
	case wire.ProtoRouting:
		return []string{fmt.Sprintf("routing header of type %d", b[2])}
	case wire.ProtoHopByHop:
		switch {
		case b[2] > 1 && b[2] != optRouterAlert && b[2] != optJumbo:
			all = append(all, fmt.Sprintf("option unknown, action %d", b[2]>>6))
		case b[2] == optRouterAlert:
			all = append(all, "option router alert")
		case b[2] == optJumbo:
			all = append(all, "option jumbo payload")
		case b[2] <= 1:
			all = append(all, "option padding")
		}
	}
	return all
}

// wanted6 are kinds of which frames have to be among those of every run of some size.
var wanted6 = func() (all []string) {
	add := func(prefix string, names ...string) {
		for _, n := range names {
			all = append(all, prefix+n)
		}
	}
	for _, k := range addressKinds {
		add("source ", k.name)
		add("destination ", k.name)
	}
	for _, k := range headerKinds {
		add("header ", k)
	}
	add("hop limit ", "0", "1", "2", "64", "255")
	for _, mtu := range mtus6[1:] {
		add("", fmt.Sprintf("as long as MTU %d", mtu))
		if mtu < 4000 { // which is that of the widest port
			add("", fmt.Sprintf("longer than MTU %d by 1", mtu))
		}
	}
	add("payload length ", "0", "less than the frame's", "more than the frame's")
	add("fragment, ", "the first", "in between", "the last", "atomic")
	add("routing header of type ", "0", "2", "3", "4", "99")
	add("option ", "padding", "router alert", "jumbo payload", "unknown, action 0", "unknown, action 1", "unknown, action 2", "unknown, action 3")
	add("super-packet ", "TCP", "UDP", "TCP behind hop-by-hop", "TCP behind destination options", "TCP behind routing", "UDP behind hop-by-hop",
		"UDP behind destination options", "UDP behind routing")
	add("", "several headers", "header cut off", "checksum left to the device", "no IPv6")
	for typ := 1; typ <= 4; typ++ {
		for code := range 8 {
			add("", fmt.Sprintf("ICMPv6 error %d/%d", typ, code))
		}
	}
	for typ := 130; typ <= wire.ICMPv6Redirect; typ++ {
		add("", fmt.Sprintf("ICMPv6 %d", typ))
	}
	return all
}()

// TestKinds6: a run of IPv6 worlds has frames of all kinds.
func TestKinds6(t *testing.T) {
	seed := max(*seedFlag, 1)
	n := max(*framesFlag, 20000)
	w := &worlds6[0]
	counts := map[string]int{}
	for _, f := range schedule(seed, w, n) {
		for _, k := range kinds6(f) {
			counts[k]++
		}
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "  %6d %s\n", counts[k], k)
	}
	t.Logf("seed %d, %d frames\n%s", seed, n, b.String())
	for _, k := range wanted6 {
		if counts[k] == 0 {
			t.Errorf("no frame: %s", k)
		}
	}
}
