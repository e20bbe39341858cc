// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Carrying: how the programs forward plain packets on their own (--engine ebpf).
//
// carry() runs in the ring's filter, before whose(). It forwards what is a plain
// hit: a sound header without options, a TTL that lasts, a destination to which
// one route leads by one next hop whose MAC is known, a source that comes the way
// it should, a length that fits. It leaves in the slot where the frame goes, and
// parp_carry, the claim of this engine, which runs next for the same frame, does
// it. All else goes the ordinary way: whose(), the ring, userspace.
//
// The families have in common what a packet comes in and leaves by: interfaces, next
// hops, freshness, counters, captures. Header, destinations and memory of decisions
// are each one's own: IPv4's are here, IPv6's in carry6.h.
//
// What it decides by is written by userspace (internal/engine/ebpf) into memory
// that both have mapped. Each word is whole by itself: a frame sees it before
// or after a change. A word never names what is not there: next hops are written
// before the words that name them, and are used again only after an RCU grace
// period.

#define MAX_HOPS 65536
#define MAX_NEIGHS 65536
#define MAX_SEGMENTS 11
#define FIRST_SEGMENT 256 // chunks; each further segment has twice as many

// What a word of the destinations' table says, but for the number of a next hop.
enum {
	AS_ABOVE = 0, // no prefix of this length has it: what shorter ones say
	TO_RING = 1,  // not a plain way
	CHUNK = 1U << 31, // the rest is a chunk, which decides by one octet more
};

// Flags in the two last octets of a word that holds a MAC in the first six.
enum {
	OUT_OK = 1, // frames can be sent there: it is served, is Ethernet, has carrier
	OUT_WORKLOAD = 2,
	OUT_PEER = 4, // its peer is in another namespace, and nothing at its egress is passed by
	OUT_ORDINARY = 8, // its queueing discipline takes frames
	OUT_OK6 = 16, // OUT_OK of IPv6

	HOP_VALID = 1,
	HOP_STALE = 2,  // userspace is to be told of its use
	HOP_SUBNET = 4, // not one next hop: each destination is its own
	HOP_SEVERAL = 16, // several ways, of which userspace chooses: see struct hop
	HOP_FIXED = 8,  // the MAC is somebody's word: who has another one must not get the frame
};

// Flags of an interface where frames come in.
enum {
	IN_OK = 1, // the tables know it, and the claim is attached
	IN_STRICT = 2, // rp_filter 1
	IN_LOOSE = 4, // rp_filter 2
	IN_ADDRESSES = 8, // it has addresses of its own
	IN_STRICT6 = 16, // IN_STRICT and IN_LOOSE of IPv6
	IN_LOOSE6 = 32,
};

// How a frame is carried.
enum {
	BY_PEER = 1,
	TRIM = 2, // link-layer padding follows the packet
	RETYPE = 4, // it came to another MAC of the interface
	WATCHED = 8, // the kernel forwards there, too: not by tables that nobody keeps
	SIX = 16, // it is IPv6
};

// An interface, by its slot. 0 is none.
struct way {
	__u64 mac; // its own; OUT_*
	__u32 ifindex;
	__u32 mtu;
	__u32 in; // IN_*
	__u32 shown; // somebody captures there
	__u64 fresh; // until when it counts as new, as in struct hop
	__u32 mtu6; // of IPv6
	__u32 pad;
};

// One that stands for several is for source validation alone: ifindex, way and mtu
// are the interfaces of up to three of them, 0 for none.
struct hop {
	__u64 mac; // HOP_*
	__u64 fresh; // until when it counts as new: see is_fresh()
	__u32 ifindex;
	__u32 way;
	__u32 mtu; // of the route, 0: the interface's
	__u32 used; // written here: a stale one was used
};

// The destinations' table, by the first two octets of an address.
struct root {
	__u32 hop; // of prefixes of 9 to 16 bits
	__u32 chunk; // of longer ones; 0: there are none
};

// 256 words, by the third octet of an address, or by the fourth. Chunk 0 is for
// prefixes of up to 8 bits, by the first octet.
struct chunk {
	__u32 word[256];
	__u32 above; // by the fourth octet: what the third says
	__u32 pad;
};

struct neighkey {
	__u32 ifindex;
	__be32 addr;
};

