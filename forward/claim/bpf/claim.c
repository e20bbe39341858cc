// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The programs that stand between the kernel and proxyarpd's sockets:
//
//   parp_ring    socket filter of the forwarding rings: whose frame is this?
//   parp_fanout  which of several rings gets a frame (PACKET_FANOUT_EBPF)
//   parp_claim   tc ingress: drops the original of each frame that the ring took,
//                sends to the relay what the ring can't take as it is, and makes
//                frames to another MAC of the interface the host's
//   parp_carry   parp_claim of --engine ebpf: also forwards (carry.h), and answers (answer.h)
//   parp_claim_ct, parp_carry_ct
//                the same, and ask the kernel's conntrack where the filter can't
//                tell whether a flow is translated
//   parp_return  tc ingress of the relay: gives a frame back to where it came in
//   parp_arp     socket filter of the ARP socket: polices each interface (police.h)
//   parp_nd      socket filter of the neighbour discovery socket (nd.h)
//   parp_watch   socket filter of a capture: what neither of the sockets has seen
//
// On receive the kernel runs taps of ETH_P_ALL first and tc ingress next, on
// the same CPU and for one frame at a time (net/core/dev.c,
// __netif_receive_skb_core). parp_ring therefore decides once and leaves the
// decision in a per-CPU slot; parp_claim reads and clears it. They can't
// disagree, and without a ring the slot stays 0 and the kernel keeps its frames.
// Several rings are one tap: a fanout group has one hook, which asks parp_fanout
// and then gives the frame to one ring (packet_rcv_fanout in
// net/packet/af_packet.c), so that parp_ring runs once a frame here, too.
//
// The decision itself is whose(), for the ring and for the captures. It is
// Table.Owner of forward/route/owner.go, a test holds the one to the other.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_PORTS 4096
#define MAX_HOSTS 65536
#define MAX_NETS (1 << 22)
#define MAX_HOSTS6 16384
#define MAX_TARGETS 1024
#define MAX_FLOWS 65536
#define MAX_NATTED (1 << 18)
#define MAX_WORKERS 16
#define JOINED_BITS 12
#define JOINED_FOR 8 // s: longer than parts of a datagram, or of a tunnel's stream, are apart
#define TAKE_ALL 0x7fffffff
#define RING_SLOTS 4096 // internal/pktring's default
#define RING_RESERVE 512 // of them for interfaces that have few
#define FEW 32
#define VLAN_VID 0x0fff
#define OWNER_DIED 0x40000000 // FUTEX_OWNER_DIED, include/uapi/linux/futex.h
#define MARK_SHIFT 16 // 65.5 us
#define STALL_NS 20000000 // so long a reader that is well consumes something

// Flags of a port, shared with claim.go.
enum {
	PORT_FORWARD = 1,          // its IPv4 frames are looked at
	PORT_WORKLOAD = 2,         // it leads to a workload
	PORT_RETYPE = 4,           // alias holds something
	PORT_ANYWHERE = 8,         // packets from it go to uplinks too, and are refused here
	PORT_KERNEL_FORWARDS = 16, // forwarding is on there: the kernel takes what we leave
	PORT_ARP = 32,             // its ARP frames go to the responder
	PORT_FORWARD6 = 64,        // its IPv6 frames are looked at
	PORT_KERNEL_FORWARDS6 = 128, // as PORT_KERNEL_FORWARDS, of IPv6
	PORT_ND = 256,             // its neighbour solicitations go to the responder
};

// Where a destination may lead, a set: route.Class.
enum {
	TO_LOCAL = 1,
	TO_PUNT = 2,
	TO_WORKLOAD = 4,
	TO_ELSEWHERE = 8, // to an uplink, or nowhere; what is not in the maps
	TO_UNSERVED = 16,
};

// Whose a frame is. Those from OWNER_LOCAL on index portstat.left; claim.go
// has them too.
enum owner {
	OWNER_US,
	OWNER_NOBODY, // no port of ours, or no IP to its MAC: nothing to decide
	OWNER_LOCAL,
	OWNER_PUNT,
	OWNER_TRANSIT,    // the kernel forwards, and the way is none that is served
	OWNER_TRANSLATED, // of a flow that the kernel translates, or may
	OWNER_UPPER,      // of a device that stands on this one, maybe
	OWNER_TAGGED,     // a VLAN's
	OWNER_GSO,        // the kernel forwards, and no ring can have it as it is
	OWNER_STALLED,    // the kernel forwards, and nobody reads the ring
	OWNER_RA_GUARD,   // nobody's: a workload's router advertisement or redirect, dropped
	OWNERS,
};

enum { LEAVE = 0, TAKEN = 1, RELAYED = 2, CARRIED = 3, ASKED = 4, NOTED = 5 };

// What the ring's filter leaves for the claim. All but the decision is for CARRIED.
struct decided {
	__u32 decision;
	__u32 ifindex; // where to
	__u64 dst, src; // MACs, in the first six octets
	__u32 slot; // of where it came in
	__u16 total; // bytes, IP header and what follows
	__u8 how; // carry.h; of ASKED: nobody reads the ring
	__u8 worker; // that parp_fanout chose
};

