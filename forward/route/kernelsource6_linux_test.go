package route

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// TestKernelSource6 compares the choice of a source address with the kernel's, which
// `ip route get` tells, over random addresses: scopes, lengths, labels, deprecated ones.
func TestKernelSource6(t *testing.T) {
	nstest.Need(t, "ip")
	seed := uint64(time.Now().UnixNano())
	addrs := parsed(netip.MustParseAddr, "fd00:a::1", "fd00:a::2:1", "fd00:a:0:1::1", "fd00:b::1", "fdff::1", "2001:db8::1", "2001:db8:0:8000::1", "2001:db8:1::1",
		"2001:0:1::1", "2001:10::1", "2002:1::1", "3ffe:1::1", "fec0::1", "fe80::1", "fe80::2", "64:ff9b::1", "2600::1", "3000::1", "::2:1")
	dsts := append(parsed(netip.MustParseAddr, "fd00:a::9", "fd00:a::2:9", "fd00:c::9", "2001:db8::9", "2001:db8:0:9000::9", "2001:0:2::9", "2001:11::9",
		"2002:2::9", "3ffe::9", "fec0::9", "2600::9", "4000::9", "64:ff9b::9"), addrs...)
	for world := range 6 {
		t.Run(fmt.Sprint(world), func(t *testing.T) {
			nstest.Enter(t)
			t.Logf("seed %d", seed+uint64(world))
			h := &kernelHost{rng: rand.New(rand.NewPCG(seed+uint64(world), 0)), b: NewBuilder(Policy{IPv6: true})}
			h.links(t)
			var all []string
			for range 3 + h.rng.IntN(8) {
				a := oneOf(h, addrs...)
				how := fmt.Sprintf("address replace %v/%d dev %s nodad noprefixroute", a, oneOf(h, 128, 64, 48, 10), device(firstLink+h.rng.Int32N(kernelLinks)))
				if h.oneIn(3) {
					how += " valid_lft 1000 preferred_lft 0"
				}
				all = append(all, how)
			}
			all = append(all, "route add ::/1 dev a", "route add 8000::/1 dev b", "route add fd00:c::/32 dev c", "route add ::/0 dev c table 100")
			h.run(t, "-6", append(h.commands, all...))
			h.takeAddresses(t)
			for _, r := range []struct {
				prefix string
				dev    int32
			}{{"::/1", firstLink}, {"8000::/1", firstLink + 1}, {"fd00:c::/32", firstLink + 2}} {
				h.b.SetRoutes(TableMain, netip.MustParsePrefix(r.prefix), []Route{{Table: TableMain, Type: TypeUnicast, Dev: r.dev, Nexthops: []Nexthop{{Ifindex: r.dev, Weight: 1}}}})
			}
			table := h.b.Publish()
			for _, dst := range dsts {
				routes, err := netlink.RouteGet(dst.AsSlice())
				if err != nil || len(routes) != 1 {
					t.Fatalf("%v: %v, %v", dst, routes, err)
				}
				if dst.IsLinkLocalUnicast() || routes[0].Type == unix.RTN_LOCAL {
					continue
				}
				want, _ := netip.AddrFromSlice(routes[0].Src)
				route, _ := table.v6.lookup(&flow{dst: dst, iif: loopbackIfindex})
				if got := table.sourceBy(route, dst); got != want {
					t.Errorf("to %v: from %v, the kernel: from %v\n%v", dst, got, want, all)
				}
			}
		})
	}
}

// links makes the host's interfaces.
func (h *kernelHost) links(t *testing.T) {
	for path, value := range map[string]string{"all/forwarding": "1", "default/addr_gen_mode": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+path, []byte(value), 0); err != nil {
			nstest.Skip(t, "settings of a network namespace: %v", err)
		}
	}
	h.ip("link set lo up")
	for i := range int32(kernelLinks) {
		index := firstLink + i
		h.ip("link add name %s index %d type veth peer name peer%d", device(index), index, index)
		h.ip("link set dev peer%d up", index)
		h.ip("link set dev %s up", device(index))
		h.b.SetLink(Link{Ifindex: index, Name: device(index), Flags: LinkUp | LinkWorkload, MTU6: 1500})
	}
}

// takeAddresses tells the builder of the addresses that the kernel has.
func (h *kernelHost) takeAddresses(t *testing.T) {
	for index := int32(loopbackIfindex); index < firstLink+kernelLinks; index++ {
		if index > loopbackIfindex && index < firstLink {
			continue
		}
		l, err := netlink.LinkByIndex(int(index))
		if err != nil {
			t.Fatal(err)
		}
		list, err := netlink.AddrList(l, unix.AF_INET6)
		if err != nil {
			t.Fatal(err)
		}
		var all []Address
		for _, a := range list {
			local, _ := netip.AddrFromSlice(a.IP)
			length, _ := a.Mask.Size()
			all = append(all, Address{Local: local, Prefix: netip.PrefixFrom(local, length).Masked(), Scope: uint8(a.Scope),
				Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0, Tentative: a.Flags&unix.IFA_F_TENTATIVE != 0})
		}
		h.b.SetAddresses(IPv6, index, all)
	}
}
