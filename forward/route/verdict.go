package route

// Verdict says how the way of a packet through the datapath ended. Every
// packet ends in exactly one, but for those that were Queued before; the values
// index the counters, name the metric and appear in captures. Table.Decide gives
// those that addresses, routes and neighbours decide about, the others are who
// moves the packet's.
//
// Drop reasons bear the name of the kernel's enum skb_drop_reason
// (include/net/dropreason-core.h) where they mean what the kernel means, and
// the prefix PARP_ where they are this program's own.
type Verdict uint8

// The verdicts. NotSpecified is the zero value; its counter must stay 0.
const (
	NotSpecified Verdict = iota

	Forward      // sent out
	Queue        // waits for its next hop's MAC; ends later in another verdict
	Originate    // made by us: an ICMP error
	Local        // for the host itself: the kernel's
	Punt         // left to the kernel: --punt
	PuntTransit  // the kernel's: it forwards there, and the way is none that is served
	PuntFlow     // the kernel's: answers a packet that was left to it, and that it may have translated (NAT)
	PuntUpper    // the kernel's: maybe of a device that stands on the interface (macvlan, ipvlan)
	PuntGSO      // the kernel's: a super-packet that can't be taken as it is, and it forwards
	PuntStalled  // the kernel's: nobody reads the ring, and it forwards
	IgnoreProto  // neither IPv4 nor IPv6, or IPv6 where that is not served: the kernel's
	IgnoreTagged // VLAN-tagged: belongs to the VLAN device
	IgnoreType   // broadcast or multicast at layer 2: the kernel's

	// Lost by intent or need.
	DropOtherHost        // not to a MAC of ours
	DropPktTooSmall      // shorter than its headers say
	DropIPInHdr          // version, header length or total length wrong
	DropIPCsum           // header checksum wrong
	DropUnhandledProto   // an IPv6 header's version is another, or a hop-by-hop option forbids whom it is unknown to
	DropIPInvalidSource  // source 0.0.0.0, multicast or broadcast
	DropIPInvalidDest    // destination 0.0.0.0
	DropIPInAddrErrors   // IPv6 source that may not leave its link: link-local or unspecified
	DropIPLocalnet       // 127/8 on the wire
	DropIPLocalSource    // source is an address of this host
	DropIPRPFilter       // source is not routed to the interface it came from
	DropSourceRoute      // source routed, and accept_source_route is 0
	DropIPInNoRoutes     // no route
	DropRouteBlackhole   // route of type blackhole
	DropRouteUnreachable // route of type unreachable
	DropRouteProhibit    // route of type prohibit
	DropRouteEncap       // next hop with an encapsulation (lwtunnel)
	DropTTLExpired       // TTL ran out
	DropPktTooBig        // larger than the MTU, with DF
	DropGSO              // a GSO frame that can't be: type against protocol, headers cut off
	DropNeighFailed      // next hop does not answer
	DropNeighQueueFull   // too many packets wait for that next hop
	DropIfDown           // egress interface is down or gone
	DropIfUnknown        // ingress or egress interface is none of ours
	DropTransit          // neither from nor to a workload, where the kernel does not forward either
	DropRateLimit        // ingress interface held its share of the ring
	DropFullRing         // no free slot in the ring
	DropNoMem            // no buffer in the kernel to send from
	DropQdisc            // the egress queueing discipline or device refused it
	DropPacketSockError  // sending failed otherwise
	DropLocalLate        // the kernel's, but taken before the filter knew, and it can't be given back
	DropStalled          // waited too long in a ring that nobody read, while the kernel had those behind it
	DropRAGuard          // a workload's router advertisement or redirect (RFC 6105)

	NumVerdicts // how many there are
)

// Kind is the class of a Verdict, one of the words that captures and metrics use.
type Kind uint8

// The kinds.
const (
	KindForward Kind = iota
	KindQueue
	KindOriginate
	KindLocal
	KindPunt
	KindIgnore
	KindDrop
)

var kindNames = [...]string{KindForward: "forward", KindQueue: "queue", KindOriginate: "originate", KindLocal: "local",
	KindPunt: "punt", KindIgnore: "ignore", KindDrop: "drop"}

