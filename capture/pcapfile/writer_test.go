package pcapfile

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// frame is a UDP datagram that all tools know.
var frame = []byte{
	2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
	0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
	0x30, 0x39, 0x30, 0x3a, 0, 12, 0, 0, 'p', 'i', 'n', 'g',
}

var (
	cali = &Interface{Name: "cali12345678901", Description: "default/web-0 eth0", Filter: "udp port 12345", OS: "Linux 6.18",
		MAC: net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, LinkType: LinkTypeEthernet, SnapLen: MaxSnapLen}
	uplink = &Interface{Name: "ens3", LinkType: LinkTypeEthernet, SnapLen: MaxSnapLen}
)

const when = 1_700_000_000_123_456_789

// samples are packets with all that can be written of one, little of it, and
// nothing.
var samples = []Packet{
	{Time: when, Data: frame, Len: 60, LinkType: LinkTypeEthernet, Interface: cali,
		Has: HasTime | HasFlags | HasPacketID | HasQueue | HasDropCount, Flags: MakeFlags(Inbound, Unicast), PacketID: 8123, Queue: 2, DropCount: 5,
		Comments: [][]byte{[]byte("verdict=forward out=ens3"), []byte("sécond")}},
	{Time: when + 1000, Data: frame, Len: uint32(len(frame)), LinkType: LinkTypeEthernet, Interface: uplink,
		Has: HasTime | HasFlags | HasPacketID, Flags: MakeFlags(Outbound, ReceptionUnknown), PacketID: 8123},
	{Time: when + 2001, Data: frame[:33], Len: 1500, LinkType: LinkTypeEthernet, Interface: cali, Has: HasTime},
	{Time: when + 3000, Data: frame[:0], Len: 0, LinkType: LinkTypeEthernet, Interface: uplink, Has: HasTime | HasQueue | HasDropCount},
}

var counters = Statistics{Time: when + 4000, Has: 1<<7 - 1, StartTime: when - 1, EndTime: when + 4000,
	IfRecv: 100, IfDrop: 7, FilterAccept: 93, OSDrop: 3, UsrDeliv: 90}

var sectionSample = Section{Hardware: "amd64", OS: "Linux 6.18", Application: "proxyarpd 1.0", Comments: []string{"for a test"}}

