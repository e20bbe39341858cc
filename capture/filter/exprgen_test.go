package filter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// exprGen makes expressions from a grammar that is a little larger than libpcap's: some are wrong.
type exprGen struct {
	*rand.Rand
	link LinkType
}

func newExprGen(seed uint64, link LinkType) *exprGen {
	return &exprGen{rand.New(rand.NewPCG(seed, uint64(link))), link}
}

// pick returns one of the words; those after a "--" are mostly wrong, and rare.
func (g *exprGen) pick(words ...string) string {
	if i := slices.Index(words, "--"); i >= 0 {
		if g.IntN(150) == 0 {
			return g.pick(words[i+1:]...)
		}
		words = words[:i]
	}
	return words[g.IntN(len(words))]
}

func (g *exprGen) expr(depth int) string {
	var b strings.Builder
	b.WriteString(g.term(depth))
	for n := g.IntN(4); n > 0; n-- {
		b.WriteString(g.pick(" and ", " or ", " and ", " or ", " && ", " || ", "||"))
		b.WriteString(g.term(depth))
	}
	return b.String()
}

// broken is an expression of which a word is gone, doubled or replaced. All names that it has are known: others would
// make tcpdump ask the network.
func (g *exprGen) broken() string {
	words := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ", "[", " [ ", "]", " ] ", "!", " ! ", "&&", " && ", "||", " || ").Replace(g.expr(1)))
	i := g.IntN(len(words))
	switch g.IntN(4) {
	case 0:
		words = slices.Delete(words, i, i+1)
	case 1:
		words = slices.Insert(words, i, words[i])
	case 2:
		j := g.IntN(len(words))
		words[i], words[j] = words[j], words[i]
	default:
		words[i] = g.pick("(", ")", "and", "or", "not", "!", "src", "dst", "host", "net", "port", "proto", "tcp", "ip", "ether", "10.0.0.1", "80", "fe80::1",
			"1:2:3:4:5:6", "[", "]", "len", ">", "=", "&", "+", "-", "*", "%", "^", "vlan", "mask", "less", "broadcast", "inbound", "byte", "gateway", "/8", "5",
			"::", ":", "0x", "00", "1:::2:3", "123456789012", "1234.5678.9abc", "es-is", "_", "$1", ";")
	}
	return strings.Join(words, " ")
}

func (g *exprGen) term(depth int) string {
	if g.link == NFLOG && g.IntN(4) > 0 {
		return g.encap()
	}
	if g.IntN(7) == 0 {
		return g.pick("not ", "!", "not not ") + g.term(depth)
	}
	if depth > 0 && g.IntN(5) == 0 {
		return "(" + g.expr(depth-1) + ")"
	}
	switch g.IntN(15) {
	case 0, 1, 2:
		return g.host(depth)
	case 3, 4, 5:
		return g.pick("", "", "tcp ", "udp ", "sctp ", "--", "icmp ", "ip ", "ip6 ") + g.dir() +
			g.pick(g.list("port ", g.port, depth), g.list("portrange ", g.portRange, depth))
	case 6, 7, 8:
		return g.proto()
	case 9:
		return g.protoNumber()
	case 10:
		if g.link == Ethernet {
			return g.pick("broadcast", "multicast", "ether broadcast", "ether multicast", "ip broadcast", "ip multicast", "ip6 multicast", "--", "ip6 broadcast", "arp multicast")
		}
		return g.pick("ip broadcast", "ip multicast", "ip6 multicast", "--", "broadcast", "multicast")
	case 11:
		return g.pick("less ", "greater ") + g.pick("60", "64", "100", "1000", "0", "0x40", "077", "--", "099", "0x100000000", "(60)")
	case 12:
		return g.encap()
	default:
		return g.value(2) + g.pick(" = ", "==", " != ", " > ", "<", " >= ", "<=") + g.value(2)
	}
}

// list makes one operand after its qualifiers, or several in parentheses or without.
func (g *exprGen) list(qualifiers string, one func() string, depth int) string {
	switch g.IntN(8) {
	case 0:
		return qualifiers + g.group(one, depth)
	case 1:
		return qualifiers + one() + g.pick(" or ", " and ", " or not ", " and not ", "||!") + one()
	case 2:
		return qualifiers + g.pick("not ", "!") + one()
	case 3:
		return qualifiers + one() + g.pick(" or ", " and ") + g.group(one, depth)
	case 4:
		if g.IntN(4) == 0 { // what is inherited after a term depends on it
			return qualifiers + one() + g.pick(" or ", " and ") + g.term(max(depth-1, 0)) + " or " + one()
		}
	}
	return qualifiers + one()
}

