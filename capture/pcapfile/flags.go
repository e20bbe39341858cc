package pcapfile

// Flags is the epb_flags word of a packet.
type Flags uint32

// Direction is how a packet passed its interface.
type Direction uint8

// The directions, as they stand in bits 0 and 1 of Flags.
const (
	DirectionUnknown Direction = iota
	Inbound
	Outbound
)

// Reception is by which kind of address a packet was received.
type Reception uint8

// The reception types, as they stand in bits 2 to 4 of Flags.
const (
	ReceptionUnknown Reception = iota
	Unicast
	Multicast
	Broadcast
	Promiscuous // addressed to another host
)

const receptionShift = 2

// MakeFlags returns the word that says both.
func MakeFlags(d Direction, r Reception) Flags {
	return Flags(d&3) | Flags(r&7)<<receptionShift
}

// Direction returns the direction; a value that is not defined is unknown.
func (f Flags) Direction() Direction {
	if d := Direction(f & 3); d <= Outbound {
		return d
	}
	return DirectionUnknown
}

// Reception returns the reception type; a value that is not defined is unknown.
func (f Flags) Reception() Reception {
	if r := Reception(f >> receptionShift & 7); r <= Promiscuous {
		return r
	}
	return ReceptionUnknown
}

// Linux's packet types (include/uapi/linux/if_packet.h, PACKET_*), which are
// also those of cooked captures.
const (
	packetHost = iota
	packetBroadcast
	packetMulticast
	packetOtherHost
	packetOutgoing
)

// FlagsOfPacketType says in a file's terms what a PACKET_* says.
func FlagsOfPacketType(t uint8) Flags {
	switch t {
	case packetOutgoing:
		return MakeFlags(Outbound, ReceptionUnknown)
	case packetBroadcast:
		return MakeFlags(Inbound, Broadcast)
	case packetMulticast:
		return MakeFlags(Inbound, Multicast)
	case packetOtherHost:
		return MakeFlags(Inbound, Promiscuous)
	}
	return MakeFlags(Inbound, Unicast)
}

// PacketType is the PACKET_* that FlagsOfPacketType was given.
func (f Flags) PacketType() uint8 {
	if f.Direction() == Outbound {
		return packetOutgoing
	}
	switch f.Reception() {
	case Broadcast:
		return packetBroadcast
	case Multicast:
		return packetMulticast
	case Promiscuous:
		return packetOtherHost
	}
	return packetHost
}
