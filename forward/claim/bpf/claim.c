// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The programs that stand between the kernel and proxyarpd's sockets:
//
//   parp_ring    socket filter of the forwarding ring: is this frame ours?
//   parp_claim   tc ingress: drops the original of each frame that the ring took,
//                and makes frames to another MAC of the interface the host's
//   parp_arp     socket filter of the ARP socket: polices each interface
//   parp_watch   socket filter of a capture: what neither of the sockets has seen
//
// On receive the kernel runs taps of ETH_P_ALL first and tc ingress next, on
// the same CPU and for one frame at a time (net/core/dev.c,
// __netif_receive_skb_core). parp_ring therefore decides once and leaves the
// decision in a per-CPU slot; parp_claim reads and clears it. They can't
// disagree, and without a ring the slot stays 0 and the kernel keeps its frames.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_PORTS 4096
#define MAX_LOCAL 16384
#define TAKE_ALL 0x7fffffff
#define RING_SLOTS 4096 // internal/pktring's default
#define RING_RESERVE 512 // of them for interfaces that have few
#define FEW 32
#define IPV4_DST 16
#define IPV4_PROTO 9
#define IPV4_MIN 20

enum { PORT_FORWARD = 1, PORT_WORKLOAD = 2, PORT_RETYPE = 4 };
enum { TO_NOBODY = 0, TO_LOCAL = 1, TO_PUNT = 2 };
enum { LEAVE = 0, TAKEN = 1 };

// What userspace says of an interface. Layout shared with maps_linux.go.
struct port {
	__u32 slot;  // index into stats and consumed
	__u32 flags; // PORT_*
	__u32 quota; // frames of this interface that may wait in the ring
	__u32 l2len; // bytes before the IP header: 14, or 0 without link layer
	__u8 alias[2][6]; // further destination MACs that mean this interface
	__u8 pad[4];
};

// What the filter counts for an interface; userspace maps and reads it.
struct portstat {
	__u64 admitted; // frames given to the ring
	__u64 policed;  // frames refused: the interface's quota was in use
	__u64 badgso;   // frames refused: GSO type that no virtio_net_hdr expresses
	__u64 local;    // frames left to the kernel: for the host itself
	__u64 punted;   // frames left to the kernel: --punt
	__u64 arp_passed;
	__u64 arp_policed;
	__u64 pad;
};

struct arpbucket {
	__u64 last; // time of the last refill, ns
	__u64 credit; // ns of credit
};

struct lpmkey {
	__u32 prefixlen;
	__be32 addr;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port);
} parp_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LOCAL);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, __u32);
} parp_local SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_LOCAL);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpmkey);
	__type(value, __u32);
} parp_prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct portstat);
} parp_stats SEC(".maps");

// Written by userspace alone: frames of this slot that have left the ring.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, __u64);
} parp_consumed SEC(".maps");

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
	__type(value, __u32);
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

// Number of entries in parp_prefixes: the trie is not walked while it is empty.
volatile __u32 prefixes;

// While the ring has a standing queue: what an interface may have in it, so
// that the others do not wait behind a flood. 0 while it has none.
volatile __u32 pressed;

// Policing of ARP: ns that one frame costs, and ns of credit at most.
volatile const __u64 arp_cost_ns = 100000;
volatile const __u64 arp_burst_ns = 200000000;

