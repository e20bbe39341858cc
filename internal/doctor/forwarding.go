package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"proxyarpd/internal/netstate"
)

// checkForwarding looks at who forwards.
func checkForwarding(f *facts) (found []Finding) {
	var on, off []*netstate.Link
	for _, l := range f.workloads {
		if l.Forwards {
			on = append(on, l)
		} else {
			off = append(off, l)
		}
	}
	switch {
	case !f.forwards() && len(off) > 0:
		return []Finding{{"forwarding-off", Error, f.names(off), "--engine none leaves forwarding to the kernel, and net.ipv4.conf.*.forwarding is 0 there: packets of these workloads are lost",
			"sysctl -w net.ipv4.ip_forward=1, or run another engine"}}
	case f.forwards() && len(on) > 0 && f.programs != nil:
		return []Finding{{"forwarding-too", Error, f.names(on), "the kernel forwards there too, and no tc program can take its frames: each packet would be sent twice",
			"sysctl -w net.ipv4.conf.IF.forwarding=0 for each, or --engine none"}}
	case f.forwards() && len(on) > 0:
		found = append(found, Finding{"forwarding-too", Info, f.names(on), "the kernel forwards there too; a tc program takes from it what proxyarpd forwards", "none is needed"})
	}
	if f.readOnly {
		found = append(found, Finding{"sysctl-read-only", Info, "/proc/sys", "it is read-only here: the kernel's own proxy_arp and forwarding can't be turned on", "none is needed: proxyarpd writes no sysctl"})
	}
	return found
}

// checkUplinks looks at what keeps --answer-uplink from being answered.
func checkUplinks(f *facts) (found []Finding) {
	for _, v := range families {
		policies := f.view.PoliciesOf(v.Family)
		if !slices.ContainsFunc(f.cfg.AnswerUplink, func(p netip.Prefix) bool { return v.has(p.Addr()) }) {
			continue
		}
		answered := false
		for _, l := range f.uplinks {
			p := policies[l.Index]
			if p == nil {
				continue
			}
			answered = true
			if p.Uplink.Unforwarded {
				found = append(found, Finding{"uplink-unforwarded", Error, l.Name, "nobody forwards " + v.name + " that comes in there: no such address of --answer-uplink is answered",
					"sysctl -w " + strings.ReplaceAll(v.forwarding, "IF", l.Name) + "=1, or have an engine forward, past what the interface is left to the kernel for"})
			}
		}
		if !answered {
			found = append(found, Finding{"uplink-none", Warning, "", "--answer-uplink has addresses of " + v.name + ", and no uplink does " + v.resolution, "name one: --uplink GLOB"})
		}
	}
	return found
}

// checkRPFilter looks at uplinks whose source validation drops what comes by another way.
func checkRPFilter(f *facts) (found []Finding) {
	var used []*netstate.Link
	for _, l := range f.uplinks {
		if f.view.Used[int32(l.Index)] {
			used = append(used, l)
		}
	}
	if len(used) < 2 {
		return nil
	}
	for _, l := range used {
		if f.most(l.Name, "rp_filter") == 1 {
			found = append(found, Finding{"rp-filter", Warning, l.Name, "rp_filter is 1 (strict) on an uplink, and routes lead over several: packets that come by another way than the one back are dropped (IP_RPFILTER)",
				"sysctl -w net.ipv4.conf." + l.Name + ".rp_filter=2, if ways may differ by direction"})
		}
	}
	return found
}
