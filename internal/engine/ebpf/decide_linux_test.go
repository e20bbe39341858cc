package ebpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// bench is the programs and a mirror, in a namespace that has the interfaces that
// random hosts have.
type bench struct {
	set    *claim.Set
	mirror *mirror
	macs   map[int32]wire.MAC
}

func newBench(t *testing.T, cfg claim.Config) *bench {
	t.Helper()
	nstest.Enter(t)
	nstest.NoIPv6()
	set, err := claim.Load(cfg)
	if errors.Is(err, claim.ErrNotSupported) {
		nstest.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	b := &bench{set: set, mirror: newMirror(set.Carrier(), func() uint64 { return 0 }, claim.Grace), macs: map[int32]wire.MAC{}}
	t.Cleanup(b.mirror.stop)
	for index := int32(2); index < 2+3*6; index += 3 {
		name := fmt.Sprintf("d%d", index)
		if out, err := exec.Command("ip", "link", "add", name, "index", fmt.Sprint(index), "type", "veth", "peer", "name", "p"+name, "index", fmt.Sprint(index+1000)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		l, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		b.macs[index] = wire.MAC(l.HardwareAddr)
	}
	return b
}

// ports tells the filter of a world's interfaces.
func (b *bench) ports(t *testing.T, w *routetest.World, builder *route.Builder) {
	t.Helper()
	for i := range w.Links {
		l := &w.Links[i]
		p := claim.Port{Ifindex: l.Ifindex, Forward: w.Family == route.IPv4, Workload: l.Workload(), Anywhere: l.Workload() || w.Policy.Transit,
			KernelForwards: l.KernelForwards(), IPv6: w.Family == route.IPv6 && l.MTU6 != 0, KernelForwards6: l.KernelForwards6(), Quota: 1 << 30}
		if l.Ethernet() {
			p.L2Len = wire.EthernetLen
		}
		slot, err := b.set.SetPort(p)
		if err != nil {
			t.Fatal(err)
		}
		if l.Slot = slot; l.Known() && builder != nil {
			builder.SetLink(l.Link)
		}
		b.mirror.setClaimed(l.Ifindex, true)
	}
}

// The programs carry what the table forwards, where it says to, and no more; and
// they carry all of it that is plain.
func TestCarriesAsTable(t *testing.T) {
	for _, family := range families {
		t.Run(family.String(), func(t *testing.T) { testCarriesAsTable(t, family) })
	}
}

func testCarriesAsTable(t *testing.T, family route.Family) {
	b := newBench(t, claim.Config{ARP: claim.ARPPolice{PerSecond: 1, Burst: 1}, Carry: true, IPv6: family == route.IPv6})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	carried, left, unexplained := 0, map[string]int{}, 0
	enough := map[route.Family]int{route.IPv4: 400, route.IPv6: 150}[family]
	for n := 0; n < enough || n < 6*enough && carried < enough; n++ { // in some 500 hosts few have a plain way
		w := newWorld(rng, family)
		w.Policy.Copies = false
		if rng.IntN(4) != 0 { // more comes through
			w.Rules = slices.DeleteFunc(w.Rules, func(r route.Rule) bool { return r.Priority != 0 && r.Priority < 32766 || r.Table < route.TableDefault })
			for i := range w.Links {
				l := &w.Links[i]
				l.Flags |= route.LinkEthernet
				if l.Flags &^= route.LinkKernelForwards | route.LinkKernelForwards6; l.MTU < 600 {
					l.MTU = 1500
				}
				l.Conf.RPFilter %= 2
				l.Conf6.RPFilter %= 2
			}
		}
		b.ports(t, w, nil)
		builder := w.Builder()
		for range 6 {
			table := builder.Publish()
			if err := b.mirror.publish(table); err != nil {
				t.Fatal(err)
			}
			for range 60 {
				data := make([]byte, 48)
				for i := range data {
					data[i] = byte(rng.Uint32())
				}
				c := routetest.Choices(data)
				var from *routetest.Link
				var ip []byte
				typ, total := wire.EtherTypeIPv4, 0
				if family == route.IPv6 {
					from, ip = w.Packet6(&c)
					typ, total = wire.EtherTypeIPv6, wire.IPv6Len+wire.IPv6(ip).PayloadLen()
				} else {
					from, ip = w.Packet(&c)
					total = wire.IPv4(ip).TotalLen()
				}
				in := table.Link(from.Ifindex)
				if in == nil {
					continue
				}
				mac := b.macs[in.Ifindex]
				frame := append(append(append([]byte(nil), mac[:]...), 2, 0, 0, 0, 0, 9, byte(typ>>8), byte(typ)), ip...)
				padding := rng.IntN(3) == 0
				if padding {
					frame = append(frame, 0, 0, 0, 0)
				}
				b.set.Window(0).Reset() // nothing is on its way through userspace
				if err := b.set.Carrier().Answer(); err != nil {
					t.Fatal(err)
				}
				got, err := b.set.Carrier().Try(in.Ifindex, frame)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := b.set.Carrier().Try(in.Ifindex, frame); err != nil || again != got {
					t.Fatalf("%+v, and the next time %+v, %v", got, again, err)
				}
				var d route.Decision
				why := notPlain(table, in, ip, &d)
				switch {
				case got.Carried && d.Out == nil:
					t.Fatalf("carried, and %s: %v\n% x\n%v", why, d.Verdict, ip, w)
				case got.Carried:
					want := claim.Decision{Carried: true, Ifindex: uint32(d.Out.Ifindex), Dst: d.Neighbour.MAC, Src: d.Out.MAC,
						Total: uint16(total), Trim: padding || total < len(ip), Peer: false}
					if got != want {
						t.Fatalf("%+v, want %+v", got, want)
					}
					carried++
				case why == "":
					unexplained++
					t.Errorf("not carried: from %d, % x\n%v", in.Ifindex, ip, w)
				default:
					left[why]++
				}
				if unexplained > 3 {
					t.FailNow()
				}
			}
			w.Change(rng, builder)
			b.ports(t, w, builder)
		}
		if err := b.mirror.publish(route.NewBuilder(route.Policy{}).Publish()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d carried, left: %v", carried, left)
	if carried < enough {
		t.Errorf("%d carried", carried)
	}
}

// notPlain says why a packet is not to be carried; d is what the table decides
// where it is forwarded at once.
func notPlain(t *route.Table, in *route.Link, packet []byte, d *route.Decision) string {
	if packet[0]>>4 == 6 {
		return notPlain6(t, in, packet, d)
	}
	ip := wire.IPv4(packet)
	if !ip.Valid() || !ip.HeaderValid() || !ip.ChecksumOK() || ip.TotalLen() > len(ip) || ip.TotalLen() < ip.HeaderLen() {
		return "bad header"
	}
	ip = ip[:ip.TotalLen()]
	if t.Owner(ip, in) != route.NotSpecified {
		return "the kernel's"
	}
	var got route.Decision
	t.Decide(ip, len(ip), in, &got)
	switch {
	case got.Verdict != route.Forward:
		return got.Verdict.String()
	case got.Fragment:
		return "to be fragmented"
	case got.Out == got.In:
		return "back where it came from"
	case ip.HeaderLen() > wire.IPv4MinLen:
		return "options"
	case !in.Ethernet() || !got.Out.Ethernet():
		return "no Ethernet"
	}
	*d = got
	plain := func(a netip.Addr, several bool) bool {
		r, _ := t.OneRoute(a, 3)
		return isPlain(r, several)
	}
	switch src := ip.SrcAddr(); {
	case !t.Plain(route.IPv4):
		return "rules"
	case !plain(ip.DstAddr(), false):
		return "not one way"
	case !plain(src, true):
		return "not one way back"
	case src.IsLoopback() || ip.DstAddr().IsLoopback():
		return "loopback"
	case len(ip) > got.Out.MTU:
		return "longer than its interface takes"
	}
	return ""
}

// isPlain: there is one way by a route, or a few are allowed.
func isPlain(r *route.Route, several bool) bool {
	return r != nil && r.Type == route.TypeUnicast && (len(r.Nexthops) == 1 && !r.Nexthops[0].Encap || several && len(r.Nexthops) > 1)
}

// notPlain6 is notPlain for a sound IPv6 packet.
func notPlain6(t *route.Table, in *route.Link, ip wire.IPv6, d *route.Decision) string {
	if t.Owner(ip, in) != route.NotSpecified {
		return "the kernel's"
	}
	var got route.Decision
	t.Decide6(ip, len(ip), in, &got)
	extended := ip.NextHeader() == 44
	switch {
	case got.Verdict != route.Forward:
		return got.Verdict.String()
	case got.Out == got.In:
		return "back where it came from"
	case ip.NextHeader() == wire.ProtoHopByHop:
		return "hop-by-hop options"
	case ip.HopLimit() == 255 && extended:
		return "neighbour discovery, maybe"
	case !in.Ethernet() || !got.Out.Ethernet():
		return "no Ethernet"
	}
	*d = got
	plain := func(a netip.Addr, several bool) bool {
		r, _ := t.PrefixRoute(netip.PrefixFrom(a, 128))
		return isPlain(r, several)
	}
	switch {
	case !t.Plain(route.IPv6):
		return "rules"
	case !plain(ip.DstAddr(), false):
		return "not one way"
	case in.Conf6.RPFilter != 0 && !plain(ip.SrcAddr(), true):
		return "not one way back"
	case len(ip) > got.Out.MTU6:
		return "longer than its interface takes"
	}
	return ""
}