func (g *exprGen) group(one func() string, depth int) string {
	second := one()
	if depth > 0 && g.IntN(3) == 0 {
		second = g.pick("", "not ") + g.group(one, depth-1)
	}
	return "(" + g.pick(one(), one(), "not "+one(), "--", "("+one()+")", "tcp") + g.pick(" or ", " and ") + second + ")"
}

func (g *exprGen) host(depth int) string {
	typ := g.pick("host ", "net ", "net ", "")
	four, six := g.addr, func() string { return g.pick("fe80::1", "::1", "::", "2001:db8::1.2.3.4", "ff02::1", "fd00:10::1") }
	if typ == "net " {
		four, six = g.net, g.net6
	}
	dir := g.dir()
	if typ == "" && dir == "" {
		dir = "src "
	}
	switch g.IntN(8) {
	case 0:
		return g.pick("", "ip6 ", "--", "ip ", "tcp ") + dir + g.list(typ, six, depth)
	case 1:
		if g.link == Ethernet && typ != "net " {
			return g.pick("ether ", "ether ", "--", "", "ip ") + dir + g.list(typ, g.mac, depth)
		}
	case 2:
		return dir + g.list(typ, func() string { return g.pick(four(), six(), "--", g.mac(), g.port()) }, depth)
	}
	return g.pick("", "", "ip ", "ip ", "arp ", "rarp ", "--", "ip6 ", "ether ", "tcp ", "decnet ") + dir + g.list(typ, four, depth)
}

func (g *exprGen) dir() string {
	return g.pick("", "", "", "src ", "dst ", "src or dst ", "dst or src ", "src and dst ", "dst and src ", "--", "addr1 ", "src or src ")
}

func (g *exprGen) addr() string {
	return g.pick("10.233.64.5", "10.96.0.10", "169.254.1.1", "172.17.8.102", "0.0.0.0", "255.255.255.255", "10.0.0.1", "10.1", "1.2.3",
		"--", "256.1.1.1", "0x1.2", "10.0.0.0/8", "10.0.0.1/32")
}

func (g *exprGen) net() string {
	return g.pick("10.0.0.0/8", "10", "10.1", "10.96", "10.233.64", "172.16.0.0/12", "10.0.0.0 mask 255.0.0.0", "0.0.0.0/0",
		"10.233.64.4/30", "1.2.3.4/32", "10.1 mask 255.255", "loopback", "224", "10.1/16", "256", "0", "10.233.64.5",
		"--", "10.0.0.1/8", "10.0.0.0/33", "10.1 mask 255.0", "10/8", "nosuchnet", "1.2 mask 255")
}

func (g *exprGen) net6() string {
	return g.pick("fe80::/10", "fd00:10::/32", "fd00:10::1/128", "::/0", "2001:db8::/48", "fe80::1", "--", "1::8:9/129", "fe80::1/64", "fe80::/10/10")
}

func (g *exprGen) mac() string {
	return g.pick("ee:ee:ee:ee:ee:ee", "ff:ff:ff:ff:ff:ff", "0:1:2:3:4:5", "0a58.0ae9.4005", "0a-58-0a-e9-40-05", "0a580ae94005", "0a.58.0a.e9.40.05",
		"--", "0a:58:0a", "0a:58:0a:e9:40:", "$a")
}

func (g *exprGen) port() string {
	return g.pick("80", "443", "53", "22", "8080", "65535", "0", "179", "domain", "ssh", "0x50", "010", "--", "http", "65536", "1-1023", "nosuchport", "090")
}

func (g *exprGen) portRange() string {
	return g.pick("1-1023", "30000-32767", "90-80", "53", "22-53", "ssh-domain", "--", "80-90x", "http-https", "80-65536", "x-y", "1-", "domain", "1-2-3")
}

func (g *exprGen) proto() string {
	words := []string{"ip", "ip", "ip6", "arp", "arp", "rarp", "tcp", "tcp", "udp", "udp", "icmp", "icmp6", "igmp", "sctp", "ah", "esp", "vrrp", "carp", "pim", "igrp"}
	if g.IntN(3) == 0 {
		words = []string{"atalk", "aarp", "decnet", "lat", "sca", "moprc", "mopdl", "iso", "esis", "isis", "clnp", "stp", "ipx", "netbeui",
			"l1", "l2", "iih", "lsp", "snp", "csnp", "psnp"}
		if g.link == Ethernet {
			words = append(words, "llc", "llc i", "llc s", "llc u", "llc rr", "llc rnr", "llc ui", "llc XID", "llc Frmr", "llc dm", "llc rej", "llc ua",
				"llc disc", "llc sabme", "llc test")
		}
	}
	return g.pick(append(words, "--", "llc foo", "llc", "ether", "radio", "lane", "on eth0", "gateway x", "decnet host 1.2", "decnet src 10.1023", "byte 0 = 5", "byte 3 & 1")...)
}

