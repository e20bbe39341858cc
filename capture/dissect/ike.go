package dissect

import "bytes"

const (
	ikeHeaderLen = 28
	ikeCookies   = 20
)

// ikeExchange is a cookie that an initiator chose, and between whom.
type ikeExchange struct {
	cookie   [8]byte
	version  int
	src, dst [16]byte
}

// ikeCache are the last exchanges, of which it is known who began them; a slot that was never used has the cookie of
// zeros, as in tcpdump.
type ikeCache struct {
	slots [ikeCookies]ikeExchange
	next  int
}

// find is the slot of a cookie, nil if there is none.
func (c *ikeCache) find(cookie []byte) *ikeExchange {
	for i := range c.slots {
		if bytes.Equal(c.slots[i].cookie[:], cookie) {
			return &c.slots[i]
		}
	}
	return nil
}

func (c *ikeCache) add(cookie []byte, h *ipHeader) {
	x := &c.slots[c.next]
	*x = ikeExchange{version: h.version}
	copy(x.cookie[:], cookie)
	copy(x.src[:], h.src)
	copy(x.dst[:], h.dst)
	c.next = (c.next + 1) % ikeCookies
}

// side says who sends a message: initiator, responder or nobody knows.
func (c *ikeCache) side(b []byte, h *ipHeader) string {
	cookie := b[:8]
	x := c.find(cookie)
	switch {
	case x == nil && bytes.Equal(b[8:16], make([]byte, 8)): // the responder has yet to choose its cookie
		c.add(cookie, h)
		return " I"
	case x == nil || x.version != h.version:
	case bytes.Equal(x.src[:len(h.src)], h.src):
		return " I"
	case bytes.Equal(x.dst[:len(h.src)], h.src):
		return " R"
	}
	return " ?"
}

var ikeExchanges = []tok{
	{0, "none"}, {1, "base"}, {2, "ident"}, {3, "auth"}, {4, "agg"}, {5, "inf"}, {32, "oakley-quick"},
	{33, "oakley-newgroup"}, {34, "ikev2_init"}, {35, "ikev2_auth"}, {36, "child_sa"}, {37, "inf2"},
}

// ike prints a message of RFC 2408 or 7296: which exchange, and who sends it.
func (p *Printer) ike(b []byte, h *ipHeader) {
	p.proto = "isakmp"
	if len(b) < ikeHeaderLen {
		p.trunc()
		return
	}
	p.str("isakmp")
	major := b[17] >> 4
	if p.opt.Verbose > 0 {
		p.printf(" %d.%d msgid %08x", major, b[17]&15, p.u32(b, 20))
	}
	if p.opt.Verbose > 1 {
		p.printf(" cookie %016x->%016x", p.u64(b, 0), p.u64(b, 8))
	}
	p.char(':')
	first := p.u32(b, 20) == 0
	exchange := tokStr(ikeExchanges, "#%d", uint32(b[18]))
	flags := uint32(b[19])
	switch major {
	case 1:
		p.str(flagStr(first, " phase 1", " phase 2/others"))
		p.str(p.ikeCache.side(b, h))
		p.printf(" %s", exchange)
		if flags != 0 {
			p.printf("[%s]", letters([]tok{{1, "E"}, {2, "C"}}, flags))
		}
	case 2:
		p.str(flagStr(first, " parent_sa", " child_sa "))
		p.printf(" %s", exchange)
		if flags != 0 {
			p.printf("[%s]", letters([]tok{{8, "I"}, {0x10, "V"}, {0x20, "R"}}, flags))
		}
	}
}

// ikeNAT prints what goes through port 4500: IKE, ESP, or a byte to keep the way open, RFC 3948.
func (p *Printer) ikeNAT(b []byte, length int, h *ipHeader) {
	p.proto = "isakmp_rfc3948"
	if length == 1 && p.u8(b, 0) == 0xff {
		p.str("isakmp-nat-keep-alive")
		return
	}
	if length < 4 {
		p.trunc()
		return
	}
	if p.u32(b, 0) == 0 {
		p.str("NONESP-encap: ")
		p.ike(b[4:], h)
		return
	}
	p.str("UDP-encap: ")
	p.esp(b, length)
}
