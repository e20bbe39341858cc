package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/pktring"
)

// socket captures straight from a packet socket, where no daemon runs.
type socket struct {
	o       *options
	ring    *pktring.Socket
	filters [2]*filter.Filter // Ethernet, no link layer
	one     bool              // one interface alone: no names to look at
	ifaces  map[socketKey]socketIface
	names   int // a socket to ask for names by, -1: none
	scratch []byte
	held    int // slots that next gave, and may still be looked at
	wanted  uint64
}

type socketKey struct {
	index    int32
	ethernet bool
}

// The ring of a socket: 16 MB of frames of ordinary size, unless -B says so.
const (
	socketSlotSize = 2048
	socketSlots    = 8192
	maxSocketSlots = 1 << 17
)

func openSocket(o *options) (*socket, error) {
	s := &socket{o: o, ifaces: map[socketKey]socketIface{}, names: -1, scratch: make([]byte, pcapfile.MaxSnapLen+pktring.TagLen)}
	var err error
	if s.filters[0], err = filter.CompileSocket(o.expression, filter.Ethernet); err != nil {
		return nil, err
	}
	if s.filters[1], err = filter.CompileSocket(o.expression, filter.Raw); err != nil {
		return nil, err
	}
	cfg := pktring.Config{Slots: socketSlots, SlotSize: socketSlotSize, Plain: true}
	if o.buffer > 0 {
		for cfg.Slots = 64; cfg.Slots*socketSlotSize < o.buffer<<10 && cfg.Slots < maxSocketSlots; {
			cfg.Slots *= 2
		}
	}
	if len(o.interfaces) == 1 && !isPattern(o.interfaces[0]) {
		i, err := net.InterfaceByName(o.interfaces[0])
		if err != nil {
			return nil, fmt.Errorf("%s: No such device exists", o.interfaces[0])
		}
		s.one, cfg.Ifindex, cfg.Promiscuous = true, i.Index, !o.noPromisc
		if i.Flags&net.FlagUp == 0 {
			return nil, fmt.Errorf("%s: That device is not up", i.Name)
		}
		s.attach(&cfg, i)
	}
	if s.ring, err = pktring.Open(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// attach gives the filter to the kernel where one program serves all frames.
func (s *socket) attach(cfg *pktring.Config, i *net.Interface) {
	if s.o.expression == "" || len(i.HardwareAddr) != 6 && i.Flags&net.FlagLoopback == 0 {
		return
	}
	program := s.filters[0].Program()
	if program == nil {
		return // it decides here alone
	}
	cfg.Filter = func(fd int) error {
		raw := make([]bpf.RawInstruction, len(program))
		for i, p := range program {
			raw[i] = bpf.RawInstruction{Op: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
		}
		return pktring.AttachClassic(fd, raw)
	}
}

// isPattern reports whether a name of -i stands for several interfaces.
func isPattern(name string) bool {
	if name == capture.Any {
		return true
	}
	for _, c := range name {
		switch c {
		case '*', '?', '[', '\\':
			return true
		}
	}
	return false
}

func (s *socket) next(p *pcapfile.Packet) error {
	s.ring.Release(s.held)
	s.held = 0
	var slot pktring.Slot
	for {
		if !s.ring.Next(&slot) {
			if err := s.ring.Wait(-1); errors.Is(err, os.ErrClosed) {
				return io.EOF
			} else if err != nil {
				return err
			}
			continue
		}
		if s.take(p, &slot) {
			s.held = 1
			s.wanted++
			return nil
		}
		s.ring.Release(1)
	}
}

// take makes a packet of a slot, if it is one that was asked for.
func (s *socket) take(p *pcapfile.Packet, slot *pktring.Slot) bool {
	frame := slot.Data
	if slot.Copied {
		n, ok := s.ring.ReadCopy(s.scratch[pktring.TagLen:])
		if !ok {
			return false
		}
		frame = s.scratch[pktring.TagLen:][:n]
	}
	out := slot.PktType == unix.PACKET_OUTGOING
	if slot.Bad || s.o.direction == "in" && out || s.o.direction == "out" && !out {
		return false
	}
	i := s.iface(slot)
	if i == nil {
		return false
	}
	meta := filter.Meta{Outgoing: out, Ifindex: uint32(slot.Ifindex), HasVLAN: slot.Tagged, VLANTCI: slot.TCI}
	f := s.filters[0]
	if i.LinkType != pcapfile.LinkTypeEthernet {
		f = s.filters[1]
	}
	if !f.MatchMeta(frame, slot.Len, meta) {
		return false
	}
	length := slot.Len
	if slot.Tagged && i.LinkType == pcapfile.LinkTypeEthernet && len(frame) >= ethernetLen {
		frame, length = slot.Retag(s.scratch, frame), length+pktring.TagLen
	}
	*p = pcapfile.Packet{Time: slot.Time, Nanoseconds: true, Data: frame[:min(len(frame), s.o.snap)], Len: uint32(length), LinkType: i.LinkType,
		Interface: i, Has: pcapfile.HasTime | pcapfile.HasFlags, Flags: pcapfile.FlagsOfPacketType(slot.PktType)}
	return true
}

// socketIface is what was found out of an interface, and when, ns since 1970.
type socketIface struct {
	i     *pcapfile.Interface // nil: it is not one that was asked for
	asked int64
}

// askAgain is how long a name is believed, ns: container runtimes rename.
const askAgain = 1e9

// iface finds or makes the interface of a slot; nil if it was not asked for.
func (s *socket) iface(slot *pktring.Slot) *pcapfile.Interface {
	key := socketKey{slot.Ifindex, slot.Hatype == unix.ARPHRD_ETHER || slot.Hatype == unix.ARPHRD_LOOPBACK}
	last, known := s.ifaces[key]
	if known && slot.Time-last.asked < askAgain {
		return last.i
	}
	i := last.i
	switch name, ok := s.nameOf(slot.Ifindex); {
	case !ok: // gone: it is what it was
	case !s.asked(name):
		i = nil
	case i == nil || i.Name != name:
		i = s.describe(name, key)
	}
	if len(s.ifaces) == maxInterfaces {
		clear(s.ifaces)
	}
	s.ifaces[key] = socketIface{i, slot.Time}
	return i
}

func (s *socket) describe(name string, key socketKey) *pcapfile.Interface {
	i := &pcapfile.Interface{Name: name, Description: capture.IfindexText(key.index), LinkType: pcapfile.LinkTypeRaw,
		SnapLen: uint32(s.o.snap), Filter: s.o.expression}
	if key.ethernet {
		i.LinkType = pcapfile.LinkTypeEthernet
		if l, err := net.InterfaceByIndex(int(key.index)); err == nil {
			i.MAC = l.HardwareAddr
		}
	}
	return i
}

// nameOf asks for one interface's name, not for a list of all (netdevice(7)).
func (s *socket) nameOf(index int32) (name string, ok bool) {
	if s.names < 0 {
		var err error
		if s.names, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return "", false
		}
	}
	r, err := unix.NewIfreq("")
	if err != nil {
		return "", false
	}
	r.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(s.names, unix.SIOCGIFNAME, r); err != nil {
		return "", false
	}
	return r.Name(), true
}

func (s *socket) asked(name string) bool {
	for _, g := range s.o.interfaces {
		if ok, _ := path.Match(g, name); ok || g == capture.Any {
			return true
		}
	}
	return false
}

func (s *socket) ready() bool { return s.ring.Ready() }
func (s *socket) end()        { s.ring.Shut() }

func (s *socket) close() error {
	err := s.ring.Close()
	if s.names >= 0 {
		err = errors.Join(err, unix.Close(s.names))
	}
	return err
}

func (s *socket) statistics() counts {
	return counts{received: s.wanted, dropped: s.ring.Drops()}
}