// What was carried, of an ingress interface.
struct carried {
	__u64 packets;
	__u64 bytes; // network layer
	__u64 small; // dropped: what is to be checksummed lies in the padding
	__u64 nomem; // dropped: no memory
	__u64 answered; // ARP requests
	__u64 answered_nd; // neighbour solicitations
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct root);
} parp_root SEC(".maps");

struct chunks {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(max_entries, FIRST_SEGMENT);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct chunk));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_SEGMENTS);
	__type(key, __u32);
	__array(values, struct chunks);
} parp_chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_HOPS);
	__type(key, __u32);
	__type(value, struct hop);
} parp_hops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct way);
} parp_ways SEC(".maps");

// Next hops of destinations on a subnet.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_NEIGHS);
	__type(key, struct neighkey);
	__type(value, __u32);
} parp_neighs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct carried);
} parp_carried SEC(".maps");

// Numbers of stale next hops that are in use.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} parp_used SEC(".maps");

// What happened to a packet that is shown.
enum {
	SHOWN_FORWARD,
	SHOWN_SMALL,
	SHOWN_NOMEM,
	SHOWN_ANSWER,
};

// A packet as it came, for who captures: read by shown.go.
struct shown {
	__u64 at; // CLOCK_MONOTONIC, ns
	__u64 dst, src; // MACs with which it leaves
	__u32 in, out; // interfaces; out is 0 if it is dropped
	__u32 len; // bytes on the wire, from the Ethernet header on
	__u32 snap; // bytes in data
	__u16 total; // struct decided
	__u8 how;
	__u8 verdict; // SHOWN_*
	__u8 pkt_type;
	__u8 pad[3];
	__u8 data[];
};

// The ring of captures. There is none while nobody captures.
struct shown_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); // shown.go makes larger ones
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct shown_ring);
} parp_shown SEC(".maps");

// What was decided about packets from one address to another, of one interface.
// It holds as long as nothing changes that a decision goes by: userspace counts
// carry_generation up behind each change. Each CPU has its own.
#define MEMO_BITS 10

struct remembered {
	__u64 dst_mac, src_mac;
	__u32 generation;
	__u32 in, out; // interfaces
	__u32 slot;
	__u32 mtu;
	__u32 how; // but for what a frame alone says
};

struct memo {
	struct remembered way;
	__be32 src, dst;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << MEMO_BITS);
	__type(key, __u32);
	__type(value, struct memo);
} parp_memo SEC(".maps");

volatile __u32 carry_generation;
volatile __u32 carry_on;      // frames of IPv4 may be carried
volatile __u32 carry_on6;     // and of IPv6
volatile __u32 carry_waiting; // packets wait in userspace
volatile __u64 carry_fresh;   // until when all counts as new: see is_fresh()
volatile __u32 carry_shown;   // somebody captures
volatile __u32 carry_snap;    // bytes of a packet that they want
volatile __u32 carry_keeps_priority;
volatile __u32 carry_mark;    // of what is sent meanwhile; 0: none
volatile __u64 carry_unshown; // packets for which there was no room

// Does userspace keep the tables still? A daemon that is stopped does not. While
// packets are carried it is asked PULSE times a second, by a message with the
// number 0 in parp_used, and answers by making pulse_answered pulse_asked. So
// an idle host asks nothing.
#define PULSE 2

volatile __u32 pulse_asked, pulse_answered;
volatile __u64 pulse_at; // since when the question stands, jiffies
volatile __u64 pulse_ns; // the same, ns of CLOCK_MONOTONIC
volatile __u64 pulse_sent; // when it was sent last, jiffies
volatile const __u32 pulse_hz = 250; // jiffies a second

// A function of its own, which the verifier looks at once, and not behind each way to
// where it is called. With those that call it it shares the stack's 512 bytes.
#define own_function __attribute__((noinline)) int

static __always_inline __u16 flags_of(__u64 word)
{
	__u16 part[4];

	__builtin_memcpy(part, &word, sizeof(part));
	return part[3];
}

static __always_inline struct chunk *chunk_of(__u32 id)
{
	__u32 segment = id >> 24, at = id & 0xffffff;
	void *chunks = bpf_map_lookup_elem(&parp_chunks, &segment);
	return chunks ? bpf_map_lookup_elem(chunks, &at) : 0;
}