// What userspace says of an interface. Layout shared with claim.go.
struct port {
	__u32 slot;  // index into stats and consumed
	__u32 flags; // PORT_*
	__u32 quota; // frames of this interface that may wait in the ring
	__u32 l2len; // bytes before the IP header: 14, or 0 without link layer
	__u8 alias[2][6]; // further destination MACs that mean this interface
	__u8 answer[6]; // of ARP; zero: userspace answers
	__u8 pad[2];
};

// What the filter counts for an interface; userspace maps and reads it.
struct portstat {
	__u64 admitted; // frames given to the ring, segments to the relay
	__u64 policed;  // frames refused: the interface's quota was in use
	__u64 badgso;   // frames with a GSO type that no virtio_net_hdr expresses
	__u64 relayed;  // those of them that went to the relay
	__u64 arp_passed; // these count neighbour discovery, too
	__u64 arp_policed;
	__u64 arp_sender; // refused: their sender had had its share
	__u64 left[OWNERS]; // frames left to the kernel, by owner
};

// How a ring's reader is, for where the kernel forwards, too. Userspace maps
// it, and writes what has no other writer here.
struct reader {
	// The thread that reads, a robust futex (set_robust_list(2)): the kernel sets
	// FUTEX_OWNER_DIED in it when the thread ends, before it closes or unmaps
	// anything of the process. 0: nobody has said yet.
	__u32 owner;
	// 1: the reader has stalled, and the kernel has the traffic. parp_ring sets it,
	// userspace clears it.
	__u32 stalled;
	__u64 since;     // when it was last set, ns of CLOCK_MONOTONIC
	__u64 stalls;    // how often it was set
	__u64 robust[5]; // userspace's: the list that names owner, and its end
	// parp_ring's own: the time, in units of 2^MARK_SHIFT ns, from which on nothing
	// has been consumed, and below it the low half of what had been by then. 0: the
	// ring was empty. One word, so that no two CPUs can tear it.
	__u64 mark;
	__u64 pad[7]; // what is written while frames come is alone in its cache line
};

struct lpmkey {
	__u32 prefixlen;
	__be32 addr;
};

struct addr6 {
	__be32 word[4];
};

struct lpmkey6 {
	__u32 prefixlen;
	struct addr6 addr;
};

// One end of a flow. Protocol 0 stands for the address alone: so are fragments
// looked for, since all of a datagram must go one way and few have the ports.
struct flowkey {
	struct addr6 addr; // of IPv4 the mapped one (RFC 4291 section 2.5.5.2)
	__be16 port; // of ICMP: the identifier
	__u8 proto;
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port);
} parp_ports SEC(".maps");

// Classes of single addresses, as many as there is room for.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_HOSTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, __u32);
} parp_hosts SEC(".maps");

// Classes of prefixes, and of further single addresses.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_NETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpmkey);
	__type(value, __u32);
} parp_nets SEC(".maps");

// The same of IPv6. All maps of IPv6 have room for one entry where it is not ours.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_HOSTS6);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr6);
	__type(value, __u32);
} parp_hosts6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_NETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpmkey6);
	__type(value, __u32);
} parp_nets6 SEC(".maps");

// Who sent what the kernel may translate, and when it last did (seconds()): answers
// to it may be the kernel's. So a flow is known before the kernel has its first
// packet, and long before userspace hears of it.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FLOWS); // 1 where it is not needed
	__type(key, struct flowkey);
	__type(value, __u32);
} parp_flows SEC(".maps");

// Who has flows that the kernel's conntrack translates, as userspace hears of it:
// for as long as the kernel keeps them.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NATTED); // 1 where it is not needed
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flowkey);
	__type(value, __u8);
} parp_natted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct portstat);
} parp_stats SEC(".maps");

// Frames of this slot that have left the rings, which userspace writes. Where
// there may be several workers, behind that what has left the ring of each, and behind
// that what each was given, which is written here (ring_of). Quotas are held against
// what all have together, which are parp_stats and the first part.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, (1 + 2 * MAX_WORKERS) * MAX_PORTS); // MAX_PORTS where there is room for one
	__type(key, __u32);
	__type(value, __u64);
} parp_consumed SEC(".maps");

// By worker; and behind those the thread that answers neighbour solicitations, of
// which the owner alone is used.
#define READER_ND MAX_WORKERS

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_WORKERS + 1);
	__type(key, __u32);
	__type(value, struct reader);
} parp_reader SEC(".maps");

// What pairs of addresses, by their hash, need of the choice of a ring.
struct joined {
	__u32 fragment; // s of CLOCK_MONOTONIC, nearly, when the last one came; 0: none
	__u32 relay; // and when a frame last went to the relay
};

static struct joined joined[1 << JOINED_BITS];

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decided);
} parp_decision SEC(".maps");

#define NO_SLOT 1 // of parp_decision: for who asks what would be decided

// What a capture's filter goes by: how much of a frame is wanted, bytes, and
// the mark of frames that userspace sends meanwhile. (A tap of outgoing frames
// gets a clone, which no longer knows its socket.)
volatile __u32 watch_snap;
volatile __u32 watch_mark;

