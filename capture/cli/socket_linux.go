package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"

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
	filter  *filter.Live
	cooked  bool             // shown as tcpdump -i any shows it
	named   map[int32]string // interfaces that were asked for by their names: they may get others
	ifaces  map[socketKey]socketIface
	names   int // a socket to ask for names by
	scratch []byte
	held    int // slots that next gave, and may still be looked at
	wanted  atomic.Uint64
	links   *linkWatch
	gone    atomic.Pointer[string] // the last of the named interfaces, once none is left and none may come
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

// openSocket begins to capture, and tells which interfaces there are now that
// were asked for.
func openSocket(o *options) (s *socket, there []string, err error) {
	s = &socket{o: o, cooked: o.several(), named: map[int32]string{}, ifaces: map[socketKey]socketIface{}, scratch: make([]byte, pcapfile.MaxSnapLen+pktring.TagLen)}
	if s.filter, err = filter.CompileLive(o.expression); err != nil {
		return nil, nil, badExpression(err)
	}
	if s.names, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, nil, fmt.Errorf("socket: %w", err)
	}
	opened := s
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	if s.links, err = watchLinks(); err != nil {
		return nil, nil, err
	}
	if there, err = s.findNamed(); err != nil {
		return nil, nil, err
	}
	cfg := pktring.Config{Slots: socketSlots, SlotSize: socketSlotSize, Plain: true}
	if o.buffer > 0 {
		for cfg.Slots = 64; cfg.Slots*socketSlotSize < o.buffer<<10 && cfg.Slots < maxSocketSlots; {
			cfg.Slots *= 2
		}
	}
	if !s.cooked {
		for index := range s.named {
			cfg.Ifindex, cfg.Promiscuous = int(index), !o.noPromisc
			s.attach(&cfg, index)
		}
	}
	if s.ring, err = pktring.Open(cfg); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%s: You don't have permission to perform this capture on that device: CAP_NET_RAW is required", strings.Join(o.interfaces, ", "))
		}
		return nil, nil, err
	}
	if len(s.named) > 0 && !s.lasting() {
		left := maps.Clone(s.named)
		s.links.start(func() { s.look(left) })
	}
	return s, there, nil
}

// findNamed finds the interfaces that were asked for by name, and why nothing
// could be captured on them. It gives the names of all that were asked for.
func (s *socket) findNamed() (there []string, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var meaningless error
	sound := false
	for _, i := range all {
		if s.asked(i.Name) {
			there = append(there, i.Name)
		}
		if !slices.Contains(s.o.interfaces, i.Name) {
			continue
		}
		if i.Flags&net.FlagUp == 0 {
			return nil, fmt.Errorf("%s: That device is not up", i.Name)
		}
		s.named[int32(i.Index)] = i.Name
		if err := s.filter.Err(linkTypeOf(&i)); err != nil {
			meaningless = badExpression(err)
		} else {
			sound = true
		}
	}
	for _, name := range s.o.interfaces {
		if !capture.IsPattern(name) && !slices.Contains(there, name) {
			return nil, fmt.Errorf("%s: No such device exists", name)
		}
	}
	if !sound && !s.lasting() {
		return nil, meaningless
	}
	return there, nil
}

// lasting reports whether interfaces may yet come.
func (s *socket) lasting() bool { return slices.ContainsFunc(s.o.interfaces, capture.IsPattern) }

// linkTypeOf is the link type of an interface's frames, to a filter.
func linkTypeOf(i *net.Interface) filter.LinkType {
	if len(i.HardwareAddr) == 6 || i.Flags&net.FlagLoopback != 0 {
		return filter.Ethernet
	}
	return filter.Raw
}

// attach gives the filter to the kernel where one program serves all frames.
func (s *socket) attach(cfg *pktring.Config, index int32) {
	i, err := net.InterfaceByIndex(int(index))
	if s.o.expression == "" || err != nil || linkTypeOf(i) != filter.Ethernet {
		return
	}
	program := s.filter.Filter(filter.Ethernet).Program()
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

func (s *socket) next(p *pcapfile.Packet) error {
	s.ring.Release(s.held)
	s.held = 0
	var slot pktring.Slot
	for {
		if !s.ring.Next(&slot) {
			if err := s.ring.Wait(-1); errors.Is(err, os.ErrClosed) {
				return s.over()
			} else if err != nil {
				return err
			}
			continue
		}
		if s.take(p, &slot) {
			s.held = 1
			s.wanted.Add(1)
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
	if out && slot.Hatype == unix.ARPHRD_LOOPBACK {
		return false // it comes in there, too: once is enough, as in libpcap
	}
	i := s.iface(slot)
	if i == nil {
		return false
	}
	meta := filter.Meta{Outgoing: out, Ifindex: uint32(slot.Ifindex), HasVLAN: slot.Tagged, VLANTCI: slot.TCI}
	link, length := filter.Raw, slot.Len
	if i.LinkType == pcapfile.LinkTypeEthernet {
		if link = filter.Ethernet; s.cooked {
			length -= ethernetLen
		}
	}
	if !s.filter.Match(link, frame, length, meta) {
		return false
	}
	length = slot.Len
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
	case !s.asked(name) && s.named[slot.Ifindex] == "":
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

// look takes from left the interfaces that have gone, and ends the capture when
// there are no more.
func (s *socket) look(left map[int32]string) {
	for index, name := range left {
		if _, there := s.nameOf(index); there {
			continue
		}
		if delete(left, index); len(left) == 0 {
			s.gone.Store(&name)
			s.ring.Shut()
		}
	}
}

// over says why there is no more.
func (s *socket) over() error {
	if name := s.gone.Load(); name != nil {
		return fmt.Errorf("%s: %s", *name, capture.Disappeared)
	}
	return io.EOF
}

func (s *socket) close() (err error) {
	if s.links != nil {
		err = s.links.close()
	}
	if s.ring != nil {
		err = errors.Join(err, s.ring.Close())
	}
	return errors.Join(err, unix.Close(s.names))
}

func (s *socket) statistics() counts {
	return counts{received: s.wanted.Load(), dropped: s.ring.Drops()}
}

func (s *socket) tell(f func(counts)) { f(s.statistics()) }