// The little of the kernel's own types that the GSO check reads (CO-RE).
struct sk_buff {
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
#define GSO_BESIDE ((1 << 1) | (1 << 2) | (1 << 3) | (1 << 18)) // DODGY, TCP_ECN, TCP_FIXEDID, FRAGLIST
#define PROTO_TCP 6
#define PROTO_UDP 17

// One skb whose GSO type tpacket_rcv can't express stops a TPACKET_V2 ring for
// good (net/packet/af_packet.c: the slot is taken and not given back).
static __always_inline bool gso_ok(struct __sk_buff *ctx, __u8 protocol, bool see_type)
{
	if (!see_type)
		return protocol == PROTO_TCP || protocol == PROTO_UDP;
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	struct skb_shared_info *info = bpf_rdonly_cast(skb->head + skb->end,
		bpf_core_type_id_kernel(struct skb_shared_info));
	__u32 type = info->gso_type & ~GSO_BESIDE;
	return (type == GSO_TCPV4 && protocol == PROTO_TCP) ||
	       (type == GSO_UDP_L4 && protocol == PROTO_UDP);
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

static __always_inline __u32 destination(__be32 dst)
{
	__u32 *to = bpf_map_lookup_elem(&parp_local, &dst);
	if (to)
		return *to;
	if (!prefixes)
		return TO_NOBODY;
	struct lpmkey key = { .prefixlen = 32, .addr = dst };
	to = bpf_map_lookup_elem(&parp_prefixes, &key);
	return to ? *to : TO_NOBODY;
}

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

// Sets *decision for parp_claim and returns the socket filter's answer.
static __always_inline int decide(struct __sk_buff *skb, __u32 *decision, bool see_type)
{
	__u8 hdr[IPV4_MIN];
	__u32 ifindex = skb->ifindex;

	*decision = LEAVE;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (!p || skb->vlan_present)
		return 0;
	if (skb->pkt_type != PACKET_HOST && !alias_mac(skb, p))
		return 0;
	if (!(p->flags & PORT_FORWARD) || skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	if (bpf_skb_load_bytes(skb, p->l2len == ETH_HLEN ? ETH_HLEN : 0, hdr, sizeof(hdr)))
		return 0; // shorter than any IPv4 header: the kernel counts it
	__u32 slot = p->slot;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	__u64 *consumed = bpf_map_lookup_elem(&parp_consumed, &slot);
	__u32 zero = 0; // the place of all interfaces together
	struct portstat *all = bpf_map_lookup_elem(&parp_stats, &zero);
	__u64 *all_consumed = bpf_map_lookup_elem(&parp_consumed, &zero);
	if (!st || !consumed || !all || !all_consumed)
		return 0;

	__be32 dst = *(__be32 *)(hdr + IPV4_DST);
	if (to_host(dst)) {
		count(st->local);
		return 0;
	}
	switch (destination(dst)) {
	case TO_LOCAL:
		count(st->local);
		return 0;
	case TO_PUNT:
		count(st->punted);
		return 0;
	}

	*decision = TAKEN;
	if (skb->gso_size && !gso_ok(skb, hdr[IPV4_PROTO], see_type)) {
		count(st->badgso);
		return 0;
	}
	if (over_quota(p, in_ring(st, consumed), in_ring(all, all_consumed))) {
		count(st->policed);
		return 0;
	}
	count(all->admitted);
	count(st->admitted);
	return TAKE_ALL;
}

static __always_inline int ring(struct __sk_buff *skb, bool see_type)
{
	__u32 zero = 0;
	__u32 *decision = bpf_map_lookup_elem(&parp_decision, &zero);
	if (!decision)
		return 0;
	return decide(skb, decision, see_type);
}

SEC("socket")
int parp_ring(struct __sk_buff *skb)
{
	return ring(skb, true);
}

// For kernels without bpf_rdonly_cast, and without CAP_PERFMON.
SEC("socket")
int parp_ring_basic(struct __sk_buff *skb)
{
	return ring(skb, false);
}

// Return values serve TCX and clsact alike: TC_ACT_UNSPEC is TCX_NEXT, and
// TC_ACT_SHOT is TCX_DROP (include/uapi/linux/bpf.h).
SEC("tc")
int parp_claim(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u32 *decision = bpf_map_lookup_elem(&parp_decision, &zero);
	if (!decision)
		return -1;
	__u32 d = *decision;
	*decision = LEAVE;
	if (d == TAKEN)
		return 2;
	if (skb->pkt_type == PACKET_OTHERHOST) {
		__u32 ifindex = skb->ifindex;
		struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
		if (p && alias_mac(skb, p))
			bpf_skb_change_type(skb, PACKET_HOST);
	}
	return -1;
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
	__u64 now = bpf_ktime_get_ns();
	__u64 credit = b->credit + (now - b->last);
	if (credit > arp_burst_ns)
		credit = arp_burst_ns;
	b->last = now;
	if (credit < arp_cost_ns) {
		b->credit = credit;
		count(st->arp_policed);
		return 0;
	}
	b->credit = credit - arp_cost_ns;
	count(st->arp_passed);
	return TAKE_ALL;
}

// Will the ring's filter, which runs next, refuse a frame of this interface for
// its quota, and is there time to show one more of those?
static __always_inline bool shown_policed(const struct port *p)
{
	__u32 slot = p->slot, zero = 0;
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	__u64 *consumed = bpf_map_lookup_elem(&parp_consumed, &slot);
	struct portstat *all = bpf_map_lookup_elem(&parp_stats, &zero);
	__u64 *all_consumed = bpf_map_lookup_elem(&parp_consumed, &zero);
	if (!st || !consumed || !all || !all_consumed ||
	    !over_quota(p, in_ring(st, consumed), in_ring(all, all_consumed)))
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
static __always_inline bool shown_elsewhere(struct __sk_buff *skb)
{
	__u8 hdr[IPV4_MIN];
	__u32 ifindex = skb->ifindex;

	if (skb->pkt_type == PACKET_OUTGOING)
		return skb->mark == watch_mark;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (!p || skb->vlan_present)
		return false;
	if ((p->flags & PORT_WORKLOAD) && skb->protocol == bpf_htons(ETH_P_ARP))
		return true;
	if (!(p->flags & PORT_FORWARD) || skb->protocol != bpf_htons(ETH_P_IP))
		return false;
	if (skb->pkt_type != PACKET_HOST && !alias_mac(skb, p))
		return false;
	if (bpf_skb_load_bytes(skb, p->l2len == ETH_HLEN ? ETH_HLEN : 0, hdr, sizeof(hdr)))
		return false;
	__be32 dst = *(__be32 *)(hdr + IPV4_DST);
	return !to_host(dst) && destination(dst) == TO_NOBODY && !shown_policed(p);
}

SEC("socket")
int parp_watch(struct __sk_buff *skb)
{
	return shown_elsewhere(skb) ? 0 : watch_snap;
}
