package dissect

const bgpCapabilityOption = 2 // of an open message, RFC 5492

// Capabilities that are printed each in its way.
const (
	bgpCapMultiprotocol = 1
	bgpCapRefresh       = 2
	bgpCapLabels        = 8
	bgpCapRestart       = 64
	bgpCapAS4           = 65
	bgpCapAddPath       = 69
	bgpCapLongRestart   = 71
	bgpCapRefreshCisco  = 128
)

// Errors of a notification.
const (
	bgpErrorMessage    = 1
	bgpErrorOpen       = 2
	bgpErrorUpdate     = 3
	bgpErrorFSM        = 5
	bgpErrorCease      = 6
	bgpErrorCapability = 7
)

// Path attributes.
const (
	bgpAttrOrigin      = 1
	bgpAttrASPath      = 2
	bgpAttrNextHop     = 3
	bgpAttrMED         = 4
	bgpAttrLocalPref   = 5
	bgpAttrAtomic      = 6
	bgpAttrAggregator  = 7
	bgpAttrCommunities = 8
	bgpAttrOriginator  = 9
	bgpAttrClusters    = 10
	bgpAttrReach       = 14
	bgpAttrUnreach     = 15
	bgpAttrExtended    = 16
	bgpAttrAS4Path     = 17
	bgpAttrAggregator4 = 18
	bgpAttrLarge       = 32
)

// bgpAttributeSizes are the lengths of attributes that have but one.
var bgpAttributeSizes = map[uint8]int{
	bgpAttrOrigin: 1, bgpAttrNextHop: 4, bgpAttrMED: 4, bgpAttrLocalPref: 4, bgpAttrAtomic: 0, bgpAttrOriginator: 4,
	bgpAttrAggregator4: 8,
}

