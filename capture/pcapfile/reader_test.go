package pcapfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// everything adds a section with all that a pcapng file can say of packets.
func everything(b *builder) {
	b.section(b.option(shbHardware, "hw"), b.option(shbOS, "os"), b.option(shbUserAppl, "appl"), b.option(optComment, "on the file"))
	b.block(4, uint16(1), uint16(8), "\x0a\x00\x00\x01pod\x00", 0) // Name Resolution Block
	b.block(0x0a, 0x544c534b, 4, "none")                           // Decryption Secrets Block
	b.block(0x4711, "from the future")
	b.iface(1, 100, b.option(ifName, "cali1"), b.option(ifDescription, "default/web\x00"), b.option(ifFilter, "\x00arp"),
		b.option(ifTSResol, uint8(9)), b.option(ifMACAddr, "\x02\x00\x00\x00\x00\x01"), b.option(ifOS, "Linux"), b.option(optEnd))
	b.iface(276, 0, b.option(ifTSResol, uint8(0x80|20)), b.option(ifTSOffset, int64(-3600)), b.option(ifFilter, "\x01programs"))
	b.packet(0, 1_700_000_000_123_456_789, "frame", b.option(optComment, "verdict=drop"), b.option(optComment, "2nd"),
		b.option(epbFlags, MakeFlags(Outbound, Broadcast)), b.option(epbDropCount, uint64(7)),
		b.option(epbPacketID, uint64(1<<40)), b.option(epbQueue, 3), b.option(epbHash, "\x02abcd"), b.option(optEnd), "behind the end")
	const half = 1_700_003_600<<20 | 1<<19
	ticks := b.words(uint32(half>>32), uint32(half&math.MaxUint32))
	b.packet(1, half, "")
	b.block(blockPacket, uint16(1), uint16(5), ticks, 3, 60, "abc\x00", b.option(epbFlags, 1), b.option(epbPacketID, uint64(9)))
	b.block(blockPacket, uint16(1), uint16(unknownDropCount), ticks, 0, 0)
	b.block(blockSimplePacket, 104, strings.Repeat("s", 100))
	b.block(blockStatistics, 0, 0, 99, b.option(isbIfRecv, uint64(1)))
	b.block(blockStatistics, 0, 0, 100, b.option(isbStartTime, 0, 1), b.option(isbEndTime, 0, 2), b.option(isbIfRecv, uint64(3)),
		b.option(isbIfDrop, uint64(4)), b.option(isbFilterAccept, uint64(5)), b.option(isbOSDrop, uint64(6)), b.option(isbUsrDeliv, uint64(7)))
	b.block(blockStatistics, 77, 0, 100)
}

