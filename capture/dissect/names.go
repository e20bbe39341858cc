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
	{0x000000, "Ethernet"}, {0x00000c, "Cisco"}, {0x000085, "Canon"}, {0x0000a2, "Wellfleet"}, {0x0000f8, "Cisco bridged"},
	{0x0080c2, "RFC2684"}, {0x00e02b, "ATM Forum"},
}

func ouiName(oui uint32) string {
	return tokStr(ouiNames, "Unknown", oui)
}

// protocolName is the name of an IP protocol in IANA's list, or "".
func protocolName(proto uint8) string {
	return ""
}