// The word for an address: a next hop, TO_RING, or AS_ABOVE for one without a route.
own_function parp_hop_to(__be32 addr)
{
	__u32 a = bpf_ntohl(addr), at = a >> 16, word;
	struct root *r = bpf_map_lookup_elem(&parp_root, &at);
	struct chunk *c;

	if (!r)
		return TO_RING;
	__u32 id = r->chunk, best = r->hop;
	if (id) {
		c = chunk_of(id);
		if (!c)
			return TO_RING;
		word = c->word[a >> 8 & 255];
		if (word & CHUNK) {
			c = chunk_of(word & ~CHUNK);
			if (!c)
				return TO_RING;
			word = c->word[a & 255];
			if (!word)
				word = c->above;
		}
		if (word)
			best = word;
	}
	if (best)
		return best;
	c = chunk_of(0);
	return c ? c->word[a >> 24] : TO_RING;
}

static __always_inline struct hop *hop_at(__u32 id)
{
	return id > TO_RING ? bpf_map_lookup_elem(&parp_hops, &id) : 0;
}

// Does a next hop, or one of several, lead over an interface?
static __always_inline bool leads_by(const struct hop *h, __u32 ifindex)
{
	if (h->ifindex == ifindex)
		return true;
	return (flags_of(h->mac) & HOP_SEVERAL) && (h->way == ifindex || h->mtu == ifindex);
}

// fib_validate_source for a packet that leaves by another interface: what
// Table.validateSource of forward/route/source.go says of a plain route back.
static __always_inline bool source_ok(__be32 src, const struct way *in)
{
	__u32 id = parp_hop_to(src);
	__u32 rp = in->in & (IN_STRICT | IN_LOOSE);

	if (!rp)
		return id != TO_RING; // an address of this host is
	struct hop *back = hop_at(id);
	return back && (leads_by(back, in->ifindex) || (rp == IN_LOOSE && (in->in & IN_ADDRESSES)));
}

