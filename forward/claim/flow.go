package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"proxyarpd/internal/wire"
)

// header is what flowEnd goes by of an IP header: struct ip of bpf/claim.c.
type header struct {
	six      bool
	src, dst netip.Addr
	proto    uint8
	hides    bool   // the ports are not where those of others are, or not there
	rest     []byte // behind it
}

// readHeader reads the header of a packet; ok is false if it is not whole.
func readHeader(packet []byte) (h header, ok bool) {
	if len(packet) > 0 && packet[0]>>4 == 6 {
		ip := wire.IPv6(packet)
		if !ip.Valid() {
			return h, false
		}
		return header{true, ip.SrcAddr(), ip.DstAddr(), ip.NextHeader(), extends(ip.NextHeader()), ip.Payload()}, true
	}
	ip := wire.IPv4(packet)
	if !ip.Valid() || ip.HeaderLen() > len(ip) {
		return h, false
	}
	fragment := ip.FragmentOffset() != 0 || ip.Frag()&wire.IPv4MF != 0
	return header{false, ip.SrcAddr(), ip.DstAddr(), ip.Protocol(), fragment, ip[ip.HeaderLen():]}, true
}

// controls reports whether an ICMP header is behind the IP header.
func (h *header) controls() bool {
	if h.six {
		return h.proto == wire.ProtoICMPv6
	}
	return h.proto == wire.ProtoICMP
}

// quotes reports whether an ICMP message of that type holds the packet that it
// is about, of IPv4 as the kernel's NAT knows them (icmp_in_manip_pkt).
func (h *header) quotes(typ uint8) bool {
	if h.six {
		return wire.ICMPv6IsError(typ)
	}
	switch typ {
	case wire.ICMPDestUnreachable, wire.ICMPSourceQuench, wire.ICMPRedirect, wire.ICMPTimeExceeded, wire.ICMPParamProblem:
		return true
	}
	return false
}

// flowEnd reads the end of a packet's flow that it goes to, as flow_ends of
// bpf/claim.c does.
func flowEnd(packet []byte) (key bpfFlowkey, ok bool) {
	h, ok := readHeader(packet)
	if !ok {
		return key, false
	}
	key.Addr = nativeAddr6(h.dst)
	if h.hides {
		return key, true // by address alone: all pieces of a datagram go one way
	}
	key.Proto = h.proto
	l4, port := h.rest, 2 // where the port stands
	if h.controls() {
		if len(l4) < 8 {
			return key, false
		}
		port = 4
		if h.quotes(l4[0]) {
			inner, ok := readHeader(l4[8:])
			if !ok || inner.six != h.six {
				return key, false
			}
			key.Addr, key.Proto = nativeAddr6(inner.src), inner.proto
			if inner.six && inner.hides {
				key.Proto = 0
				return key, true
			}
			switch l4, port = inner.rest, 0; {
			case inner.controls():
				port = 4
			case !hasPorts(inner.proto):
				return key, true
			}
		}
	} else if !hasPorts(key.Proto) {
		return key, true
	}
	if len(l4) < port+2 {
		return key, false
	}
	key.Port = binary.NativeEndian.Uint16(l4[port:])
	return key, true
}

// extends reports whether a header of IPv6 may stand before the upper layer's.
func extends(next uint8) bool {
	const hip, shim6 = 139, 140
	switch next {
	case wire.ProtoHopByHop, wire.ProtoRouting, wire.ProtoFragment, wire.ProtoAH, wire.ProtoDestOpts, wire.ProtoMobility, hip, shim6:
		return true
	}
	return false
}

// hasPorts reports whether a protocol's header begins with two ports.
func hasPorts(proto uint8) bool {
	const dccp, udpLite = 33, 136
	switch proto {
	case wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP, dccp, udpLite:
		return true
	}
	return false
}

// End is one end of a flow: who sends and receives by a port. Protocol 0 is the
// address alone.
type End struct {
	Addr  netip.Addr
	Proto uint8  // IP protocol
	Port  uint16 // of ICMP: the identifier
}

func (e End) key() bpfFlowkey {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], e.Port)
	return bpfFlowkey{Addr: nativeAddr6(e.Addr), Port: binary.NativeEndian.Uint16(port[:]), Proto: e.Proto}
}

// MaxTranslated is how many ends SetTranslated has room for: MAX_NATTED of
// bpf/claim.c.
const MaxTranslated = 1 << 18

// SetTranslated says that an end has flows that the kernel translates, or has none
// any more. It is for a Config that Translates.
func (s *Set) SetTranslated(e End, has bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if has {
		err = s.objs.ParpNatted.Update(e.key(), uint8(1), ebpf.UpdateNoExist)
	} else {
		err = s.objs.ParpNatted.Delete(e.key())
	}
	switch {
	case errors.Is(err, ebpf.ErrKeyExist), errors.Is(err, ebpf.ErrKeyNotExist):
		return nil
	case err != nil:
	case has:
		s.natted++
		err = s.vars.Natted.Set(s.natted)
	default:
		s.natted--
		err = s.vars.Natted.Set(s.natted)
	}
	if err != nil {
		return fmt.Errorf("translated flows: ring filter: %w", err)
	}
	return nil
}

// HearsTranslated says whether SetTranslated will be called for all flows that the
// kernel translates, within seconds. If not, who once sent what the kernel may have
// translated counts as having such flows for good.
func (s *Set) HearsTranslated(hears bool) error {
	const notesLast = 8 // of seconds() in bpf/claim.c
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is left to the kernel without having been asked about must not be ours again, and then the kernel's: its
	// conntrack would have missed a part.
	if err := s.vars.NotesLast.Set(number(hears && s.judges) * notesLast); err != nil {
		return fmt.Errorf("translated flows: ring filter: %w", err)
	}
	return nil
}

// Judges reports whether the programs ask the kernel's conntrack about each packet to
// an end that has translated flows. If not, all packets to it are left to the kernel.
func (s *Set) Judges() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judges
}

// Translated reports whether a packet goes to an end that has flows, or had some, that
// the kernel may translate.
func (s *Set) Translated(packet []byte) bool {
	key, ok := flowEnd(packet)
	if !ok {
		return false
	}
	var last uint32
	var one uint8
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objs.ParpFlows.Lookup(&key, &last) == nil || s.objs.ParpNatted.Lookup(&key, &one) == nil
}
