package pcapfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
)

// Bounds on what a section may make the Reader remember.
const (
	maxInterfaces    = 1 << 16
	maxInterfaceText = 16 << 20 // bytes of names and the like of all interfaces
	maxComments      = 256      // that are given of a packet
)

// ngReader reads pcapng files.
type ngReader struct {
	source     *source
	order      byteOrder // of the current section
	section    Section
	interfaces []*Interface // of the section
	counted    func(*Interface)
	clocks     []clock // by interface
	text       int     // bytes of text that the interfaces hold
	maxBlock   uint32  // bytes; more than maxBlockLen where packets may be longer
	begun      bool    // there was a section
}

// open reads the first Section Header Block. The interfaces may come whenever
// they like: a live stream describes them when they have packets.
func (r *ngReader) open() error {
	// The first four bytes are those of many a text; the byte order magic is not.
	switch err := r.newOrder(); {
	case err == errBadOrder, errors.Is(err, io.ErrUnexpectedEOF):
		return errUnknownFormat
	case err != nil:
		return err
	}
	_, body, err := r.block()
	if err != nil {
		return err
	}
	return r.beginSection(body)
}

func (r *ngReader) next(p *Packet) error {
	for {
		kind, body, err := r.block()
		if err != nil {
			return err
		}
		found := false
		switch kind {
		case blockSection:
			err = r.beginSection(body)
		case blockInterface:
			err = r.addInterface(body)
		case blockStatistics:
			r.statistics(body)
			r.tellCounted(body)
		case blockEnhancedPacket:
			found, err = true, r.enhancedPacket(p, body)
		case blockSimplePacket:
			found, err = true, r.simplePacket(p, body)
		case blockPacket:
			found, err = true, r.obsoletePacket(p, body)
		}
		if found || err != nil {
			return err
		}
	}
}

// tellCounted tells of a statistics block that has been read.
func (r *ngReader) tellCounted(b []byte) {
	if r.counted == nil || len(b) < statisticsLen {
		return
	}
	if id := r.order.uint32(b); uint64(id) < uint64(len(r.interfaces)) {
		r.counted(r.interfaces[id])
	}
}

// beginSection forgets the interfaces of the section before.
func (r *ngReader) beginSection(b []byte) error {
	// 1.2 is the same as 1.0 (draft-ietf-opsawg-pcapng, section 4.1); of later
	// sections libpcap looks at the major version alone.
	if major, minor := r.order.uint16(b[4:]), r.order.uint16(b[6:]); major != 1 || !r.begun && minor != 0 && minor != 2 {
		return fmt.Errorf("unsupported pcapng savefile version %d.%d", major, minor)
	}
	r.section, r.interfaces, r.clocks, r.text, r.begun = Section{}, nil, nil, 0, true
	opts := options{order: r.order, kind: blockSection, rest: b[sectionLen:]}
	for o, ok := opts.next(); ok; o, ok = opts.next() {
		switch o.code {
		case optComment:
			r.section.Comments = append(r.section.Comments, text(o.value))
		case shbHardware:
			r.section.Hardware = text(o.value)
		case shbOS:
			r.section.OS = text(o.value)
		case shbUserAppl:
			r.section.Application = text(o.value)
		}
	}
	return nil
}

// text returns a string option. Some programs end it with a zero byte.
func text(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }

