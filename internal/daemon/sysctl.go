package daemon

import (
	"cmp"
	"hash/crc32"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
	"proxyarpd/internal/shortage"
)

const (
	sysctlIPv4 = "/proc/sys/net/ipv4/"
	sysctlIPv6 = "/proc/sys/net/ipv6/"
)

// sysctls reads numbers of the network namespace.
type sysctls struct {
	root  string // a directory, with a slash at its end
	short error  // what kept one from being read, and passes
}

// number is known where it can't be read at the moment, and missing where there
// is none.
func (s *sysctls) number(key string, known, missing int) int {
	var b [32]byte
	n, err := readSmall(s.root+key, b[:])
	if err != nil {
		if shortage.Passing(err) {
			s.short = err
			return known
		}
		return missing
	}
	if n, err = strconv.Atoi(strings.TrimSpace(string(b[:n]))); err != nil {
		return missing
	}
	return n
}

// readSmall reads the beginning of a file. Thousands are read at the start, and
// package os would have each in the poller's hands first.
func readSmall(path string, b []byte) (n int, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if n, err = unix.Read(fd, b); err != nil {
		return 0, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return n, nil
}

// flag is number of what is 0 or not.
func (s *sysctls) flag(key string, known, missing bool) bool {
	return s.number(key, number(known), number(missing)) != 0
}

func number(flag bool) int {
	if flag {
		return 1
	}
	return 0
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
	// Of IPv6, unless it is left to the kernel.
	dev6   devConf6
	neigh6 neighConf
	// offloads: it takes what a workload leaves to devices. Asked for --engine ebpf.
	offloads bool
}

// kernelConf is taken for what has not been read, or is not to be read: what a
// kernel starts with.
var kernelConf = ifConf{
	dev:   devConf{sendRedirects: true, sharedMedia: true},
	neigh: neighConf{queueBytes: 212992, solicits: 3, retrans: time.Second},

	dev6:   devConf6{hopLimit: 64},
	neigh6: neighConf{queueBytes: 212992, solicits: 3, retrans: time.Second},
}

// readDevConf reads what was known before. The error passes: what could not be
// read is as it was.
func readDevConf(name string, known devConf) (devConf, error) {
	s := sysctls{root: sysctlIPv4 + "conf/" + name + "/"}
	return devConf{
		rpFilter:          uint8(s.number("rp_filter", int(known.rpFilter), 0)),
		sendRedirects:     s.flag("send_redirects", known.sendRedirects, true),
		sharedMedia:       s.flag("shared_media", known.sharedMedia, true),
		acceptSourceRoute: s.flag("accept_source_route", known.acceptSourceRoute, false),
		acceptLocal:       s.flag("accept_local", known.acceptLocal, false),
		routeLocalnet:     s.flag("route_localnet", known.routeLocalnet, false),
	}, s.short
}

// readNeighConf reads what an interface has below a family's directory.
func readNeighConf(root, name string, known neighConf) (neighConf, error) {
	s := sysctls{root: root + "neigh/" + name + "/"}
	k := &kernelConf.neigh
	n := neighConf{queueBytes: s.number("unres_qlen_bytes", known.queueBytes, k.queueBytes)}
	n.solicits = s.number("mcast_solicit", 0, k.solicits) + s.number("app_solicit", 0, 0)
	if s.short != nil {
		n.solicits = known.solicits
	}
	n.retrans = time.Duration(s.number("retrans_time_ms", int(known.retrans.Milliseconds()), int(k.retrans.Milliseconds()))) * time.Millisecond
	return n, s.short
}

func readIfConf(name string, known ifConf, ipv6 bool) (ifConf, error) {
	c := known
	var errs [4]error
	c.dev, errs[0] = readDevConf(name, known.dev)
	c.neigh, errs[1] = readNeighConf(sysctlIPv4, name, known.neigh)
	if ipv6 {
		c.dev6, errs[2] = readDevConf6(name, known.dev6)
		c.neigh6, errs[3] = readNeighConf(sysctlIPv6, name, known.neigh6)
	}
	return c, cmp.Or(errs[:]...)
}

// readAll reads the settings of "all". What can't be read at the moment is as it was.
func readAll(known devConf, known6 devConf6, ipv6 bool) (devConf, devConf6) {
	known, _ = readDevConf("all", known)
	if ipv6 {
		known6, _ = readDevConf6("all", known6)
	}
	return known, known6
}

// linkConf combines the settings of an interface with those of "all" as the
// kernel does (include/linux/inetdevice.h, IN_DEV_ANDCONF and its kind).
func (s *setting) linkConf(p *port) route.LinkConf {
	all, own, neigh := &s.all, &p.conf.dev, &p.conf.neigh
	c := route.LinkConf{
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
		c.RPFilter = uint8(s.cfg.RPFilter)
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
func bootSeed(known uint32) uint32 {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	switch {
	case shortage.Passing(err):
		return known
	case err != nil:
		return route.DefaultHostConf.HashSeed
	}
	return crc32.ChecksumIEEE(id)
}

// readHostConf reads what counts for all packets; what can't be read at the
// moment is as it was known. Settings of ICMP errors and redirects are in ticks
// as they stand (ipv4_route_table in net/ipv4/route.c has proc_dointvec), and
// the kernel shows them in the first network namespace only.
func readHostConf(known route.HostConf, ipv6 bool) route.HostConf {
	c := hostConf(sysctls{root: sysctlIPv4}, known, tick())
	if ipv6 {
		c.V6 = hostConf6(sysctls{root: sysctlIPv6}, known.V6)
	}
	return c
}

func hostConf(s sysctls, known route.HostConf, tick int64) route.HostConf {
	c, def := route.DefaultHostConf, &route.DefaultHostConf
	ticks := func(key string, known, def, negative int64) int64 {
		const unread, missing = math.MinInt, math.MinInt + 1
		switch n := s.number("route/"+key, unread, missing); {
		case n == unread:
			return known
		case n == missing:
			return def
		case n < 0:
			return negative
		default:
			return int64(min(n, math.MaxInt32)) * tick
		}
	}
	// Compared as unsigned: less than nothing is without end.
	c.ErrorCost = ticks("error_cost", known.ErrorCost, def.ErrorCost, route.MaxTime)
	c.ErrorBurst = ticks("error_burst", known.ErrorBurst, def.ErrorBurst, route.MaxTime)
	// Less than nothing is over at once.
	c.RedirectLoad = ticks("redirect_load", known.RedirectLoad, def.RedirectLoad, -1)
	c.RedirectSilence = ticks("redirect_silence", known.RedirectSilence, def.RedirectSilence, -1)
	c.RedirectNumber = s.number("route/redirect_number", known.RedirectNumber, def.RedirectNumber)
	c.DefaultTTL = uint8(s.number("ip_default_ttl", int(known.DefaultTTL), int(def.DefaultTTL)))
	c.HashPolicy = uint8(s.number("fib_multipath_hash_policy", int(known.HashPolicy), 0))
	c.HashFields = uint32(s.number("fib_multipath_hash_fields", int(known.HashFields), int(def.HashFields)))
	c.UseNeigh = s.flag("fib_multipath_use_neigh", known.UseNeigh, false)
	c.NoPriority = !s.flag("ip_forward_update_priority", !known.NoPriority, true)
	if c.HashSeed = uint32(s.number("fib_multipath_hash_seed", int(known.HashSeed), 0)); c.HashSeed == 0 {
		c.HashSeed = bootSeed(known.HashSeed)
	}
	c.ICMPRateLimit = s.number("icmp_ratelimit", known.ICMPRateLimit, def.ICMPRateLimit)
	c.ICMPRateMask = uint32(s.number("icmp_ratemask", int(known.ICMPRateMask), int(def.ICMPRateMask)))
	c.ICMPPerSecond = s.number("icmp_msgs_per_sec", known.ICMPPerSecond, def.ICMPPerSecond)
	c.ICMPBurst = s.number("icmp_msgs_burst", known.ICMPBurst, def.ICMPBurst)
	c.ICMPFromInbound = s.flag("icmp_errors_use_inbound_ifaddr", known.ICMPFromInbound, false)
	return c
}
