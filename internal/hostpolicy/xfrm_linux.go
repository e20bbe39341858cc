package hostpolicy

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	xfrmMsgGetDefault = 0x28 // XFRM_MSG_GETDEFAULT, 5.15 (include/uapi/linux/xfrm.h)
	xfrmDefaultBlock  = 1    // XFRM_USERPOLICY_BLOCK
	xfrmPolicyOut     = 1    // XFRM_POLICY_OUT
	xfrmPolicyFwd     = 2    // XFRM_POLICY_FWD
)

// xfrm reports IPsec policies: fwd, which says what may be forwarded, and out, which says what of it leaves encrypted
// (xfrm4_policy_check and xfrm4_route_forward in net/ipv4/ip_forward.c, and the same of IPv6 in net/ipv6/ip6_output.c:
// forwarded packets meet both). A namespace whose default is to block is reported too.
func (in *inspector) xfrm(ctx context.Context) ([]Finding, error) {
	// The dump's payload is ignored, the answers are for all families.
	msgs, err := dump(ctx, unix.NETLINK_XFRM, nl.XFRM_MSG_GETPOLICY, make([]byte, nl.SizeofXfrmUserpolicyId))
	if err != nil {
		return nil, err
	}
	var counts [IPv6 + 1][3]int // by family, and by direction: in, out, fwd
	for _, m := range msgs {
		if family, dir, ok := policyDir(m); ok {
			counts[family][dir]++
		}
	}
	var found []Finding
	for _, d := range [...]struct {
		dir  uint8
		name string
	}{{xfrmPolicyFwd, "fwd"}, {xfrmPolicyOut, "out"}} {
		if n := counts[IPv4][d.dir]; n > 0 {
			found = append(found, Finding{Kind: KindXFRM, Count: n, Family: IPv4, What: fmt.Sprintf("IPsec (ip xfrm policy) dir %s", d.name)})
		}
		if n := counts[IPv6][d.dir]; n > 0 {
			found = append(found, Finding{Kind: KindXFRM, Count: n, Family: IPv6, What: fmt.Sprintf("IPsec (ip -6 xfrm policy) dir %s", d.name)})
		}
	}
	// struct xfrm_userpolicy_default: in, fwd, out. The answer comes as one message without the dump flag.
	msgs, err = request(ctx, unix.NETLINK_XFRM, xfrmMsgGetDefault, 0, make([]byte, 4))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return found, nil // older than the message
	}
	if err != nil {
		return found, err
	}
	if len(msgs) > 0 && len(msgs[0]) >= 3 {
		for i, name := range [...]string{1: "fwd", 2: "out"} {
			if name != "" && msgs[0][i] == xfrmDefaultBlock {
				found = append(found, Finding{Kind: KindXFRM, What: "IPsec (ip xfrm policy) default " + name + " block"})
			}
		}
	}
	return found, nil
}

// policyDir returns family and direction of a policy (struct xfrm_userpolicy_info). Directions over 2 are the
// policies of single sockets.
func policyDir(m []byte) (family Family, dir uint8, ok bool) {
	if len(m) < nl.SizeofXfrmUserpolicyInfo {
		return AnyFamily, 0, false
	}
	p := nl.DeserializeXfrmUserpolicyInfo(m)
	switch p.Sel.Family {
	case unix.AF_INET:
		family = IPv4
	case unix.AF_INET6:
		family = IPv6
	default:
		return AnyFamily, 0, false
	}
	return family, p.Dir, p.Dir <= xfrmPolicyFwd
}
