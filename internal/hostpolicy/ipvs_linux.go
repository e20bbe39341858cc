package hostpolicy

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
)

// ipvs reports virtual services of IPVS: packets to them are the kernel's, which translates them, but replies of real
// servers would pass it by (net/netfilter/ipvs/ip_vs_core.c, ip_vs_out_hook at the forward hook).
func (in *inspector) ipvs(context.Context) ([]Finding, error) {
	b, err := os.ReadFile("/proc/thread-self/net/ip_vs")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []Finding
	v6, all := ipvsServices(b)
	if all > v6 {
		found = append(found, Finding{Kind: KindIPVS, What: "IPVS (ipvsadm -L)", Count: all - v6})
	}
	if v6 > 0 {
		found = append(found, Finding{Kind: KindIPVS, What: "IPVS (ipvsadm -L, IPv6)", Count: v6, Family: IPv6})
	}
	return found, nil
}

// ipvsServices counts the services in /proc/net/ip_vs. Lines of their servers begin with an arrow, the first ones are
// headings (ip_vs_info_seq_show in net/netfilter/ipvs/ip_vs_ctl.c). An address of IPv6 stands in brackets; of what
// firewall mark services are about nothing is told.
func ipvsServices(b []byte) (v6, all int) {
	for line := range bytes.Lines(b) {
		for _, protocol := range []string{"TCP  ", "UDP  ", "SCTP ", "FWM  "} {
			if bytes.HasPrefix(line, []byte(protocol)) {
				all++
				if bytes.HasPrefix(line[len(protocol):], []byte("[")) {
					v6++
				}
			}
		}
	}
	return v6, all
}