// It is read, in both byte orders and two sections, byte by byte.
func TestReadPcapng(t *testing.T) {
	var file []byte
	for _, order := range orders {
		b := &builder{ByteOrder: order}
		everything(b)
		b.block(0x0bad, 1, "custom") // Custom Block
		file = append(file, b.buf...)
	}

	cali := &Interface{ID: 0, Name: "cali1", Description: "default/web", Filter: "arp", OS: "Linux", LinkType: LinkTypeEthernet, SnapLen: 100,
		TSResol: 9, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Statistics: &Statistics{Time: 100, Has: 1<<7 - 1, StartTime: 1, EndTime: 2,
			IfRecv: 3, IfDrop: 4, FilterAccept: 5, OSDrop: 6, UsrDeliv: 7}}
	other := &Interface{ID: 1, LinkType: LinkTypeLinuxSLL2, SnapLen: MaxSnapLen, TSResol: 0x80 | 20, TSOffset: -3600}
	want := []Packet{
		{Time: 1_700_000_000_123_456_789, Nanoseconds: true, Data: []byte("frame"), Len: 5, LinkType: LinkTypeEthernet, Interface: cali,
			Has: HasTime | HasFlags | HasDropCount | HasPacketID | HasQueue, Flags: 2 | 3<<2, DropCount: 7, PacketID: 1 << 40, Queue: 3,
			Comments: [][]byte{[]byte("verdict=drop"), []byte("2nd")}},
		{Time: 1_700_000_000_500_000_000, Nanoseconds: true, Data: []byte{}, LinkType: LinkTypeLinuxSLL2, Interface: other, Has: HasTime},
		{Time: 1_700_000_000_500_000_000, Nanoseconds: true, Data: []byte("abc"), Len: 60, LinkType: LinkTypeLinuxSLL2, Interface: other,
			Has: HasTime | HasFlags | HasDropCount, Flags: 1, DropCount: 5},
		{Time: 1_700_000_000_500_000_000, Nanoseconds: true, Data: []byte{}, LinkType: LinkTypeLinuxSLL2, Interface: other, Has: HasTime},
		{Nanoseconds: true, Data: bytes.Repeat([]byte("s"), 100), Len: 104, LinkType: LinkTypeEthernet, Interface: cali},
	}
	want = append(want, want...)

	for name, r := range map[string]io.Reader{
		"at once":    bytes.NewReader(file),
		"one byte":   iotest.OneByteReader(bytes.NewReader(file)),
		"with error": iotest.DataErrReader(bytes.NewReader(file)),
	} {
		got, f, err := readAll(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d packets, want %d", name, len(got), len(want))
		}
		for i := range got {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Errorf("%s: packet %d:\n got %+v of %+v\nwant %+v of %+v", name, i, got[i], *got[i].Interface, want[i], *want[i].Interface)
			}
		}
		if f.Format() != Pcapng || len(f.Interfaces()) != 2 {
			t.Errorf("%s: format %v, %d interfaces", name, f.Format(), len(f.Interfaces()))
		}
		if s := f.Section(); !reflect.DeepEqual(s, Section{"hw", "os", "appl", []string{"on the file"}}) {
			t.Errorf("%s: section %+v", name, s)
		}
	}
}

const epbHash = 3

