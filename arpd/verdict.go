package arpd

// Verdict is how a frame of ARP or neighbour discovery ended. Each frame has exactly one, but for those
// that were Queued before; the values index the counters, name the metric and appear in captures.
//
// Where the meaning is the kernel's the name is the kernel's (enum
// skb_drop_reason, include/net/dropreason-core.h), so that it greps the same in
// perf, dropwatch and pwru; names of our own drops begin with PARP_.
type Verdict uint8

// The verdicts. NotSpecified is the zero value; its counter must stay 0.
const (
	NotSpecified Verdict = iota

	Answered // a reply was handed to the interface
	Queued   // waited for the news of a route; the request ends in a second verdict
	Local    // the target is an address of this host: the kernel answers

	// Not for us, nothing wrong with it.
	IgnoreNotWorkload // came from an interface on which nothing is answered
	IgnoreVLAN        // was tagged when it reached the untagged device
	IgnoreOtherhost   // destination is another station's MAC
	IgnoreReply       // ARP reply
	IgnoreOperation   // neither request nor reply: RARP, InARP
	IgnoreOwnFrame    // bears a MAC of ours as its sender: our echo, or a loop
	IgnoreGratuitous  // asks for the sender's own address (RFC 5227 announcement)
	IgnoreProbe       // address probe (RFC 5227) for a target that we do not own
	IgnoreNotProxied  // neither a gateway nor a target that the proxy rules allow
	IgnoreOwnAddress  // asks for an address that it has itself, though the route leads elsewhere
	IgnoreNoWorkload  // on an uplink: no unicast route leads to the target over a workload interface
	IgnoreWayBack     // on an uplink: the way back to the sender is not by this interface
	IgnoreUnforwarded // on an uplink: nobody forwards what comes in there

	// Their like in neighbour discovery (ForND), and what only it has.
	IgnoreNDProbe       // duplicate address detection (RFC 4862) for a target that we do not own
	IgnoreNDNotProxied  // as IgnoreNotProxied
	IgnoreNDOwnAddress  // as IgnoreOwnAddress and IgnoreGratuitous
	IgnoreNDNoWorkload  // as IgnoreNoWorkload
	IgnoreNDWayBack     // as IgnoreWayBack
	IgnoreNDUnforwarded // as IgnoreUnforwarded
	IgnoreAdvertisement // neighbour advertisement
	IgnoreNDOther       // another message, or none of ICMPv6
	IgnoreNDDestination // sent to an address that is neither the target nor its group's, nor a gateway's

	// Malformed or hostile.
	DropTooSmall        // shorter than an Ethernet header, or than a solicitation
	DropTruncated       // shorter than the ARP or IPv6 packet that it announces
	DropProtocol        // EtherType is not that of the socket
	DropBadHeader       // hardware or protocol type or length not IPv4 over Ethernet
	DropInvalidMAC      // sender MAC, Ethernet or ARP, is a group address or zero
	DropInvalidSource   // sender IP is multicast or broadcast
	DropInvalidTarget   // target IP is multicast, broadcast or 0.0.0.0
	DropLocalnet        // sender or target IP in 127/8
	DropRateLimit       // the interface has had its share of answers
	DropSenderRate      // the sender has had its share of answers
	DropUnknownIf       // interface was gone before it could be asked about
	DropIfDown          // interface went down or away before the reply was out
	DropQdisc           // egress queue of the interface was full
	DropSend            // the reply could not be sent for another reason
	DropReceiveOverflow // queue of the socket was full; the kernel's count

	// The checks of RFC 4861 section 7.1.1, in the kernel's order.
	DropIPv6Header // version of the IPv6 header is wrong
	DropICMPCsum   // ICMPv6 checksum is wrong
	DropNDFrag     // behind a fragment header (RFC 6980)
	DropNDHopLimit // hop limit is not 255
	DropNDCode     // code is not 0
	DropNDBadDAD   // from ::, and not to a solicited-node group or with a link-layer address
	DropNDOptions  // an option of length 0, cut off, or a link-layer address of another length than Ethernet's

	NumVerdicts // how many there are
)

// Kind is the class of a Verdict, one of the words that captures and metrics use.
type Kind uint8

// The kinds. VPP shows answered ARP as dropped and gets bugs filed about it
// (FDio/vpp#843): answered, ignored and dropped are kept apart here.
const (
	KindAnswer Kind = iota
	KindQueue
	KindLocal
	KindIgnore
	KindDrop
)

var kindNames = [...]string{KindAnswer: "answer", KindQueue: "queue", KindLocal: "local", KindIgnore: "ignore", KindDrop: "drop"}

// String is the word itself.
func (k Kind) String() string { return kindNames[k] }

type verdictInfo struct {
	kind    Kind
	name    string
	request bool // only a well-formed request, on an interface that is answered, ends so
}