// String is the word itself.
func (k Kind) String() string { return kindNames[k] }

type verdictInfo struct {
	kind Kind
	name string
}

var verdicts = [NumVerdicts]verdictInfo{
	NotSpecified: {KindDrop, "PARP_NOT_SPECIFIED"},

	Forward:   {KindForward, "forward"},
	Queue:     {KindQueue, "queue"},
	Originate: {KindOriginate, "originate"},
	Local:     {KindLocal, "local"},

	Punt:        {KindPunt, "punt"},
	PuntTransit: {KindPunt, "transit"},
	PuntFlow:    {KindPunt, "punted-flow"},
	PuntUpper:   {KindPunt, "upper-device"},
	PuntGSO:     {KindPunt, "gso"},
	PuntStalled: {KindPunt, "reader-stalled"},

	IgnoreProto:  {KindIgnore, "not-ip"},
	IgnoreTagged: {KindIgnore, "vlan-tagged"},
	IgnoreType:   {KindIgnore, "multicast-not-forwarded"},

	DropOtherHost:        {KindDrop, "OTHERHOST"},
	DropPktTooSmall:      {KindDrop, "PKT_TOO_SMALL"},
	DropIPInHdr:          {KindDrop, "IP_INHDR"},
	DropIPCsum:           {KindDrop, "IP_CSUM"},
	DropUnhandledProto:   {KindDrop, "UNHANDLED_PROTO"},
	DropIPInvalidSource:  {KindDrop, "IP_INVALID_SOURCE"},
	DropIPInvalidDest:    {KindDrop, "IP_INVALID_DEST"},
	DropIPInAddrErrors:   {KindDrop, "IP_INADDRERRORS"},
	DropIPLocalnet:       {KindDrop, "IP_LOCALNET"},
	DropIPLocalSource:    {KindDrop, "IP_LOCAL_SOURCE"},
	DropIPRPFilter:       {KindDrop, "IP_RPFILTER"},
	DropSourceRoute:      {KindDrop, "PARP_SOURCE_ROUTE"},
	DropIPInNoRoutes:     {KindDrop, "IP_INNOROUTES"},
	DropRouteBlackhole:   {KindDrop, "PARP_ROUTE_BLACKHOLE"},
	DropRouteUnreachable: {KindDrop, "PARP_ROUTE_UNREACHABLE"},
	DropRouteProhibit:    {KindDrop, "PARP_ROUTE_PROHIBIT"},
	DropRouteEncap:       {KindDrop, "PARP_ROUTE_ENCAP"},
	DropTTLExpired:       {KindDrop, "PARP_TTL_EXPIRED"},
	DropPktTooBig:        {KindDrop, "PKT_TOO_BIG"},
	DropGSO:              {KindDrop, "SKB_GSO_SEG"},
	DropNeighFailed:      {KindDrop, "NEIGH_FAILED"},
	DropNeighQueueFull:   {KindDrop, "NEIGH_QUEUEFULL"},
	DropIfDown:           {KindDrop, "PARP_IF_DOWN"},
	DropIfUnknown:        {KindDrop, "PARP_IF_UNKNOWN"},
	DropTransit:          {KindDrop, "PARP_TRANSIT"},
	DropRateLimit:        {KindDrop, "PARP_RATE_LIMIT"},
	DropFullRing:         {KindDrop, "FULL_RING"},
	DropNoMem:            {KindDrop, "NOMEM"},
	DropQdisc:            {KindDrop, "QDISC_DROP"},
	DropPacketSockError:  {KindDrop, "PACKET_SOCK_ERROR"},
	DropLocalLate:        {KindDrop, "PARP_LOCAL_LATE"},
	DropStalled:          {KindDrop, "PARP_STALLED"},
	DropRAGuard:          {KindDrop, "PARP_RA_GUARD"},
}

// Kind is the class of v.
func (v Verdict) Kind() Kind { return v.info().kind }

// String is the name of the reason: why a packet was dropped, ignored, or left to
// the kernel without --punt; of all else the kind.
func (v Verdict) String() string { return v.info().name }

func (v Verdict) info() *verdictInfo {
	if v >= NumVerdicts {
		v = NotSpecified
	}
	return &verdicts[v]
}
