package route

import "math"

// HostConf are the settings of /proc/sys/net/ipv4 that count for all packets.
type HostConf struct {
	DefaultTTL      uint8  // ip_default_ttl
	HashPolicy      uint8  // fib_multipath_hash_policy
	HashFields      uint32 // fib_multipath_hash_fields, for policy 3
	HashSeed        uint32 // fib_multipath_hash_seed, or the program's own
	UseNeigh        bool   // fib_multipath_use_neigh
	NoPriority      bool   // ip_forward_update_priority is 0
	ICMPRateLimit   int    // icmp_ratelimit, ms
	ICMPRateMask    uint32 // icmp_ratemask
	ICMPPerSecond   int    // icmp_msgs_per_sec
	ICMPBurst       int    // icmp_msgs_burst
	ICMPFromInbound bool   // icmp_errors_use_inbound_ifaddr

	// Of /proc/sys/net/ipv4/route/*; times are in ns. What is more than there is
	// time, MaxTime, never comes.
	ErrorCost       int64 // error_cost: of one error about a packet that has no way
	ErrorBurst      int64 // error_burst: what may be saved up
	RedirectLoad    int64 // redirect_load: from one redirect to the next, doubled each time
	RedirectNumber  int   // redirect_number: after which there is none
	RedirectSilence int64 // redirect_silence: after which all begins again

	V6 HostConf6
}

// HostConf6 are the settings of /proc/sys/net/ipv6 that count for all packets.
type HostConf6 struct {
	HopLimit         uint8     // conf/all/hop_limit, where a device has none
	HashPolicy       uint8     // fib_multipath_hash_policy
	HashFields       uint32    // fib_multipath_hash_fields, for policy 3
	AutoFlowLabels   bool      // auto_flowlabels is not 0: what the host sends has a flow label
	FlowLabelRanges  bool      // flowlabel_state_ranges
	AnycastAsUnicast bool      // icmp/error_anycast_as_unicast
	ICMPRateLimit    int       // icmp/ratelimit, ms
	MaxHopOptions    int       // max_hbh_opts_number: of a packet; of a negative number its amount, and none unknown
	MaxHopLength     int       // max_hbh_length: of hop-by-hop options, bytes
	ICMPRateMask     [8]uint32 // icmp/ratemask: bit t%32 of word t/32 is that of type t
}

const second = int64(1e9)

// MaxTime is the longest time.
const MaxTime = math.MaxInt64

// DefaultHostConf is what a kernel starts with.
var DefaultHostConf = HostConf{DefaultTTL: 64, ICMPRateLimit: 1000, ICMPRateMask: 6168,
	ICMPPerSecond: 1000, ICMPBurst: 50, HashFields: 7, HashSeed: 1, ErrorCost: second, ErrorBurst: 5 * second,
	RedirectLoad: second / 50, RedirectNumber: 9, RedirectSilence: second / 50 << (9 + 1), V6: DefaultHostConf6}

// DefaultHostConf6 is what a kernel starts with. Packet too big has no limit.
var DefaultHostConf6 = HostConf6{HopLimit: 64, HashFields: 7, AutoFlowLabels: true, ICMPRateLimit: 1000, MaxHopOptions: 8, MaxHopLength: math.MaxInt32,
	ICMPRateMask: [8]uint32{^uint32(1 << 2), ^uint32(0), ^uint32(0), ^uint32(0)}}
