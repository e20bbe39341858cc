package dissect

// ipHeader is what the protocols above IP need of it.
type ipHeader struct {
	version  int
	src, dst []byte // 4 or 16 bytes; dst is the destination of the header, not of a source route
	last     []byte // the destination after source routing: what checksums are made with
	ttl      uint8  // or hop limit
	fragment bool   // more fragments follow this first one
	direct   bool   // the IP header itself names the transport: there are no extension headers between
}

// frame is what the printers above the link level may need of it.
type frame struct {
	src, dst []byte // MAC addresses; nil if the link level has none
}

// link prints a frame by the capture's link type.
func (p *Printer) link(pkt *Packet) {
	b, length := pkt.Data, pkt.Len
	switch pkt.LinkType {
	case LinkEthernet:
		p.linkLen = p.ethernet(b, length)
	case LinkNull, LinkLoop:
		p.linkLen = p.null(b, length)
	case LinkPPP, LinkPPPPppd:
		p.linkLen = p.pppFrame(b, length)
	case LinkPPPSerial:
		p.linkLen = p.pppSerial(b, length)
	case LinkPPPEther:
		p.linkLen = p.pppoe(b, length)
	case LinkRaw, LinkIPv4, LinkIPv6:
		p.raw(b, length)
	case LinkSLL:
		p.linkLen = p.sll(b, length)
	case LinkSLL2:
		p.linkLen = p.sll2(b, length, pkt.Interface)
	case LinkNFLOG:
		p.linkLen = p.nflog(b, length)
	default:
		p.proto = "unsupported"
		p.unknown(b)
	}
}

// Prints says whether there is a printer for a link type. Frames of others are dumped.
func Prints(linkType uint16) bool {
	switch linkType {
	case LinkEthernet, LinkNull, LinkLoop, LinkPPP, LinkPPPPppd, LinkPPPSerial, LinkPPPEther, LinkRaw, LinkIPv4, LinkIPv6, LinkSLL,
		LinkSLL2, LinkNFLOG:
		return true
	}
	return false
}

// etherType prints the payload of an Ethernet type and says whether it knows the type.
func (p *Printer) etherType(t uint16, b []byte, length int, f frame) bool {
	switch t {
	case typeIPv4:
		p.ipv4(b, length)
	case typeIPv6:
		p.ip6(b, length)
	case typeARP, typeRARP:
		p.arp(b, length)
	case typeMPLS, typeMPLSMulti:
		p.mpls(b, length)
	case typeSlow:
		p.slow(b, length)
	case typeEAPOL:
		p.eapol(b, length)
	case typeLLDP:
		p.lldp(b, length)
	case typePPPoED, typePPPoES, typePPPoED2, typePPPoES2:
		p.pppoe(b, length)
	case typeLoopback:
		p.loopback(b, length)
	case typeAoE:
		p.aoe(b, length)
	case typePTP:
		p.ptp(b, length)
	case typeNLB:
		p.nlb(b)
	case typeNSH:
		p.nsh(b, length)
	case typeAppleTalk:
		p.sep(p.opt.Verbose > 0, "et1 ")
		p.appleTalk(b, length)
	case typeAARP:
		p.aarp(b, length)
	case typeIPX:
		p.str("(NOV-ETHII) ")
		p.ipx(b)
	case typeOSI:
		p.osiEthernet(b, length)
	case typeRealtek:
		p.realtek(b, f)
	case typeMPCP:
		p.mpcp(b, length)
	case typeCFM, typeCFMOld:
		p.cfm(b, length)
	case typeTIPC:
		p.tipc(b)
	case typeGeoNet, typeGeoNetOld:
		p.geoNet(b, length, f)
	case typeCALM:
		p.calm(b, length, f)
	case typePPP:
		if length > 0 {
			p.str(": ")
			p.ppp(b, length)
		}
	default:
		return false
	}
	return true
}

// ciscoPID prints the payload of a SNAP header of Cisco's and says whether it knows the protocol.
func (p *Printer) ciscoPID(pid uint16, b []byte, length int) bool {
	switch pid {
	case pidCDP:
		p.cdp(b, length)
	case pidPVST, pidVLANBridge:
		p.stp(b, length)
	case pidDTP:
		p.dtp(b, length)
	case pidUDLD:
		p.udld(b, length)
	case pidVTP:
		p.vtp(b, length)
	default:
		return false
	}
	return true
}