// sampleFile is the samples as pcapng.
func sampleFile(t testing.TB) []byte {
	t.Helper()
	var file bytes.Buffer
	w := NewWriter(&file, &sectionSample)
	for i := range samples {
		if err := w.WritePacket(&samples[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteStatistics(cali, &counters); err != nil {
		t.Fatal(err)
	}
	if file.Len() != 0 {
		t.Errorf("%d bytes are written before Flush", file.Len())
	}
	size := w.Size()
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if size != int64(file.Len()) || w.Size() != size {
		t.Errorf("sizes %d, %d, %d bytes", size, w.Size(), file.Len())
	}
	return file.Bytes()
}

// What is written is what is read.
func TestWritePcapng(t *testing.T) {
	got, r := mustReadAll(t, sampleFile(t))
	if s := r.Section(); !reflect.DeepEqual(s, sectionSample) {
		t.Errorf("section %+v", s)
	}
	if len(got) != len(samples) {
		t.Fatalf("%d packets", len(got))
	}
	for i := range got {
		want := samples[i]
		want.Nanoseconds = true
		iface := *want.Interface
		iface.TSResol = 9
		if want.Interface == cali {
			iface.Statistics = &counters
		} else {
			iface.ID = 1
		}
		want.Interface = &iface
		if !reflect.DeepEqual(got[i], want) {
			t.Errorf("packet %d:\n got %+v of %+v\nwant %+v of %+v", i, got[i], *got[i].Interface, want, iface)
		}
	}
}

func TestWritePcap(t *testing.T) {
	for _, nano := range []bool{false, true} {
		var file bytes.Buffer
		w := NewPcapWriter(&file, PcapHeader{LinkType: LinkTypeEthernet, SnapLen: 40, Nano: nano})
		for i := range samples {
			if err := w.WritePacket(&samples[i]); err != nil {
				t.Fatal(err)
			}
		}
		raw := Packet{LinkType: LinkTypeRaw}
		if err := w.WritePacket(&raw); err == nil {
			t.Error("a packet of another link type is taken")
		}
		size := w.Size()
		if err := w.Flush(); err != nil || size != int64(file.Len()) {
			t.Fatalf("%v, size %d, %d bytes", err, size, file.Len())
		}
		got, r := mustReadAll(t, file.Bytes())
		if len(got) != len(samples) || r.Interfaces()[0].SnapLen != 40 {
			t.Fatalf("%d packets, %+v", len(got), r.Interfaces()[0])
		}
		for i := range got {
			want := Packet{Time: samples[i].Time, Nanoseconds: nano, Data: limit(&samples[i], 40), Len: samples[i].Len,
				LinkType: LinkTypeEthernet, Interface: r.Interfaces()[0], Has: HasTime}
			if !nano {
				want.Time -= want.Time % 1000
			}
			if !reflect.DeepEqual(got[i], want) {
				t.Errorf("nano %v, packet %d:\n got %+v\nwant %+v", nano, i, got[i], want)
			}
		}
	}
}

// What does not fit into the formats becomes what does.
func TestWriteLimits(t *testing.T) {
	var file bytes.Buffer
	w := NewWriter(&file, &Section{})
	long := strings.Repeat("é", maxOptionLen)
	i := &Interface{Name: long, Filter: long, SnapLen: 10, LinkType: LinkTypeEthernet, MAC: net.HardwareAddr{1, 2, 3}}
	early := Packet{Time: -1, Data: frame, Len: uint32(len(frame)), Interface: i, Comments: [][]byte{[]byte(long), {}}}
	if err := errors.Join(w.WritePacket(&early), w.Flush()); err != nil {
		t.Fatal(err)
	}
	got, _ := mustReadAll(t, file.Bytes())
	p := got[0]
	if p.Time != 0 || !bytes.Equal(p.Data, frame[:10]) || p.Len != uint32(len(frame)) || len(early.Data) != len(frame) {
		t.Errorf("%+v", p)
	}
	for name, s := range map[string]string{"name": p.Interface.Name, "filter": p.Interface.Filter, "comment": string(p.Comments[0])} {
		if len(s) != maxOptionLen-1 || !utf8.ValidString(s) {
			t.Errorf("%s has %d bytes", name, len(s))
		}
	}
	if len(p.Comments) != 2 || len(p.Comments[1]) != 0 || p.Interface.MAC != nil {
		t.Errorf("%d comments, MAC %v", len(p.Comments), p.Interface.MAC)
	}

	pcap := NewPcapWriter(&file, PcapHeader{LinkType: LinkTypeEthernet})
	file.Reset()
	early.LinkType = LinkTypeEthernet
	if err := errors.Join(pcap.WritePacket(&early), pcap.Flush()); err != nil {
		t.Fatal(err)
	}
	if got, r := mustReadAll(t, file.Bytes()); got[0].Time != 0 || r.Interfaces()[0].SnapLen != MaxSnapLen {
		t.Errorf("%+v of %+v", got[0], r.Interfaces()[0])
	}
}

// failing is a writer that takes so many bytes and no more.
type failing struct{ room int }

var errFull = errors.New("disk full")

func (f *failing) Write(b []byte) (int, error) {
	if len(b) > f.room {
		return f.room, errFull
	}
	f.room -= len(b)
	return len(b), nil
}

// A full buffer is written out, and an error is not forgotten.
func TestWriteError(t *testing.T) {
	for name, w := range map[string]PacketWriter{
		"pcap":   NewPcapWriter(&failing{100_000}, PcapHeader{LinkType: LinkTypeEthernet}),
		"pcapng": NewWriter(&failing{100_000}, &Section{}),
	} {
		large := Packet{LinkType: LinkTypeEthernet, Interface: uplink, Data: make([]byte, 60_000)}
		var err error
		for range 10 {
			if err = w.WritePacket(&large); err != nil {
				break
			}
		}
		for range 1000 {
			if err := w.WritePacket(&large); err != errFull {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err != errFull || w.Flush() != errFull || w.Size() > 200_000 {
			t.Errorf("%s: %v, %v, size %d", name, err, w.Flush(), w.Size())
		}
	}
}

func TestFlags(t *testing.T) {
	for d := DirectionUnknown; d <= Outbound; d++ {
		for r := ReceptionUnknown; r <= Promiscuous; r++ {
			if f := MakeFlags(d, r); f.Direction() != d || f.Reception() != r || f>>5 != 0 {
				t.Errorf("%d, %d: %#x", d, r, f)
			}
		}
	}
	if f := Flags(0xffffffff); f.Direction() != DirectionUnknown || f.Reception() != ReceptionUnknown {
		t.Errorf("%d, %d", f.Direction(), f.Reception())
	}
}

func ExampleWriter() {
	var file bytes.Buffer
	pod := &Interface{Name: "cali1", LinkType: LinkTypeEthernet, SnapLen: MaxSnapLen}
	w := NewWriter(&file, &Section{Application: "example"})
	err := w.WritePacket(&Packet{Time: 1e9, Data: []byte("a frame"), Len: 7, Interface: pod, Comments: [][]byte{[]byte("hello")}})
	fmt.Println(err, w.Flush())

	r, err := NewReader(&file)
	fmt.Println(err)
	var p Packet
	for r.Next(&p) == nil {
		fmt.Printf("%s %q %s\n", p.Interface.Name, p.Data, p.Comments)
	}
	// Output:
	// <nil> <nil>
	// <nil>
	// cali1 "a frame" [hello]
}

func TestPacketTypes(t *testing.T) {
	for _, p := range []uint8{packetHost, packetBroadcast, packetMulticast, packetOtherHost, packetOutgoing} {
		if got := FlagsOfPacketType(p).PacketType(); got != p {
			t.Errorf("%d becomes %d", p, got)
		}
	}
}