static __always_inline bool header_ok(const __u8 *hdr)
{
	__u32 sum = 0;

	for (int i = 0; i < IPV4_MIN; i += 2)
		sum += *(__u16 *)(hdr + i);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

// The length of the largest of the segments that a frame stands for, 0 if that is not
// plain. head is the length of its IP header, bytes. Of one that no length fits (BIG
// TCP) total is 0.
static __always_inline __u32 segment_of(struct __sk_buff *skb, __u32 head, __u8 protocol, __u32 len, __u32 total, bool sees)
{
	const __u32 tcp = head == IPV4_MIN ? GSO_TCPV4 : GSO_TCPV6;
	__u32 gso = skb->gso_size;
	__u8 words;

	if (sees) {
		struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
		struct skb_shared_info *info = bpf_rdonly_cast(k->head + k->end, bpf_core_type_id_kernel(struct skb_shared_info));
		__u32 type = info->gso_type & ~(GSO_BESIDE & ~GSO_FRAGLIST);
		if (type != tcp && type != GSO_UDP_L4)
			return 0;
		if ((type == tcp) != (protocol == PROTO_TCP))
			return 0;
	} else if (protocol != PROTO_TCP) {
		return 0; // it may be a tunnel
	}
	if (total != len && (total || protocol != PROTO_TCP)) // 0: BIG TCP
		return 0;
	if (protocol == PROTO_UDP)
		return head + 8 + gso;
	if (protocol != PROTO_TCP || bpf_skb_load_bytes(skb, ETH_HLEN + head + 12, &words, 1))
		return 0;
	words >>= 4;
	if (words < 5 || head + words * 4 > len)
		return 0;
	return head + words * 4 + gso;
}

own_function parp_segment(struct __sk_buff *skb, __u32 head, __u32 protocol, __u32 total)
{
	return segment_of(skb, head, protocol, skb->len - ETH_HLEN, total, true);
}

own_function parp_segment_basic(struct __sk_buff *skb, __u32 head, __u32 protocol, __u32 total)
{
	return segment_of(skb, head, protocol, skb->len - ETH_HLEN, total, false);
}

// What counts for the MTU: the length of the packet, or of its largest segment. 0 for
// what is not plain.
static __always_inline __u32 length_of(struct __sk_buff *skb, __u32 head, __u8 protocol, __u32 len, __u32 total, bool sees)
{
	if (!skb->gso_size)
		return total >= head && total <= len ? total : 0;
	return sees ? parp_segment(skb, head, protocol, total) : parp_segment_basic(skb, head, protocol, total);
}

// Did packets come to be carried a moment ago that were not before?
static __always_inline bool is_fresh(const struct hop *h, const struct way *in, const struct way *out)
{
	__u64 until = h->fresh;

	if (until < in->fresh)
		until = in->fresh;
	if (until < out->fresh)
		until = out->fresh;
	if (until < carry_fresh)
		until = carry_fresh;
	return until && bpf_ktime_get_ns() < until;
}

// Would the frame overtake others of its flow? While it is fresh, those that came
// earlier may still be in the ring, or wait in userspace.
static __always_inline bool overtakes(__u32 slot)
{
	struct portstat *st = bpf_map_lookup_elem(&parp_stats, &slot);
	__u64 *consumed = bpf_map_lookup_elem(&parp_consumed, &slot);
	return !st || !consumed || (__s64)(st->admitted - *(volatile __u64 *)consumed) > 0 || carry_waiting;
}

static __always_inline void note_use(struct hop *h, __u32 id)
{
	if (h->used)
		return;
	h->used = 1;
	if (bpf_ringbuf_output(&parp_used, &id, sizeof(id), 0))
		h->used = 0; // there is no room: later
}

// Has userspace left a question unanswered for too long?
static __always_inline bool unanswered(void)
{
	return pulse_asked != pulse_answered && since(bpf_jiffies64(), pulse_at) > pulse_hz / PULSE;
}

// Asks userspace now and then whether it keeps the tables; and again, should the
// question have been lost. CPUs that ask at the same time get one answer.
own_function parp_unkept(void)
{
	__u64 now = bpf_jiffies64();
	__u32 asked = pulse_asked, zero = 0;

	if (now - pulse_sent <= pulse_hz / PULSE)
		return unanswered();
	if (asked == pulse_answered) {
		pulse_at = now;
		pulse_ns = bpf_ktime_get_ns();
		pulse_asked = asked + 1;
	}
	pulse_sent = now;
	bpf_ringbuf_output(&parp_used, &zero, sizeof(zero), BPF_RB_FORCE_WAKEUP);
	return unanswered();
}

// translated, of a whole frame.
own_function parp_translated(struct __sk_buff *skb)
{
	struct ip ip;

	return !read_ip(skb, ETH_HLEN, &ip) || translated(skb, &ip);
}

// How a frame goes, from the interface where it came in.
struct passage {
	struct port *port;
	struct way *in;
	struct hop *hop; // that its destination names
	__u32 id; // of hop
	__u32 mtu; // of the route, 0: the interface's
	__u32 slot; // of where it came in
	__u64 dst, src; // MACs with which it leaves
	__u8 how;
	bool lasts; // the same will be decided about the next one
};

// What a family calls its flags and fields.
struct family {
	bool six;
	__u32 forward, kernel_forwards; // PORT_*
	__u32 ok; // OUT_OK
};

#define CARRY4 { .six = false, .forward = PORT_FORWARD, .kernel_forwards = PORT_KERNEL_FORWARDS, .ok = OUT_OK }

static __always_inline __u32 mtu_of(const struct way *out, const struct family *f)
{
	return f->six ? out->mtu6 : out->mtu;
}

// Is the interface where a frame came in one from which frames are carried?
static __always_inline bool enters(struct __sk_buff *skb, const struct family *f, struct passage *x)
{
	__u32 ifindex = skb->ifindex;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);

	if (!p || !(p->flags & f->forward) || p->l2len != ETH_HLEN)
		return false;
	__u32 slot = p->slot;
	struct way *in = bpf_map_lookup_elem(&parp_ways, &slot);
	if (!in || !(in->in & IN_OK) || in->ifindex != ifindex)
		return false;
	if (skb->pkt_type != PACKET_HOST) {
		if (!alias_mac(skb, p))
			return false;
		x->how |= RETYPE;
	}
	x->port = p;
	x->in = in;
	x->slot = slot;
	return true;
}