// grePayload prints the payload of GRE and says whether it knows the protocol.
func (p *Printer) grePayload(proto uint16, b []byte, length int) bool {
	switch proto {
	case typeIPv4, typeIPv6, typeMPLS:
		return p.etherType(proto, b, length, frame{})
	case typeTEB:
		p.ethernet(b, length)
	case typeIPX:
		p.ipx(b)
	case typeAppleTalk:
		p.appleTalk(b, length)
	case typeGREOSI:
		p.osi(b, length)
	default:
		return false
	}
	return true
}

// IP protocols.
const (
	protoICMP   = 1
	protoIGMP   = 2
	protoIPIP   = 4
	protoTCP    = 6
	protoEGP    = 8
	protoIGRP   = 9
	protoUDP    = 17
	protoDCCP   = 33
	protoIPv6   = 41
	protoRSVP   = 46
	protoGRE    = 47
	protoESP    = 50
	protoAH     = 51
	protoMobile = 55
	protoICMPv6 = 58
	protoNone   = 59
	protoND     = 77
	protoEIGRP  = 88
	protoOSPF   = 89
	protoPIM    = 103
	protoIPComp = 108
	protoVRRP   = 112
	protoPGM    = 113
	protoSCTP   = 132
	protoEther  = 143
)

// ipProtocol prints the payload of an IP protocol.
func (p *Printer) ipProtocol(proto uint8, b []byte, length int, h *ipHeader) {
	switch proto {
	case protoTCP:
		p.tcp(b, length, h)
	case protoUDP:
		p.udp(b, length, h)
	case protoICMP:
		if p.onlyIn(4, proto, h) {
			p.icmp(b, length, h)
		}
	case protoIGMP:
		if p.onlyIn(4, proto, h) {
			p.igmp(b, length)
		}
	case protoIPIP:
		p.ipv4(b, length)
	case protoIPv6:
		p.ip6(b, length)
	case protoGRE:
		p.gre(b, length)
	case protoESP:
		p.esp(b, length)
	case protoAH:
		p.ah(b, length, h)
	case protoICMPv6:
		if p.onlyIn(6, proto, h) {
			p.icmp6(b, length, h)
		}
	case protoNone:
		p.str("no next header")
	case protoIPComp:
		p.ipComp(b)
	case protoVRRP:
		if p.opt.Type == typeCARP {
			p.carp(b, length, h)
		} else {
			p.vrrp(b, length, h)
		}
	case protoSCTP:
		p.sctp(b, length, h)
	case protoDCCP:
		p.dccp(b, length, h)
	case protoOSPF:
		if h.version == 6 {
			p.ospf6(b, length)
		} else {
			p.ospf(b, length)
		}
	case protoEGP:
		p.egp(b, length)
	case protoIGRP:
		p.igrp(b, length)
	case protoEIGRP:
		p.eigrp(b, length)
	case protoRSVP:
		p.rsvp(b, length)
	case protoPIM:
		p.pim(b, length)
	case protoPGM:
		p.pgm(b, h)
	case protoMobile:
		p.mobile(b, length)
	case protoEther:
		if p.onlyIn(6, proto, h) {
			p.ethernet(b, length)
		}
	case protoND:
		p.str(" nd ")
		p.num(length)
	default:
		p.protocolNumber(proto)
		p.char(' ')
		p.num(length)
	}
}

// onlyIn says whether a protocol goes with the version of IP that it is in, and prints it if not.
func (p *Printer) onlyIn(version int, proto uint8, h *ipHeader) bool {
	if h.version == version {
		return true
	}
	p.printf("[%s requires IPv%d]", tokStr(ipProtocols, "unknown", uint32(proto)), version)
	p.invalid()
	return false
}

