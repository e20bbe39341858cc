package filter

// proto is a protocol that an expression can name as a qualifier, a primitive of its own or the subject of "[...]".
type proto int

const (
	protoDefault proto = iota
	protoLink
	protoIP
	protoARP
	protoRARP
	protoSCTP
	protoTCP
	protoUDP
	protoICMP
	protoIGMP
	protoIGRP
	protoPIM
	protoVRRP
	protoCARP
	protoATALK
	protoAARP
	protoDECnet
	protoLAT
	protoSCA
	protoMOPRC
	protoMOPDL
	protoIP6
	protoICMP6
	protoAH
	protoESP
	protoISO
	protoESIS
	protoISIS
	protoCLNP
	protoSTP
	protoIPX
	protoNetBEUI
	protoISISL1
	protoISISL2
	protoISISIIH
	protoISISLSP
	protoISISSNP
	protoISISCSNP
	protoISISPSNP
	protoRadio
	protoUndef // no qualifier to inherit
)

var protoWords = map[string]proto{
	"link": protoLink, "ether": protoLink, "ppp": protoLink, "slip": protoLink, "fddi": protoLink, "tr": protoLink, "wlan": protoLink,
	"ip": protoIP, "arp": protoARP, "rarp": protoRARP, "sctp": protoSCTP, "tcp": protoTCP, "udp": protoUDP, "icmp": protoICMP,
	"igmp": protoIGMP, "igrp": protoIGRP, "pim": protoPIM, "vrrp": protoVRRP, "carp": protoCARP, "radio": protoRadio,
	"ip6": protoIP6, "icmp6": protoICMP6, "ah": protoAH, "esp": protoESP,
	"atalk": protoATALK, "aarp": protoAARP, "decnet": protoDECnet, "lat": protoLAT, "sca": protoSCA, "moprc": protoMOPRC, "mopdl": protoMOPDL,
	"iso": protoISO, "esis": protoESIS, "es-is": protoESIS, "isis": protoISIS, "is-is": protoISIS, "l1": protoISISL1, "l2": protoISISL2,
	"iih": protoISISIIH, "lsp": protoISISLSP, "snp": protoISISSNP, "csnp": protoISISCSNP, "psnp": protoISISPSNP, "clnp": protoCLNP,
	"stp": protoSTP, "ipx": protoIPX, "netbeui": protoNetBEUI,
}

func (p proto) String() string {
	if p == protoLink {
		return "ether"
	}
	for _, w := range []string{"esis", "isis"} { // these have two names
		if protoWords[w] == p {
			return w
		}
	}
	for w, v := range protoWords {
		if v == p {
			return w
		}
	}
	return "no protocol"
}

// keywords maps the words of the grammar to the one of their synonyms that the parser knows.
var keywords = map[string]string{
	"src": "src", "dst": "dst", "host": "host", "net": "net", "mask": "mask", "port": "port", "portrange": "portrange",
	"proto": "proto", "protochain": "protochain", "gateway": "gateway", "less": "less", "greater": "greater", "byte": "byte",
	"broadcast": "broadcast", "multicast": "multicast", "len": "len", "length": "len", "inbound": "inbound",
	"outbound": "outbound", "ifindex": "ifindex", "vlan": "vlan", "mpls": "mpls", "pppoed": "pppoed", "pppoes": "pppoes",
	"geneve": "geneve", "llc": "llc", "rnr": "rnr",
}

var symbolWords = map[string]string{"and": "and", "&&": "and", "or": "or", "||": "or", "not": "!", "!": "!", "==": "="}

// elsewhere are the words whose primitives exist on link types only that this package does not know, and which are.
var elsewhere = wordsOf(map[string][]string{
	"802.11": {"type", "subtype", "direction", "dir", "address1", "addr1", "address2", "addr2", "address3", "addr3", "address4", "addr4", "ra", "ta"},
	"ATM":    {"lane", "metac", "bcc", "oam", "oamf4", "oamf4ec", "oamf4sc", "sc", "ilmic", "vpi", "vci", "connectmsg", "metaconnect"},
	"pf":     {"on", "ifname", "rset", "ruleset", "rulenum", "srnr", "subrulenum", "reason", "action"},
	"SS7": {"fisu", "lssu", "lsu", "msu", "hfisu", "hlssu", "hmsu", "sio", "opc", "dpc", "sls",
		"hsio", "hopc", "hdpc", "hsls"},
})

func wordsOf(m map[string][]string) map[string]string {
	of := make(map[string]string)
	for where, words := range m {
		for _, w := range words {
			of[w] = where
		}
	}
	return of
}

// constants are names of offsets and values in ICMP, ICMPv6 and TCP.
var constants = map[string]uint32{
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142, "icmp6-multicastlistenerreportv2": 143,
	"icmp6-homeagentdiscoveryrequest": 144, "icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146,
	"icmp6-mobileprefixadvert": 147, "icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149,
	"icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,
	"tcpflags": 13, "tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20,
	"tcp-ece": 0x40, "tcp-cwr": 0x80,
}

// keyword makes of a name what it means in the grammar, if anything.
func keyword(t token) token {
	if p, ok := protoWords[t.text]; ok {
		t.kind, t.proto = tokProto, p
	} else if _, ok := keywords[t.text]; ok {
		t.kind = tokKeyword
	} else if _, ok := symbolWords[t.text]; ok {
		t.kind = tokSymbol
	} else if _, ok := elsewhere[t.text]; ok {
		t.kind = tokElsewhere
	} else if v, ok := constants[t.text]; ok {
		t.kind, t.num = tokNumber, v
	}
	return t
}

// word is the token's word of the grammar, of several synonyms always the same.
func (t token) word() string {
	switch t.kind {
	case tokSymbol:
		if w, ok := symbolWords[t.text]; ok {
			return w
		}
		return t.text
	case tokKeyword:
		return keywords[t.text]
	}
	return ""
}
