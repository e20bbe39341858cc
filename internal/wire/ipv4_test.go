package wire_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"proxyarpd/internal/wire"
)

// serialize is what gopacket makes of layers, lengths and checksums included.
func serialize(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestIPv4Fields(t *testing.T) {
	for _, options := range [][]layers.IPv4Option{nil, {{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}, {OptionType: 148, OptionLength: 4, OptionData: []byte{1, 2}}}} {
		p := wire.IPv4(serialize(t, &layers.IPv4{
			Version: 4, TOS: 0xb8, Id: 0x1234, Flags: layers.IPv4DontFragment, TTL: 63, Protocol: layers.IPProtocolUDP,
			SrcIP: []byte{10, 20, 1, 2}, DstIP: []byte{192, 0, 2, 1}, Options: options,
		}, gopacket.Payload("data")))
		header := 20 + 4*len(options)
		for _, c := range []struct {
			field     string
			got, want any
		}{
			{"valid", p.Valid() && p.HeaderValid() && p.ChecksumOK(), true},
			{"version", p.Version(), uint8(4)},
			{"IHL", p.HeaderLen(), header},
			{"TOS", p.TOS(), uint8(0xb8)},
			{"total length", p.TotalLen(), header + 4},
			{"identification", p.ID(), uint16(0x1234)},
			{"flags", p.Frag(), uint16(0x4000)},
			{"DF", p.DontFragment(), true},
			{"fragment", p.IsFragment(), false},
			{"TTL", p.TTL(), uint8(63)},
			{"protocol", p.Protocol(), uint8(wire.ProtoUDP)},
			{"source", p.Src(), [4]byte{10, 20, 1, 2}},
			{"destination", p.Dst(), [4]byte{192, 0, 2, 1}},
			{"source address", p.SrcAddr(), netip.MustParseAddr("10.20.1.2")},
			{"destination address", p.DstAddr(), netip.MustParseAddr("192.0.2.1")},
			{"payload", string(p.Payload()), "data"},
			{"options", len(p.Options()), 4 * len(options)},
		} {
			if c.got != c.want {
				t.Errorf("%d options: %s is %v, want %v", len(options), c.field, c.got, c.want)
			}
		}
		if options != nil && !bytes.Equal(p.Options(), []byte{148, 4, 0, 0, 148, 4, 1, 2}) {
			t.Errorf("options %x", p.Options())
		}
		for i := range header { // each byte of the header is covered
			p[i] ^= 0x10
			if i != 0 && p.ChecksumOK() {
				t.Errorf("byte %d of %d may be anything", i, header)
			}
			p[i] ^= 0x10
		}
	}
}

func TestIPv4Valid(t *testing.T) {
	full := make([]byte, 64)
	for _, c := range []struct {
		first byte
		bytes int
		want  bool
	}{
		{0x45, 20, true},
		{0x45, 64, true},
		{0x46, 24, true},
		{0x4f, 60, true},
		{0x46, 23, false}, // cut
		{0x4f, 59, false},
		{0x44, 64, false}, // shorter than the fixed header
		{0x40, 64, false},
		{0x65, 64, false}, // IPv6
		{0x05, 64, false},
	} {
		full[0] = c.first
		if p := wire.IPv4(full[:c.bytes]); !p.Valid() || p.HeaderValid() != c.want {
			t.Errorf("%#x, %d bytes: %t", c.first, c.bytes, p.HeaderValid())
		}
	}
	if wire.IPv4(full[:19]).Valid() {
		t.Error("19 bytes are valid")
	}
}

func TestIPv4Fragment(t *testing.T) {
	for _, c := range []struct {
		word         uint16
		df, fragment bool
		offset       int
	}{
		{0x0000, false, false, 0},
		{0x4000, true, false, 0},
		{0x8000, false, false, 0}, // reserved
		{0x2000, false, true, 0},
		{0x0001, false, true, 8},
		{0x2001, false, true, 8},
		{0x1fff, false, true, 65528},
		{0x5fff, true, true, 65528},
	} {
		p := wire.IPv4(make([]byte, 20))
		p.SetFrag(c.word)
		if p.Frag() != c.word || p.DontFragment() != c.df || p.IsFragment() != c.fragment || p.FragmentOffset() != c.offset {
			t.Errorf("%#04x: DF %t, fragment %t, offset %d", c.word, p.DontFragment(), p.IsFragment(), p.FragmentOffset())
		}
	}
}

// The checksum is right after each change, whatever it was before.
func TestIPv4Checksum(t *testing.T) {
	b := make([]byte, 60)
	for range 20000 {
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		b[0] = 0x45 + byte(rand.IntN(11))
		p := wire.IPv4(b)
		p.UpdateHeaderChecksum()
		if !p.ChecksumOK() {
			t.Fatalf("%x: wrong when it was made", b)
		}
		if p.TTL() > 0 {
			ttl := p.TTL()
			if p.DecrementTTL(); !p.ChecksumOK() || p.TTL() != ttl-1 {
				t.Fatalf("%x: wrong with a TTL of %d, it was %d", b, p.TTL(), ttl)
			}
		}
	}
}

func TestPutIPv4(t *testing.T) {
	want := serialize(t, &layers.IPv4{
		Version: 4, TOS: 0xc0, Id: 0x1234, Flags: layers.IPv4MoreFragments, FragOffset: 5, TTL: 64, Protocol: layers.IPProtocolTCP,
		SrcIP: []byte{10, 20, 1, 2}, DstIP: []byte{192, 0, 2, 1},
	}, gopacket.Payload("data"))
	got := bytes.Repeat([]byte{0xff}, 24)
	copy(got[20:], "data")
	wire.PutIPv4(got, 0xc0, 24, 0x1234, wire.IPv4MF|5, 64, wire.ProtoTCP, [4]byte{10, 20, 1, 2}, [4]byte{192, 0, 2, 1})
	if !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	p := wire.IPv4(got)
	p.SetTotalLen(0x0506)
	p.SetID(0x0708)
	if p.TotalLen() != 0x0506 || p.ID() != 0x0708 {
		t.Errorf("length %#x, identification %#x", p.TotalLen(), p.ID())
	}
}

// slowChecksum is RFC 1071 word by word.
func slowChecksum(b []byte) uint16 {
	sum := 0
	for i, v := range b {
		if i%2 == 0 {
			sum += int(v) << 8
		} else {
			sum += int(v)
		}
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestChecksum(t *testing.T) {
	b := make([]byte, 70)
	for n := range 5000 {
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		if n%10 == 0 {
			copy(b, bytes.Repeat([]byte{0xff}, len(b))) // carries
		}
		part := b[:n%len(b)]
		if got, want := wire.Checksum(part), slowChecksum(part); got != want {
			t.Fatalf("%x: %#x, want %#x", part, got, want)
		}
		half := len(part) / 4 * 2
		if got, want := wire.Fold(wire.Sum(part[half:], wire.Sum(part[:half], 0))), slowChecksum(part); got != want {
			t.Fatalf("%x in two pieces: %#x, want %#x", part, got, want)
		}
		before, after := binary.BigEndian.Uint16(b[8:]), uint16(rand.Uint32())
		old := wire.Checksum(b)
		binary.BigEndian.PutUint16(b[8:], after)
		if got, want := wire.UpdateChecksum(old, before, after), wire.Checksum(b); got != want {
			t.Fatalf("%#x to %#x: %#x, want %#x", before, after, got, want)
		}
	}
}

// The equation of RFC 1624 where its sum carries twice, which few packets do.
func TestUpdateChecksumCarries(t *testing.T) {
	for before := range 0x10000 {
		sum, before := uint16(0x1234), uint16(before)
		rest := 0x1ffff - int(^sum) - int(^before)
		if rest < 0 || rest > 0xffff {
			continue
		}
		if got, want := wire.UpdateChecksum(sum, before, uint16(rest)), ^uint16(1); got != want {
			t.Fatalf("%#x, %#x to %#x: %#x, want %#x", sum, before, rest, got, want)
		}
	}
}

func TestPseudoSum4(t *testing.T) {
	ip := &layers.IPv4{Version: 4, TTL: 1, Protocol: layers.IPProtocolUDP, SrcIP: []byte{10, 20, 255, 2}, DstIP: []byte{192, 0, 2, 251}}
	udp := &layers.UDP{SrcPort: 0xfff1, DstPort: 53}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := serialize(t, udp, gopacket.Payload("odd"))
	want := binary.BigEndian.Uint16(b[6:])
	b[6], b[7] = 0, 0
	if got := wire.Fold(wire.Sum(b, wire.PseudoSum4([4]byte(ip.SrcIP), [4]byte(ip.DstIP), wire.ProtoUDP, len(b)))); got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
}

func TestPutICMP(t *testing.T) {
	want := serialize(t, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(wire.ICMPDestUnreachable, wire.ICMPFragNeeded), Id: 0x0102, Seq: 1400}, gopacket.Payload("quoted"))
	got := append(bytes.Repeat([]byte{0xff}, wire.ICMPLen), "quoted"...)
	wire.PutICMP(got, wire.ICMPDestUnreachable, wire.ICMPFragNeeded, 0x0102<<16|1400)
	if !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// The table is icmp_pointers of net/ipv4/icmp.c.
func TestICMPIsError(t *testing.T) {
	query := map[int]bool{0: true, 8: true, 13: true, 14: true, 15: true, 16: true, 17: true, 18: true}
	for typ := range 256 {
		if wire.ICMPIsError(uint8(typ)) == query[typ] {
			t.Errorf("type %d: error %t", typ, !query[typ])
		}
	}
}
