package dissect

// Chunks of RFC 9260 3.2 whose fields are printed.
const (
	sctpData    = 0
	sctpInit    = 1
	sctpInitAck = 2
	sctpSACK    = 3

	sctpHeaderLen = 12
	sctpChunkLen  = 4
)

var (
	sctpChunks = []tok{
		{sctpData, "DATA"}, {sctpInit, "INIT"}, {sctpInitAck, "INIT ACK"}, {sctpSACK, "SACK"}, {4, "HB REQ"},
		{5, "HB ACK"}, {6, "ABORT"}, {7, "SHUTDOWN"}, {8, "SHUTDOWN ACK"}, {9, "OP ERR"}, {10, "COOKIE ECHO"},
		{11, "COOKIE ACK"}, {12, "ECN ECHO"}, {13, "ECN CWR"}, {14, "SHUTDOWN COMPLETE"}, {0xc0, "FOR CUM TSN"},
		{0xc1, "REL CTRL"}, {0xc2, "REL CTRL ACK"},
	}
	sctpPayloads = []tok{
		{1, "ISDN Q.921"}, {2, "M2UA"}, {3, "M3UA"}, {4, "SUA"}, {5, "M2PA"}, {6, "V5.2"}, {7, "H.248"}, {8, "BICC"},
		{9, "TALI"}, {10, "DUA"}, {11, "ASAP"}, {12, "ENRP"}, {13, "H.323"}, {14, "Q.IPC"}, {15, "SIMCO"},
		{16, "DDPSC"}, {17, "DDPSSC"}, {18, "S1AP"}, {19, "RUA"}, {20, "HNBAP"}, {21, "ForCES HP"},
		{22, "ForCES MP"}, {23, "ForCES LP"}, {24, "SBc-AP"}, {25, "NBAP"}, {27, "X2AP"},
	}
	sctpForCES = []tok{{6704, "ForCES HP"}, {6705, "ForCES MP"}, {6706, "ForCES LP"}}
)

// sctp prints a packet of SCTP: its chunks, one after the other.
func (p *Printer) sctp(b []byte, length int, h *ipHeader) {
	p.proto = "sctp"
	if length < sctpHeaderLen {
		p.printf("truncated-sctp - %d bytes missing!", sctpHeaderLen-length)
		return
	}
	if len(b) < sctpHeaderLen {
		p.trunc()
		return
	}
	sport, dport := p.u16(b, 0), p.u16(b, 2)
	p.addr(h.src)
	p.printf(".%d > ", sport)
	p.addr(h.dst)
	p.printf(".%d: sctp", dport)
	for _, port := range []uint16{sport, dport} {
		if name := tokStr(sctpForCES, " ", uint32(port)); name != " " {
			p.printf("[%s]", name)
		}
	}
	sep := flagStr(p.opt.Verbose > 1, "\n\t", " (")
	b, length = b[sctpHeaderLen:], length-sctpHeaderLen
	for i := 1; length > 0; i++ {
		n, ok := p.sctpChunk(b, length, i, sep)
		if !ok {
			return
		}
		b, length = b[n:], length-n
		if p.opt.Verbose < 2 {
			sep = ", ("
		}
	}
}

// sctpChunk prints a chunk and gives its length with padding; false is that there is no going on.
func (p *Printer) sctpChunk(b []byte, length, i int, sep string) (int, bool) {
	if length < sctpChunkLen {
		p.printf("%s%d) [chunk descriptor cut off at end of packet]", sep, i)
		return 0, false
	}
	if len(b) < sctpChunkLen {
		p.trunc()
		return 0, false
	}
	n := int(p.u16(b, 2))
	if n < sctpChunkLen {
		p.printf("%s%d) [Bad chunk length %d, < size of chunk descriptor]", sep, i, n)
		return 0, false
	}
	pad := -n & 3
	if length < pad {
		p.printf("%s%d) [Bad chunk length %d, > remaining data in packet]", sep, i, n)
		return 0, false
	}
	if len(b) < n {
		p.trunc()
		return 0, false
	}
	p.printf("%s%d) [%s] ", sep, i, tokStr(sctpChunks, "Unknown chunk type: 0x%x", uint32(b[0])))
	ok := true
	switch b[0] {
	case sctpData:
		ok = p.sctpData(b[1], b[sctpChunkLen:n])
	case sctpInit, sctpInitAck:
		ok = p.sctpInit(b[sctpChunkLen:n])
	case sctpSACK:
		ok = p.sctpSACK(b[sctpChunkLen:n])
	}
	if !ok {
		p.printf("bogus chunk length %d]", n)
		return 0, false
	}
	if len(b) < n+pad {
		p.trunc()
		return 0, false
	}
	return n + pad, true
}

func (p *Printer) sctpData(flags uint8, b []byte) bool {
	const headerLen = 12
	p.sep(flags&4 != 0, "(U)")
	p.sep(flags&2 != 0, "(B)")
	p.sep(flags&1 != 0, "(E)")
	p.sep(flags&7 != 0, " ")
	if len(b) < headerLen {
		return false
	}
	p.printf("[TSN: %d] [SID: %d] [SSEQ %d] [PPID %s] ", p.u32(b, 0), p.u16(b, 4), p.u16(b, 6),
		tokStr(sctpPayloads, "0x%x", p.u32(b, 8)))
	if len(b) == headerLen {
		return false
	}
	if p.opt.Verbose > 1 {
		p.str("[Payload")
		if p.dumpsUnknown() {
			p.char(':')
			p.hexASCII("\n\t", b[headerLen:], 0)
		}
		p.char(']')
	}
	return true
}

func (p *Printer) sctpInit(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	p.printf("[init tag: %d] [rwnd: %d] [OS: %d] [MIS: %d] [init TSN: %d] ",
		p.u32(b, 0), p.u32(b, 4), p.u16(b, 8), p.u16(b, 10), p.u32(b, 12))
	return true
}

func (p *Printer) sctpSACK(b []byte) bool {
	if len(b) < 12 {
		return false
	}
	tsn, gaps, dups := p.u32(b, 0), p.u16(b, 8), p.u16(b, 10)
	p.printf("[cum ack %d] [a_rwnd %d] [#gap acks %d] [#dup tsns %d] ", tsn, p.u32(b, 4), gaps, dups)
	b = b[12:]
	for i := 1; i <= int(gaps) && len(b) > 0; i++ {
		if len(b) < 4 {
			return false
		}
		p.printf("\n\t\t[gap ack block #%d: start = %d, end = %d] ", i, tsn+uint32(p.u16(b, 0)), tsn+uint32(p.u16(b, 2)))
		b = b[4:]
	}
	for i := 1; i <= int(dups) && len(b) > 0; i++ {
		if len(b) < 4 {
			return false
		}
		p.printf("\n\t\t[dup TSN #%d: %d] ", i, p.u32(b, 0))
		b = b[4:]
	}
	return true
}