func TestReadPcap(t *testing.T) {
	for _, order := range orders {
		for _, c := range []struct {
			magic        uint32
			major, minor uint16
			capture      int // as the header has them
			wire         int
			time         int64
			nano         bool
		}{
			{magicMicro, 2, 4, 3, 60, 1_700_000_000_000_999_000, false},
			{magicNano, 2, 4, 3, 60, 1_700_000_000_000_000_999, true},
			{magicMicro, 2, 2, 60, 3, 1_700_000_000_000_999_000, false},
			{magicMicro, 2, 3, 60, 3, 1_700_000_000_000_999_000, false},
			{magicMicro, 2, 3, 3, 60, 1_700_000_000_000_999_000, false},
			{magicMicro, 543, 0, 60, 3, 1_700_000_000_000_999_000, false},
		} {
			b := &builder{ByteOrder: order}
			b.pcapHeader(c.magic, c.major, c.minor, 4, 0x04000001)
			b.pcapPacket(1_700_000_000, 999, c.capture, c.wire, "abc")
			b.pcapPacket(0, 0, 5, 5, "abcde") // longer than the snapshot length
			got, r := mustReadAll(t, b.buf)
			i := &Interface{LinkType: LinkTypeEthernet, SnapLen: 4, TSResol: 6, FCS: 1}
			if c.nano {
				i.TSResol = 9
			}
			want := []Packet{
				{Time: c.time, Nanoseconds: c.nano, Data: []byte("abc"), Len: 60, LinkType: LinkTypeEthernet, Interface: i, Has: HasTime},
				{Nanoseconds: c.nano, Data: []byte("abcd"), Len: 5, LinkType: LinkTypeEthernet, Interface: i, Has: HasTime},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%v %+v:\n got %+v\nwant %+v", order, c, got, want)
			}
			if r.Format() != Pcap || len(r.Interfaces()) != 1 || !reflect.DeepEqual(r.Section(), Section{}) {
				t.Errorf("%v %+v: format %v, interfaces %v, section %v", order, c, r.Format(), r.Interfaces(), r.Section())
			}
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		resolution uint8
		offset     int64
		ticks      uint64
		want       int64
	}{
		{6, 0, 1_700_000_000_123_456, 1_700_000_000_123_456_000},
		{9, 0, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789},
		{9, -1, 1_700_000_000_123_456_789, 1_699_999_999_123_456_789},
		{3, 0, 1_700_000_000_123, 1_700_000_000_123_000_000},
		{0, 0, 1_700_000_000, 1_700_000_000_000_000_000},
		{0, 1_700_000_000, 7, 1_700_000_007_000_000_000},
		{12, 0, 1_700_000_123_456_789, 1700_000_123_456},
		{19, 0, 17_000_000_000_000_000_000, 1_700_000_000},
		{0x80, 0, 1_700_000_000, 1_700_000_000_000_000_000},
		{0x80 | 1, 0, 3, 1_500_000_000},
		{0x80 | 32, 0, 1_700_000_000<<32 | 1<<31, 1_700_000_000_500_000_000},
		{0x80 | 63, 0, 1<<63 | 1<<62, 1_500_000_000},
		{6, -2, 500_000, -1_500_000_000},
		{0, 0, math.MaxUint64, math.MaxInt64},
		{0, math.MaxInt64, math.MaxUint64, math.MaxInt64},
		{0, math.MinInt64, math.MaxUint64, math.MaxInt64},
		{0, math.MinInt64, 0, math.MinInt64},
		{9, math.MinInt64, 0, math.MinInt64},
		{9, math.MaxInt64, 0, math.MaxInt64},
		{9, 0, math.MaxUint64, math.MaxInt64},
		{9, -9_223_372_037, 9_223_372_037_000_000_001, 1},
	} {
		per, ok := ticksPerSecond(c.resolution)
		if !ok {
			t.Fatalf("%#x is refused", c.resolution)
		}
		if got := (clock{per, c.offset}).nanoseconds(c.ticks); got != c.want {
			t.Errorf("resolution %#x, offset %d, %d ticks: %d, want %d", c.resolution, c.offset, c.ticks, got, c.want)
		}
	}
	for _, r := range []uint8{20, 127, 0x80 | 64, 255} {
		if _, ok := ticksPerSecond(r); ok {
			t.Errorf("%#x is not refused", r)
		}
	}
}

// A packet of a live stream is there as soon as its last byte is.
func TestReadWithoutDelay(t *testing.T) {
	le := &builder{ByteOrder: orders[0]}
	ng := le.section().iface(1, 0).buf
	head := len(ng)
	packet := (&builder{ByteOrder: orders[0]}).packet(0, 1, "frame").buf
	pcap := (&builder{ByteOrder: orders[0]}).pcapHeader(magicMicro, 2, 4, 0, 1).buf
	pcapPacket := (&builder{ByteOrder: orders[0]}).pcapPacket(0, 0, 5, 5, "frame").buf
	for _, c := range []struct {
		name         string
		head, packet []byte
	}{{"pcapng", ng[:head], packet}, {"pcap", pcap, pcapPacket}} {
		from, to := net.Pipe()
		got := make(chan error)
		go func() {
			r, err := NewReader(from)
			got <- err
			var p Packet
			for err == nil {
				if err = r.Next(&p); err == nil && string(p.Data) != "frame" {
					err = fmt.Errorf("read %q", p.Data)
				}
				got <- err
			}
		}()
		for i, b := range [][]byte{c.head, c.packet, c.packet, c.packet} {
			write(t, to, b)
			select {
			case err := <-got:
				if err != nil {
					t.Fatalf("%s: step %d: %v", c.name, i, err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: step %d was not read", c.name, i)
			}
		}
		to.Close()
		if err := <-got; err != io.EOF {
			t.Errorf("%s: at the end: %v", c.name, err)
		}
	}
}

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// damaged are files that can't be read whole, and what is said of them.
// tcpdump: it says the same.
var damaged = []struct {
	name    string
	file    func(b *builder) *builder
	packets int
	err     string
	tcpdump bool
}{
	{"empty", func(b *builder) *builder { return b }, 0, "truncated dump file; tried to read 4 file header bytes, only got 0", true},
	{"three bytes", func(b *builder) *builder { return b.add("abc") }, 0, "truncated dump file; tried to read 4 file header bytes, only got 3", true},
	{"text", func(b *builder) *builder { return b.add("no capture at all") }, 0, "unknown file format", true},
	{"modified", func(b *builder) *builder { return b.pcapHeader(0xa12b3c4d, 2, 4, 0, 1) }, 0,
		"Navtel's modified pcap file (magic number 0xa12b3c4d): not supported", false},
	{"version 1", func(b *builder) *builder { return b.pcapHeader(magicMicro, 1, 4, 0, 1) }, 0, "archaic pcap savefile format", true},
	{"version 2.5", func(b *builder) *builder { return b.pcapHeader(magicMicro, 2, 5, 0, 1) }, 0, "unsupported pcap savefile version 2.5", true},
	{"version 3", func(b *builder) *builder { return b.pcapHeader(magicMicro, 3, 0, 0, 1) }, 0, "unsupported pcap savefile version 3.0", true},
	// libpcap does not count the four bytes of the magic number that it got.
	{"file header cut", func(b *builder) *builder { return b.add(uint32(magicMicro), "abc") }, 0, "truncated dump file; tried to read 24 file header bytes, only got 7", false},
	{"packet header cut", func(b *builder) *builder {
		return b.pcapHeader(magicMicro, 2, 4, 0, 1).pcapPacket(1, 2, 3, 4, "abc").add("0123456789")
	}, 1, "truncated dump file; tried to read 16 header bytes, only got 10", true},
	{"packet cut", func(b *builder) *builder {
		return b.pcapHeader(magicMicro, 2, 4, 0, 1).pcapPacket(1, 2, 3, 4, "abc").pcapPacket(1, 2, 30, 40, "abcd")
	}, 1, "truncated dump file; tried to read 30 captured bytes, only got 4", true},
	{"packet gone", func(b *builder) *builder {
		return b.pcapHeader(magicNano, 2, 4, 0, 1).pcapPacket(1, 2, 3, 4, "")
	}, 0, "truncated dump file; tried to read 3 captured bytes, only got 0", true},
	{"packet too long", func(b *builder) *builder {
		return b.pcapHeader(magicMicro, 2, 4, 65535, 1).pcapPacket(1, 2, 3, 4, "abc").pcapPacket(1, 2, 262145, 40, "abcd")
	}, 1, "invalid packet capture length 262145, bigger than snaplen of 65535", true},
	{"packet much too long", func(b *builder) *builder {
		return b.pcapHeader(magicMicro, 2, 4, math.MaxInt32, 1).pcapPacket(1, 2, -1, 40, "abcd")
	}, 0, "invalid packet capture length 4294967295, bigger than snaplen of 2147483647", true},
	{"packet over the maximum", func(b *builder) *builder {
		return b.pcapHeader(magicMicro, 2, 4, math.MaxInt32, 1).pcapPacket(1, 2, 1000000, 40, "abcd")
	}, 0, "invalid packet capture length 1000000, bigger than maximum of 262144", true},
	{"link type", func(b *builder) *builder { return b.pcapHeader(magicMicro, 2, 4, 0, 0x10001) }, 0, "unknown data link type 65537 (min 104, max 289)", true},

	{"half a section", func(b *builder) *builder { return b.add(blockSection, 28) }, 0, "unknown file format", true},
	{"no section", func(b *builder) *builder { return b.add(blockSection, 28, "abcd", "efgh") }, 0, "unknown file format", true},
	{"section cut", func(b *builder) *builder { return b.add(blockSection, 28, byteOrderMagic, "efgh") }, 0,
		"truncated pcapng dump file; tried to read 16 bytes, only got 4", true},
	{"section too short", func(b *builder) *builder { return b.add(blockSection, 24, byteOrderMagic, "efgh") }, 0,
		"Section Header Block in pcapng dump file has a length of 24, not of 28 to 1048576", false},
	{"section too long", func(b *builder) *builder { return b.add(blockSection, 1<<20+4, byteOrderMagic, "efgh") }, 0,
		"Section Header Block in pcapng dump file has a length of 1048580, not of 28 to 1048576", false},
	{"section version", func(b *builder) *builder {
		return b.block(blockSection, byteOrderMagic, uint16(2), uint16(0), int64(-1))
	}, 0, "unsupported pcapng savefile version 2.0", false},
	{"packet without interface", func(b *builder) *builder { return b.section().packet(0, 0, "abc") }, 0,
		"a packet arrived on interface 0, but there's no Interface Description Block for that interface", false},
	{"packet of another interface", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").packet(1, 1, "abc")
	}, 1, "a packet arrived on interface 1, but there's no Interface Description Block for that interface", true},
	{"packet of the section before", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").section().packet(0, 1, "abc")
	}, 1, "a packet arrived on interface 0, but there's no Interface Description Block for that interface", true},
	{"block cut", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").add(blockEnhancedPacket, 36, "12345")
	}, 1, "truncated pcapng dump file; tried to read 28 bytes, only got 5", true},
	{"block header cut", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").add(blockEnhancedPacket, "abc")
	}, 1, "truncated pcapng dump file; tried to read 8 bytes, only got 7", true},
	{"block without a trailer", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").add(4, 8, 8)
	}, 1, "block in pcapng dump file has a length of 8 < 12", true},
	{"block of odd length", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").add(4, 13, "abcdefg")
	}, 1, "block in pcapng dump file has a length of 13 that is not a multiple of 4", true},
	{"block too long", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").add(4, 16<<20+4, "abcdefg")
	}, 1, "pcapng block size 16777220 > maximum 16777216", true},
	{"two lengths", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").add(4, 16, "abcd", 12)
	}, 1, "block total length in header 16 and trailer 12 don't match", false},
	{"short interface", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").block(blockInterface, 1)
	}, 1, "block of type 1 in pcapng dump file is too short", true},
	{"short packet block", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").block(blockEnhancedPacket, 0, 0, 0, 0)
	}, 1, "block of type 6 in pcapng dump file is too short", true},
	{"packet beyond its block", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").block(blockEnhancedPacket, 0, 0, 0, 9, 9, "abcdefgh")
	}, 1, "block of type 6 in pcapng dump file is too short", true},
	{"simple packet beyond its block", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").block(blockSimplePacket, 9, "abcdefgh")
	}, 1, "block of type 3 in pcapng dump file is too short", true},
	{"short simple packet block", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").block(blockSimplePacket)
	}, 1, "block of type 3 in pcapng dump file is too short", true},
	{"short obsolete packet block", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abc").block(blockPacket, 0)
	}, 1, "block of type 2 in pcapng dump file is too short", true},
	{"packet beyond the snapshot length", func(b *builder) *builder {
		return b.section().iface(1, 4).packet(0, 1, "abcd").packet(0, 1, "abcde")
	}, 1, "invalid packet capture length 5, bigger than snaplen of 4", true},
	{"huge capture length", func(b *builder) *builder {
		return b.section().iface(1, -1).packet(0, 1, "abcd").block(blockEnhancedPacket, 0, 0, 0, -1, -1, "abcdefgh")
	}, 1, "invalid packet capture length 4294967295, bigger than snaplen of 262144", true},
	{"resolution", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").iface(1, 0, b.option(ifTSResol, uint8(20)))
	}, 1, "Interface Description Block if_tsresol option resolution 10^-20 is too high", true},
	{"binary resolution", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").iface(1, 0, b.option(ifTSResol, uint8(0xc0)))
	}, 1, "Interface Description Block if_tsresol option resolution 2^-64 is too high", true},
	{"long resolution", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").iface(1, 0, b.option(ifTSResol, uint16(20)))
	}, 1, "Interface Description Block has if_tsresol option with length 2 != 1", true},
	{"long offset", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").iface(1, 0, b.option(ifTSOffset, uint8(1)))
	}, 1, "Interface Description Block has if_tsoffset option with length 1 != 8", true},
	{"half an option", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").iface(1, 0, uint16(ifName), uint16(5), "abcd")
	}, 1, "block of type 1 in pcapng dump file is too short", true},
	{"later section of version 2", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").block(blockSection, byteOrderMagic, uint16(2), uint16(0), int64(-1))
	}, 1, "unsupported pcapng savefile version 2.0", false},
	{"later section too short", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").block(blockSection, byteOrderMagic, 1)
	}, 1, "block of type 168627466 in pcapng dump file is too short", true},
	{"bad byte order", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").block(blockSection, "abcdefghijklmnop")
	}, 1, "the file has a section with a bad byte order magic field", true},
	{"later section cut", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd").add(blockSection, 28)
	}, 1, "truncated pcapng dump file; tried to read 12 bytes, only got 8", false},
}

