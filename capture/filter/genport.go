package filter

import "strings"

// portProto is the IP protocol that the qualifier before a port means.
func (g *generator) portProto(o *operand) int {
	switch o.proto {
	case protoDefault:
		return anyPortProto
	case protoTCP:
		return ipTCP
	case protoUDP:
		return ipUDP
	case protoSCTP:
		return ipSCTP
	}
	g.failf("illegal qualifier of 'port': %v has no ports, tcp, udp and sctp have", o.proto)
	panic("unreachable")
}

// namedPortProto is the protocol of a port that was given by a name which is known for named.
func (g *generator) namedPortProto(o *operand, named int) int {
	want := g.portProto(o)
	switch {
	case want == anyPortProto:
		return named
	case named != anyPortProto && named != want:
		g.failf("port '%s' is not a port of %v", o.tok.text, o.proto)
	}
	return want
}

// portByName looks a port up, or reads it: a number may stand here with a "\" before it.
func (g *generator) portByName(name string) (port uint32, proto int) {
	port, proto, ok := g.lookUpPort(name)
	if !ok {
		g.failf("unknown port '%s' (it is not in /etc/services)", name)
	}
	return port, proto
}

func (g *generator) lookUpPort(name string) (port uint32, proto int, ok bool) {
	tcp, isTCP := servicePort(name, "tcp")
	udp, isUDP := servicePort(name, "udp")
	switch {
	case isTCP && isUDP && tcp == udp:
		return tcp, anyPortProto, true
	case isTCP:
		return tcp, ipTCP, true
	case isUDP:
		return udp, ipUDP, true
	}
	return 0, 0, false
}

// portRange reads first-last. If it begins as two numbers, what follows them does not count, as with sscanf(3).
func (g *generator) portRange(name string) (first, last uint32, proto int) {
	a, b, ok := strings.Cut(name, "-")
	if !ok {
		g.failf("unknown port in range '%s': first-last is one", name)
	}
	n1, rest1 := leadingNumber(a)
	n2, rest2 := leadingNumber(b)
	if rest1 == "" && rest2 != b {
		return n1, n2, anyPortProto
	}
	first, p1, ok1 := g.lookUpPort(a)
	last, p2, ok2 := g.lookUpPort(b)
	if !ok1 || !ok2 {
		g.failf("unknown port in range '%s' (it is not in /etc/services)", name)
	}
	if p1 != p2 {
		p2 = anyPortProto
	}
	return first, last, p2
}

// leadingNumber reads the decimal number that s begins with; what is too big for a port stays too big.
func leadingNumber(s string) (n uint32, rest string) {
	for s != "" && '0' <= s[0] && s[0] <= '9' {
		n = min(n*10+uint32(s[0]-'0'), 1<<20)
		s = s[1:]
	}
	return n, s
}

// ports tests the ports of IPv4, then of IPv6.
func (g *generator) ports(first, last uint32, proto int, dir direction, isRange bool) *block {
	if first > 65535 || last > 65535 {
		g.failf("illegal port number %d > 65535", max(first, last))
	}
	test := g.portTest(first, last, isRange)
	b := g.port4(test, proto, dir)
	or(g.port6(test, proto, dir), b)
	return b
}

// portTest tests one port.
type portTest func(b base, off uint32) *block

func (g *generator) portTest(first, last uint32, isRange bool) portTest {
	if !isRange {
		return func(b base, off uint32) *block { return g.equal(b, off, sizeH, first) }
	}
	first, last = min(first, last), max(first, last)
	return func(b base, off uint32) *block {
		low := g.compare(jmpJGE, b, off, sizeH, first)
		high := g.compare(jmpJGT, b, off, sizeH, last)
		negate(high)
		return both(low, high)
	}
}

func (g *generator) port4(test portTest, proto int, dir direction) *block {
	return both(g.isType(etherIP), g.portsOf(proto, func(p uint32) *block {
		unfragmented := both(g.equal(fromPayload, 9, sizeB, p), g.firstFragment())
		return both(unfragmented, portDir(test, fromTransport4, dir))
	}))
}

func (g *generator) port6(test portTest, proto int, dir direction) *block {
	return both(g.isType(etherIP6), g.portsOf(proto, func(p uint32) *block {
		return both(g.equal(fromPayload, 6, sizeB, p), portDir(test, fromTransport6, dir))
	}))
}

// portsOf makes the test for one protocol, or for all that have ports.
func (g *generator) portsOf(proto int, one func(uint32) *block) *block {
	if proto != anyPortProto {
		return one(uint32(proto))
	}
	return anyOf(one(ipTCP), one(ipUDP), one(ipSCTP))
}

func portDir(test portTest, b base, dir direction) *block {
	switch dir {
	case dirSrc:
		return test(b, 0)
	case dirDst:
		return test(b, 2)
	}
	return combine(dir, func(d direction) *block { return portDir(test, b, d) })
}

// firstFragment is false for IPv4 fragments other than the first.
func (g *generator) firstFragment() *block {
	b := g.bitSet(fromPayload, 6, sizeH, 0x1fff)
	negate(b)
	return b
}