// Can a packet of need bytes leave by its next hop, to which it is let from where it
// came in?
static __always_inline struct way *leaves(struct __sk_buff *skb, const struct family *f, struct passage *x, __u32 need, bool sees)
{
	struct hop *h = x->hop;
	struct port *p = x->port;
	__u32 to = h->way;
	struct way *out = bpf_map_lookup_elem(&parp_ways, &to);

	x->dst = h->mac;
	if (!out || !(flags_of(x->dst) & HOP_VALID))
		return 0;
	x->src = out->mac;
	__u16 egress = flags_of(x->src);
	if (!(egress & f->ok) || out->ifindex != h->ifindex || out->ifindex == skb->ifindex || need > mtu_of(out, f) ||
	    (x->mtu && need > x->mtu))
		return 0;
	bool forwards = p->flags & f->kernel_forwards;
	x->lasts = !(translates && forwards); // so will be the next one's
	if (forwards) {
		if (parp_unkept())
			return 0;
		x->how |= WATCHED;
	}
	if (!(egress & OUT_WORKLOAD)) {
		if (!(p->flags & PORT_ANYWHERE))
			return 0;
		if (!forwards && !(p->flags & PORT_WORKLOAD)) {
			if (has_upper(skb, sees))
				return 0;
			x->lasts = false;
		}
	}
	// A peer takes a frame whatever MAC it bears.
	if ((egress & OUT_PEER) && !(flags_of(x->dst) & HOP_FIXED))
		x->how |= BY_PEER;
	else if (!(egress & OUT_ORDINARY))
		return 0;
	return out;
}

// May a frame whose way is known take it now? If so *holds says whether what was
// decided may be remembered.
static __always_inline bool in_turn(struct passage *x, const struct way *out, bool *holds)
{
	bool fresh = is_fresh(x->hop, x->in, out);

	if (fresh && overtakes(x->slot))
		return false;
	bool stale = flags_of(x->dst) & HOP_STALE;
	if (stale)
		note_use(x->hop, x->id);
	*holds = !stale && x->lasts && !(x->how & RETYPE) && !fresh;
	return true;
}

// Leaves for the claim what was decided. There is no slot for who only asks.
static __always_inline void leave_decided(__u32 slot, const struct passage *x, __u32 out, __u32 total)
{
	struct decided *d = bpf_map_lookup_elem(&parp_decision, &slot);

	if (!d)
		return;
	d->ifindex = out;
	d->dst = x->dst;
	d->src = x->src;
	d->slot = x->slot;
	d->total = total;
	d->how = x->how;
	d->decision = CARRIED;
}

// Is what is remembered of a frame's addresses about this one, of need bytes, too?
static __always_inline bool recalls(struct __sk_buff *skb, const struct remembered *r, __u32 generation, __u32 need)
{
	return r->in == skb->ifindex && r->generation == generation && need <= r->mtu && skb->pkt_type == PACKET_HOST;
}

// Decides as is remembered.
static __always_inline bool decide_as(const struct remembered *r, struct passage *x, __u32 slot, __u32 total)
{
	if ((r->how & WATCHED) && parp_unkept())
		return false;
	x->dst = r->dst_mac;
	x->src = r->src_mac;
	x->slot = r->slot;
	x->how |= r->how;
	leave_decided(slot, x, r->out, total);
	return true;
}

// Remembers what was decided. generation is of before it was; mtu is that of the
// interface out.
static __always_inline void remember(struct remembered *r, const struct passage *x, __u32 in, __u32 generation, __u32 mtu)
{
	r->generation = generation;
	r->in = in;
	r->out = x->hop->ifindex;
	r->dst_mac = x->dst;
	r->src_mac = x->src;
	r->slot = x->slot;
	r->mtu = x->mtu && x->mtu < mtu ? x->mtu : mtu;
	r->how = x->how & (BY_PEER | WATCHED);
}

