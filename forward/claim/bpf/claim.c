// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The programs that stand between the kernel and proxyarpd's sockets:
//
//   parp_ring    socket filter of the forwarding rings: whose frame is this?
//   parp_fanout  which of several rings gets a frame (PACKET_FANOUT_EBPF)
//   parp_claim   tc ingress: drops the original of each frame that the ring took,
//                sends to the relay what the ring can't take as it is, and makes
//                frames to another MAC of the interface the host's
//   parp_carry   parp_claim of --engine ebpf: also forwards (carry.h)
//   parp_return  tc ingress of the relay: gives a frame back to where it came in
//   parp_arp     socket filter of the ARP socket: polices each interface
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
#define MAX_FLOWS 65536
#define MAX_WORKERS 16
#define JOINED_BITS 12
#define JOINED_FOR 8 // s: longer than parts of a datagram, or of a tunnel's stream, are apart
#define TAKE_ALL 0x7fffffff
#define RING_SLOTS 4096 // internal/pktring's default
#define RING_RESERVE 512 // of them for interfaces that have few
#define FEW 32
#define IPV4_DST 16
#define IPV4_SRC 12
#define IPV4_FRAG 6
#define IPV4_TOS 1
#define IPV4_TTL 8
#define IPV4_PROTO 9
#define IPV4_SUM 10
#define IPV4_MIN 20
#define IPV4_MF 0x2000
#define IPV4_OFFSET 0x1fff
#define VLAN_VID 0x0fff
#define OWNER_DIED 0x40000000 // FUTEX_OWNER_DIED, include/uapi/linux/futex.h
#define MARK_SHIFT 16 // 65.5 us
#define STALL_NS 20000000 // so long a reader that is well consumes something

// Flags of a port, shared with claim.go.
enum {
	PORT_FORWARD = 1,          // its IPv4 frames are looked at
	PORT_WORKLOAD = 2,         // its ARP requests are answered
	PORT_RETYPE = 4,           // alias holds something
	PORT_ANYWHERE = 8,         // packets from it go to uplinks too, and are refused here
	PORT_KERNEL_FORWARDS = 16, // forwarding is on there: the kernel takes what we leave
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
	OWNER_NOBODY, // no port of ours, or no IPv4 to its MAC: nothing to decide
	OWNER_LOCAL,
	OWNER_PUNT,
	OWNER_TRANSIT,    // the kernel forwards, and the way is none that is served
	OWNER_TRANSLATED, // of a flow that the kernel may translate
	OWNER_UPPER,      // of a device that stands on this one, maybe
	OWNER_TAGGED,     // a VLAN's
	OWNER_GSO,        // the kernel forwards, and no ring can have it as it is
	OWNER_STALLED,    // the kernel forwards, and nobody reads the ring
	OWNERS,
};

enum { LEAVE = 0, TAKEN = 1, RELAYED = 2, CARRIED = 3 };

// What the ring's filter leaves for the claim. All but the decision is for CARRIED.
struct decided {
	__u32 decision;
	__u32 ifindex; // where to
	__u64 dst, src; // MACs, in the first six octets
	__u32 slot; // of where it came in
	__u16 total; // bytes, IP header and what follows
	__u8 how; // carry.h
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
	__u64 arp_passed;
	__u64 arp_policed;
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

struct arpbucket {
	__u64 last; // time of the last refill, ns
	__u64 credit; // ns of credit
};

struct lpmkey {
	__u32 prefixlen;
	__be32 addr;
};

// One end of a flow. Protocol 0 stands for the address alone: so are fragments
// looked for, since all of a datagram must go one way and few have the ports.
struct flowkey {
	__be32 addr;
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

// Who sent what the kernel may translate: answers to it are the kernel's.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FLOWS); // 1 where it is not needed
	__type(key, struct flowkey);
	__type(value, __u8);
} parp_flows SEC(".maps");

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

// By worker.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_WORKERS);
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
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct arpbucket);
} parp_buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decided);
} parp_decision SEC(".maps");

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

// Number of entries in parp_nets: the trie is not walked while it is empty.
volatile __u32 nets;

