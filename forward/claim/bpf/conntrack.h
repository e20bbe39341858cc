// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Is a packet of a flow that the kernel translates? The claims of which this is asked can
// have conntrack tell (bpf_skb_ct_lookup, since Linux 6.0).

// net/netfilter/nf_conntrack_bpf.c, as far as it is the same in all versions.
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

#define ENOENT 2
#define IPS_NAT (1 << 4 | 1 << 5) // IPS_SRC_NAT, IPS_DST_NAT

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple_len,
	struct bpf_ct_opts *opts, __u32 opts_len) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;

// Fills in the addresses and ports by which conntrack knows a packet's flow, and
// gives the protocol; 0 if it can't be asked. Of an ICMP error these are the quoted
// packet's, the way back.
static __always_inline __u8 tuple_of(struct __sk_buff *skb, struct ip *ip, struct bpf_sock_tuple *t)
{
	__u8 icmp[8];
	__be16 ports[2];
	bool back = false;

	if (is_icmp(ip)) {
		__u32 off = end_of(ip);
		if (bpf_skb_load_bytes(skb, off, icmp, sizeof(icmp)) || !is_error(ip, icmp[0]) || !unquote(skb, off, ip) ||
		    (!ip->six && (*(__be16 *)(ip->hdr + IPV4_FRAG) & bpf_htons(IPV4_OFFSET))))
			return 0;
		back = true;
	}
	__u8 proto = proto_of(ip);
	if ((proto != PROTO_TCP && proto != PROTO_UDP) || bpf_skb_load_bytes(skb, end_of(ip), ports, sizeof(ports)))
		return 0;
	__be16 sport = back ? ports[1] : ports[0], dport = back ? ports[0] : ports[1];
	if (ip->six) {
		__builtin_memcpy(t->ipv6.saddr, ip->hdr + (back ? IPV6_DST : IPV6_SRC), sizeof(t->ipv6.saddr));
		__builtin_memcpy(t->ipv6.daddr, ip->hdr + (back ? IPV6_SRC : IPV6_DST), sizeof(t->ipv6.daddr));
		t->ipv6.sport = sport;
		t->ipv6.dport = dport;
		return proto;
	}
	t->ipv4.saddr = back ? dst4(ip) : src4(ip);
	t->ipv4.daddr = back ? src4(ip) : dst4(ip);
	t->ipv4.sport = sport;
	t->ipv4.dport = dport;
	return proto;
}

// The answers' addresses and ports.
static __always_inline void turn_around(struct bpf_sock_tuple *back, const struct bpf_sock_tuple *t, bool six)
{
	if (six) {
		__builtin_memcpy(back->ipv6.saddr, t->ipv6.daddr, sizeof(back->ipv6.saddr));
		__builtin_memcpy(back->ipv6.daddr, t->ipv6.saddr, sizeof(back->ipv6.daddr));
		back->ipv6.sport = t->ipv6.dport;
		back->ipv6.dport = t->ipv6.sport;
		return;
	}
	back->ipv4.saddr = t->ipv4.daddr;
	back->ipv4.daddr = t->ipv4.saddr;
	back->ipv4.sport = t->ipv4.dport;
	back->ipv4.dport = t->ipv4.sport;
}

// The kernel's entry for a flow, to be released; opts says what else was found out.
static __always_inline struct nf_conn *find_flow(struct __sk_buff *skb, struct bpf_sock_tuple *t, bool six, struct bpf_ct_opts *opts)
{
	opts->netns_id = BPF_F_CURRENT_NETNS;
	if (six)
		return bpf_skb_ct_lookup(skb, t, sizeof(t->ipv6), opts, sizeof(*opts));
	return bpf_skb_ct_lookup(skb, t, sizeof(t->ipv4), opts, sizeof(*opts));
}

// Does the kernel translate a flow in which packets with these addresses and ports
// come? True, too, if it can't be asked.
static __always_inline bool translates_flow(struct __sk_buff *skb, struct bpf_sock_tuple *t, bool six, __u8 proto)
{
	struct bpf_ct_opts opts = { .l4proto = proto };
	struct nf_conn *ct = find_flow(skb, t, six, &opts);

	if (!ct)
		return opts.error != -ENOENT;
	bool nat = ct->status & IPS_NAT;
	bpf_ct_release(ct);
	return nat;
}

// Has the kernel to translate a packet? It may be of a flow that is translated; or its
// answers would look as those in such a flow do (of a client that uses one port for a
// service and for the pod behind it), so that the kernel gives it another port.
static __always_inline bool asked(struct __sk_buff *skb, struct ip *ip)
{
	struct bpf_sock_tuple t = {}, back = {};
	struct flowkey key = { .proto = PROTO_COLLIDED };

	src_of(&key.addr, ip);
	__u8 proto = tuple_of(skb, ip, &t);
	if (!proto || translates_flow(skb, &t, ip->six, proto))
		return true;
	turn_around(&back, &t, ip->six);
	if (!translates_flow(skb, &back, ip->six, proto))
		return false;
	note_end(&key);
	collided = seconds();
	return true;
}

// Notes who sent a packet that the kernel has, if the kernel may translate it: not of a
// flow that it knows and does not translate, nor what answers another one, as what pods
// send to a host that asked them does.
static __always_inline void note_asked(struct __sk_buff *skb)
{
	struct ip ip, read;
	struct bpf_sock_tuple t = {};
	struct bpf_ct_opts opts = {};
	__u32 ifindex = skb->ifindex;
	struct port *p = bpf_map_lookup_elem(&parp_ports, &ifindex);

	if (!p || !read_ip(skb, p->l2len == ETH_HLEN ? ETH_HLEN : 0, &ip))
		return;
	read = ip;
	if (!hides_ports(&ip)) {
		opts.l4proto = tuple_of(skb, &read, &t);
		if (opts.l4proto && is_icmp(&ip))
			return; // an error about another flow
	}
	if (opts.l4proto) {
		struct nf_conn *ct = find_flow(skb, &t, ip.six, &opts);
		if (ct) {
			bool nat = ct->status & IPS_NAT;
			bpf_ct_release(ct);
			if (!nat || opts.dir)
				return;
		}
	}
	note_flow(skb, &ip);
}