// Carries a frame of IPv4 if it is a plain hit: the entry of parp_decision says where to.
static __always_inline bool carry4(struct __sk_buff *skb, __u32 slot, bool sees)
{
	const struct family f = CARRY4;
	struct passage x = {};
	__u8 hdr[IPV4_MIN] __attribute__((aligned(8)));
	__u32 ifindex = skb->ifindex, generation = carry_generation;

	if (!carry_on || skb->vlan_present || skb->mark == MARK_RETURNED)
		return false;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, hdr, IPV4_MIN) || hdr[0] != 0x45 || hdr[IPV4_TTL] <= 1 || !header_ok(hdr))
		return false;
	__be32 src = *(__be32 *)(hdr + IPV4_SRC), dst = *(__be32 *)(hdr + IPV4_DST);
	__u32 len = skb->len - ETH_HLEN, total = bpf_ntohs(*(__be16 *)(hdr + 2));
	__u32 need = length_of(skb, IPV4_MIN, hdr[IPV4_PROTO], len, total, sees);
	if (!need)
		return false;
	x.how = total && total < len ? TRIM : 0;

	__u32 at = (src * 0x9e3779b1 ^ dst * 0x85ebca6b ^ ifindex * 0xc2b2ae35) >> (32 - MEMO_BITS);
	struct memo *memo = bpf_map_lookup_elem(&parp_memo, &at);
	if (!memo)
		return false;
	if (memo->src == src && memo->dst == dst && recalls(skb, &memo->way, generation, need))
		return decide_as(&memo->way, &x, slot, total);

	if (!enters(skb, &f, &x) || to_host(dst) || to_host(src))
		return false;
	x.id = parp_hop_to(dst);
	x.hop = hop_at(x.id);
	if (!x.hop)
		return false;
	x.mtu = x.hop->mtu;
	if (flags_of(x.hop->mac) & HOP_SUBNET) {
		struct neighkey key = { .ifindex = x.hop->ifindex, .addr = dst };
		__u32 *own = bpf_map_lookup_elem(&parp_neighs, &key);
		if (!own)
			return false;
		x.id = *own;
		x.hop = hop_at(x.id);
		if (!x.hop)
			return false;
	}
	struct way *out = leaves(skb, &f, &x, need, sees);
	if (!out)
		return false;
	if (!source_ok(src, x.in) || (translates && (x.port->flags & PORT_KERNEL_FORWARDS) && parp_translated(skb)))
		return false;
	bool holds;
	if (!in_turn(&x, out, &holds))
		return false;
	if (holds) {
		memo->src = src;
		memo->dst = dst;
		remember(&memo->way, &x, ifindex, generation, out->mtu);
	}
	leave_decided(slot, &x, x.hop->ifindex, total);
	return true;
}

#include "carry6.h"

own_function parp_carry4(struct __sk_buff *skb, __u32 slot)
{
	return carry4(skb, slot, true);
}

own_function parp_carry4_basic(struct __sk_buff *skb, __u32 slot)
{
	return carry4(skb, slot, false);
}

own_function parp_carry6(struct __sk_buff *skb, __u32 slot)
{
	return carry6(skb, slot, true);
}

own_function parp_carry6_basic(struct __sk_buff *skb, __u32 slot)
{
	return carry6(skb, slot, false);
}

// Carries a frame if it is a plain hit: the entry of parp_decision says where to.
static __always_inline bool carry(struct __sk_buff *skb, __u32 slot, bool sees)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return sees ? parp_carry4(skb, slot) : parp_carry4_basic(skb, slot);
	if (ipv6 && skb->protocol == bpf_htons(ETH_P_IPV6))
		return sees ? parp_carry6(skb, slot) : parp_carry6_basic(skb, slot);
	return false;
}

// The sizes of which copies are made: the verifier wants to know them.
#define SHOWN_SMALLEST 200
#define SHOWN_FRAME 2000
#define SHOWN_JUMBO 16000
#define SHOWN_MOST 65600

#define copy_at_most(room) \
	do { \
		s = bpf_ringbuf_reserve(ring, sizeof(*s) + (room), 0); \
		if (!s) { \
			__sync_fetch_and_add(&carry_unshown, 1); \
			return 0; \
		} \
		asm volatile("" : "+r"(n)); /* the verifier is to see these bounds */ \
		failed = n >= ETH_HLEN && n <= (room) ? bpf_skb_load_bytes(skb, 0, s->data, n) : -1; \
	} while (0)

