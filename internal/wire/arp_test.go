package wire_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/arp"

	"proxyarpd/internal/wire"
)

// arpRequest is "who has 169.254.1.1, tell 10.20.1.2" of 02:00:00:00:00:01.
const arpRequest = "0001080006040001" + "0200000000010a140102" + "000000000000a9fe0101"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestARPFields(t *testing.T) {
	a := wire.ARP(unhex(t, arpRequest))
	if !a.Valid() || !a.IsIPv4OverEthernet() {
		t.Fatal("a plain request is not taken as one")
	}
	for _, c := range []struct {
		field     string
		got, want any
	}{
		{"ar$hrd", a.HardwareType(), wire.ARPHardwareEthernet},
		{"ar$pro", a.ProtocolType(), wire.EtherTypeIPv4},
		{"ar$hln", a.HardwareLen(), uint8(6)},
		{"ar$pln", a.ProtocolLen(), uint8(4)},
		{"ar$op", a.Op(), wire.ARPRequest},
		{"ar$sha", a.SenderMAC(), wire.MAC{2, 0, 0, 0, 0, 1}},
		{"ar$spa", a.SenderIP(), netip.MustParseAddr("10.20.1.2")},
		{"ar$tha", a.TargetMAC(), wire.MAC{}},
		{"ar$tpa", a.TargetIP(), netip.MustParseAddr("169.254.1.1")},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v, want %v", c.field, c.got, c.want)
		}
	}
}

func TestARPShort(t *testing.T) {
	full := unhex(t, arpRequest)
	for n := range full {
		a := wire.ARP(full[:n])
		if a.Valid() {
			t.Errorf("%d bytes are valid", n)
		}
		if got, want := a.IsIPv4OverEthernet(), n >= wire.ARPFixedLen; got != want {
			t.Errorf("IsIPv4OverEthernet of %d bytes = %t, want %t", n, got, want)
		}
	}
}

func TestARPIsIPv4OverEthernet(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset int
		value  byte
		want   bool
	}{
		{"ethernet", 1, 1, true},
		{"ieee 802", 1, 6, true},
		{"ax.25", 1, 3, false},
		{"hardware type, high byte", 0, 1, false},
		{"ipv6", 2, 0x86, false},
		{"hardware length 0", 4, 0, false},
		{"infiniband", 4, 20, false},
		{"protocol length 16", 5, 16, false},
		{"operation is not looked at", 7, 9, true},
	} {
		b := unhex(t, arpRequest)
		b[c.offset] = c.value
		if got := wire.ARP(b).IsIPv4OverEthernet(); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

// FuzzARP holds three parsers against each other: what the view takes for valid
// the two others take too, with the same fields, and what mdlayher/arp parses
// with these lengths the view takes.
func FuzzARP(f *testing.F) {
	full := unhex(f, arpRequest)
	f.Add(full)
	f.Add(full[:27])
	f.Add(full[:7])
	f.Add(append(bytes.Clone(full), make([]byte, 18)...))
	f.Add(unhex(f, "00010800ff04000102"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := wire.ARP(b)
		ours := a.Valid() && a.IsIPv4OverEthernet()

		var p arp.Packet
		err := p.UnmarshalBinary(b)
		theirs := err == nil && (p.HardwareType == 1 || p.HardwareType == 6) &&
			p.ProtocolType == 0x0800 && p.HardwareAddrLength == 6 && p.IPLength == 4
		if ours != theirs {
			t.Fatalf("view says %t, mdlayher/arp %t (%v)", ours, theirs, err)
		}
		if !ours {
			return
		}
		if uint16(p.Operation) != uint16(a.Op()) || wire.MAC(p.SenderHardwareAddr) != a.SenderMAC() ||
			p.SenderIP != a.SenderIP() || wire.MAC(p.TargetHardwareAddr) != a.TargetMAC() ||
			p.TargetIP != a.TargetIP() {
			t.Fatalf("mdlayher/arp reads %+v", p)
		}

		pkt := gopacket.NewPacket(b, layers.LayerTypeARP, gopacket.NoCopy)
		g, ok := pkt.Layer(layers.LayerTypeARP).(*layers.ARP)
		if !ok {
			t.Fatalf("gopacket does not parse it: %v", pkt.ErrorLayer())
		}
		spa, tpa := a.SenderIP().As4(), a.TargetIP().As4()
		sha, tha := a.SenderMAC(), a.TargetMAC()
		if g.Operation != uint16(a.Op()) || !bytes.Equal(g.SourceHwAddress, sha[:]) ||
			!bytes.Equal(g.SourceProtAddress, spa[:]) || !bytes.Equal(g.DstHwAddress, tha[:]) ||
			!bytes.Equal(g.DstProtAddress, tpa[:]) {
			t.Fatalf("gopacket reads %+v", g)
		}
	})
}

// What PutARP writes is what mdlayher/arp marshals.
func TestPutARP(t *testing.T) {
	sha, tha := wire.MAC{2, 0, 0, 0, 0, 1}, wire.MAC{4, 0, 0, 0, 0, 2}
	spa, tpa := netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("10.20.1.2")
	for _, op := range []wire.ARPOp{wire.ARPRequest, wire.ARPReply, 0x0102} {
		got := bytes.Repeat([]byte{0xff}, wire.ARPLen+2)
		wire.PutARP(got, op, sha, spa, tha, tpa)
		p, err := arp.NewPacket(arp.Operation(op), sha[:], spa, tha[:], tpa)
		if err != nil {
			t.Fatal(err)
		}
		want, err := p.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, append(want, 0xff, 0xff)) {
			t.Errorf("%x, want %x", got, want)
		}
	}
	short := make([]byte, wire.ARPLen-1)
	defer func() {
		if recover() == nil || !bytes.Equal(short, make([]byte, len(short))) {
			t.Errorf("into %d bytes: %x", len(short), short)
		}
	}()
	wire.PutARP(short, wire.ARPReply, sha, spa, tha, tpa)
}

// The addresses as slices are those of the packet, and no more of it.
func TestARPHardwareAddrs(t *testing.T) {
	b := unhex(t, arpRequest)
	copy(b[18:], "target")
	a := wire.ARP(b)
	for _, c := range []struct {
		got  []byte
		want wire.MAC
	}{{a.SenderHardwareAddr(), a.SenderMAC()}, {a.TargetHardwareAddr(), a.TargetMAC()}} {
		if !bytes.Equal(c.got, c.want[:]) || cap(c.got) != 6 {
			t.Errorf("%x, capacity %d, want %v", c.got, cap(c.got), c.want)
		}
	}
	a.SenderHardwareAddr()[0]++
	if b[8] != 3 {
		t.Error("a copy")
	}
}

func TestARPDoesNotAllocate(t *testing.T) {
	b := unhex(t, arpRequest)
	if n := testing.AllocsPerRun(100, func() {
		a := wire.ARP(b)
		if !a.Valid() || !a.IsIPv4OverEthernet() || a.SenderIP() == a.TargetIP() || a.SenderMAC() == a.TargetMAC() {
			t.Error("misread")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