func TestDamaged(t *testing.T) {
	for _, c := range damaged {
		for _, order := range orders {
			file := c.file(&builder{ByteOrder: order}).buf
			got, _, err := readAll(bytes.NewReader(file))
			if err == nil || err.Error() != c.err || len(got) != c.packets {
				t.Errorf("%s, %v: %d packets, %q, want %d, %q", c.name, order, len(got), err, c.packets, c.err)
			}
			if cut := strings.HasPrefix(c.err, "truncated"); cut != errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: is %q an io.ErrUnexpectedEOF? want %v", c.name, err, cut)
			}
		}
	}
}

// An error stays, and one of the reader is passed on.
func TestReadError(t *testing.T) {
	b := &builder{ByteOrder: orders[0]}
	file := b.section().iface(1, 0).packet(0, 1, "abc").buf
	broken := errors.New("broken")
	r, err := NewReader(io.MultiReader(bytes.NewReader(file), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	if err := r.Next(&p); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Next(&p); !errors.Is(err, broken) || p.Data != nil {
			t.Errorf("%v, packet %+v", err, p)
		}
	}
	if _, err := NewReader(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := NewReader(stuck{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// stuck is a reader that never reads anything.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// What a length field promises is not what is allocated.
func TestMemory(t *testing.T) {
	b := &builder{ByteOrder: orders[0]}
	b.section().iface(1, 0).add(blockEnhancedPacket, maxBlockLen, "little")
	const times = 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		if _, _, err := readAll(bytes.NewReader(b.buf)); err == nil {
			t.Error("no error")
		}
	}
	runtime.ReadMemStats(&after)
	allocated := (after.TotalAlloc - before.TotalAlloc) / times
	if allocated > 2*initialBuffer {
		t.Errorf("a file of %d bytes makes the Reader allocate %d", len(b.buf), allocated)
	}
}

// A section can't have so many interfaces, or so much text, that it is too much.
func TestInterfaceLimits(t *testing.T) {
	b := &builder{ByteOrder: orders[0]}
	b.section()
	one := (&builder{ByteOrder: orders[0]}).iface(1, 0).buf
	b.buf = append(b.buf, bytes.Repeat(one, maxInterfaces+1)...)
	if _, r, err := readAll(bytes.NewReader(b.buf)); err == nil || len(r.Interfaces()) != maxInterfaces {
		t.Errorf("%d interfaces: %v", len(r.Interfaces()), err)
	}
	b.buf = nil
	b.section()
	long := strings.Repeat("x", maxOptionLen)
	one = (&builder{ByteOrder: orders[0]}).iface(1, 0, b.option(ifName, long), b.option(ifDescription, long)).buf
	b.buf = append(b.buf, bytes.Repeat(one, 129)...)
	if _, r, err := readAll(bytes.NewReader(b.buf)); err == nil || len(r.Interfaces()) != 128 {
		t.Errorf("%d interfaces with %d bytes of text: %v", len(r.Interfaces()), 2*maxOptionLen, err)
	}
	b.buf = nil
	b.section().iface(1, 0).packet(0, 0, "x", bytes.Repeat(b.option(optComment, "c"), maxComments+1))
	if all, _ := mustReadAll(t, b.buf); len(all[0].Comments) != maxComments {
		t.Errorf("%d comments", len(all[0].Comments))
	}
}

// The largest block is read, and the smaller ones behind it.
func TestLargeBlocks(t *testing.T) {
	b := &builder{ByteOrder: orders[0]}
	b.section().iface(1, 0).packet(0, 1, "before").block(4, make([]byte, maxBlockLen-12)).packet(0, 2, strings.Repeat("x", MaxSnapLen)).packet(0, 3, "behind")
	all, _ := mustReadAll(t, b.buf)
	lengths := []int{}
	for _, p := range all {
		lengths = append(lengths, len(p.Data))
	}
	if !slices.Equal(lengths, []int{6, MaxSnapLen, 6}) || string(all[2].Data) != "behind" {
		t.Errorf("packets of %v bytes", lengths)
	}
}

// What is not understood is skipped: options and blocks of other lengths than
// they should have leave the packets as they are.
var odd = []struct {
	name string
	file func(b *builder) *builder
}{
	{"half a packet option", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd", b.option(optComment, "kept"), uint16(optComment), uint16(5), "abcd")
	}},
	{"a packet option that is longer than all", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd", b.option(optComment, "kept"), uint16(4711), uint16(0xffff), "abcd")
	}},
	{"short flags, counts and IDs", func(b *builder) *builder {
		return b.section().iface(1, 0).packet(0, 1, "abcd", b.option(epbFlags, uint8(1)), b.option(epbDropCount, 1), b.option(epbPacketID, ""),
			b.option(epbQueue, uint64(1)), b.option(optComment, "kept"))
	}},
	{"a MAC of one byte", func(b *builder) *builder {
		return b.section().iface(1, 0, b.option(ifMACAddr, uint8(1)), b.option(ifFilter, ""), b.option(ifFCSLen, "")).packet(0, 1, "abcd", b.option(optComment, "kept"))
	}},
	{"statistics cut, short and without end", func(b *builder) *builder {
		return b.section().iface(1, 0).block(blockStatistics, 0, 0).block(blockStatistics, 0, 0, 1, b.option(isbIfRecv, 1), b.option(isbStartTime, "")).
			block(blockStatistics, 0, 0, 1, uint16(isbIfDrop), uint16(9), "abcd").packet(0, 1, "abcd", b.option(optComment, "kept"))
	}},
	{"half an option of a section", func(b *builder) *builder {
		return b.section(uint16(shbOS), uint16(7), "Lin").iface(1, 0).packet(0, 1, "abcd", b.option(optComment, "kept"))
	}},
	{"a later section of version 1.9", func(b *builder) *builder {
		return b.section().iface(1, 0).block(blockSection, byteOrderMagic, uint16(1), uint16(9), int64(-1), uint16(1)).iface(1, 0).packet(0, 1, "abcd", b.option(optComment, "kept"))
	}},
	{"blocks without a body", func(b *builder) *builder {
		return b.section().iface(1, 0).block(0).block(4).block(0xbad).block(0x80000001, "a").packet(0, 1, "abcd", b.option(optComment, "kept"))
	}},
}

func TestOdd(t *testing.T) {
	for _, c := range odd {
		for _, order := range orders {
			got, _, err := readAll(bytes.NewReader(c.file(&builder{ByteOrder: order}).buf))
			if err != nil || len(got) != 1 || string(got[0].Data) != "abcd" || len(got[0].Comments) != 1 || string(got[0].Comments[0]) != "kept" || got[0].Has != HasTime {
				t.Errorf("%s, %v: %+v, %v", c.name, order, got, err)
			}
		}
	}
}

// Times that nanoseconds in an int64 can't say, and what is written of them.
func TestOddTimes(t *testing.T) {
	const y2300, y9000 = 10_413_792_000, 221_845_392_000 // s
	pcap := func(order int, magic uint32, seconds, fraction int) []byte {
		return (&builder{ByteOrder: orders[order]}).pcapHeader(magic, 2, 4, 0, 1).pcapPacket(seconds, fraction, 1, 1, "x").buf
	}
	ng := func(resolution uint8, offset int64, ticks uint64) []byte {
		b := &builder{ByteOrder: orders[0]}
		return b.section().iface(1, 0, b.option(ifTSResol, resolution), b.option(ifTSOffset, offset)).packet(0, ticks, "x").buf
	}
	for _, c := range []struct {
		name    string
		file    []byte
		exact   Stamp
		seconds int64  // of When
		again   uint64 // ticks of a pcapng file
	}{
		{"a second and more", pcap(0, magicMicro, 1_700_000_000, 1_000_000), Stamp{1_700_000_000, 1e9}, 1_700_000_001, 1_700_000_001e9},
		{"nanoseconds", pcap(1, magicNano, 7, 1_999_999_999), Stamp{7, 1_999_999_999}, 8, 8_999_999_999},
		{"signed", pcap(0, magicMicro, -0x80000000, -1), Stamp{-0x80000000, -1000}, 1<<31 + 4294, (1<<31)*1e9 + (1<<32-1)*1000},
		{"unsigned", pcap(1, magicMicro, -0x80000000, 5), Stamp{1 << 31, 5000}, 1 << 31, (1<<31)*1e9 + 5000},
		{"2300", ng(6, 0, y2300*1e6+5), Stamp{y2300, 5000}, y2300, y2300*1e9 + 5000},
		{"9000", ng(6, 0, y9000*1e6+5), Stamp{y9000, 5000}, y9000, math.MaxUint64},
		{"9000 by an offset", ng(9, y9000, 5), Stamp{y9000, 5}, y9000, math.MaxUint64},
		{"before 1677", ng(9, -y2300, 5), Stamp{-y2300, 5}, -y2300, 0},
	} {
		got, _ := mustReadAll(t, c.file)
		p := &got[0]
		if p.Exact() != c.exact || p.When().Unix() != c.seconds {
			t.Errorf("%s: %+v at %v", c.name, p.Exact(), p.When())
		}
		again := AppendEnhancedPacket(nil, 0, p)
		if ticks := stamp(byteOrder{}, again[12:]); ticks != c.again {
			t.Errorf("%s: %d ticks are written, want %d", c.name, ticks, c.again)
		}
		var out bytes.Buffer
		w := NewPcapWriter(&out, PcapHeader{LinkType: LinkTypeEthernet, Nano: p.Nanoseconds})
		if err := errors.Join(w.WritePacket(p), w.Flush()); err != nil {
			t.Fatal(err)
		}
		r, _ := mustReadAll(t, out.Bytes())
		if want := (Stamp{int64(int32(c.exact.Seconds)), c.exact.Nanoseconds}); r[0].Exact() != want {
			t.Errorf("%s: %+v is written to a pcap file", c.name, r[0].Exact())
		}
	}
}

// The lengths and types in NFLOG's header are in the capturing host's byte order.
func TestNFLOGOrder(t *testing.T) {
	for _, order := range orders {
		b := &builder{ByteOrder: order}
		frame := string(b.words("\x02\x00\x00\x05", uint16(5), uint16(10), "a\x00\x00\x00", uint16(8), uint16(9), "abcd", uint16(99)))
		want := "\x02\x00\x00\x05\x05\x00\x0a\x00a\x00\x00\x00\x08\x00\x09\x00abcd\x63\x00"
		if order == orders[1] {
			want = want[:20] + frame[20:] // there is no whole header any more
		}
		other := "\x02\x01" + frame[2:] // a version that nobody knows
		b.pcapHeader(magicMicro, 2, 4, 0, int(LinkTypeNFLOG)).pcapPacket(1, 0, len(frame), len(frame), frame).pcapPacket(1, 0, len(other), len(other), other)
		got, _ := mustReadAll(t, b.buf)
		if string(got[0].Data) != want || string(got[1].Data) != other {
			t.Errorf("%v: %q, %q, want %q, %q", order, got[0].Data, got[1].Data, want, other)
		}
	}
}

// Kuznetzov's format has longer packet headers, and cooked Ethernet frames.
func TestReadModified(t *testing.T) {
	for _, order := range orders {
		b := (&builder{ByteOrder: order}).pcapHeader(magicModified, 2, 4, 4, 1)
		for _, data := range []string{"abc", strings.Repeat("x", 4+cookedEthernet)} {
			b.add(1, 2, len(data), 60, 3, uint16(0x800), uint16(0), data)
		}
		got, r := mustReadAll(t, b.buf)
		if len(got) != 2 || string(got[0].Data) != "abc" || len(got[1].Data) != 18 || got[1].Time != 1_000_002_000 || r.Interfaces()[0].SnapLen != 18 {
			t.Errorf("%v: %+v", order, got)
		}
	}
}
