package pcapfile

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

const benchPackets = 1000

// benchPacket has what a daemon says of each packet.
var benchPacket = Packet{
	Time: when, Data: make([]byte, 128), Len: 1500, LinkType: LinkTypeEthernet, Interface: cali,
	Has: HasTime | HasFlags | HasPacketID | HasQueue, Flags: MakeFlags(Inbound, Unicast), PacketID: 8125,
	Comments: [][]byte{[]byte("verdict=drop reason=NEIGH_FAILED out=ens3 nh=172.17.8.77 id=8125")},
}

var plainPacket = Packet{Time: when, Data: make([]byte, 128), Len: 1500, LinkType: LinkTypeEthernet, Interface: cali, Has: HasTime}

var writers = []struct {
	name   string
	packet *Packet
	create func(io.Writer) PacketWriter
}{
	{"pcap", &plainPacket, newPcap},
	{"pcapng", &plainPacket, func(w io.Writer) PacketWriter { return NewWriter(w, &Section{}) }},
	{"pcapng-options", &benchPacket, func(w io.Writer) PacketWriter { return NewWriter(w, &Section{}) }},
}

func BenchmarkWrite(b *testing.B) {
	for _, c := range writers {
		b.Run(c.name, func(b *testing.B) {
			w := c.create(io.Discard)
			b.ReportAllocs()
			for b.Loop() {
				if err := w.WritePacket(c.packet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEnhancedPacket(buf[:0], 1, &benchPacket)
	}
}

// endless is a file whose last part comes again and again.
type endless struct {
	bytes.Reader
	again []byte
}

func (e *endless) Read(b []byte) (int, error) {
	if e.Len() == 0 {
		e.Reset(e.again)
	}
	return e.Reader.Read(b)
}

// benchReader reads a file of the same packet for ever.
func benchReader(tb testing.TB, p *Packet, create func(io.Writer) PacketWriter) *Reader {
	tb.Helper()
	var file bytes.Buffer
	w := create(&file)
	first := 0
	for range benchPackets {
		if err := errors.Join(w.WritePacket(p), w.Flush()); err != nil {
			tb.Fatal(err)
		}
		if first == 0 {
			first = file.Len()
		}
	}
	e := endless{again: file.Bytes()[first:]}
	e.Reset(file.Bytes())
	r, err := NewReader(&e)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func BenchmarkRead(b *testing.B) {
	for _, c := range writers {
		b.Run(c.name, func(b *testing.B) {
			r := benchReader(b, c.packet, c.create)
			var p Packet
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Next(&p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Packets are written and read without allocations.
func TestAllocations(t *testing.T) {
	for _, c := range writers {
		w := c.create(io.Discard)
		for range 1000 { // until the buffer has its size
			if err := w.WritePacket(c.packet); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(1000, func() { _ = w.WritePacket(c.packet) }); n != 0 {
			t.Errorf("%s: %v allocations a packet written", c.name, n)
		}
		r := benchReader(t, c.packet, c.create)
		var p Packet
		next := func() {
			if err := r.Next(&p); err != nil {
				t.Fatal(err)
			}
		}
		next() // makes room for the comments, describes the interface
		if n := testing.AllocsPerRun(2*benchPackets, next); n != 0 {
			t.Errorf("%s: %v allocations a packet read", c.name, n)
		}
	}
}
