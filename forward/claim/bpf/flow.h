// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// May a packet be of a flow that the kernel translates? What the ring's filter can tell of
// it by what is known of the ends.

// Reads the ends of a packet's flow. An ICMP error belongs to the flow that it quotes,
// the way back, and has no source of its own: that end is empty. Protocol and ports are
// left out where the packet hides its ports.
static __always_inline bool flow_ends(struct __sk_buff *skb, const struct ip *ip, struct flowkey *from, struct flowkey *to)
{
	struct ip inner;
	__u8 icmp[8];
	__be16 ports[2];
	__u32 l4 = end_of(ip);

	__builtin_memset(from, 0, sizeof(*from));
	__builtin_memset(to, 0, sizeof(*to));
	src_of(&from->addr, ip);
	dst_of(&to->addr, ip);
	if (hides_ports(ip))
		return true;
	from->proto = to->proto = proto_of(ip);
	if (is_icmp(ip)) {
		if (bpf_skb_load_bytes(skb, l4, icmp, sizeof(icmp)))
			return false;
		if (!is_error(ip, icmp[0])) {
			from->port = to->port = *(__be16 *)(icmp + 4);
			return true;
		}
		inner.six = ip->six;
		if (!unquote(skb, l4, &inner))
			return false;
		__builtin_memset(&from->addr, 0, sizeof(from->addr));
		src_of(&to->addr, &inner);
		to->proto = proto_of(&inner);
		if (inner.six && is_extension(to->proto)) {
			to->proto = 0;
			return true;
		}
		l4 = end_of(&inner);
		if (bpf_skb_load_bytes(skb, is_icmp(&inner) ? l4 + 4 : l4, ports, 2))
			return false;
		to->port = ports[0];
		return true;
	}
	switch (to->proto) {
	case PROTO_TCP:
	case PROTO_UDP:
	case 33: // DCCP
	case 132: // SCTP
	case 136: // UDP-Lite
		if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
			return false;
		from->port = ports[0];
		to->port = ports[1];
	}
	return true;
}

static __always_inline void note_end(struct flowkey *key)
{
	__u32 now = seconds();
	__u32 *last = bpf_map_lookup_elem(&parp_flows, key); // which also says that it is in use

	if (!last)
		bpf_map_update_elem(&parp_flows, key, &now, BPF_ANY);
	else if (*last != now)
		*last = now;
}

// Notes who sent a packet that the kernel has, and may translate. The first fragment
// of a datagram of IPv4 tells the port, too.
static __always_inline void note_flow(struct __sk_buff *skb, const struct ip *ip)
{
	struct flowkey from, to;
	__be16 ports[2];

	if (flow_ends(skb, ip, &from, &to) && !is_zero(&from.addr)) {
		if (!ip->six && !from.proto && !(*(__be16 *)(ip->hdr + IPV4_FRAG) & bpf_htons(IPV4_OFFSET)) &&
		    (proto_of(ip) == PROTO_UDP || proto_of(ip) == PROTO_TCP) &&
		    !bpf_skb_load_bytes(skb, end_of(ip), ports, sizeof(ports))) {
			from.proto = proto_of(ip);
			from.port = ports[0];
		}
		if (from.proto)
			note_end(&from);
	}
	src_of(&from.addr, ip);
	from.port = 0;
	from.proto = 0;
	note_end(&from);
}

static __always_inline bool noted(struct flowkey *key)
{
	__u32 *last = bpf_map_lookup_elem(&parp_flows, key), lasts = notes_last;

	return last && (!lasts || seconds() - *last < lasts);
}

static __always_inline bool end_translated(struct flowkey *key)
{
	return noted(key) || (natted && bpf_map_lookup_elem(&parp_natted, key));
}

// May a packet be of a flow that the kernel translates? So it may if one of its ends
// has had such flows: what answers one goes to that end; and what comes from it may be
// of a flow that the kernel has to translate because its answers would look the same.
static __always_inline bool translated(struct __sk_buff *skb, const struct ip *ip)
{
	struct flowkey from, to;

	if (!flow_ends(skb, ip, &from, &to))
		return false;
	if (end_translated(&to) || (!is_zero(&from.addr) && end_translated(&from)))
		return true;
	if (!collided || seconds() - collided >= COLLIDED_FOR)
		return false;
	to.proto = PROTO_COLLIDED;
	to.port = 0;
	return noted(&to);
}

// Can conntrack be asked about a packet? Of a fragment it can't, and it knows TCP and
// UDP alone.
static __always_inline bool askable(const struct ip *ip)
{
	return !hides_ports(ip) && (proto_of(ip) == PROTO_TCP || proto_of(ip) == PROTO_UDP || is_icmp(ip));
}