// While the ring has a standing queue: what an interface may have in it, so
// that the others do not wait behind a flood. 0 while it has none.
volatile __u32 pressed;

// The interface of the relay, 0: there is none.
volatile __u32 relay;

// How many rings get frames now, and what makes it hard to guess which one a flow
// gets.
volatile __u32 workers, fanout_seed;

// Policing of ARP: ns that one frame costs, and ns of credit at most.
volatile const __u64 arp_cost_ns = 100000;
volatile const __u64 arp_burst_ns = 200000000;

// Is parp_flows kept?
volatile const __u32 translates = 0;

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

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

// include/linux/skbuff.h, SKB_GSO_*: what a virtio_net_hdr can say, and what
// may stand beside it.
#define GSO_TCPV4 (1 << 0)
#define GSO_UDP_L4 (1 << 17)
#define GSO_FRAGLIST (1 << 18)
#define GSO_BESIDE ((1 << 1) | (1 << 2) | (1 << 3) | GSO_FRAGLIST) // DODGY, TCP_ECN, TCP_FIXEDID
#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17

// One skb whose GSO type tpacket_rcv can't express stops a TPACKET_V2 ring for
// good (net/packet/af_packet.c: the slot is taken and not given back). Without
// sight of the type UDP is not trusted, if there is another way: it may be a
// tunnel.
static __always_inline bool gso_ok(struct __sk_buff *ctx, __u8 protocol, bool sees)
{
	if (!sees)
		return protocol == PROTO_TCP || (protocol == PROTO_UDP && !relay);
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	struct skb_shared_info *info = bpf_rdonly_cast(skb->head + skb->end,
		bpf_core_type_id_kernel(struct skb_shared_info));
	__u32 type = info->gso_type & ~GSO_BESIDE;
	return (type == GSO_TCPV4 && protocol == PROTO_TCP) ||
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
		asm volatile("" ::"i"(__LINE__)); \
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

// Multicast, broadcast, loopback: never forwarded.
static __always_inline bool to_host(__be32 dst)
{
	__u8 first = bpf_ntohl(dst) >> 24;
	return !dst || first == 127 || (first & 0xf0) == 0xe0 || dst == 0xffffffff;
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

// Reads an end of a packet's flow: its source's, or its destination's. off is
// that of the IP header. An ICMP error belongs to the flow that it quotes, the
// way back.
static __always_inline bool flow_end(struct __sk_buff *skb, __u32 off, const __u8 *hdr, bool source, struct flowkey *key)
{
	__u8 inner[IPV4_MIN];
	__u8 icmp[8];
	__be16 ports[2];
	__u32 l4 = off + (hdr[0] & 15) * 4;

	__builtin_memset(key, 0, sizeof(*key));
	key->addr = source ? *(__be32 *)(hdr + IPV4_SRC) : *(__be32 *)(hdr + IPV4_DST);
	if (*(__be16 *)(hdr + IPV4_FRAG) & bpf_htons(IPV4_MF | IPV4_OFFSET))
		return true;
	key->proto = hdr[IPV4_PROTO];
	switch (key->proto) {
	case PROTO_ICMP:
		if (bpf_skb_load_bytes(skb, l4, icmp, sizeof(icmp)))
			return false;
		if (icmp[0] != 3 && icmp[0] != 4 && icmp[0] != 5 && icmp[0] != 11 && icmp[0] != 12) {
			key->port = *(__be16 *)(icmp + 4);
			return true;
		}
		if (source || bpf_skb_load_bytes(skb, l4 + 8, inner, sizeof(inner)))
			return false;
		key->addr = *(__be32 *)(inner + IPV4_SRC);
		key->proto = inner[IPV4_PROTO];
		l4 += 8 + (inner[0] & 15) * 4;
		if (key->proto == PROTO_ICMP) {
			if (bpf_skb_load_bytes(skb, l4 + 4, ports, 2))
				return false;
			key->port = ports[0];
			return true;
		}
		if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
			return false;
		key->port = ports[0];
		return true;
	case PROTO_TCP:
	case PROTO_UDP:
	case 33: // DCCP
	case 132: // SCTP
	case 136: // UDP-Lite
		if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
			return false;
		key->port = source ? ports[0] : ports[1];
	}
	return true;
}

static __always_inline void note_end(struct flowkey *key)
{
	__u8 one = 1;

	if (!bpf_map_lookup_elem(&parp_flows, key)) // which also says that it is in use
		bpf_map_update_elem(&parp_flows, key, &one, BPF_ANY);
}

// Notes who sent a packet that the kernel has, and may translate.
static __always_inline void note_flow(struct __sk_buff *skb, __u32 off, const __u8 *hdr)
{
	struct flowkey key;

	if (flow_end(skb, off, hdr, true, &key) && key.proto)
		note_end(&key);
	key.port = 0;
	key.proto = 0;
	note_end(&key);
}

// Does a packet answer one that the kernel may have translated?
static __always_inline bool translated(struct __sk_buff *skb, __u32 off, const __u8 *hdr)
{
	struct flowkey key;

	return flow_end(skb, off, hdr, false, &key) && bpf_map_lookup_elem(&parp_flows, &key);
}

// Whose frame is it? *port is set where something is to be counted, and hdr
// holds the IP header of one that is ours.
static __always_inline enum owner whose(struct __sk_buff *skb, struct port **port, __u8 *hdr, bool sees)
{
	__u32 ifindex = skb->ifindex;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);

	if (!p || !(p->flags & PORT_FORWARD) || skb->mark == MARK_RETURNED)
		return OWNER_NOBODY;
	*port = p;
	if (in_vlan(skb))
		return OWNER_TAGGED;
	if (skb->protocol != bpf_htons(ETH_P_IP) || (skb->pkt_type != PACKET_HOST && !alias_mac(skb, p)))
		return OWNER_NOBODY;
	__u32 off = p->l2len == ETH_HLEN ? ETH_HLEN : 0;
	if (bpf_skb_load_bytes(skb, off, hdr, IPV4_MIN))
		return OWNER_NOBODY; // shorter than any IPv4 header: the kernel counts it
	__be32 dst = *(__be32 *)(hdr + IPV4_DST);
	if (to_host(dst))
		return OWNER_LOCAL;
	__u32 c = class_of(dst);
	bool forwards = p->flags & PORT_KERNEL_FORWARDS;
	if (c == TO_LOCAL || (c & TO_PUNT)) {
		if (translates && forwards)
			note_flow(skb, off, hdr);
		return c == TO_LOCAL ? OWNER_LOCAL : OWNER_PUNT;
	}
	if (!forwards)
		return c != TO_WORKLOAD && !(p->flags & PORT_WORKLOAD) && has_upper(skb, sees) ? OWNER_UPPER : OWNER_US;
	if (c & ~(p->flags & PORT_ANYWHERE ? TO_WORKLOAD | TO_ELSEWHERE : TO_WORKLOAD))
		return OWNER_TRANSIT;
	if (translates && translated(skb, off, hdr))
		return OWNER_TRANSLATED;
	return OWNER_US;
}

static __always_inline __u32 mix(__u32 h)
{
	h ^= h >> 16; // the finalizer of MurmurHash3
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

// The same for both directions.
static __always_inline __u32 pair_hash(const __u8 *hdr)
{
	__u32 src = *(__be32 *)(hdr + IPV4_SRC), dst = *(__be32 *)(hdr + IPV4_DST);

	return mix((src ^ dst) * 0x9e3779b1 + (src + dst) + fanout_seed);
}

static __always_inline struct joined *joined_of(__u32 pair)
{
	return &joined[pair >> (32 - JOINED_BITS)];
}

static __always_inline __u32 seconds(void)
{
	return (bpf_ktime_get_ns() >> 30) + 1;
}

// Which ring a frame is for: a flow has one, and so have both its directions. off
// is where the IP header is. Fragments bear no ports, all but the first: where a
// pair of addresses sends any, all that it sends goes by the addresses alone, so
// that they do not overtake whole datagrams of their flow, nor are overtaken. The
// relay has one reader, worker 0, which is to have the rest of such flows as well.
static __always_inline __u32 worker_of(struct __sk_buff *skb, __u32 off)
{
	__u8 hdr[IPV4_MIN] __attribute__((aligned(4)));
	__be16 ports[2];

	if (workers <= 1 || skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, off, hdr, IPV4_MIN))
		return 0; // the only one, or not for any
	__u32 h = pair_hash(hdr), now = 0;
	struct joined *j = joined_of(h);
	bool whole = !(*(__be16 *)(hdr + IPV4_FRAG) & bpf_htons(IPV4_MF | IPV4_OFFSET));
	if (!whole || j->fragment || j->relay)
		now = seconds();
	if (j->relay && now - j->relay < JOINED_FOR)
		return 0;
	if (!whole)
		j->fragment = now;
	else if (!j->fragment || now - j->fragment >= JOINED_FOR)
		switch (hdr[IPV4_PROTO]) {
		case PROTO_TCP:
		case PROTO_UDP:
		case 33: // DCCP
		case 132: // SCTP
		case 136: // UDP-Lite
			if (!bpf_skb_load_bytes(skb, off + (hdr[0] & 15) * 4, ports, sizeof(ports)))
				h = mix(h + (ports[0] ^ ports[1]) + ((__u32)(__u16)(ports[0] + ports[1]) << 16));
		}
	return (__u64)h * workers >> 32;
}

// Takes from the bucket of a slot; false if it is empty.
static __always_inline bool take_arp(struct arpbucket *b)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 credit = b->credit + (now - b->last);
	if (credit > arp_burst_ns)
		credit = arp_burst_ns;
	b->last = now;
	b->credit = credit < arp_cost_ns ? credit : credit - arp_cost_ns;
	return credit >= arp_cost_ns;
}

