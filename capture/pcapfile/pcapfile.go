// Package pcapfile reads and writes capture files: pcap, as tcpdump writes it
// (pcap-savefile(5), draft-ietf-opsawg-pcap), and pcapng
// (draft-ietf-opsawg-pcapng), from and to files, pipes and sockets.
//
// A [Reader] finds out the format and gives one packet after the other; it
// takes nothing for granted of what it reads. [PcapWriter] and [Writer] write
// packets, and a [Rotator] spreads them over files as tcpdump's -C, -G and -W
// do. AppendSectionHeader and its siblings encode single pcapng blocks for
// those who send them on themselves.
//
// Nothing here is safe for use by several goroutines at once.
package pcapfile

import (
	"math"
	"net"
	"time"
)

// MaxSnapLen is the most bytes of a packet that are captured, and the most
// that the Reader accepts from a pcap file of all link types but those of some
// buses.
const MaxSnapLen = 262144

// Has says which of a Packet's optional fields were there, or are to be
// written.
type Has uint8

// The optional fields of a Packet.
const (
	HasTime      Has = 1 << iota // a Simple Packet Block has none
	HasFlags                     // epb_flags
	HasPacketID                  // epb_packetid
	HasQueue                     // epb_queue
	HasDropCount                 // epb_dropcount
)

// Packet is a captured packet and what the file says of it. Texts, here and in
// the other types, are as they stand in the file: who prints them must mind
// control characters.
type Packet struct {
	// Time is in nanoseconds since 1970-01-01 00:00 UTC; of what an int64 can't
	// hold, before 1677 or after 2262, it is the first or the last that it can.
	Time int64
	// Odd is the time stamp where it says more than Time; see Exact.
	Odd Stamp
	// Nanoseconds: the file's time stamps are finer than a microsecond.
	Nanoseconds bool
	// Data are the captured bytes, from the link-layer header on. What
	// Reader.Next gives is the Reader's and valid until the next call.
	Data []byte
	// Len is the packet's length on the wire, in bytes; Data may be shorter, and
	// is longer only if the file is wrong.
	Len      uint32
	LinkType LinkType
	// Interface is where the packet was captured. A Reader always sets it; for
	// a pcap file it has no name.
	Interface *Interface

	// Has says which of the following are set; a pcap file has none of them.
	Has       Has
	Flags     Flags
	PacketID  uint64 // the same for the same packet on several interfaces
	Queue     uint32
	DropCount uint64 // packets lost between the one before on this interface and this
	// Comments are UTF-8. Like Data they are the Reader's: valid until the next
	// call of Next.
	Comments [][]byte
}

// Stamp is a time since 1970-01-01 00:00 UTC. Where a file is damaged,
// Nanoseconds may be a second and more, or negative.
type Stamp struct{ Seconds, Nanoseconds int64 }

// Exact returns the packet's time as libpcap takes it from the file: also one
// that Time can't hold, and a fraction of a second as it stands there.
func (p *Packet) Exact() Stamp {
	if p.Odd != (Stamp{}) {
		return p.Odd
	}
	return stampOf(p.Time)
}

// When returns the packet's time: of a damaged file's what it most likely means.
func (p *Packet) When() time.Time {
	if p.Odd != (Stamp{}) && (p.Time == math.MaxInt64 || p.Time == math.MinInt64) {
		return time.Unix(p.Odd.Seconds, p.Odd.Nanoseconds)
	}
	return time.Unix(0, p.Time)
}

// stampOf splits nanoseconds since 1970.
func stampOf(t int64) Stamp {
	s, n := t/1e9, t%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return Stamp{s, n}
}

// Interface describes a capture interface of a file.
type Interface struct {
	ID          uint32 // its number in its section, from 0
	Name        string
	Description string
	Filter      string // the filter expression that packets had to pass
	OS          string
	MAC         net.HardwareAddr // nil if the file has none
	LinkType    LinkType
	SnapLen     uint32 // the most bytes of a packet that were captured

	// BigEndian says that the address families of LinkTypeNull are in network
	// byte order; it is not set for other link types.
	BigEndian bool
	// FCS is what the file says of frame check sequences: the upper six bits of a
	// pcap file's link type.
	FCS uint8
	// FCSLen is what a pcapng file says of them: if_fcslen, nil if it has none.
	FCSLen []byte

	// TSResol is the resolution of the file's time stamps as in if_tsresol:
	// 10^-n s, or 2^-n s for n with the highest bit set. A Writer writes
	// nanoseconds whatever it is.
	TSResol uint8
	// TSOffset are seconds that are already added to what the Reader gives; a
	// Writer ignores it.
	TSOffset int64

	// Statistics is the last Interface Statistics Block read so far, nil if
	// there was none. A Writer ignores it.
	Statistics *Statistics
}

// Section is what a pcapng file says of itself. A pcap file says nothing.
type Section struct {
	Hardware    string
	OS          string
	Application string   // what wrote the file
	Comments    []string // about the file
}

// HasStatistics says which fields of Statistics are set.
type HasStatistics uint8

// The fields of Statistics.
const (
	HasStartTime HasStatistics = 1 << iota
	HasEndTime
	HasIfRecv
	HasIfDrop
	HasFilterAccept
	HasOSDrop
	HasUsrDeliv
)

// Statistics are an interface's counters since the capture began.
type Statistics struct {
	Time         int64 // of the counters, as Packet.Time
	Has          HasStatistics
	StartTime    int64 // of the capture
	EndTime      int64
	IfRecv       uint64 // packets received by the interface
	IfDrop       uint64 // dropped by the interface, for want of resources
	FilterAccept uint64 // accepted by the filter
	OSDrop       uint64 // dropped by the operating system
	UsrDeliv     uint64 // delivered to the user
}
