package daemon

import (
	"hash/crc32"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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

// devConf is what an interface, or "all" of them, has below
// /proc/sys/net/ipv4/conf.
type devConf struct {
	rpFilter                   uint8
	sendRedirects, sharedMedia bool
	acceptSourceRoute          bool
	acceptLocal, routeLocalnet bool
}

// neighConf is what an interface has below /proc/sys/net/ipv4/neigh.
type neighConf struct {
	queueBytes int
	solicits   int // before a next hop fails
	retrans    time.Duration
}

// ifConf are the settings of an interface.
type ifConf struct {
	dev   devConf
	neigh neighConf
}

// kernelConf is taken for what has not been read, or is not to be read: what a
// kernel starts with.
var kernelConf = ifConf{
	dev:   devConf{sendRedirects: true, sharedMedia: true},
	neigh: neighConf{queueBytes: 212992, solicits: 3, retrans: time.Second},
}

func readDevConf(name string) devConf {
	value := func(key string, unknown int) int { return sysctl("conf/"+name+"/"+key, unknown) }
	return devConf{
		rpFilter:          uint8(value("rp_filter", 0)),
		sendRedirects:     value("send_redirects", 1) != 0,
		sharedMedia:       value("shared_media", 1) != 0,
		acceptSourceRoute: value("accept_source_route", 0) != 0,
		acceptLocal:       value("accept_local", 0) != 0,
		routeLocalnet:     value("route_localnet", 0) != 0,
	}
}

func readNeighConf(name string) neighConf {
	value := func(key string, unknown int) int { return sysctl("neigh/"+name+"/"+key, unknown) }
	k := &kernelConf.neigh
	return neighConf{
		queueBytes: value("unres_qlen_bytes", k.queueBytes),
		solicits:   value("mcast_solicit", k.solicits) + value("app_solicit", 0),
		retrans:    time.Duration(value("retrans_time_ms", int(k.retrans.Milliseconds()))) * time.Millisecond,
	}
}

func readIfConf(name string) ifConf { return ifConf{readDevConf(name), readNeighConf(name)} }

// linkConf combines the settings of an interface with those of "all" as the
// kernel does (include/linux/inetdevice.h, IN_DEV_ANDCONF and its kind).
func (d *Daemon) linkConf(p *port) forward.LinkConf {
	all, own, neigh := &d.confAll, &p.conf.dev, &p.conf.neigh
	c := forward.LinkConf{
		RPFilter:          max(all.rpFilter, own.rpFilter),
		SendRedirects:     all.sendRedirects || own.sendRedirects,
		SharedMedia:       all.sharedMedia || own.sharedMedia,
		AcceptSourceRoute: all.acceptSourceRoute && own.acceptSourceRoute,
		AcceptLocal:       all.acceptLocal || own.acceptLocal,
		RouteLocalnet:     all.routeLocalnet || own.routeLocalnet,
		QueueBytes:        max(neigh.queueBytes, 1), // one packet waits in any case
		ResolveTime:       int64(neigh.solicits) * int64(neigh.retrans),
		NoSolicit:         neigh.solicits == 0,
	}
	if p.role == roleWorkload {
		c.RPFilter = uint8(d.cfg.RPFilter)
	}
	return c
}

// tick is the time between two of the kernel's ticks, 1/HZ s, in ns: the
// resolution of its coarse clocks.
func tick() int64 {
	var res unix.Timespec
	if unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res) != nil || res.Nano() <= 0 {
		return int64(time.Second) / 250
	}
	return res.Nano()
}

// bootSeed stands for the random key of the kernel's own multipath hash, which
// nobody can read: another one after each boot, so that hosts in a row choose
// independently, and the same for each start of the program, so that flows stay
// on their ways.
func bootSeed() uint32 {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return forward.DefaultHostConf.HashSeed
	}
	return crc32.ChecksumIEEE(id)
}

// readHostConf reads what counts for all packets.
func readHostConf() forward.HostConf { return hostConf(sysctl, tick()) }

// hostConf makes it from settings. Those of ICMP errors and redirects are in
// ticks as they stand (ipv4_route_table in net/ipv4/route.c has proc_dointvec),
// and the kernel shows them in the first network namespace only.
func hostConf(sysctl func(key string, unknown int) int, tick int64) forward.HostConf {
	c := forward.DefaultHostConf
	ticks := func(key string, unknown, negative int64) int64 {
		const missing = math.MinInt
		switch n := sysctl("route/"+key, missing); {
		case n == missing:
			return unknown
		case n < 0:
			return negative
		default:
			return int64(min(n, math.MaxInt32)) * tick
		}
	}
	// Compared as unsigned: less than nothing is without end.
	c.ErrorCost = ticks("error_cost", c.ErrorCost, forward.MaxTime)
	c.ErrorBurst = ticks("error_burst", c.ErrorBurst, forward.MaxTime)
	// Less than nothing is over at once.
	c.RedirectLoad = ticks("redirect_load", c.RedirectLoad, -1)
	c.RedirectSilence = ticks("redirect_silence", c.RedirectSilence, -1)
	c.RedirectNumber = sysctl("route/redirect_number", c.RedirectNumber)
	c.DefaultTTL = uint8(sysctl("ip_default_ttl", int(c.DefaultTTL)))
	c.HashPolicy = uint8(sysctl("fib_multipath_hash_policy", 0))
	c.HashFields = uint32(sysctl("fib_multipath_hash_fields", int(c.HashFields)))
	c.UseNeigh = sysctl("fib_multipath_use_neigh", 0) != 0
	if c.HashSeed = uint32(sysctl("fib_multipath_hash_seed", 0)); c.HashSeed == 0 {
		c.HashSeed = bootSeed()
	}
	c.ICMPRateLimit = sysctl("icmp_ratelimit", c.ICMPRateLimit)
	c.ICMPRateMask = uint32(sysctl("icmp_ratemask", int(c.ICMPRateMask)))
	c.ICMPPerSecond = sysctl("icmp_msgs_per_sec", c.ICMPPerSecond)
	c.ICMPBurst = sysctl("icmp_msgs_burst", c.ICMPBurst)
	c.ICMPFromInbound = sysctl("icmp_errors_use_inbound_ifaddr", 0) != 0
	return c
}