// udpPort prints the payload of UDP by its ports, in tcpdump's order, and says whether it knows them.
func (p *Printer) udpPort(src, dst uint16, b []byte, length int, h *ipHeader) bool {
	port := func(n uint16) bool { return src == n || dst == n }
	switch {
	case port(portDomain):
		p.domain(b, length, false)
	case port(portMDNS):
		p.domain(b, length, true)
	case port(portTimed):
		p.timed(b)
	case port(portTFTP):
		p.tftp(b, length)
	case port(portBOOTPServer), port(portBOOTPClient):
		p.bootp(b, length)
	case port(portRIP):
		p.rip(b, length)
	case port(portIKE):
		p.ike(b, h)
	case port(portIKENAT):
		p.ikeNAT(b, length, h)
	case port(portIKEUser1), port(portIKEUser2):
		p.ike(b, h)
	case port(portSNMP), port(portSNMPTrap):
		p.snmp(b, length)
	case port(portNTP):
		p.ntp(b, length)
	case port(portKerberos), port(portKerberos4):
		p.kerberos(b)
	case port(portL2TP):
		p.l2tp(b, length)
	case dst == portVAT:
		p.vat(b, length)
	case src >= portRXLow && src <= portRXHigh, dst >= portRXLow && dst <= portRXHigh:
		p.rx(b, length)
	case port(portRIPng):
		p.ripng(b, length)
	case port(portDHCP6Client), port(portDHCP6Server):
		p.dhcp6(b, length)
	case port(portAHCP):
		p.ahcp(b, length)
	case port(portBabel), port(portBabelOld):
		p.babel(b, length)
	case port(portAutoRP):
		p.autoRP(b, length)
	case port(portRADIUS), port(portRADIUSNew), port(portRADIUSAcct), port(portRADIUSNewAcct),
		port(portRADIUSCiscoCoA), port(portRADIUSCoA):
		p.radius(b, length)
	case dst == portHSRP:
		p.hsrp(b, length)
	case port(portLDP):
		p.ldp(b, length)
	case port(portAODV):
		p.aodv(b, length, h)
	case port(portOLSR):
		p.olsr(b, length, h)
	case port(portLSPPing):
		p.lspPing(b, length)
	case src == portBroadcom:
		p.broadcom(b, length)
	case dst == portBFD, dst == portBFDMultihop, dst == portBFDLAG, dst == portBFDEcho:
		p.bfd(b, length, dst)
	case port(portLMP):
		p.lmp(b, length)
	case port(portVQP):
		p.vqp(b, length)
	case port(portSFlow):
		p.sflow(b, length)
	case dst == portLWAPPControl: // an access point's address goes before
		p.lwapp("lwapp_control", b, 6, length)
	case src == portLWAPPControl:
		p.lwapp("lwapp_control", b, 0, length)
	case port(portLWAPPData):
		p.lwapp("lwapp_data", b, 0, length)
	case port(portSIP):
		p.textProtocol("sip", b, length, &sipCommands)
	case port(portSyslog):
		p.syslog(b, length)
	case port(portOTV):
		p.otv(b, length)
	case port(portLISP):
		p.lisp(b, length)
	case port(portHNCP):
		p.hncp(b, length)
	case port(portVXLAN):
		p.vxlan(b, length)
	case port(portGeneve):
		p.geneve(b, length)
	case port(portVXLANGPE):
		p.vxlanGPE(b, length)
	case port(portMPLS):
		p.mpls(b, length)
	case port(portPTPEvent), port(portPTPGeneral):
		p.ptp(b, length)
	case port(portSOMEIP):
		p.someip(b, length)
	default:
		return false
	}
	return true
}

// tcpPort prints the payload of TCP by its ports, in tcpdump's order.
func (p *Printer) tcpPort(src, dst uint16, b []byte, length int, h *ipHeader) {
	port := func(n uint16) bool { return src == n || dst == n }
	text := func(name string, commands *textCommands) {
		p.str(": ")
		p.textProtocol(name, b, length, commands)
	}
	switch {
	case port(portTelnet):
		p.telnet(b, length)
	case port(portSMTP):
		text("smtp", nil)
	case port(portWhois):
		text("whois", nil)
	case port(portRESP):
		p.resp(b, length)
	case port(portSSH):
		p.ssh(b, length)
	case port(portBGP):
		p.bgp(b)
	case port(portPPTP):
		p.pptp(b)
	case port(portOpenFlow), port(portOpenFlowOld):
		p.openFlow(b, length)
	case port(portBEEP):
		p.beep(b, length)
	case port(portFTP):
		text("ftp", nil)
	case port(portHTTP), port(portHTTPAlt):
		text("http", &httpCommands)
	case port(portRTSP), port(portRTSPAlt):
		text("rtsp", &rtspCommands)
	case port(portDomain):
		p.domainTCP(b, length)
	case port(portMSDP):
		p.msdp(b, length)
	case port(portRPKI):
		p.rpki()
	case port(portLDP):
		p.ldp(b, length)
	case port(portNFS) && length >= 4 && len(b) >= 4:
		p.nfs(": ", src, dst, b[4:], min(int(p.u32(b, 0)&0x7fffffff), length-4), h)
	}
}
