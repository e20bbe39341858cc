package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"proxyarpd/internal/wire"
)

// flowEnd reads the end of a packet's flow that it goes to, as flow_end of
// bpf/claim.c does.
func flowEnd(packet []byte) (key bpfFlowkey, ok bool) {
	ip := wire.IPv4(packet)
	if !ip.Valid() || ip.HeaderLen() > len(ip) {
		return key, false
	}
	key.Addr = nativeAddr(ip.DstAddr())
	if ip.FragmentOffset() != 0 || ip.Frag()&wire.IPv4MF != 0 {
		return key, true // by address alone: all pieces of a datagram go one way
	}
	key.Proto = ip.Protocol()
	l4, port := ip[ip.HeaderLen():], 2 // where the port stands
	if key.Proto == wire.ProtoICMP {
		if len(l4) < 8 {
			return key, false
		}
		port = 4
		if quotes(l4[0]) {
			inner := wire.IPv4(l4[8:])
			if !inner.Valid() || inner.HeaderLen() > len(inner) {
				return key, false
			}
			key.Addr, key.Proto = nativeAddr(inner.SrcAddr()), inner.Protocol()
			if l4, port = inner[inner.HeaderLen():], 0; key.Proto == wire.ProtoICMP {
				port = 4
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

// quotes reports whether an ICMP message of that type holds the packet that it
// is about, as the kernel's NAT knows them (icmp_in_manip_pkt).
func quotes(typ uint8) bool {
	switch typ {
	case wire.ICMPDestUnreachable, wire.ICMPSourceQuench, wire.ICMPRedirect, wire.ICMPTimeExceeded, wire.ICMPParamProblem:
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
	Addr  netip.Addr // IPv4
	Proto uint8      // IP protocol
	Port  uint16     // of ICMP: the identifier
}

func (e End) key() bpfFlowkey {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], e.Port)
	return bpfFlowkey{Addr: nativeAddr(e.Addr), Port: binary.NativeEndian.Uint16(port[:]), Proto: e.Proto}
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
