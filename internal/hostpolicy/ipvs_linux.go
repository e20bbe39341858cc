package hostpolicy

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
)

// ipvs reports virtual services of IPVS: packets to them are the kernel's, which translates them, but replies of real
// servers would pass it by (net/netfilter/ipvs/ip_vs_core.c, ip_vs_forward_reply4 at the forward hook).
func (in *inspector) ipvs(context.Context) ([]Finding, error) {
	b, err := os.ReadFile("/proc/thread-self/net/ip_vs")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if n := ipvsServices(b); n > 0 {
		return []Finding{{Kind: KindIPVS, What: "IPVS (ipvsadm -L)", Count: n}}, nil
	}
	return nil, nil
}

// ipvsServices counts the services in /proc/net/ip_vs. Lines of their servers begin with an arrow, the first ones are
// headings (ip_vs_info_seq_show in net/netfilter/ipvs/ip_vs_ctl.c).
func ipvsServices(b []byte) (n int) {
	for line := range bytes.Lines(b) {
		for _, protocol := range []string{"TCP  ", "UDP  ", "SCTP ", "FWM  "} {
			if bytes.HasPrefix(line, []byte(protocol)) {
				n++
			}
		}
	}
	return n
}