var (
	bgpOptions         = []tok{{1, "Authentication Information"}, {2, "Capabilities Advertisement"}}
	bgpCapabilityNames = []tok{
		{1, "Multiprotocol Extensions"}, {2, "Route Refresh"}, {3, "Cooperative Route Filtering"},
		{4, "Multiple Routes to a Destination"}, {5, "Extended Next Hop Encoding"}, {8, "Multiple Labels"},
		{64, "Graceful Restart"}, {65, "32-Bit AS Number"}, {67, "Dynamic Capability"}, {68, "Multisession BGP"},
		{69, "Multiple Paths"}, {70, "Enhanced Route Refresh"}, {71, "Long-lived Graceful Restart"},
		{128, "Route Refresh (Cisco)"},
	}
	bgpAddPathWays = []tok{{1, "Receive"}, {2, "Send"}, {3, "Both"}}
	bgpErrors      = []tok{
		{1, "Message Header Error"}, {2, "OPEN Message Error"}, {3, "UPDATE Message Error"}, {4, "Hold Timer Expired"},
		{5, "Finite State Machine Error"}, {6, "Cease"}, {7, "Capability Message Error"},
	}
	bgpSubcodes = map[uint8][]tok{
		bgpErrorMessage: {{1, "Connection Not Synchronized"}, {2, "Bad Message Length"}, {3, "Bad Message Type"}},
		bgpErrorOpen: {
			{1, "Unsupported Version Number"}, {2, "Bad Peer AS"}, {3, "Bad BGP Identifier"},
			{4, "Unsupported Optional Parameter"}, {5, "Authentication Failure"}, {6, "Unacceptable Hold Time"},
			{7, "Capability Message Error"},
		},
		bgpErrorUpdate: {
			{1, "Malformed Attribute List"}, {2, "Unrecognized Well-known Attribute"},
			{3, "Missing Well-known Attribute"}, {4, "Attribute Flags Error"}, {5, "Attribute Length Error"},
			{6, "Invalid ORIGIN Attribute"}, {7, "AS Routing Loop"}, {8, "Invalid NEXT_HOP Attribute"},
			{9, "Optional Attribute Error"}, {10, "Invalid Network Field"}, {11, "Malformed AS_PATH"},
		},
		bgpErrorFSM: {
			{0, "Unspecified Error"}, {1, "In OpenSent State"}, {2, "In OpenConfirm State"}, {3, "In Established State"},
		},
		bgpErrorCease: {
			{1, "Maximum Number of Prefixes Reached"}, {2, "Administrative Shutdown"}, {3, "Peer Unconfigured"},
			{4, "Administrative Reset"}, {5, "Connection Rejected"}, {6, "Other Configuration Change"},
			{7, "Connection Collision Resolution"},
		},
		bgpErrorCapability: {
			{1, "Invalid Action Value"}, {2, "Invalid Capability Length"}, {3, "Malformed Capability Value"},
			{4, "Unsupported Capability Code"},
		},
	}
	bgpAttributes = []tok{
		{1, "Origin"}, {2, "AS Path"}, {17, "AS4 Path"}, {3, "Next Hop"}, {4, "Multi Exit Discriminator"},
		{5, "Local Preference"}, {6, "Atomic Aggregate"}, {7, "Aggregator"}, {18, "Aggregator4"}, {8, "Community"},
		{9, "Originator ID"}, {10, "Cluster List"}, {11, "DPA"}, {12, "Advertisers"}, {13, "RCID Path / Cluster ID"},
		{14, "Multi-Protocol Reach NLRI"}, {15, "Multi-Protocol Unreach NLRI"}, {16, "Extended Community"},
		{22, "PMSI Tunnel"}, {23, "Tunnel Encapsulation"}, {24, "Traffic Engineering"},
		{25, "IPv6 Extended Community"}, {26, "Accumulated IGP Metric"}, {27, "PE Distinguisher Label"},
		{28, "Entropy Label"}, {32, "Large Community"}, {128, "Attribute Set"}, {255, "Reserved for development"},
	}
	bgpAttributeFlags = []tok{{0x80, "O"}, {0x40, "T"}, {0x20, "P"}, {0x10, "E"}}
	bgpOrigins        = []tok{{0, "IGP"}, {1, "EGP"}, {2, "Incomplete"}}
	bgpSegmentOpen    = []tok{{2, ""}, {1, "{ "}, {3, "( "}, {4, "({ "}}
	bgpSegmentClose   = []tok{{2, ""}, {1, "}"}, {3, ")"}, {4, "})"}}
	bgpWellKnown      = []tok{
		{0xffffff01, " NO_EXPORT"}, {0xffffff02, " NO_ADVERTISE"}, {0xffffff03, " NO_EXPORT_SUBCONFED"},
	}
	addressFamilies = []tok{
		{0, "Reserved"}, {1, "IPv4"}, {2, "IPv6"}, {3, "NSAP"}, {4, "HDLC"}, {5, "BBN 1822"}, {6, "802"}, {7, "E.163"},
		{8, "E.164"}, {9, "F.69"}, {10, "X.121"}, {11, "Novell IPX"}, {12, "Appletalk"}, {13, "Decnet IV"},
		{14, "Banyan Vines"}, {15, "E.164 with NSAP subaddress"}, {196, "Layer-2 VPN"}, {25, "VPLS"},
	}
	bgpSubFamilies = []tok{
		{0, "Reserved"}, {1, "Unicast"}, {2, "Multicast"}, {3, "Unicast+Multicast"}, {4, "labeled Unicast"},
		{64, "Tunnel"}, {65, "VPLS"}, {66, "MDT"}, {70, "EVPN"}, {128, "labeled VPN Unicast"},
		{129, "labeled VPN Multicast"}, {130, "labeled VPN Unicast+Multicast"},
		{132, "Route Target Routing Information"}, {5, "Multicast VPN"},
	}
	bgpExtended = []tok{
		{0x0002, "target"}, {0x0102, "target"}, {0x0202, "target"}, {0x0003, "origin"}, {0x0103, "origin"},
		{0x0203, "origin"}, {0x4004, "link-BW"}, {0x0005, "ospf-domain"}, {0x0105, "ospf-domain"},
		{0x0205, "ospf-domain"}, {0x8005, "ospf-domain"}, {0x0306, "ospf-route-type"}, {0x8000, "ospf-route-type"},
		{0x030c, "encapsulation"}, {0x0107, "ospf-router-id"}, {0x8001, "ospf-router-id"}, {0x800a, "layer2-info"},
		{0x8800, "eigrp-general-route (flag, tag)"}, {0x8801, "eigrp-route-metric (AS, delay)"},
		{0x8802, "eigrp-route-metric (reliability, nexthop, bandwidth)"}, {0x8803, "eigrp-route-metric (load, MTU)"},
		{0x8804, "eigrp-external-route (remote-AS, remote-ID)"},
		{0x8805, "eigrp-external-route (remote-proto, remote-metric)"}, {0x0009, "source-AS"},
		{0x010b, "vrf-route-import"}, {0x000a, "l2vpn-id"}, {0xf10a, "l2vpn-id"},
	}
	bgpExtendedFlags = []tok{{0x8000, "vendor-specific"}, {0x4000, "non-transitive"}}
	bgpOSPFTypes     = []tok{
		{1, "Router"}, {2, "Network"}, {3, "Summary"}, {5, "External"}, {7, "NSSA External"}, {129, "MPLS-VPN Sham"},
	}
	bgpTunnels = []tok{
		{1, "L2TPv3 over IP"}, {2, "GRE"}, {3, "Transmit Tunnel"}, {4, "IPsec"}, {5, "IP in IP with IPsec"},
		{6, "MPLS in IP with IPsec"}, {7, "IP in IP"}, {8, "VXLAN"}, {9, "NVGRE"}, {10, "MPLS"}, {11, "MPLS in GRE"},
		{12, "VXLAN GPE"}, {13, "MPLS in UDP"}, {14, "IPv6"}, {15, "SR TE"}, {16, "Bare"}, {17, "SR"},
	}
)