var verdicts = [NumVerdicts]verdictInfo{
	NotSpecified: {KindDrop, "PARP_NOT_SPECIFIED", false},

	Answered: {KindAnswer, "answer", true},
	Queued:   {KindQueue, "queue", false},
	Local:    {KindLocal, "local", true},

	IgnoreNotWorkload: {KindIgnore, "not-workload", false},
	IgnoreVLAN:        {KindIgnore, "vlan-tagged", false},
	IgnoreOtherhost:   {KindIgnore, "OTHERHOST", true},
	IgnoreReply:       {KindIgnore, "arp-reply", false},
	IgnoreOperation:   {KindIgnore, "arp-operation", false},
	IgnoreOwnFrame:    {KindIgnore, "own-frame", true},
	IgnoreGratuitous:  {KindIgnore, "gratuitous", true},
	IgnoreProbe:       {KindIgnore, "arp-probe-dad", true},
	IgnoreNotProxied:  {KindIgnore, "arp-not-proxied", true},
	IgnoreOwnAddress:  {KindIgnore, "arp-own-address", true},
	IgnoreNoWorkload:  {KindIgnore, "arp-no-workload", true},
	IgnoreWayBack:     {KindIgnore, "arp-way-back", true},
	IgnoreUnforwarded: {KindIgnore, "arp-unforwarded", true},

	IgnoreNDProbe:       {KindIgnore, "nd-probe-dad", true},
	IgnoreNDNotProxied:  {KindIgnore, "IPV6_NDISC_NS_OTHERHOST", true},
	IgnoreNDOwnAddress:  {KindIgnore, "nd-own-address", true},
	IgnoreNDNoWorkload:  {KindIgnore, "nd-no-workload", true},
	IgnoreNDWayBack:     {KindIgnore, "nd-way-back", true},
	IgnoreNDUnforwarded: {KindIgnore, "nd-unforwarded", true},
	IgnoreAdvertisement: {KindIgnore, "nd-advertisement", false},
	IgnoreNDOther:       {KindIgnore, "nd-other", false},
	IgnoreNDDestination: {KindIgnore, "nd-destination", true},

	DropTooSmall:        {KindDrop, "PKT_TOO_SMALL", false},
	DropTruncated:       {KindDrop, "HDR_TRUNC", false},
	DropProtocol:        {KindDrop, "UNHANDLED_PROTO", false},
	DropBadHeader:       {KindDrop, "PARP_ARP_BADHDR", false},
	DropInvalidMAC:      {KindDrop, "MAC_INVALID_SOURCE", true},
	DropInvalidSource:   {KindDrop, "IP_INVALID_SOURCE", true},
	DropInvalidTarget:   {KindDrop, "IP_INVALID_DEST", true},
	DropLocalnet:        {KindDrop, "IP_LOCALNET", true},
	DropRateLimit:       {KindDrop, "PARP_RATE_LIMIT", true},
	DropSenderRate:      {KindDrop, "PARP_SENDER_RATE", true},
	DropUnknownIf:       {KindDrop, "PARP_IF_UNKNOWN", false},
	DropIfDown:          {KindDrop, "PARP_IF_DOWN", true},
	DropQdisc:           {KindDrop, "QDISC_DROP", true},
	DropSend:            {KindDrop, "PACKET_SOCK_ERROR", true},
	DropReceiveOverflow: {KindDrop, "SOCKET_RCVBUFF", false},

	DropIPv6Header: {KindDrop, "IP_INHDR", false},
	DropICMPCsum:   {KindDrop, "ICMP_CSUM", false},
	DropNDFrag:     {KindDrop, "IPV6_NDISC_FRAG", false},
	DropNDHopLimit: {KindDrop, "IPV6_NDISC_HOP_LIMIT", false},
	DropNDCode:     {KindDrop, "IPV6_NDISC_BAD_CODE", false},
	DropNDBadDAD:   {KindDrop, "PARP_ND_BAD_DAD", false},
	DropNDOptions:  {KindDrop, "IPV6_NDISC_BAD_OPTIONS", false},
}

// ForND is the verdict of neighbour discovery where v is one that Policy.Judge gives.
func (v Verdict) ForND() Verdict {
	switch v {
	case IgnoreProbe:
		return IgnoreNDProbe
	case IgnoreNotProxied:
		return IgnoreNDNotProxied
	case IgnoreOwnAddress, IgnoreGratuitous:
		return IgnoreNDOwnAddress
	case IgnoreNoWorkload:
		return IgnoreNDNoWorkload
	case IgnoreWayBack:
		return IgnoreNDWayBack
	case IgnoreUnforwarded:
		return IgnoreNDUnforwarded
	}
	return v
}

// OnlyND reports whether no ARP frame ends so.
func (v Verdict) OnlyND() bool {
	return IgnoreNDProbe <= v && v <= IgnoreNDDestination || DropIPv6Header <= v && v < NumVerdicts
}

// OnlyARP reports whether only ARP frames end so.
func (v Verdict) OnlyARP() bool {
	return v == IgnoreReply || v == IgnoreOperation || v == DropBadHeader || v == DropLocalnet || v.ForND() != v
}

// Kind is the class of v.
func (v Verdict) Kind() Kind { return v.info().kind }

// String is the reason's name.
func (v Verdict) String() string { return v.info().name }

// Request reports whether v can only be the end of a well-formed request that
// came from an interface on which requests are answered.
func (v Verdict) Request() bool { return v.info().request }

func (v Verdict) info() *verdictInfo {
	if v >= NumVerdicts {
		v = NotSpecified
	}
	return &verdicts[v]
}