// Copies a frame that was not changed yet, if somebody captures on one of the two
// interfaces. It is to be given to tell().
static __always_inline struct shown *show(struct __sk_buff *skb, __u32 slot, __u32 out)
{
	__u32 zero = 0;
	struct way *w = bpf_map_lookup_elem(&parp_ways, &slot);
	if (!w)
		return 0;
	if (!w->shown) {
		struct port *p = bpf_map_lookup_elem(&parp_ports, &out);
		if (!p)
			return 0;
		__u32 to = p->slot;
		w = bpf_map_lookup_elem(&parp_ways, &to);
		if (!w || !w->shown)
			return 0;
	}
	void *ring = bpf_map_lookup_elem(&parp_shown, &zero);
	if (!ring)
		return 0;
	struct shown *s;
	__u64 n = skb->len, snap = carry_snap;
	long failed;
	if (n > snap)
		n = snap;
	if (n <= SHOWN_SMALLEST) {
		copy_at_most(SHOWN_SMALLEST);
	} else if (n <= SHOWN_FRAME) {
		copy_at_most(SHOWN_FRAME);
	} else if (n <= SHOWN_JUMBO) {
		copy_at_most(SHOWN_JUMBO);
	} else {
		if (n > SHOWN_MOST)
			n = SHOWN_MOST;
		copy_at_most(SHOWN_MOST);
	}
	s->at = bpf_ktime_get_ns();
	s->len = skb->len;
	s->snap = failed ? 0 : n;
	s->in = skb->ifindex;
	s->pkt_type = skb->pkt_type;
	return s;
}

// Hands a copy on, with what became of the packet.
static __always_inline void tell(struct shown *s, const struct decided *d, __u8 verdict)
{
	if (!s)
		return;
	s->out = verdict == SHOWN_FORWARD || verdict == SHOWN_ANSWER ? d->ifindex : 0;
	s->dst = d->dst;
	s->src = d->src;
	s->total = d->total;
	s->how = d->how;
	s->verdict = verdict;
	bpf_ringbuf_submit(s, 0);
}

// The priority of a forwarded packet: rt_tos2priority() in include/net/route.h.
static __always_inline __u32 priority_of(__u8 tos)
{
	return 0x4620 >> ((tos >> 3 & 3) * 4) & 7; // ip_tos2prio in net/ipv4/route.c
}

#define CARRY_HEADERS (ETH_HLEN + IPV4_MIN)

// Does what carry() decided.
static __always_inline int carried(struct __sk_buff *skb, const struct decided *d)
{
	__u32 slot = d->slot;
	struct carried *c = bpf_map_lookup_elem(&parp_carried, &slot);
	if (!c)
		return TC_ACT_SHOT;
	struct shown *s = carry_shown ? show(skb, slot, d->ifindex) : 0;
	if ((d->how & TRIM) && bpf_skb_change_tail(skb, ETH_HLEN + d->total, 0)) {
		c->small++;
		tell(s, d, SHOWN_SMALL);
		return TC_ACT_SHOT;
	}
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (data + CARRY_HEADERS > end) {
		bpf_skb_pull_data(skb, CARRY_HEADERS);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		if (data + CARRY_HEADERS > end) {
			c->nomem++;
			tell(s, d, SHOWN_NOMEM);
			return TC_ACT_SHOT;
		}
	}
	__builtin_memcpy(data, &d->dst, ETH_ALEN);
	__builtin_memcpy(data + ETH_ALEN, &d->src, ETH_ALEN);
	__u8 tos = data[ETH_HLEN + IPV4_TOS];
	if (d->how & SIX) {
		data[ETH_HLEN + IPV6_HOPS]--;
		// No checksum of the header makes up for it in that of all, if a device has
		// given one (CHECKSUM_COMPLETE). The kernel would forget it (skb_forward_csum).
		bpf_csum_update(skb, ~(__u32)bpf_htons(0x0001));
	} else {
		data[ETH_HLEN + IPV4_TTL]--;
		__u16 *sum = (__u16 *)(data + ETH_HLEN + IPV4_SUM);
		__u32 sum1 = *sum + bpf_htons(0x0100); // include/net/ip.h, ip_decrease_ttl
		*sum = sum1 + (sum1 >= 0xffff);
	}
	if (d->how & RETYPE)
		bpf_skb_change_type(skb, PACKET_HOST);
	c->packets++;
	c->bytes += skb->len - ETH_HLEN;
	tell(s, d, SHOWN_FORWARD);
	if (carry_mark)
		skb->mark = carry_mark;
	if (d->how & BY_PEER) // where the priority is forgotten
		return bpf_redirect_peer(d->ifindex, 0);
	if (!carry_keeps_priority && !(d->how & SIX)) // IPv6 keeps it (net/ipv6/ip6_output.c, ip6_forward)
		skb->priority = priority_of(tos);
	return bpf_redirect(d->ifindex, 0);
}
