// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Policing of what goes to the responders: frames of ARP, and of neighbour discovery.

#define ARP_SENDER_BITS 12

struct arpbucket {
	__u64 last; // time of the last refill, ns
	__u64 credit; // ns of credit
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct arpbucket);
} parp_buckets SEC(".maps");

// What one sender may ask on an interface: by its address, or of a probe, which
// has none, by its MAC. A sender that finds another in its place takes it, with a
// full bucket: who is forgotten so has nothing held against it.
struct arpsender {
	__u64 key;
	struct arpbucket bucket;
};

static struct arpsender arpsenders[1 << ARP_SENDER_BITS]; // shared and unlocked: near enough

// Policing of ARP, of an interface and of a sender: ns that one frame costs, and ns
// of credit at most.
volatile const __u64 arp_cost_ns = 250000;
volatile const __u64 arp_burst_ns = 125000000;
volatile const __u64 arp_sender_cost_ns = 500000;
volatile const __u64 arp_sender_burst_ns = 125000000;

// Takes from a bucket; false if it is empty.
static __always_inline bool take_arp(struct arpbucket *b, __u64 now, __u64 cost, __u64 burst)
{
	__u64 last = b->last, passed = since(now, last), credit = b->credit + passed;
	if (credit > burst)
		credit = burst;
	b->last = last + passed;
	b->credit = credit < cost ? credit : credit - cost;
	return credit >= cost;
}

// By what the bucket of an ARP frame's sender is found. 0: the frame is too short for
// one, which is userspace's to count.
static __always_inline __u64 arp_sender(struct __sk_buff *skb)
{
	struct {
		__u8 sha[6];
		__u8 spa[4];
	} __attribute__((packed)) from;
	__u32 lo;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + 8, &from, sizeof(from)))
		return 0;
	__builtin_memcpy(&lo, from.spa, 4);
	if (lo)
		return (__u64)skb->ifindex << 32 | lo;
	__builtin_memcpy(&lo, from.sha + 2, 4); // the first two are the vendor's
	return (__u64)skb->ifindex << 32 | lo | 1ULL << 63;
}

// Takes from the bucket of a sender.
static __always_inline bool take_sender(__u64 key, __u64 now)
{
	struct arpsender *s = &arpsenders[mix((__u32)key + (__u32)(key >> 32)) >> (32 - ARP_SENDER_BITS)];

	if (s->key != key) {
		s->key = key;
		s->bucket.last = now;
		s->bucket.credit = arp_sender_burst_ns;
	}
	return take_arp(&s->bucket, now, arp_sender_cost_ns, arp_sender_burst_ns);
}

// Has an interface, by its slot, and a sender there, 0 for one that is not known, a
// share left for a frame to a responder? A bucket a sender, before one an interface, so
// that the others behind it have theirs.
static __always_inline bool police(__u32 slot, __u64 sender)
{
	struct arpbucket *b = bpf_map_lookup_elem(&parp_buckets, &slot);
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);

	if (!b || !st)
		return false;
	__u64 now = bpf_ktime_get_ns();
	if (sender && !take_sender(sender, now)) {
		count(st->arp_sender);
		return false;
	}
	if (!take_arp(b, now, arp_cost_ns, arp_burst_ns)) {
		count(st->arp_policed);
		return false;
	}
	count(st->arp_passed);
	return true;
}

// Frames of interfaces that userspace has not named yet share the buckets of slot 0, so
// that the first frame of a new one gets through.
SEC("socket")
int parp_arp(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, slot = 0;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);
	if (p) {
		if (!(p->flags & PORT_ARP))
			return 0;
		slot = p->slot;
	}
	return police(slot, arp_sender(skb)) ? TAKE_ALL : 0;
}
