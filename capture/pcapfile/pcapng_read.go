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
	clocks     []clock      // by interface
	text       int          // bytes of text that the interfaces hold
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
			err = r.statistics(body)
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

// beginSection forgets the interfaces of the section before.
func (r *ngReader) beginSection(b []byte) error {
	// 1.2 is the same as 1.0 (draft-ietf-opsawg-pcapng, section 4.1).
	if major, minor := r.order.uint16(b[4:]), r.order.uint16(b[6:]); major != 1 || minor != 0 && minor != 2 {
		return fmt.Errorf("unsupported pcapng savefile version %d.%d", major, minor)
	}
	r.section, r.interfaces, r.clocks, r.text = Section{}, nil, nil, 0
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
	return opts.err
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
		LinkType: LinkType(r.order.uint16(b)),
		SnapLen:  adjustSnapLen(r.order.uint32(b[4:])),
		TSResol:  defaultResolution,
	}
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
		if b := opts.fixed("if_MACaddr", o, 6); b != nil {
			i.MAC = append(net.HardwareAddr(nil), b...)
		}
	case ifTSResol:
		if b := opts.fixed("if_tsresol", o, 1); b != nil {
			i.TSResol = b[0]
		}
	case ifTSOffset:
		if v, ok := opts.long("if_tsoffset", o); ok {
			i.TSOffset = int64(v)
		}
	}
}

func (r *ngReader) statistics(b []byte) error {
	if len(b) < statisticsLen {
		return shortBlock(blockStatistics)
	}
	id := r.order.uint32(b)
	if uint64(id) >= uint64(len(r.interfaces)) {
		return nil // no packet is the worse for it
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
	return opts.err
}

func (s *Statistics) setOption(opts *options, o option, c clock) {
	switch o.code {
	case isbStartTime:
		s.setTime(opts, o, c, &s.StartTime, HasStartTime, "isb_starttime")
	case isbEndTime:
		s.setTime(opts, o, c, &s.EndTime, HasEndTime, "isb_endtime")
	case isbIfRecv:
		s.setCount(opts, o, &s.IfRecv, HasIfRecv, "isb_ifrecv")
	case isbIfDrop:
		s.setCount(opts, o, &s.IfDrop, HasIfDrop, "isb_ifdrop")
	case isbFilterAccept:
		s.setCount(opts, o, &s.FilterAccept, HasFilterAccept, "isb_filteraccept")
	case isbOSDrop:
		s.setCount(opts, o, &s.OSDrop, HasOSDrop, "isb_osdrop")
	case isbUsrDeliv:
		s.setCount(opts, o, &s.UsrDeliv, HasUsrDeliv, "isb_usrdeliv")
	}
}

func (s *Statistics) setTime(opts *options, o option, c clock, to *int64, has HasStatistics, name string) {
	if v, ok := opts.stamp(name, o); ok {
		*to = c.nanoseconds(v)
		s.Has |= has
	}
}

func (s *Statistics) setCount(opts *options, o option, to *uint64, has HasStatistics, name string) {
	if v, ok := opts.long(name, o); ok {
		*to = v
		s.Has |= has
	}
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
	p.Time = r.clocks[id].nanoseconds(stamp(r.order, b[4:]))
	p.Has |= HasTime
	// The padding may be missing where nothing follows.
	opts := options{order: r.order, kind: kind, rest: b[min(packetLen+padded(int(capture)), len(b)):]}
	for o, ok := opts.next(); ok; o, ok = opts.next() {
		p.setOption(&opts, o)
	}
	return opts.err
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
	return r.packet(p, blockSimplePacket, 0, capture, b[simplePacketLen:])
}

// packet sets the captured bytes, which b begins with, and what the interface
// says of them.
func (r *ngReader) packet(p *Packet, kind, id, capture uint32, b []byte) error {
	if uint64(id) >= uint64(len(r.interfaces)) {
		return fmt.Errorf("a packet arrived on interface %d, but there's no Interface Description Block for that interface", id)
	}
	i := r.interfaces[id]
	if capture > i.SnapLen {
		return captureLengthError(capture, i.SnapLen)
	}
	if uint64(len(b)) < uint64(capture) {
		return shortBlock(kind)
	}
	p.Data = slice(b, 0, int(capture))
	p.Interface = i
	p.LinkType = i.LinkType
	p.Nanoseconds = r.clocks[id].perSecond > 1e6
	return nil
}

// setOption takes an option of a packet block. The obsolete one knows comment
// and flags alone.
func (p *Packet) setOption(opts *options, o option) {
	switch {
	case o.code == optComment:
		if len(p.Comments) < maxComments {
			p.Comments = append(p.Comments, o.value)
		}
	case o.code == epbFlags:
		if v, ok := opts.word("epb_flags", o); ok {
			p.Flags = Flags(v)
			p.Has |= HasFlags
		}
	case opts.kind != blockEnhancedPacket:
	case o.code == epbDropCount:
		if v, ok := opts.long("epb_dropcount", o); ok {
			p.DropCount = v
			p.Has |= HasDropCount
		}
	case o.code == epbPacketID:
		if v, ok := opts.long("epb_packetid", o); ok {
			p.PacketID = v
			p.Has |= HasPacketID
		}
	case o.code == epbQueue:
		if v, ok := opts.word("epb_queue", o); ok {
			p.Queue = v
			p.Has |= HasQueue
		}
	}
}
