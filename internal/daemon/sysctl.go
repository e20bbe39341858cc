package daemon

import (
	"os"
	"strconv"
	"strings"
	"time"

	"proxyarpd/forward"
)

const sysctlIPv4 = "/proc/sys/net/ipv4/"

// sysctl reads a number of the network namespace; unknown where it can't.
func sysctl(key string, unknown int) int {
	b, err := os.ReadFile(sysctlIPv4 + key)
	if err != nil {
		return unknown
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return unknown
	}
	return n
}

// defaultConf is taken for an interface until its settings have been read.
func (d *Daemon) defaultConf(r role) forward.LinkConf {
	c := forward.LinkConf{SendRedirects: true, SharedMedia: true}
	if r == roleWorkload {
		c.RPFilter = uint8(d.cfg.RPFilter)
	}
	return c
}

// readConf reads the settings of an interface, combined with those of "all" as
// the kernel does (include/linux/inetdevice.h, IN_DEV_ANDCONF and its kind).
// They are read when the interface is opened, not followed: the kernel tells of
// few of them.
func (d *Daemon) readConf(name string, r role) forward.LinkConf {
	one := func(key string, unknown int) int { return sysctl("conf/"+name+"/"+key, unknown) }
	all := func(key string, unknown int) int { return sysctl("conf/all/"+key, unknown) }
	or := func(key string, unknown int) bool { return all(key, unknown) != 0 || one(key, unknown) != 0 }
	c := forward.LinkConf{
		RPFilter:          uint8(max(all("rp_filter", 0), one("rp_filter", 0))),
		SendRedirects:     or("send_redirects", 1),
		SharedMedia:       or("shared_media", 1),
		AcceptSourceRoute: all("accept_source_route", 0) != 0 && one("accept_source_route", 0) != 0,
		AcceptLocal:       or("accept_local", 0),
		RouteLocalnet:     or("route_localnet", 0),
	}
	if r == roleWorkload {
		c.RPFilter = uint8(d.cfg.RPFilter)
	}
	neigh := func(key string, unknown int) int { return sysctl("neigh/"+name+"/"+key, unknown) }
	c.QueueBytes = max(neigh("unres_qlen_bytes", 212992), 1) // one packet waits in any case
	solicits := neigh("mcast_solicit", 3) + neigh("app_solicit", 0)
	c.NoSolicit = solicits == 0
	c.ResolveTime = int64(solicits) * int64(neigh("retrans_time_ms", 1000)) * int64(time.Millisecond)
	return c
}

// readHostConf reads what counts for all packets, at the start.
func readHostConf() forward.HostConf {
	c := forward.DefaultHostConf
	c.DefaultTTL = uint8(sysctl("ip_default_ttl", int(c.DefaultTTL)))
	c.HashPolicy = uint8(sysctl("fib_multipath_hash_policy", 0))
	c.ICMPRateLimit = sysctl("icmp_ratelimit", c.ICMPRateLimit)
	c.ICMPRateMask = uint32(sysctl("icmp_ratemask", int(c.ICMPRateMask)))
	c.ICMPPerSecond = sysctl("icmp_msgs_per_sec", c.ICMPPerSecond)
	c.ICMPBurst = sysctl("icmp_msgs_burst", c.ICMPBurst)
	c.ICMPFromInbound = sysctl("icmp_errors_use_inbound_ifaddr", 0) != 0
	return c
}