// Of the frames that a flood loses a capture is shown so many a second: one of
// all of them would cost what policing is to save.
#define SHOWN_NS 100000 // one
#define SHOWN_BURST_NS 20000000

static __u64 shown_last, shown_credit; // shared and unlocked: near enough

// Number of entries in parp_nets and parp_nets6: a trie is not walked while it is
// empty.
volatile __u32 nets, nets6;

// While the ring has a standing queue: what an interface may have in it, so
// that the others do not wait behind a flood. 0 while it has none.
volatile __u32 pressed;

// The interface of the relay, 0: there is none.
volatile __u32 relay;

// How many rings get frames now, and what makes it hard to guess which one a flow
// gets.
volatile __u32 workers, fanout_seed;

// Is IPv6 looked at? If not, all of it is the kernel's.
volatile const __u32 ipv6 = 0;

// Are parp_flows and parp_natted kept?
volatile const __u32 translates = 0;

// The claims can ask conntrack.
volatile const __u32 judges = 0;

// Number of entries in parp_natted.
volatile __u32 natted;

// When a packet was last left to the kernel because it has to translate its source
// (seconds()): the port, which nobody knows. Whose packet it was is in parp_flows, under
// this protocol.
static __u32 collided;
#define PROTO_COLLIDED 255 // reserved
#define COLLIDED_FOR 8

// For how many of seconds() an entry of parp_flows counts: for as long as userspace
// may take to hear of a flow. 0: for ever, since it hears of none.
volatile __u32 notes_last;

// How many rings there may be: of several, also of one that others may join, the
// counters are apart.
volatile const __u32 rooms = 1;

// Frames that userspace gives back bear this mark until parp_claim has seen them.
#define MARK_RETURNED 0x70617271

// The little of the kernel's own types that is read (CO-RE).
struct net_device {
	void *rx_handler;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
	unsigned int end;
	unsigned char *head;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	unsigned int gso_type;
} __attribute__((preserve_access_index));