func (r *ngReader) addInterface(b []byte) error {
	if len(b) < interfaceLen {
		return shortBlock(blockInterface)
	}
	if len(r.interfaces) == maxInterfaces {
		return fmt.Errorf("more than %d interfaces in a section", maxInterfaces)
	}
	i := &Interface{
		ID:       uint32(len(r.interfaces)),
		LinkType: linkTypeOf(r.order.uint16(b)),
		TSResol:  defaultResolution,
	}
	i.SnapLen = i.LinkType.adjustSnapLen(r.order.uint32(b[4:]))
	r.maxBlock = max(r.maxBlock, i.LinkType.maxSnapLen()+maxOptionsLen)
	i.BigEndian = r.order.big && i.LinkType == LinkTypeNull
	opts := options{order: r.order, kind: blockInterface, rest: b[interfaceLen:]}
	for o, ok := opts.next(); ok; o, ok = opts.next() {
		i.setOption(&opts, o)
	}
	if opts.err != nil {
		return opts.err
	}
	r.text += len(i.Name) + len(i.Description) + len(i.Filter) + len(i.OS)
	if r.text > maxInterfaceText {
		return fmt.Errorf("the interfaces of a section have more than %d bytes of text", maxInterfaceText)
	}
	per, ok := ticksPerSecond(i.TSResol)
	if !ok {
		return resolutionError(i.TSResol)
	}
	r.interfaces = append(r.interfaces, i)
	r.clocks = append(r.clocks, clock{perSecond: per, offset: i.TSOffset})
	return nil
}

func resolutionError(resolution uint8) error {
	base := 10
	if resolution&resolutionBinary != 0 {
		base = 2
	}
	return fmt.Errorf("Interface Description Block if_tsresol option resolution %d^-%d is too high", base, resolution&^resolutionBinary)
}

func (i *Interface) setOption(opts *options, o option) {
	switch o.code {
	case ifName:
		i.Name = text(o.value)
	case ifDescription:
		i.Description = text(o.value)
	case ifOS:
		i.OS = text(o.value)
	case ifFilter:
		if len(o.value) > 0 && o.value[0] == ifFilterString {
			i.Filter = text(o.value[1:])
		}
	case ifMACAddr:
		if len(o.value) == 6 {
			i.MAC = append(net.HardwareAddr(nil), o.value...)
		}
	case ifFCSLen:
		if len(o.value) == 1 {
			i.FCSLen = append([]byte(nil), o.value...)
		}
	// Without these two all times would be wrong.
	case ifTSResol:
		if opts.must("if_tsresol", o, 1) {
			i.TSResol = o.value[0]
		}
	case ifTSOffset:
		if opts.must("if_tsoffset", o, 8) {
			i.TSOffset = int64(opts.order.uint64(o.value))
		}
	}
}

// statistics takes what it understands: no packet is the worse for what it does
// not.
func (r *ngReader) statistics(b []byte) {
	if len(b) < statisticsLen {
		return
	}
	id := r.order.uint32(b)
	if uint64(id) >= uint64(len(r.interfaces)) {
		return
	}
	i, c := r.interfaces[id], r.clocks[id]
	if i.Statistics == nil {
		i.Statistics = new(Statistics)
	}
	s := i.Statistics
	*s = Statistics{Time: c.nanoseconds(stamp(r.order, b[4:]))}
	opts := options{order: r.order, kind: blockStatistics, rest: b[statisticsLen:]}
	for o, ok := opts.next(); ok; o, ok = opts.next() {
		s.setOption(&opts, o, c)
	}
}

func (s *Statistics) setOption(opts *options, o option, c clock) {
	if len(o.value) != 8 {
		return
	}
	switch o.code {
	case isbStartTime:
		s.StartTime = c.nanoseconds(stamp(opts.order, o.value))
		s.Has |= HasStartTime
	case isbEndTime:
		s.EndTime = c.nanoseconds(stamp(opts.order, o.value))
		s.Has |= HasEndTime
	case isbIfRecv:
		s.setCount(opts, o, &s.IfRecv, HasIfRecv)
	case isbIfDrop:
		s.setCount(opts, o, &s.IfDrop, HasIfDrop)
	case isbFilterAccept:
		s.setCount(opts, o, &s.FilterAccept, HasFilterAccept)
	case isbOSDrop:
		s.setCount(opts, o, &s.OSDrop, HasOSDrop)
	case isbUsrDeliv:
		s.setCount(opts, o, &s.UsrDeliv, HasUsrDeliv)
	}
}

func (s *Statistics) setCount(opts *options, o option, to *uint64, has HasStatistics) {
	*to = opts.order.uint64(o.value)
	s.Has |= has
}

