package source

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/pktring"
)

// Live captures straight from a packet socket, without a daemon and so without
// verdicts. It needs CAP_NET_RAW.
type Live struct {
	reads
	o     Options
	there []string
	in    *socket
}

// OpenLive begins to capture with a packet socket (packet(7)) in the network
// namespace of the calling thread. Interfaces must exist and be up if their names
// are no globs. A wrong filter expression is a capture.BadExpression; a read's
// error is [ErrDisappeared] when the last of the interfaces that were named goes.
func OpenLive(o Options) (*Live, error) {
	if o.wantsVerdict() {
		return nil, errors.New("a packet socket has no verdicts to select by")
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	s, there, err := openSocket(&o)
	if err != nil {
		return nil, err
	}
	return &Live{reads: reads{feed: s, selects: selection{o: o, sorted: true}}, o: o, there: there, in: s}, nil
}

// LinkType implements [Source].
func (l *Live) LinkType() pcapfile.LinkType { return l.o.linkType() }

// There are the interfaces that there were when the capture began, of those
// that were asked for. For any goroutine.
func (l *Live) There() []string { return l.there }

// AskStatistics implements [Source].
func (l *Live) AskStatistics(f func(Statistics)) { f(l.Statistics()) }

// LinkTypeOf is the link type of what is captured on an interface: LinkTypeRaw
// of one without a link-layer header, as a TUN device, LinkTypeEthernet of
// others and of one that there is not.
func LinkTypeOf(name string) pcapfile.LinkType {
	if i, err := net.InterfaceByName(name); err == nil && len(i.HardwareAddr) == 0 && i.Flags&net.FlagLoopback == 0 {
		return pcapfile.LinkTypeRaw
	}
	return pcapfile.LinkTypeEthernet
}

// socket is the feed of a Live.
type socket struct {
	o       *Options
	mu      sync.Mutex // held while next runs, which reads the ring's memory
	shut    bool       // that memory is gone
	waking  sync.Mutex // held while next is told to return
	closed  bool       // it has been, and the ring may be gone; guarded by waking
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

// ethernetLen is the length of an Ethernet header, bytes.
const ethernetLen = 14

// maxIfaces bounds the interfaces that are remembered.
const maxIfaces = 4096

// openSocket begins to capture, and tells which interfaces there are now that
// were asked for.
func openSocket(o *Options) (s *socket, there []string, err error) {
	s = &socket{o: o, cooked: capture.Several(o.Interfaces), named: map[int32]string{}, ifaces: map[socketKey]socketIface{}, scratch: make([]byte, pcapfile.MaxSnapLen+pktring.TagLen)}
	if s.filter, err = filter.CompileLive(o.Filter); err != nil {
		return nil, nil, capture.BadExpression(filter.Words(err))
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
	if o.Buffer > 0 {
		for cfg.Slots = 64; cfg.Slots*socketSlotSize < o.Buffer && cfg.Slots < maxSocketSlots; {
			cfg.Slots *= 2
		}
	}
	if !s.cooked {
		for index := range s.named {
			cfg.Ifindex, cfg.Promiscuous = int(index), !o.NoPromiscuous
			s.attach(&cfg, index)
		}
	}
	if s.ring, err = pktring.Open(cfg); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%s: You don't have permission to perform this capture on that device: CAP_NET_RAW is required", o.names())
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
		if !slices.Contains(s.o.Interfaces, i.Name) {
			continue
		}
		if i.Flags&net.FlagUp == 0 {
			return nil, fmt.Errorf("%s: That device is not up", i.Name)
		}
		s.named[int32(i.Index)] = i.Name
		if err := s.filter.Err(linkTypeOf(&i)); err != nil {
			meaningless = capture.BadExpression(filter.Words(err))
		} else {
			sound = true
		}
	}
	for _, name := range s.o.Interfaces {
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
func (s *socket) lasting() bool { return slices.ContainsFunc(s.o.Interfaces, capture.IsPattern) }

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
	if s.o.Filter == "" || err != nil || linkTypeOf(i) != filter.Ethernet {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return io.EOF
	}
	s.ring.Release(s.held)
	s.held = 0
	var slot pktring.Slot
	stopped := false
	for {
		if !s.ring.Next(&slot) {
			if stopped {
				return s.over()
			}
			if err := s.idle(); err != nil {
				return err
			}
			err := s.ring.Wait(-1)
			if stopped = errors.Is(err, os.ErrClosed); err != nil && !stopped {
				return err
			}
			continue // what came before the end is still to be had
		}
		if s.take(p, &slot) {
			s.held = 1
			s.wanted.Add(1)
			return nil
		}
		s.ring.Release(1)
	}
}

// idle says that next is about to wait.
func (s *socket) idle() error {
	if s.o.Idle == nil {
		return nil
	}
	return s.o.Idle()
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
	if slot.Bad || s.o.Direction == pcapfile.Inbound && out || s.o.Direction == pcapfile.Outbound && !out {
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
	*p = pcapfile.Packet{Time: slot.Time, Nanoseconds: true, Data: frame[:min(len(frame), s.o.SnapLen)], Len: uint32(length), LinkType: i.LinkType,
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
	if len(s.ifaces) == maxIfaces {
		clear(s.ifaces)
	}
	s.ifaces[key] = socketIface{i, slot.Time}
	return i
}

func (s *socket) describe(name string, key socketKey) *pcapfile.Interface {
	i := &pcapfile.Interface{Name: name, Description: capture.IfindexText(key.index), LinkType: pcapfile.LinkTypeRaw,
		SnapLen: uint32(s.o.SnapLen), Filter: s.o.Filter}
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
	for _, g := range s.o.Interfaces {
		if ok, _ := path.Match(g, name); ok || g == capture.Any {
			return true
		}
	}
	return false
}

func (s *socket) stop() {
	s.waking.Lock()
	defer s.waking.Unlock()
	if !s.closed {
		s.ring.Shut()
	}
}

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
		return fmt.Errorf("%s: %w", *name, ErrDisappeared)
	}
	return io.EOF
}

func (s *socket) close() (err error) {
	if s.ring != nil {
		s.stop()
	}
	s.waking.Lock()
	s.closed = true
	s.waking.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	if s.links != nil {
		err = s.links.close()
	}
	if s.ring != nil {
		err = errors.Join(err, s.ring.Close())
	}
	return errors.Join(err, unix.Close(s.names))
}

func (s *socket) statistics() Statistics {
	return Statistics{Received: s.wanted.Load(), Dropped: s.ring.Drops()}
}
