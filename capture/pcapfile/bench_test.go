package pcapfile

import (
	"bytes"
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
			for range b.N {
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
	for range b.N {
		buf = AppendEnhancedPacket(buf[:0], 1, &benchPacket)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, c := range writers {
		b.Run(c.name, func(b *testing.B) {
			file := benchFile(b, c.packet, c.create)
			var p Packet
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				n += readBench(b, file, &p)
			}
		})
	}
}

// benchFile is a file of benchPackets packets.
func benchFile(tb testing.TB, p *Packet, create func(io.Writer) PacketWriter) []byte {
	var file bytes.Buffer
	w := create(&file)
	for range benchPackets {
		if err := w.WritePacket(p); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return file.Bytes()
}

// readBench reads a file and returns how many packets it has.
func readBench(tb testing.TB, file []byte, p *Packet) int {
	r, err := NewReader(bytes.NewReader(file))
	for n := 0; err == nil; n++ {
		if err = r.Next(p); err == io.EOF {
			return n
		}
	}
	tb.Fatal(err)
	return 0
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
		r, err := NewReader(bytes.NewReader(benchFile(t, c.packet, c.create)))
		if err != nil {
			t.Fatal(err)
		}
		var p Packet
		next := func() {
			if err := r.Next(&p); err != nil {
				t.Fatal(err)
			}
		}
		next() // makes room for the comments, describes the interface
		if n := testing.AllocsPerRun(benchPackets-10, next); n != 0 {
			t.Errorf("%s: %v allocations a packet read", c.name, n)
		}
	}
}