func (g *exprGen) protoNumber() string {
	switch g.IntN(4) {
	case 0:
		return "ether proto " + g.pick("0x800", "0x86dd", "0xfe", "0xe0", "0x42", "0xf0", "0x809b", "0x80f3", "300", "1500", "1501", "6", "\\ip", "\\arp", "\\ip6",
			"\\stp", "(0x800 or 0x806)", "\\loopback", "--", "ip", "\\nosuch", "65536")
	case 1:
		return g.pick("iso ", "isis ", "--", "tcp ", "arp ", "stp ") + "proto " + g.pick("1", "0x83", "27", "\\esis", "(1 or 2)", "--", "\\tcp")
	}
	return g.pick("", "ip ", "ip6 ", "--", "udp ") + "proto " + g.pick("6", "17", "1", "58", "4", "132", "\\tcp", "\\udp", "\\icmp", "(6 or 17)", "6 or 17", "256",
		"--", "tcp", "\\nosuch", "10.0.0.1", "fe80::1")
}

func (g *exprGen) encap() string {
	if g.link == LinuxSLL || g.link == LinuxSLL2 {
		words := []string{"inbound", "outbound"}
		if g.link == LinuxSLL2 {
			words = append(words, "ifindex 2", "ifindex 7")
		}
		return g.pick(append(words, "--", "vlan", "mpls", "pppoed", "pppoes", "geneve", "ifindex 1")...)
	}
	if g.link == PPPPppd && g.IntN(2) == 0 {
		return g.pick("inbound", "outbound", "--", "mpls")
	}
	if g.link == PPP && g.IntN(2) == 0 {
		return "mpls" + g.pick("", "", " 100")
	}
	if g.link == NFLOG {
		return g.pick("less 60", "greater 60", "len > 80", "link[0] = 0x45", "ether[4:2] != 0", "--", "ip")
	}
	if g.link == Ethernet && g.IntN(2) == 0 {
		return "vlan" + g.pick("", "", " 10", " 100", " (10)", "--", " 4096", " 10 10")
	}
	if g.link == Ethernet && g.IntN(2) == 0 {
		return "mpls" + g.pick("", "", " 100", "--", " 1048576")
	}
	return g.pick("pppoed", "pppoes", "pppoes 7", "geneve", "geneve 5", "protochain 6", "ip protochain 51", "ip6 protochain \\udp",
		"--", "geneve 0x1000000", "pppoes 65536", "vlan", "mpls", "tcp protochain 6", "inbound", "outbound", "ifindex 3")
}

func (g *exprGen) value(depth int) string {
	if depth == 0 || g.IntN(5) == 0 {
		return g.pick("0", "1", "2", "5", "6", "8", "0xf", "0x3fff", "0xff", "64", "255", "0xffffffff", "tcp-syn", "tcp-ack", "icmp-echo", "icmp6-neighborsolicit", "len")
	}
	switch g.IntN(9) {
	case 0, 1, 2, 3, 4:
		return g.load(depth)
	case 5:
		return "(" + g.value(depth-1) + g.op() + g.value(depth-1) + ")"
	case 6:
		return g.value(depth-1) + g.op() + g.value(depth-1)
	case 7:
		return "-" + g.value(depth-1)
	}
	return g.value(depth-1) + g.op() + g.value(depth-1) + g.op() + g.value(depth-1)
}

func (g *exprGen) op() string {
	return g.pick(" + ", " - ", " * ", " & ", " & ", "&", " | ", " << ", " >> ", " / ", " % ", " ^ ")
}

func (g *exprGen) load(depth int) string {
	p := g.pick("ip", "ip", "tcp", "tcp", "udp", "icmp", "ip6", "icmp6", "arp", "ether", "ether", "link", "igmp", "sctp", "rarp", "vrrp", "pim",
		"--", "esp", "iso", "radio")
	index := fmt.Sprint(g.IntN(24))
	switch g.IntN(10) {
	case 0:
		index = g.value(depth - 1)
	case 1:
		index = g.pick("tcpflags", "icmptype", "icmpcode", "1000", "-1")
	}
	return p + "[" + index + g.pick("", "", ":1", ":2", ":2", ":4", ":4", "--", ":3") + "]"
}
