package daemon

import (
	"strconv"
	"strings"

	"proxyarpd/forward/route"
	"proxyarpd/internal/shortage"
)

// devConf6 is what an interface, or "all" of them, has below
// /proc/sys/net/ipv6/conf.
type devConf6 struct {
	hopLimit                     uint8
	ownAddresses                 bool // use_oif_addrs_only
	preferTemporary              bool // use_tempaddr is 2 or more
	optimisticDAD, useOptimistic bool
}

// readDevConf6 is readDevConf for IPv6.
func readDevConf6(name string, known devConf6) (devConf6, error) {
	s := sysctls{root: sysctlIPv6 + "conf/" + name + "/"}
	const temporary = 2
	return devConf6{
		hopLimit:        uint8(s.number("hop_limit", int(known.hopLimit), int(kernelConf.dev6.hopLimit))),
		ownAddresses:    s.flag("use_oif_addrs_only", known.ownAddresses, false),
		preferTemporary: s.number("use_tempaddr", temporary*number(known.preferTemporary), 0) >= temporary,
		optimisticDAD:   s.flag("optimistic_dad", known.optimisticDAD, false),
		useOptimistic:   s.flag("use_optimistic", known.useOptimistic, false),
	}, s.short
}

// linkConf6 is linkConf for IPv6 (ipv6_dev_get_saddr and ipv6_use_optimistic_addr in
// net/ipv6/addrconf.c). The kernel has no source validation; --rp-filter counts for
// workloads all the same.
func (s *setting) linkConf6(p *port) route.LinkConf6 {
	all, own, neigh := &s.all6, &p.conf.dev6, &p.conf.neigh6
	c := route.LinkConf6{
		HopLimit:        own.hopLimit,
		OwnAddresses:    own.ownAddresses,
		PreferTemporary: own.preferTemporary,
		UseOptimistic:   (all.optimisticDAD || own.optimisticDAD) && (all.useOptimistic || own.useOptimistic),
		QueueBytes:      max(neigh.queueBytes, 1), // one packet waits in any case
		ResolveTime:     int64(neigh.solicits) * int64(neigh.retrans),
		NoSolicit:       neigh.solicits == 0,
	}
	if p.role == roleWorkload {
		c.RPFilter = uint8(s.cfg.RPFilter)
	}
	return c
}

// hostConf6 is hostConf for IPv6.
func hostConf6(s sysctls, known route.HostConf6) route.HostConf6 {
	c, def := route.DefaultHostConf6, &route.DefaultHostConf6
	c.HopLimit = uint8(s.number("conf/all/hop_limit", int(known.HopLimit), int(def.HopLimit)))
	c.HashPolicy = uint8(s.number("fib_multipath_hash_policy", int(known.HashPolicy), 0))
	c.HashFields = uint32(s.number("fib_multipath_hash_fields", int(known.HashFields), int(def.HashFields)))
	c.AutoFlowLabels = s.flag("auto_flowlabels", known.AutoFlowLabels, def.AutoFlowLabels)
	c.FlowLabelRanges = s.flag("flowlabel_state_ranges", known.FlowLabelRanges, def.FlowLabelRanges)
	c.AnycastAsUnicast = s.flag("icmp/error_anycast_as_unicast", known.AnycastAsUnicast, def.AnycastAsUnicast)
	c.ICMPRateLimit = s.number("icmp/ratelimit", known.ICMPRateLimit, def.ICMPRateLimit)
	c.MaxHopOptions = s.number("max_hbh_opts_number", known.MaxHopOptions, def.MaxHopOptions)
	c.MaxHopLength = s.number("max_hbh_length", known.MaxHopLength, def.MaxHopLength)
	c.ICMPRateMask = s.bitmap("icmp/ratemask", known.ICMPRateMask, def.ICMPRateMask)
	return c
}

// bitmap reads a list of numbers and ranges: "0-1,3-127" (proc_do_large_bitmap in
// kernel/sysctl.c).
func (s *sysctls) bitmap(key string, known, missing [8]uint32) (set [8]uint32) {
	var b [2048]byte // of 256 bits the list is at most half as long
	n, err := readSmall(s.root+key, b[:])
	switch {
	case shortage.Passing(err):
		s.short = err
		return known
	case err != nil:
		return missing
	}
	for _, part := range strings.Split(strings.TrimSpace(string(b[:n])), ",") {
		if part == "" {
			continue
		}
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		first, err := strconv.ParseUint(low, 10, 8)
		if err != nil {
			return missing
		}
		last, err := strconv.ParseUint(high, 10, 8)
		if err != nil {
			return missing
		}
		for bit := first; bit <= last; bit++ {
			set[bit/32] |= 1 << (bit % 32)
		}
	}
	return set
}