#include "carry.h"

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
	case OWNER_TAGGED:
		count(st->left[OWNER_TAGGED]);
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
	if (skb->gso_segs)
		return skb->gso_segs;
	return skb->len / (skb->gso_size ? skb->gso_size : 1) + 1; // nobody has counted yet
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
	__u8 hdr[IPV4_MIN] __attribute__((aligned(4)));
	struct port *p = 0;
	struct ringstate r;

	enum owner owner = whose(skb, &p, hdr, sees);
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
	bool forwards = p->flags & PORT_KERNEL_FORWARDS;
	bool whole = owner != OWNER_US || !skb->gso_size || gso_ok(skb, hdr[IPV4_PROTO], sees);
	if (!whole && !relay && forwards)
		owner = OWNER_GSO;
	if (owner == OWNER_US && forwards && ((carries && unanswered()) || unread(r.reader, r.given, r.taken)))
		owner = OWNER_STALLED;
	if (owner != OWNER_US) {
		count_left(st, owner);
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
			joined_of(pair_hash(hdr))->relay = seconds();
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

static __always_inline int ring(struct __sk_buff *skb, bool sees, bool carries)
{
	__u32 zero = 0;
	struct decided *d = bpf_map_lookup_elem(&parp_decision, &zero);
	if (!d)
		return 0;
	// A group of rings is told of what is sent as well before Linux 6.7
	// (PACKET_FANOUT_FLAG_IGNORE_OUTGOING).
	if (rooms > 1 && skb->pkt_type == PACKET_OUTGOING)
		return 0;
	d->decision = LEAVE;
	if (carries && carry(skb, d, sees))
		return 0;
	return decide(skb, d, sees, carries);
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
static __always_inline int to_relay(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (!p)
		return TC_ACT_SHOT;
	__u32 slot = p->slot, zero = 0;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	struct portstat *all = bpf_map_lookup_elem(&parp_stats, &zero);
	struct relayhdr h = { .ifindex = ifindex, .ethernet = p->l2len == ETH_HLEN, .magic = { 'p', 'a', 'r', 'p', 'd', 0 },
		.proto = bpf_htons(ETH_P_IP) };
	__u64 n = segments(skb);
	if (!st || !all || bpf_skb_change_head(skb, sizeof(h), 0) || bpf_skb_store_bytes(skb, 0, &h, sizeof(h), 0))
		return TC_ACT_SHOT;
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

// Return values serve TCX and clsact alike: TC_ACT_UNSPEC is TCX_NEXT,
// TC_ACT_SHOT is TCX_DROP, and TC_ACT_REDIRECT is TCX_REDIRECT
// (include/uapi/linux/bpf.h).
static __always_inline int claim(struct __sk_buff *skb, bool carries)
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
		return to_relay(skb);
	if (carries && skb->protocol == bpf_htons(ETH_P_ARP) && answers(skb))
		return bpf_redirect(skb->ifindex, 0);
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
	return claim(skb, false);
}

SEC("tc")
int parp_carry(struct __sk_buff *skb)
{
	return claim(skb, true);
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

// A bucket an interface; frames of interfaces that userspace has not named yet
// share that of slot 0, so that the first frame of a new one gets through.
SEC("socket")
int parp_arp(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, slot = 0;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (p) {
		if (!(p->flags & PORT_WORKLOAD))
			return 0;
		slot = p->slot;
	}
	struct arpbucket *b = bpf_map_lookup_elem(&parp_buckets, &slot);
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	if (!b || !st)
		return 0;
	if (!take_arp(b)) {
		count(st->arp_policed);
		return 0;
	}
	count(st->arp_passed);
	return TAKE_ALL;
}

// Will the ring's filter, which runs next, leave a frame of this interface that
// is ours to the kernel, since nobody reads the ring? Or refuse it for its quota,
// and is there time to show one more of those?
static __always_inline bool shown_refused(struct __sk_buff *skb, const struct port *p, bool carries)
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
	if ((p->flags & PORT_KERNEL_FORWARDS) && ((carries && unanswered()) || unread(r.reader, r.given, r.taken)))
		return true;
	if (!over_quota(p, in_ring(st, consumed), in_ring(all, all_consumed)))
		return false;
	__u64 now = bpf_ktime_get_ns();
	__u64 credit = shown_credit + (now - shown_last);
	if (credit > SHOWN_BURST_NS)
		credit = SHOWN_BURST_NS;
	shown_last = now;
	if (credit < SHOWN_NS) {
		shown_credit = credit;
		return false;
	}
	shown_credit = credit - SHOWN_NS;
	return true;
}

// What the datapath and the ARP responder take is shown where they decide about
// it, and so is what they send. All else is the host's own traffic, or none of
// ours.
static __always_inline bool shown_elsewhere(struct __sk_buff *skb, bool sees, bool carries)
{
	__u8 hdr[IPV4_MIN];
	struct decided d;
	__u32 ifindex = skb->ifindex;
	struct port *p;

	if (ifindex == relay || skb->mark == MARK_RETURNED)
		return true;
	if (skb->pkt_type == PACKET_OUTGOING)
		return skb->mark == watch_mark;
	if (skb->protocol == bpf_htons(ETH_P_ARP) && !in_vlan(skb)) {
		// Of another host's the responder can't tell whether a tag was on it.
		p = bpf_map_lookup_elem(&parp_ports, &ifindex);
		return p && (p->flags & PORT_WORKLOAD) && (skb->pkt_type != PACKET_OTHERHOST || alias_mac(skb, p));
	}
	if (whose(skb, &p, hdr, sees) != OWNER_US)
		return false;
	return !shown_refused(skb, p, carries) || (carries && carry(skb, &d, sees));
}

SEC("socket")
int parp_watch(struct __sk_buff *skb)
{
	return shown_elsewhere(skb, true, false) ? 0 : watch_snap;
}

SEC("socket")
int parp_watch_carry(struct __sk_buff *skb)
{
	return shown_elsewhere(skb, true, true) ? 0 : watch_snap;
}

SEC("socket")
int parp_watch_basic(struct __sk_buff *skb)
{
	return shown_elsewhere(skb, false, false) ? 0 : watch_snap;
}

SEC("socket")
int parp_watch_carry_basic(struct __sk_buff *skb)
{
	return shown_elsewhere(skb, false, true) ? 0 : watch_snap;
}
