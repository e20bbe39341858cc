// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The header of an IP packet, of either family.

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
#define IPV6_PAYLOAD 4
#define IPV6_NEXT 6
#define IPV6_HOPS 7
#define IPV6_SRC 8
#define IPV6_DST 24
#define IPV6_LEN 40
#define FRAGMENT_LEN 8

#define PROTO_HOP_BY_HOP 0
#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_AH 51
#define PROTO_ICMPV6 58
#define PROTO_DEST_OPTS 60

// The IP header of a packet, and where it stands.
struct ip {
	__u8 hdr[IPV6_LEN] __attribute__((aligned(8))); // of IPv4 the first IPV4_MIN bytes
	__u32 off; // bytes of the frame before it
	bool six;  // it is IPv6
};

// Reads the header of an untagged frame by its EtherType; false if it is no IP, or
// shorter than any header.
static __always_inline bool read_ip(struct __sk_buff *skb, __u32 off, struct ip *ip)
{
	ip->off = off;
	ip->six = false;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return !bpf_skb_load_bytes(skb, off, ip->hdr, IPV4_MIN);
	ip->six = true;
	return ipv6 && skb->protocol == bpf_htons(ETH_P_IPV6) && !bpf_skb_load_bytes(skb, off, ip->hdr, IPV6_LEN);
}

// The protocol behind the header. Of IPv6 it may be an extension header.
static __always_inline __u8 proto_of(const struct ip *ip)
{
	return ip->six ? ip->hdr[IPV6_NEXT] : ip->hdr[IPV4_PROTO];
}

// Where what is behind the header begins.
static __always_inline __u32 end_of(const struct ip *ip)
{
	return ip->off + (ip->six ? IPV6_LEN : (ip->hdr[0] & 15) * 4);
}

static __always_inline __be32 src4(const struct ip *ip)
{
	return *(__be32 *)(ip->hdr + IPV4_SRC);
}

static __always_inline __be32 dst4(const struct ip *ip)
{
	return *(__be32 *)(ip->hdr + IPV4_DST);
}

static __always_inline void map4(struct addr6 *to, __be32 addr)
{
	to->word[0] = to->word[1] = 0;
	to->word[2] = bpf_htonl(0xffff);
	to->word[3] = addr;
}

static __always_inline void src_of(struct addr6 *to, const struct ip *ip)
{
	if (ip->six)
		__builtin_memcpy(to, ip->hdr + IPV6_SRC, sizeof(*to));
	else
		map4(to, src4(ip));
}

static __always_inline void dst_of(struct addr6 *to, const struct ip *ip)
{
	if (ip->six)
		__builtin_memcpy(to, ip->hdr + IPV6_DST, sizeof(*to));
	else
		map4(to, dst4(ip));
}

static __always_inline bool is_zero(const struct addr6 *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

// Multicast, broadcast, loopback: never forwarded.
static __always_inline bool to_host(__be32 dst)
{
	__u8 first = bpf_ntohl(dst) >> 24;
	return !dst || first == 127 || (first & 0xf0) == 0xe0 || dst == 0xffffffff;
}

// The same of IPv6: multicast, link-local, the unspecified and the loopback address.
static __always_inline bool to_host6(const __u8 *dst)
{
	const __be32 *w = (const __be32 *)dst;

	return dst[0] == 0xff || (dst[0] == 0xfe && (dst[1] & 0xc0) == 0x80) ||
	       (!(w[0] | w[1] | w[2]) && bpf_ntohl(w[3]) <= 1);
}

static __always_inline bool stays(const struct ip *ip)
{
	return ip->six ? to_host6(ip->hdr + IPV6_DST) : to_host(dst4(ip));
}

// Headers of IPv6 that may stand before the upper layer's.
static __always_inline bool is_extension(__u8 next)
{
	const __u64 low = 1ULL << PROTO_HOP_BY_HOP | 1ULL << PROTO_ROUTING | 1ULL << PROTO_FRAGMENT | 1ULL << PROTO_AH |
			  1ULL << PROTO_DEST_OPTS;

	return next < 64 ? low >> next & 1 : next == 135 || next == 139 || next == 140; // Mobility, HIP, Shim6
}

// Are a packet's ports not where those of others are, or not there at all? Those of
// one flow must go one way, and so what has such packets goes by the addresses alone:
// fragments of IPv4, and packets of IPv6 with extension headers.
static __always_inline bool hides_ports(const struct ip *ip)
{
	if (ip->six)
		return is_extension(ip->hdr[IPV6_NEXT]);
	return *(__be16 *)(ip->hdr + IPV4_FRAG) & bpf_htons(IPV4_MF | IPV4_OFFSET);
}

// Does a message of the protocol that controls the packet's quote another packet?
static __always_inline bool is_error(const struct ip *ip, __u8 icmp)
{
	if (ip->six)
		return icmp < 128; // RFC 4443 section 2.1
	return icmp == 3 || icmp == 4 || icmp == 5 || icmp == 11 || icmp == 12;
}

static __always_inline bool is_icmp(const struct ip *ip)
{
	return proto_of(ip) == (ip->six ? PROTO_ICMPV6 : PROTO_ICMP);
}

// Has the packet become the one that it quotes, behind an ICMP header at off?
static __always_inline bool unquote(struct __sk_buff *skb, __u32 off, struct ip *ip)
{
	ip->off = off + 8;
	if (ip->six)
		return !bpf_skb_load_bytes(skb, off + 8, ip->hdr, IPV6_LEN);
	return !bpf_skb_load_bytes(skb, off + 8, ip->hdr, IPV4_MIN);
}
