package forward

import (
	"encoding/binary"
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// IP option types (RFC 791 section 3.1, RFC 2113) that a router acts on.
const (
	optEnd         = 0
	optNop         = 1
	optRecordRoute = 7
	optTimestamp   = 68
	optCIPSO       = 134
	optLSRR        = 131
	optSSRR        = 137
	optRouterAlert = 148
)

// Forms of the timestamp option (RFC 791), low nibble of its fourth byte.
const (
	tsOnly      = 0
	tsAndAddr   = 1
	tsPrespec   = 3
	tsOverflown = 15
)

// ipOptions says where in a header the options stand that a router acts on, as
// offsets from its first byte; 0: not there. It is the kernel's struct
// ip_options (include/net/inet_sock.h).
type ipOptions struct {
	srr, rr, ts int
	cipso       int
	strict      bool
	routerAlert bool
	changed     bool
	rrNeedsAddr bool
	tsNeedsAddr bool
	tsNeedsTime bool
	problem     int // offset for a parameter problem; 0: the options are sound
}

// optionsEnv is what compiling the options of a received packet asks of the host.
type optionsEnv interface {
	// specDst is this host's address as the packet's source would see it
	// (net/ipv4/fib_frontend.c, fib_compute_spec_dst).
	specDst() [4]byte
	// unicast reports whether an address is one of another host
	// (inet_addr_type() == RTN_UNICAST).
	unicast(a [4]byte) bool
	// millis is the time of day in ms since midnight UTC.
	millis() uint32
}

// compile checks the options of a received header and fills in what a receiver
// fills in, exactly as net/ipv4/ip_options.c, __ip_options_compile, does: the
// header's checksum is left stale where it changes anything.
func (o *ipOptions) compile(ip wire.IPv4, env optionsEnv) {
	*o = ipOptions{}
	h := ip[:ip.HeaderLen()]
	for at := wire.IPv4MinLen; at < len(h); {
		opt := h[at:]
		switch opt[0] {
		case optEnd:
			for i := range opt {
				if opt[i] != optEnd {
					opt[i], o.changed = optEnd, true
				}
			}
			return
		case optNop:
			at++
			continue
		}
		if len(opt) < 2 || opt[1] < 2 || int(opt[1]) > len(opt) {
			o.problem = at
			return
		}
		n := int(opt[1])
		if bad := o.compileOne(opt[:n:n], at, env); bad >= 0 {
			o.problem = at + bad
			return
		}
		at += n
	}
}

// compileOne handles one option and gives the offset in it of what is wrong, or -1.
func (o *ipOptions) compileOne(opt []byte, at int, env optionsEnv) int {
	switch opt[0] {
	case optSSRR, optLSRR:
		switch {
		case len(opt) < 3:
			return 1
		case opt[2] < 4:
			return 2
		case o.srr != 0:
			return 0
		}
		o.strict, o.srr = opt[0] == optSSRR, at
	case optRecordRoute:
		return o.compileRR(opt, at, env)
	case optTimestamp:
		return o.compileTS(opt, at, env)
	case optCIPSO:
		// A kernel with NetLabel knows no domain of interpretation unless told
		// (net/ipv4/cipso_ipv4.c, cipso_v4_validate).
		if o.cipso != 0 {
			return 0
		}
		o.cipso = at
		if len(opt) < 8 {
			return 1
		}
		return 2
	case optRouterAlert:
		if len(opt) < 4 {
			return 1
		}
		o.routerAlert = o.routerAlert || (opt[2] == 0 && opt[3] == 0)
	}
	return -1
}

func (o *ipOptions) compileRR(opt []byte, at int, env optionsEnv) int {
	switch {
	case o.rr != 0:
		return 0
	case len(opt) < 3:
		return 1
	case opt[2] < 4:
		return 2
	}
	if ptr := int(opt[2]); ptr <= len(opt) {
		if ptr+3 > len(opt) {
			return 2
		}
		a := env.specDst()
		copy(opt[ptr-1:], a[:])
		opt[2] += 4
		o.changed, o.rrNeedsAddr = true, true
	}
	o.rr = at
	return -1
}

func (o *ipOptions) compileTS(opt []byte, at int, env optionsEnv) int {
	switch {
	case o.ts != 0:
		return 0
	case len(opt) < 4:
		return 1
	case opt[2] < 5:
		return 2
	}
	ptr, form := int(opt[2]), opt[3]&0xf
	if ptr > len(opt) {
		if form != tsPrespec {
			over := opt[3] >> 4
			if over == tsOverflown {
				return 3
			}
			opt[3], o.changed = form|(over+1)<<4, true
		}
		o.ts = at
		return -1
	}
	if ptr+3 > len(opt) || (form != tsOnly && (form == tsAndAddr || form == tsPrespec) && ptr+7 > len(opt)) {
		return 2
	}
	stamp := -1
	switch form {
	case tsOnly:
		stamp = ptr - 1
		o.tsNeedsTime = true
		opt[2] += 4
	case tsAndAddr:
		a := env.specDst()
		copy(opt[ptr-1:], a[:])
		stamp = ptr + 3
		o.tsNeedsAddr, o.tsNeedsTime = true, true
		opt[2] += 8
	case tsPrespec:
		if !env.unicast([4]byte(opt[ptr-1 : ptr+3])) {
			stamp = ptr + 3
			o.tsNeedsTime = true
			opt[2] += 8
		}
	}
	if stamp >= 0 {
		binary.BigEndian.PutUint32(opt[stamp:], env.millis())
		o.changed = true
	}
	o.ts = at
	return -1
}

// forward fills in what a router fills in on the way out (net/ipv4/ip_options.c,
// ip_forward_options): the address it sends from. Checksum included.
func (o *ipOptions) forward(ip wire.IPv4, source [4]byte) {
	if o.rrNeedsAddr {
		copy(ip[o.rr+int(ip[o.rr+2])-5:], source[:])
		o.changed = true
	}
	if o.changed {
		ip.UpdateHeaderChecksum()
	}
}

// echo writes to b the options of an answer to a packet with options o, as
// net/ipv4/ip_options.c, __ip_options_echo and ip_options_build, do, and gives
// their length, a multiple of 4; -1 if there can be no answer. source is the
// address that the answer goes out with.
func (o *ipOptions) echo(b []byte, ip wire.IPv4, env optionsEnv, source [4]byte) int {
	n := 0
	if o.rr != 0 {
		opt := ip[o.rr:]
		length, ptr := int(opt[1]), int(opt[2])
		copy(b[n:], opt[:length])
		if o.rrNeedsAddr && ptr <= length {
			if ptr+3 > length {
				return -1
			}
			b[n+2] = byte(ptr + 4)
			copy(b[n+ptr-1:], source[:])
		}
		n += length
	}
	if o.ts != 0 {
		length := o.echoTS(b[n:], ip, env, source)
		if length < 0 {
			return -1
		}
		n += length
	}
	if length, _ := o.echoSRR(b[n:], ip); length > 0 {
		n += length
	}
	if o.cipso != 0 {
		n += copy(b[n:], ip[o.cipso:][:ip[o.cipso+1]])
	}
	for ; n&3 != 0; n++ {
		b[n] = optEnd
	}
	return n
}

// answerTo is where an answer to a packet goes first: its source, or the last
// hop of the source route that led it here.
func (o *ipOptions) answerTo(ip wire.IPv4) [4]byte {
	var scratch [40]byte
	if n, first := o.echoSRR(scratch[:], ip); n > 0 {
		return first
	}
	return ip.Src()
}

// echoSRR writes the way back along a source route, which ends at the source,
// and gives its length, 0 if there is none, and its first hop.
func (o *ipOptions) echoSRR(b []byte, ip wire.IPv4) (n int, first [4]byte) {
	if o.srr == 0 {
		return 0, first
	}
	opt := ip[o.srr:]
	at := min(int(opt[2]), int(opt[1])+1) - 4
	if at <= 3 {
		return 0, first
	}
	first = [4]byte(opt[at-1:])
	for at, n = at-4, 4; at > 3; at, n = at-4, n+4 {
		copy(b[n-1:], opt[at-1:at+3])
	}
	src := ip.Src()
	if [4]byte(opt[at+3:]) == src {
		n -= 4
	}
	if n <= 3 {
		return 0, first
	}
	b[0], b[1], b[2] = opt[0], byte(n+3), 4
	copy(b[n-1:], src[:])
	return n + 3, first
}

func (o *ipOptions) echoTS(b []byte, ip wire.IPv4, env optionsEnv, source [4]byte) int {
	opt := ip[o.ts:]
	length, ptr := int(opt[1]), int(opt[2])
	copy(b, opt[:length])
	if ptr > length {
		return length
	}
	addr := -1
	if o.tsNeedsAddr {
		if ptr+3 > length {
			return -1
		}
		addr = ptr - 1
		ptr += 4
	}
	needTime := false
	if o.tsNeedsTime {
		if ptr+3 > length {
			return -1
		}
		if b[3]&0xf != tsPrespec {
			needTime = true
			ptr += 4
		} else if ptr+7 <= length && !env.unicast([4]byte(b[ptr-1:ptr+3])) {
			needTime = true
			ptr += 8
		}
	}
	b[2] = byte(ptr)
	if addr >= 0 {
		copy(b[addr:], source[:])
	}
	if needTime {
		binary.BigEndian.PutUint32(b[ptr-5:], env.millis())
	}
	return length
}

// hostEnv answers for a packet that came in on a link.
type hostEnv struct {
	t     *route.Table
	in    *route.Link
	src   netip.Addr
	tos   uint8
	clock func() uint32
}

func (e *hostEnv) specDst() [4]byte { return addr4(e.t.SpecDst(e.src, e.tos, e.in)) }

func (e *hostEnv) unicast(a [4]byte) bool { return e.t.Unicast(netip.AddrFrom4(a)) }

func (e *hostEnv) millis() uint32 { return e.clock() }

// addr4 gives the bytes of an IPv4 address, 0.0.0.0 for none.
func addr4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		return a.As4()
	}
	return b
}