struct nf_conn {
	unsigned long status;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

// include/linux/skbuff.h, SKB_GSO_*: what a virtio_net_hdr can say, and what
// may stand beside it.
#define GSO_TCPV4 (1 << 0)
#define GSO_TCPV6 (1 << 4)
#define GSO_UDP_L4 (1 << 17)
#define GSO_FRAGLIST (1 << 18)
#define GSO_BESIDE ((1 << 1) | (1 << 2) | (1 << 3) | GSO_FRAGLIST) // DODGY, TCP_ECN, TCP_FIXEDID

#include "ip.h"

// One skb whose GSO type tpacket_rcv can't express stops a TPACKET_V2 ring for
// good (net/packet/af_packet.c: the slot is taken and not given back). Without
// sight of the type UDP is not trusted, if there is another way: it may be a
// tunnel. Behind IPv6's extension headers the type alone tells what there is.
static __always_inline bool gso_ok(struct __sk_buff *ctx, const struct ip *ip, bool sees)
{
	__u8 protocol = proto_of(ip);

	if (!sees)
		return protocol == PROTO_TCP || (protocol == PROTO_UDP && !relay);
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	struct skb_shared_info *info = bpf_rdonly_cast(skb->head + skb->end,
		bpf_core_type_id_kernel(struct skb_shared_info));
	__u32 type = info->gso_type & ~GSO_BESIDE;
	if (ip->six && is_extension(protocol))
		return type == GSO_TCPV6 || type == GSO_UDP_L4;
	return (type == (ip->six ? GSO_TCPV6 : GSO_TCPV4) && protocol == PROTO_TCP) ||
	       (type == GSO_UDP_L4 && protocol == PROTO_UDP);
}

// Does a device stand on this one that takes frames from it (macvlan, ipvlan)?
// Its frames bear this one's MAC, and their addresses are not this host's.
static __always_inline bool has_upper(struct __sk_buff *ctx, bool sees)
{
	if (!sees)
		return false;
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	return skb->dev->rx_handler;
}

// Counts. The empty statement differs from place to place: else the compiler
// makes one addition of many, at an offset that is computed, which the verifier
// forbids where CAP_PERFMON is missing.
#define count(counter) \
	do { \
		__sync_fetch_and_add(&(counter), 1); \
		asm volatile("" ::"i"(__COUNTER__)); \
	} while (0)

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

// Does a frame that the kernel takes for another host's bear an address that
// stands for this interface? (--keep-mac, or a pod that still holds the MAC
// from before the daemon changed it.)
static __always_inline bool alias_mac(struct __sk_buff *skb, const struct port *p)
{
	__u8 dst[8] = {};
	if (skb->pkt_type != PACKET_OTHERHOST || !(p->flags & PORT_RETYPE) || p->l2len != ETH_HLEN ||
	    bpf_skb_load_bytes(skb, 0, dst, 6))
		return false;
	return same_mac(dst, p->alias[0]) || same_mac(dst, p->alias[1]);
}

// A tag that names no VLAN is a mere priority (IEEE 802.1Q), and the frame is
// the device's own.
static __always_inline bool in_vlan(struct __sk_buff *skb)
{
	return skb->vlan_present && (skb->vlan_tci & VLAN_VID);
}

static __always_inline __u32 class_of(__be32 dst)
{
	__u32 *to = bpf_map_lookup_elem(&parp_hosts, &dst);
	if (to)
		return *to;
	if (!nets)
		return TO_ELSEWHERE;
	struct lpmkey key = { .prefixlen = 32, .addr = dst };
	to = bpf_map_lookup_elem(&parp_nets, &key);
	return to ? *to : TO_ELSEWHERE;
}

static __always_inline __u32 class_of6(const __u8 *dst)
{
	struct lpmkey6 key = { .prefixlen = 128 };

	__builtin_memcpy(&key.addr, dst, sizeof(key.addr));
	__u32 *to = bpf_map_lookup_elem(&parp_hosts6, &key.addr);
	if (to)
		return *to;
	if (!nets6)
		return TO_ELSEWHERE;
	to = bpf_map_lookup_elem(&parp_nets6, &key);
	return to ? *to : TO_ELSEWHERE;
}

static __always_inline __u32 seconds(void)
{
	return (bpf_ktime_get_ns() >> 30) + 1;
}

// Is a moment less than length before now, in seconds()? Another CPU may be ahead of this
// one.
static __always_inline bool within(__u32 now, __u32 then, __u32 length)
{
	return (__s32)(now - then) < (__s32)length;
}

// How long ago was a moment that another CPU may have noted, which is ahead of this one?
// 0 for one that is to come. Without a branch: each doubles what the verifier looks at.
static __always_inline __u64 since(__u64 now, __u64 then)
{
	__s64 passed = now - then;
	return passed & ~(passed >> 63);
}

static __always_inline __u32 mix(__u32 h)
{
	h ^= h >> 16; // the finalizer of MurmurHash3
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

#include "flow.h"
#include "police.h"
#include "nd.h"

// Whose is a packet that a port of ours took in, by where it may lead?
static __always_inline enum owner owner_of(struct __sk_buff *skb, const struct port *p, const struct ip *ip, __u32 c, bool forwards, bool sees)
{
	if (c == TO_LOCAL || (c & TO_PUNT))
		return c == TO_LOCAL ? OWNER_LOCAL : OWNER_PUNT;
	if (!forwards)
		return c != TO_WORKLOAD && !(p->flags & PORT_WORKLOAD) && has_upper(skb, sees) ? OWNER_UPPER : OWNER_US;
	if (c & ~(p->flags & PORT_ANYWHERE ? TO_WORKLOAD | TO_ELSEWHERE : TO_WORKLOAD))
		return OWNER_TRANSIT;
	if (translates && translated(skb, ip))
		return OWNER_TRANSLATED;
	return OWNER_US;
}

// Does the kernel forward packets of that family that it is left?
static __always_inline bool kernel_forwards(const struct port *p, const struct ip *ip)
{
	return p->flags & (ip->six ? PORT_KERNEL_FORWARDS6 : PORT_KERNEL_FORWARDS);
}

// Whose frame is it? *port is set where something is to be counted, and *ip
// holds the header of one that is ours.
static __always_inline enum owner whose(struct __sk_buff *skb, struct port **port, struct ip *ip, bool sees)
{
	__u32 ifindex = skb->ifindex;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);

	if (!p || !(p->flags & (PORT_FORWARD | PORT_FORWARD6)) || skb->mark == MARK_RETURNED)
		return OWNER_NOBODY;
	*port = p;
	if (in_vlan(skb))
		return OWNER_TAGGED;
	if (skb->pkt_type != PACKET_HOST && !alias_mac(skb, p))
		return OWNER_NOBODY;
	if (!read_ip(skb, p->l2len == ETH_HLEN ? ETH_HLEN : 0, ip))
		return OWNER_NOBODY; // no IP, or shorter than any header: the kernel counts it
	if (!(p->flags & (ip->six ? PORT_FORWARD6 : PORT_FORWARD)))
		return OWNER_NOBODY;
	if (stays(ip) || (ip->six && is_solicitation(skb, ip)))
		return OWNER_LOCAL;
	__u32 c = ip->six ? class_of6(ip->hdr + IPV6_DST) : class_of(dst4(ip));
	return owner_of(skb, p, ip, c, kernel_forwards(p, ip), sees);
}

// The same for both directions.
static __always_inline __u32 pair_hash(const struct ip *ip)
{
	__u32 src = src4(ip), dst = dst4(ip);

	if (!ip->six)
		return mix((src ^ dst) * 0x9e3779b1 + (src + dst) + fanout_seed);
	__u32 h = fanout_seed;
	for (int i = 0; i < 16; i += 4) {
		src = *(__be32 *)(ip->hdr + IPV6_SRC + i);
		dst = *(__be32 *)(ip->hdr + IPV6_DST + i);
		h = ((h ^ h >> 15) + (src ^ dst)) * 0x9e3779b1 + (src + dst);
	}
	return mix(h);
}

static __always_inline struct joined *joined_of(__u32 pair)
{
	return &joined[pair >> (32 - JOINED_BITS)];
}

// Which ring a frame is for: a flow has one, and so have both its directions. off
// is where the IP header is. Fragments bear no ports, all but the first: where a
// pair of addresses sends any, all that it sends goes by the addresses alone, so
// that they do not overtake whole datagrams of their flow, nor are overtaken. The
// relay has one reader, worker 0, which is to have the rest of such flows as well.
static __always_inline __u32 worker_of(struct __sk_buff *skb, __u32 off)
{
	struct ip ip;
	__be16 ports[2];

	if (workers <= 1 || !read_ip(skb, off, &ip))
		return 0; // the only one, or not for any
	__u32 h = pair_hash(&ip), now = 0;
	struct joined *j = joined_of(h);
	bool whole = !hides_ports(&ip);
	if (!whole || j->fragment || j->relay)
		now = seconds();
	if (j->relay && within(now, j->relay, JOINED_FOR))
		return 0;
	if (!whole)
		j->fragment = now;
	else if ((!j->fragment || !within(now, j->fragment, JOINED_FOR)) && has_ports(proto_of(&ip)) &&
		 !bpf_skb_load_bytes(skb, end_of(&ip), ports, sizeof(ports)))
		h = mix(h + (ports[0] ^ ports[1]) + ((__u32)(__u16)(ports[0] + ports[1]) << 16));
	return (__u64)h * workers >> 32;
}

#include "carry.h"
#include "answer.h"

static __always_inline __s64 in_ring(struct portstat *st, __u64 *consumed)
{
	return (__s64)(st->admitted - *(volatile __u64 *)consumed);
}

// A quota, and beyond the first few frames never more than twice what is free:
// however many flood together, each gets less the more there are, and there is
// room for who does not (dynamic thresholds, Choudhury and Hahne 1998).
static __always_inline bool over_quota(const struct port *p, __s64 have, __s64 have_all)
{
	__s64 free = RING_SLOTS - RING_RESERVE - have_all;
	__s64 quota = p->quota;
	if (pressed && quota > pressed)
		quota = pressed;
	return have >= quota || (have >= FEW && have >= 2 * free);
}

// Is there nobody who reads the ring? Its reader has ended, or has been seen to
// consume nothing for STALL_NS, though the ring held frames all the time. An
// empty ring says nothing of its reader, and takes no look at the clock. Once
// stalled, userspace says when it is over: it knows whether the ring is empty.
// given and taken are those of the ring, of all interfaces.
static __always_inline bool unread(struct reader *r, __u64 *given, __u64 *taken)
{
	if (*(volatile __u32 *)&r->owner & OWNER_DIED)
		return true;
	if (*(volatile __u32 *)&r->stalled)
		return true;
	__u64 done = *(volatile __u64 *)taken;
	__u64 mark = *(volatile __u64 *)&r->mark;
	if ((__s64)(*(volatile __u64 *)given - done) <= 0) {
		if (mark)
			*(volatile __u64 *)&r->mark = 0;
		return false;
	}
	__u64 now = bpf_ktime_get_ns();
	__u32 at = now >> MARK_SHIFT;
	if (!mark || (__u32)mark != (__u32)done) {
		*(volatile __u64 *)&r->mark = (__u64)at << 32 | (__u32)done;
		return false;
	}
	__u32 age = at - (__u32)(mark >> 32); // beyond 2^31: marked on another CPU just now
	if (age > 1u << 31 || age < STALL_NS >> MARK_SHIFT)
		return false;
	r->since = now;
	__sync_fetch_and_add(&r->stalls, 1);
	*(volatile __u32 *)&r->stalled = 1;
	return true;
}

// Counts a frame that is left. An index that is computed is what the verifier
// forbids where CAP_PERFMON is missing.
static __always_inline void count_left(struct portstat *st, enum owner owner)
{
	switch (owner) {
	case OWNER_LOCAL:
		count(st->left[OWNER_LOCAL]);
		break;
	case OWNER_PUNT:
		count(st->left[OWNER_PUNT]);
		break;
	case OWNER_TRANSIT:
		count(st->left[OWNER_TRANSIT]);
		break;
	case OWNER_TRANSLATED:
		count(st->left[OWNER_TRANSLATED]);
		break;
	case OWNER_UPPER:
		count(st->left[OWNER_UPPER]);
		break;
	case OWNER_GSO:
		count(st->left[OWNER_GSO]);
		break;
	case OWNER_STALLED:
		count(st->left[OWNER_STALLED]);
		break;
	default:
		break;
	}
}

// How many packets a frame stands for.
static __always_inline __u64 segments(struct __sk_buff *skb)
{
	if (!skb->gso_size)
		return 1;
	if (skb->gso_segs)
		return skb->gso_segs;
	return skb->len / skb->gso_size + 1; // nobody has counted yet
}

// The ring of a worker: who reads it, and what of an interface it was given.
struct ringstate {
	struct reader *reader;
	__u64 *given, *taken; // of all interfaces
	__u64 *of_port; // given, of one; 0: portstat has it
};

static __always_inline bool ring_of(struct ringstate *r, __u32 worker, __u32 slot, struct portstat *all, __u64 *all_consumed)
{
	__u32 at = worker;

	r->reader = bpf_map_lookup_elem(&parp_reader, &at);
	r->given = &all->admitted;
	r->taken = all_consumed;
	r->of_port = 0;
	if (rooms > 1) {
		at = (1 + worker) * MAX_PORTS;
		r->taken = bpf_map_lookup_elem(&parp_consumed, &at);
		at += rooms * MAX_PORTS;
		r->given = bpf_map_lookup_elem(&parp_consumed, &at);
		at += slot;
		r->of_port = bpf_map_lookup_elem(&parp_consumed, &at);
		if (!r->of_port)
			return false;
	}
	return r->reader && r->given && r->taken;
}

// Sets *d for parp_claim and returns the socket filter's answer.
static __always_inline int decide(struct __sk_buff *skb, struct decided *d, bool sees, bool carries)
{
	struct ip ip;
	struct port *p = 0;
	struct ringstate r;

	enum owner owner = whose(skb, &p, &ip, sees);
	if (!p)
		return 0;
	__u32 slot = p->slot;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	if (!st)
		return 0;
	__u64 *consumed = bpf_map_lookup_elem(&parp_consumed, &slot);
	__u32 zero = 0; // the place of all interfaces together
	struct portstat *all = bpf_map_lookup_elem(&parp_stats, &zero);
	__u64 *all_consumed = bpf_map_lookup_elem(&parp_consumed, &zero);
	if (!consumed || !all || !all_consumed || !ring_of(&r, d->worker, slot, all, all_consumed))
		return 0;
	if (owner == OWNER_NOBODY)
		return 0;
	if (owner == OWNER_TAGGED) {
		count(st->left[OWNER_TAGGED]);
		return 0;
	}
	bool forwards = kernel_forwards(p, &ip);
	bool whole = owner != OWNER_US || !skb->gso_size || gso_ok(skb, &ip, sees);
	if (!whole && !relay && forwards)
		owner = OWNER_GSO;
	bool asks = judges && owner == OWNER_TRANSLATED && relay && askable(&ip);
	bool stalled = (asks || owner == OWNER_US) && forwards && ((carries && unanswered()) || unread(r.reader, r.given, r.taken));
	if (asks) {
		d->decision = ASKED; // the claim counts it
		d->how = stalled;
		return 0;
	}
	if (stalled)
		owner = OWNER_STALLED;
	if (owner != OWNER_US) {
		count_left(st, owner);
		if (translates && forwards && (owner == OWNER_LOCAL || owner == OWNER_PUNT) && !stays(&ip)) {
			if (judges)
				d->decision = NOTED;
			else
				note_flow(skb, &ip);
		}
		return 0;
	}

	d->decision = TAKEN;
	if (!whole && !relay) {
		count(st->badgso);
		return 0;
	}
	if (over_quota(p, in_ring(st, consumed), in_ring(all, all_consumed))) {
		count(st->policed);
		return 0;
	}
	if (!whole) {
		count(st->badgso);
		d->decision = RELAYED;
		if (rooms > 1)
			joined_of(pair_hash(&ip))->relay = seconds();
		return 0;
	}
	count(all->admitted);
	count(st->admitted);
	if (rooms > 1 && r.of_port) {
		count(*r.given);
		count(*r.of_port);
	}
	return TAKE_ALL;
}

// What is decided of a frame that is not carried.
static __always_inline int decide_anew(struct __sk_buff *skb, bool sees, bool carries)
{
	__u32 zero = 0;
	struct decided *d = bpf_map_lookup_elem(&parp_decision, &zero);
	if (!d)
		return 0;
	d->decision = LEAVE;
	return decide(skb, d, sees, carries);
}

own_function parp_decide(struct __sk_buff *skb)
{
	return decide_anew(skb, true, true);
}

own_function parp_decide_basic(struct __sk_buff *skb)
{
	return decide_anew(skb, false, true);
}

static __always_inline int ring(struct __sk_buff *skb, bool sees, bool carries)
{
	// A group of rings is told of what is sent as well before Linux 6.7
	// (PACKET_FANOUT_FLAG_IGNORE_OUTGOING).
	if (rooms > 1 && skb->pkt_type == PACKET_OUTGOING)
		return 0;
	if (!carries)
		return decide_anew(skb, sees, false);
	if (carry(skb, 0, sees))
		return 0;
	return sees ? parp_decide(skb) : parp_decide_basic(skb);
}

// Runs before parp_ring, for the same frame and on the same CPU. A group may have
// more rings than get frames: one that is to replace another, or such as are about
// to begin or to end. Those are the last ones, which are not named here.
SEC("socket")
int parp_fanout(struct __sk_buff *skb)
{
	__u32 zero = 0, worker = worker_of(skb, 0);
	struct decided *d = bpf_map_lookup_elem(&parp_decision, &zero);
	if (d)
		d->worker = worker;
	return worker;
}

SEC("socket")
int parp_ring(struct __sk_buff *skb)
{
	return ring(skb, true, false);
}

SEC("socket")
int parp_ring_carry(struct __sk_buff *skb)
{
	return ring(skb, true, true);
}

// For kernels without bpf_rdonly_cast, and without CAP_PERFMON.
SEC("socket")
int parp_ring_basic(struct __sk_buff *skb)
{
	return ring(skb, false, false);
}

SEC("socket")
int parp_ring_carry_basic(struct __sk_buff *skb)
{
	return ring(skb, false, true);
}

// Before a frame on its way through the relay: where it came in. It looks like
// an Ethernet header, which the relay's device expects. Shared with
// internal/relay.
struct relayhdr {
	__u32 ifindex;
	__u8 ethernet; // an Ethernet header follows
	__u8 zero;
	__u8 magic[6];
	__be16 proto;
} __attribute__((packed));

// The relay is a device that can't segment for others, so that a frame comes
// out of it in the segments that it stands for, whatever its GSO type is.
static __always_inline int to_relay(struct __sk_buff *skb, bool whole)
{
	__u32 ifindex = skb->ifindex;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (!p)
		return TC_ACT_SHOT;
	__u32 slot = p->slot, zero = 0;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	struct portstat *all = bpf_map_lookup_elem(&parp_stats, &zero);
	struct relayhdr h = { .ifindex = ifindex, .ethernet = p->l2len == ETH_HLEN, .magic = { 'p', 'a', 'r', 'p', 'd', 0 },
		.proto = skb->protocol };
	__u64 n = segments(skb);
	if (!st || !all || bpf_skb_change_head(skb, sizeof(h), 0) || bpf_skb_store_bytes(skb, 0, &h, sizeof(h), 0))
		return TC_ACT_SHOT;
	if (!whole)
		count(st->relayed);
	count(all->relayed);
	__sync_fetch_and_add(&all->admitted, n);
	__sync_fetch_and_add(&st->admitted, n);
	__u64 *consumed = bpf_map_lookup_elem(&parp_consumed, &zero);
	struct ringstate r;
	if (rooms > 1 && consumed && ring_of(&r, 0, slot, all, consumed) && r.of_port) { // worker 0 reads it
		__sync_fetch_and_add(r.given, n);
		__sync_fetch_and_add(r.of_port, n);
	}
	return bpf_redirect(relay, 0);
}

#include "conntrack.h"

// A frame that the ring's filter did not take, since it may be of a flow that the
// kernel translates. If it is not, it is ours: by the relay, for the ring has not
// had it.
static __always_inline bool judged_ours(struct __sk_buff *skb, bool stalled, int *verdict)
{
	struct ip ip;
	__u32 ifindex = skb->ifindex, zero = 0;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (!p)
		return false;
	__u32 slot = p->slot;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	struct portstat *all = bpf_map_lookup_elem(&parp_stats, &zero);
	__u64 *consumed = bpf_map_lookup_elem(&parp_consumed, &slot);
	__u64 *all_consumed = bpf_map_lookup_elem(&parp_consumed, &zero);
	if (!st || !all || !consumed || !all_consumed || !read_ip(skb, p->l2len == ETH_HLEN ? ETH_HLEN : 0, &ip))
		return false;
	__u32 pair = pair_hash(&ip);
	if (asked(skb, &ip)) {
		count(st->left[OWNER_TRANSLATED]);
		return false;
	}
	if (stalled) {
		count(st->left[OWNER_STALLED]);
		return false;
	}
	*verdict = TC_ACT_SHOT;
	if (over_quota(p, in_ring(st, consumed), in_ring(all, all_consumed))) {
		count(st->policed);
		return true;
	}
	if (rooms > 1)
		joined_of(pair)->relay = seconds();
	*verdict = to_relay(skb, true);
	return true;
}

// Return values serve TCX and clsact alike: TC_ACT_UNSPEC is TCX_NEXT,
// TC_ACT_SHOT is TCX_DROP, and TC_ACT_REDIRECT is TCX_REDIRECT
// (include/uapi/linux/bpf.h).
static __always_inline int claim(struct __sk_buff *skb, bool carries, bool asks)
{
	__u32 zero = 0;
	struct decided *decided = bpf_map_lookup_elem(&parp_decision, &zero);
	if (!decided)
		return TC_ACT_UNSPEC;
	__u32 d = decided->decision;
	decided->decision = LEAVE;
	if (carries && d == CARRIED)
		return carried(skb, decided);
	if (d == TAKEN)
		return TC_ACT_SHOT;
	if (d == RELAYED)
		return to_relay(skb, false);
	int verdict;
	if (asks && d == ASKED && judged_ours(skb, decided->how, &verdict))
		return verdict;
	if (asks && d == NOTED)
		note_asked(skb);
	if (carries && skb->protocol == bpf_htons(ETH_P_ARP) && answers(skb))
		return bpf_redirect(skb->ifindex, 0);
	if (ipv6 && skb->protocol == bpf_htons(ETH_P_IPV6) && discovers(skb, carries, &verdict))
		return verdict;
	if (skb->mark == MARK_RETURNED)
		skb->mark = 0;
	if (skb->pkt_type == PACKET_OTHERHOST) {
		__u32 ifindex = skb->ifindex;
		struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
		if (p && alias_mac(skb, p))
			bpf_skb_change_type(skb, PACKET_HOST);
	}
	return TC_ACT_UNSPEC;
}

SEC("tc")
int parp_claim(struct __sk_buff *skb)
{
	return claim(skb, false, false);
}

SEC("tc")
int parp_carry(struct __sk_buff *skb)
{
	return claim(skb, true, false);
}

SEC("tc")
int parp_claim_ct(struct __sk_buff *skb)
{
	return claim(skb, false, true);
}

SEC("tc")
int parp_carry_ct(struct __sk_buff *skb)
{
	return claim(skb, true, true);
}

// What userspace writes to the relay's device goes back to the interface that
// its source address names, marked so that it is not taken again.
SEC("tc")
int parp_return(struct __sk_buff *skb)
{
	struct {
		__u8 magic[2];
		__u32 ifindex;
	} __attribute__((packed)) src;

	if (bpf_skb_load_bytes(skb, ETH_ALEN, &src, sizeof(src)))
		return TC_ACT_SHOT;
	skb->mark = MARK_RETURNED;
	return bpf_redirect(src.ifindex, BPF_F_INGRESS);
}

// Will the ring's filter, which runs next, leave a frame of this interface that
// is ours to the kernel, since nobody reads the ring? Or refuse it for its quota,
// and is there time to show one more of those?
static __always_inline bool shown_refused(struct __sk_buff *skb, const struct port *p, bool forwards, bool carries)
{
	__u32 slot = p->slot, zero = 0;
	struct ringstate r;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	__u64 *consumed = bpf_map_lookup_elem(&parp_consumed, &slot);
	struct portstat *all = bpf_map_lookup_elem(&parp_stats, &zero);
	__u64 *all_consumed = bpf_map_lookup_elem(&parp_consumed, &zero);
	if (!st || !consumed || !all || !all_consumed ||
	    !ring_of(&r, rooms > 1 ? worker_of(skb, p->l2len == ETH_HLEN ? ETH_HLEN : 0) : 0, slot, all, all_consumed))
		return false;
	if (forwards && ((carries && unanswered()) || unread(r.reader, r.given, r.taken)))
		return true;
	if (!over_quota(p, in_ring(st, consumed), in_ring(all, all_consumed)))
		return false;
	__u64 now = bpf_ktime_get_ns();
	__u64 last = shown_last, passed = since(now, last), credit = shown_credit + passed;
	if (credit > SHOWN_BURST_NS)
		credit = SHOWN_BURST_NS;
	shown_last = last + passed;
	if (credit < SHOWN_NS) {
		shown_credit = credit;
		return false;
	}
	shown_credit = credit - SHOWN_NS;
	return true;
}

enum { SHOWN_HERE, SHOWN_ELSEWHERE, SHOWN_IF_CARRIED };

// What the datapath and the ARP responder take is shown where they decide about
// it, and so is what they send. All else is the host's own traffic, or none of
// ours. What the ring's filter refuses is shown here, unless it is carried.
static __always_inline int shown_where(struct __sk_buff *skb, bool sees, bool carries)
{
	struct ip ip;
	__u32 ifindex = skb->ifindex;
	struct port *p;

	if (ifindex == relay || skb->mark == MARK_RETURNED)
		return SHOWN_ELSEWHERE;
	if (skb->pkt_type == PACKET_OUTGOING)
		return skb->mark == watch_mark ? SHOWN_ELSEWHERE : SHOWN_HERE;
	if (skb->protocol == bpf_htons(ETH_P_ARP) && !in_vlan(skb)) {
		// Of another host's the responder can't tell whether a tag was on it.
		p = bpf_map_lookup_elem(&parp_ports, &ifindex);
		return p && (p->flags & PORT_ARP) && (skb->pkt_type != PACKET_OTHERHOST || alias_mac(skb, p)) ? SHOWN_ELSEWHERE : SHOWN_HERE;
	}
	if (ipv6 && skb->protocol == bpf_htons(ETH_P_IPV6) && shown_as_nd(skb))
		return SHOWN_ELSEWHERE;
	if (whose(skb, &p, &ip, sees) != OWNER_US)
		return SHOWN_HERE;
	return shown_refused(skb, p, kernel_forwards(p, &ip), carries) ? SHOWN_IF_CARRIED : SHOWN_ELSEWHERE;
}

own_function parp_where(struct __sk_buff *skb)
{
	return shown_where(skb, true, true);
}

own_function parp_where_basic(struct __sk_buff *skb)
{
	return shown_where(skb, false, true);
}

static __always_inline int watch(struct __sk_buff *skb, bool sees, bool carries)
{
	int where;

	if (!carries)
		where = shown_where(skb, sees, false);
	else
		where = sees ? parp_where(skb) : parp_where_basic(skb);
	return where == SHOWN_ELSEWHERE || (carries && where == SHOWN_IF_CARRIED && carry(skb, NO_SLOT, sees)) ? 0 : watch_snap;
}

SEC("socket")
int parp_watch(struct __sk_buff *skb)
{
	return watch(skb, true, false);
}

SEC("socket")
int parp_watch_carry(struct __sk_buff *skb)
{
	return watch(skb, true, true);
}

SEC("socket")
int parp_watch_basic(struct __sk_buff *skb)
{
	return watch(skb, false, false);
}

SEC("socket")
int parp_watch_carry_basic(struct __sk_buff *skb)
{
	return watch(skb, false, true);
}
