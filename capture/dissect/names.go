package dissect

// ipProtocols are the names that tcpdump gives to protocols with -v.
var ipProtocols = []tok{
	{0, "Options"}, {protoICMP, "ICMP"}, {protoIGMP, "IGMP"}, {protoIPIP, "IPIP"}, {protoTCP, "TCP"}, {8, "EGP"},
	{9, "IGRP"}, {protoUDP, "UDP"}, {protoDCCP, "DCCP"}, {protoIPv6, "IPv6"}, {43, "Routing"}, {44, "Fragment"},
	{46, "RSVP"}, {protoGRE, "GRE"}, {50, "ESP"}, {51, "AH"}, {55, "Mobile IP"}, {58, "ICMPv6"},
	{62, "Mobile IP (old)"}, {88, "EIGRP"}, {89, "OSPF"}, {103, "PIM"}, {108, "Compressed IP"}, {112, "VRRP"},
	{113, "PGM"}, {protoSCTP, "SCTP"}, {135, "Mobility"}, {143, "Ethernet"},
}

// ouiNames are the organizations that tcpdump knows.
var ouiNames = []tok{
	{0x000000, "Ethernet"}, {ouiCisco, "Cisco"}, {ouiIANA, "IANA"}, {0x000081, "Nortel Networks SONMP"},
	{ouiCisco90, "Cisco bridged"}, {0x00049f, "Freescale"}, {0x0004ea, "HP-Labs"}, {0x001018, "Broadcom"},
	{oui8023, "IEEE 802.3 Private"}, {0x0012bb, "ANSI/TIA"}, {0x0015ad, "Netronome"}, {0x001b21, "DCBX"},
	{0x002320, "Nicira Networks"}, {0x002481, "HP"}, {oui8021, "Ethernet bridged"}, {0x009069, "Juniper"},
	{0x00a03e, "ATM Forum"}, {0x00e004, "PMC-Sierra"}, {0x00e02f, "DOCSIS Spanning Tree"}, {ouiApple, "Appletalk"},
}

// Organizations whose protocols are read.
const (
	ouiCisco   = 0x00000c
	ouiIANA    = 0x00005e
	ouiCisco90 = 0x0000f8
	oui8023    = 0x00120f
	oui8021    = 0x0080c2
	ouiApple   = 0x080007
)

func ouiName(oui uint32) string {
	return tokStr(ouiNames, "Unknown", oui)
}

// protocolNames are the IP protocols of IANA's list, as protocols(5) spells them.
var protocolNames = [...]string{
	"hopopt", "icmp", "igmp", "ggp", "ipencap", "st", "tcp", "cbt", "egp", "igp", "bbn-rcc-mon", "nvp-ii", "pup",
	"argus", "emcon", "xnet", "chaos", "udp", "mux", "dcn-meas", "hmp", "prm", "xns-idp", "trunk-1", "trunk-2",
	"leaf-1", "leaf-2", "rdp", "irtp", "iso-tp4", "netblt", "mfe-nsp", "merit-inp", "dccp", "3pc", "idpr", "xtp",
	"ddp", "idpr-cmtp", "tp++", "il", "ipv6", "sdrp", "ipv6-route", "ipv6-frag", "idrp", "rsvp", "gre", "dsr", "bna",
	"esp", "ah", "i-nlsp", "swipe", "narp", "mobile", "tlsp", "skip", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "",
	"cftp", "", "sat-expak", "kryptolan", "rvd", "ippc", "", "sat-mon", "visa", "ipcv", "cpnx", "rspf", "wsn", "pvp",
	"br-sat-mon", "sun-nd", "wb-mon", "wb-expak", "iso-ip", "vmtp", "secure-vmtp", "vines", "ttp", "nsfnet-igp",
	"dgp", "tcf", "eigrp", "ospf", "sprite-rpc", "larp", "mtp", "ax.25", "ipip", "micp", "scc-sp", "etherip", "encap",
	"", "gmtp", "ifmp", "pnni", "pim", "aris", "scps", "qnx", "a/n", "ipcomp", "snp", "compaq-peer", "ipx-in-ip",
	"vrrp", "pgm", "", "l2tp", "ddx", "iatp", "stp", "srp", "uti", "smp", "sm", "ptp", "isis", "fire", "crtp",
	"crudp", "sscopmce", "iplt", "sps", "pipe", "sctp", "fc", "rsvp-e2e-ignore", "mobility-header", "udplite",
	"mpls-in-ip", "manet", "hip", "shim6", "wesp", "rohc", 253: "exptest-253", 254: "exptest-254", 255: "reserved",
}