func (r *ngReader) enhancedPacket(p *Packet, b []byte) error {
	if len(b) < packetLen {
		return shortBlock(blockEnhancedPacket)
	}
	return r.timedPacket(p, blockEnhancedPacket, r.order.uint32(b), b)
}

// obsoletePacket reads a Packet Block: an Enhanced Packet Block with half of
// the interface's number given to a drop count.
func (r *ngReader) obsoletePacket(p *Packet, b []byte) error {
	if len(b) < packetLen {
		return shortBlock(blockPacket)
	}
	if n := r.order.uint16(b[2:]); n != unknownDropCount {
		p.DropCount = uint64(n)
		p.Has |= HasDropCount
	}
	return r.timedPacket(p, blockPacket, uint32(r.order.uint16(b)), b)
}

func (r *ngReader) timedPacket(p *Packet, kind, id uint32, b []byte) error {
	capture := r.order.uint32(b[12:])
	p.Len = r.order.uint32(b[16:])
	if err := r.packet(p, kind, id, capture, b[packetLen:]); err != nil {
		return err
	}
	p.setTime(r.clocks[id], stamp(r.order, b[4:]))
	p.Has |= HasTime
	// The padding may be missing where nothing follows.
	opts := options{order: r.order, kind: kind, rest: b[min(packetLen+padded(int(capture)), len(b)):]}
	for o, ok := opts.next(); ok; o, ok = opts.next() {
		p.setOption(&opts, o)
	}
	return nil // whatever its options are, the packet is there
}

func (p *Packet) setTime(c clock, ticks uint64) {
	p.Time = c.nanoseconds(ticks)
	if exact := c.stamp(ticks); exact != stampOf(p.Time) {
		p.Odd = exact
	}
}

// simplePacket reads a Simple Packet Block: of the first interface, without
// time, and with as many bytes as the snapshot length allows.
func (r *ngReader) simplePacket(p *Packet, b []byte) error {
	if len(b) < simplePacketLen {
		return shortBlock(blockSimplePacket)
	}
	p.Len = r.order.uint32(b)
	capture := p.Len
	if len(r.interfaces) > 0 {
		capture = min(capture, r.interfaces[0].SnapLen)
	}
	if err := r.packet(p, blockSimplePacket, 0, capture, b[simplePacketLen:]); err != nil {
		return err
	}
	p.setTime(r.clocks[0], 0) // the interface may have an offset
	return nil
}

// packet sets the captured bytes, which b begins with, and what the interface
// says of them.
func (r *ngReader) packet(p *Packet, kind, id, capture uint32, b []byte) error {
	if uint64(id) >= uint64(len(r.interfaces)) {
		return fmt.Errorf("a packet arrived on interface %d, but there's no Interface Description Block for that interface", id)
	}
	i := r.interfaces[id]
	if capture > i.SnapLen {
		return i.captureLengthError(capture)
	}
	if uint64(len(b)) < uint64(capture) {
		return shortBlock(kind)
	}
	p.Data = slice(b, 0, int(capture))
	p.Interface = i
	p.LinkType = i.LinkType
	p.Nanoseconds = r.clocks[id].perSecond > 1e6
	r.order.toNative(p)
	return nil
}

// setOption takes an option of a packet block, if it is of the length that it
// should be. The obsolete one knows comment and flags alone.
func (p *Packet) setOption(opts *options, o option) {
	n := len(o.value)
	switch {
	case o.code == optComment:
		if len(p.Comments) < maxComments {
			p.Comments = append(p.Comments, o.value)
		}
	case o.code == epbFlags && n == 4:
		p.Flags = Flags(opts.order.uint32(o.value))
		p.Has |= HasFlags
	case opts.kind != blockEnhancedPacket:
	case o.code == epbDropCount && n == 8:
		p.DropCount = opts.order.uint64(o.value)
		p.Has |= HasDropCount
	case o.code == epbPacketID && n == 8:
		p.PacketID = opts.order.uint64(o.value)
		p.Has |= HasPacketID
	case o.code == epbQueue && n == 4:
		p.Queue = opts.order.uint32(o.value)
		p.Has |= HasQueue
	}
}
