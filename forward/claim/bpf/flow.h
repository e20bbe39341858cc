// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// May a packet be of a flow that the kernel translates? What the ring's filter can tell of
// it by what is known of the ends.

// Do a protocol's packets begin with two ports?
static __always_inline bool has_ports(__u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == 33 || proto == 132 || proto == 136; // DCCP, SCTP, UDP-Lite
}

// Reads the ports of a packet that does not hide them: of ICMP both are the identifier,
// of protocols that have none 0. False if they are not there.
static __always_inline bool ports_of(struct __sk_buff *skb, const struct ip *ip, __be16 *ports)
{
	ports[0] = ports[1] = 0;
	if (is_icmp(ip)) {
		if (bpf_skb_load_bytes(skb, end_of(ip) + 4, ports, sizeof(*ports)))
			return false;
		ports[1] = ports[0];
		return true;
	}
	return !has_ports(proto_of(ip)) || !bpf_skb_load_bytes(skb, end_of(ip), ports, 2 * sizeof(*ports));
}

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
		if (!ports_of(skb, &inner, ports))
			return false;
		to->port = ports[0];
		return true;
	}
	if (!ports_of(skb, ip, ports))
		return false;
	from->port = ports[0];
	to->port = ports[1];
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

// Reads the port of a datagram's sender from its first fragment, which tells it.
static __always_inline void first_port(struct __sk_buff *skb, const struct ip *ip, struct flowkey *from)
{
	__u32 at = end_of(ip);
	__u8 proto = proto_of(ip), head[4];
	__be16 port;

	if (!ip->six) {
		if (*(__be16 *)(ip->hdr + IPV4_FRAG) & bpf_htons(IPV4_OFFSET))
			return;
	} else {
		if (proto != PROTO_FRAGMENT || bpf_skb_load_bytes(skb, at, head, sizeof(head)) || head[2] || head[3] & 0xf8)
			return;
		proto = head[0];
		at += FRAGMENT_LEN;
	}
	if (!has_ports(proto) || bpf_skb_load_bytes(skb, at, &port, sizeof(port)))
		return;
	from->proto = proto;
	from->port = port;
}

// Notes who sent a packet that the kernel has, and may translate.
static __always_inline void note_flow(struct __sk_buff *skb, const struct ip *ip)
{
	struct flowkey from, to;

	if (flow_ends(skb, ip, &from, &to) && !is_zero(&from.addr)) {
		if (!from.proto)
			first_port(skb, ip, &from);
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

	return last && (!lasts || within(seconds(), *last, lasts));
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
	if (!collided || !within(seconds(), collided, COLLIDED_FOR))
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
