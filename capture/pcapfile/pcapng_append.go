package pcapfile

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// resolutionNano is the if_tsresol of what is written.
const resolutionNano = 9

// AppendSectionHeader appends a Section Header Block to dst. A section begins
// with one; its interfaces are numbered from 0.
func AppendSectionHeader(dst []byte, s *Section) []byte {
	dst, start := beginBlock(dst, blockSection)
	dst = append32(dst, byteOrderMagic)
	dst = append16(dst, 1) // version 1.0
	dst = append16(dst, 0)
	dst = append64(dst, 1<<64-1) // length not known
	dst = appendText(dst, shbHardware, s.Hardware)
	dst = appendText(dst, shbOS, s.OS)
	dst = appendText(dst, shbUserAppl, s.Application)
	for _, c := range s.Comments {
		dst = appendText(dst, optComment, c)
	}
	return endBlock(dst, start, start+blockHeaderLen+sectionLen)
}

// AppendInterface appends an Interface Description Block for time stamps in
// nanoseconds to dst. The interface's number is the count of those before it in
// the section, i.ID does not matter.
func AppendInterface(dst []byte, i *Interface) []byte {
	dst, start := beginBlock(dst, blockInterface)
	dst = append16(dst, uint16(i.LinkType))
	dst = append16(dst, 0)
	dst = append32(dst, i.SnapLen)
	dst = appendText(dst, ifName, i.Name)
	dst = appendText(dst, ifDescription, i.Description)
	if len(i.MAC) == 6 {
		dst = appendOption(dst, ifMACAddr, []byte(i.MAC))
	}
	dst = appendOptionHeader(dst, ifTSResol, 1)
	dst = append(dst, resolutionNano, 0, 0, 0)
	if i.Filter != "" {
		f := cut(i.Filter, maxOptionLen-1)
		dst = appendOptionHeader(dst, ifFilter, 1+len(f))
		dst = append(dst, ifFilterString)
		dst = append(dst, f...)
		dst = appendPadding(dst, 1+len(f))
	}
	dst = appendText(dst, ifOS, i.OS)
	if len(i.FCSLen) == 1 {
		dst = appendOption(dst, ifFCSLen, i.FCSLen)
	}
	return endBlock(dst, start, start+blockHeaderLen+interfaceLen)
}

// AppendEnhancedPacket appends an Enhanced Packet Block to dst for a packet of
// the section's interface number id, which must have been described by
// AppendInterface. It writes Time, all of Data, Len, what p.Has says and the
// comments; a time before 1970 becomes 1970, one after 2554 that. It allocates nothing if dst has room.
func AppendEnhancedPacket(dst []byte, id uint32, p *Packet) []byte {
	dst, start := beginBlock(dst, blockEnhancedPacket)
	dst = append32(dst, id)
	dst = appendTicks(dst, p.ticks())
	dst = append32(dst, uint32(len(p.Data)))
	dst = append32(dst, p.Len)
	dst = append(dst, p.Data...)
	dst = appendPadding(dst, len(p.Data))
	fixed := len(dst)
	for _, c := range p.Comments {
		dst = appendOption(dst, optComment, c)
	}
	if p.Has&HasFlags != 0 {
		dst = append32(appendOptionHeader(dst, epbFlags, 4), uint32(p.Flags))
	}
	if p.Has&HasDropCount != 0 {
		dst = append64(appendOptionHeader(dst, epbDropCount, 8), p.DropCount)
	}
	if p.Has&HasPacketID != 0 {
		dst = append64(appendOptionHeader(dst, epbPacketID, 8), p.PacketID)
	}
	if p.Has&HasQueue != 0 {
		dst = append32(appendOptionHeader(dst, epbQueue, 4), p.Queue)
	}
	return endBlock(dst, start, fixed)
}

// AppendStatistics appends an Interface Statistics Block for the section's
// interface number id to dst, with what s.Has says.
func AppendStatistics(dst []byte, id uint32, s *Statistics) []byte {
	dst, start := beginBlock(dst, blockStatistics)
	dst = append32(dst, id)
	dst = appendStamp(dst, s.Time)
	if s.Has&HasStartTime != 0 {
		dst = appendStamp(appendOptionHeader(dst, isbStartTime, 8), s.StartTime)
	}
	if s.Has&HasEndTime != 0 {
		dst = appendStamp(appendOptionHeader(dst, isbEndTime, 8), s.EndTime)
	}
	dst = s.appendCount(dst, HasIfRecv, isbIfRecv, s.IfRecv)
	dst = s.appendCount(dst, HasIfDrop, isbIfDrop, s.IfDrop)
	dst = s.appendCount(dst, HasFilterAccept, isbFilterAccept, s.FilterAccept)
	dst = s.appendCount(dst, HasOSDrop, isbOSDrop, s.OSDrop)
	dst = s.appendCount(dst, HasUsrDeliv, isbUsrDeliv, s.UsrDeliv)
	return endBlock(dst, start, start+blockHeaderLen+statisticsLen)
}

func (s *Statistics) appendCount(dst []byte, has HasStatistics, code uint16, v uint64) []byte {
	if s.Has&has == 0 {
		return dst
	}
	return append64(appendOptionHeader(dst, code, 8), v)
}

func append16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }
func append32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func append64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

// appendStamp appends a time stamp.
func appendStamp(b []byte, t int64) []byte { return appendTicks(b, uint64(max(t, 0))) }

// appendTicks appends a time stamp, the higher word first.
func appendTicks(b []byte, ticks uint64) []byte {
	return append32(append32(b, uint32(ticks>>32)), uint32(ticks))
}

// ticks are nanoseconds since 1970, as far as 64 bits go.
func (p *Packet) ticks() uint64 {
	const most = math.MaxUint64 / 1_000_000_000 // s
	switch s := p.Odd; {
	case p.Time < 0:
		return 0
	case p.Time < math.MaxInt64 || s == (Stamp{}):
		return uint64(p.Time)
	case s.Seconds >= most:
		return math.MaxUint64
	default:
		return uint64(s.Seconds)*1e9 + uint64(s.Nanoseconds)
	}
}

// beginBlock appends a block's header; endBlock fills in its length.
func beginBlock(dst []byte, kind uint32) (b []byte, start int) {
	start = len(dst)
	return append32(append32(dst, kind), 0), start
}

// endBlock ends the block that begins at dst[start], with the end of its
// options if it has any behind its fixed part, which ends at dst[fixed].
func endBlock(dst []byte, start, fixed int) []byte {
	if len(dst) > fixed {
		dst = appendOptionHeader(dst, optEnd, 0)
	}
	n := uint32(len(dst) - start + blockTrailerLen)
	binary.LittleEndian.PutUint32(dst[start+4:], n)
	return append32(dst, n)
}

func appendOptionHeader(dst []byte, code uint16, n int) []byte {
	return append16(append16(dst, code), uint16(n))
}

// appendOption appends an option, of a text too long what fits.
func appendOption[T string | []byte](dst []byte, code uint16, v T) []byte {
	v = cut(v, maxOptionLen)
	dst = appendOptionHeader(dst, code, len(v))
	dst = append(dst, v...)
	return appendPadding(dst, len(v))
}

// appendText appends a string option unless it is empty.
func appendText(dst []byte, code uint16, v string) []byte {
	if v == "" {
		return dst
	}
	return appendOption(dst, code, v)
}

func appendPadding(dst []byte, n int) []byte {
	const zeros = "\x00\x00\x00"
	return append(dst, zeros[:padded(n)-n]...)
}

// cut returns at most n bytes of a text, and no half character at its end.
func cut[T string | []byte](s T, n int) T {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
