package netstate

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxDumps bounds how often one dump is begun again after an interruption.
const maxDumps = 100

// dumpOrder: links first, since their dump takes the RTNL lock, as whoever
// changes routes does: the dumps after it do not see a change half made.
var dumpOrder = []kind{
	{unix.RTM_GETLINK, unspecified},
	{unix.RTM_GETNETCONF, IPv6},
	{unix.RTM_GETADDR, IPv4}, {unix.RTM_GETADDR, IPv6},
	{unix.RTM_GETRULE, IPv4}, {unix.RTM_GETRULE, IPv6},
	{unix.RTM_GETNEXTHOP, unspecified},
	{unix.RTM_GETROUTE, IPv4}, {unix.RTM_GETROUTE, IPv6},
	{unix.RTM_GETNEIGH, unspecified}, // a gateway of IPv4 may be IPv6
}

// A kind is what is dumped at a time.
type kind struct {
	typ    uint16
	family Family
}

const unspecified Family = unix.AF_UNSPEC

// readKinds reads all of what yes accepts.
func (w *Watcher) readKinds(yes func(kind) bool) (*snapshot, error) {
	n := new(snapshot)
	for _, k := range dumpOrder {
		if !yes(k) || k.family == IPv6 && !w.state.ipv6 {
			continue
		}
		if err := w.dump(k, n); err != nil {
			n.clear()
			return nil, err
		}
	}
	return n, nil
}

// load reads everything and makes it the State.
func (w *Watcher) load() error {
	n, err := w.readKinds(func(kind) bool { return true })
	if err == nil {
		w.state.adopt(n)
	}
	return err
}

// reloadSets reads the addresses and rules again. Who changes them holds the
// RTNL lock, and a dump of rules takes none.
func (w *Watcher) reloadSets() error {
	if err := w.passRTNL(); err != nil {
		return err
	}
	n, err := w.readKinds(func(k kind) bool { return k.typ == unix.RTM_GETADDR || k.typ == unix.RTM_GETRULE })
	if err == nil {
		w.state.adoptSets(n)
	}
	return err
}

// reloadRoutes reads the routes of those families again that may be others. The kernel tells of a link or an
// address first and only then drops its routes, but under one hold of the RTNL
// lock; a dump of routes takes no lock (inet_dump_fib in
// net/ipv4/fib_frontend.c). So take and release it before.
func (w *Watcher) reloadRoutes() error {
	begun := time.Now()
	if err := w.passRTNL(); err != nil {
		return err
	}
	n, err := w.readKinds(func(k kind) bool {
		return k.typ == unix.RTM_GETNEXTHOP || k.typ == unix.RTM_GETROUTE && w.state.fib(k.family).stale
	})
	if err == nil {
		w.state.adoptRoutes(n)
		w.state.v6.rereadAfter(begun, time.Now())
		w.stats.routeDumps.Add(1)
	}
	return err
}

// passRTNL waits until changes under way are complete: RTM_GETLINK of one link
// takes the RTNL lock (rtnl_getlink in net/core/rtnetlink.c). Link 1 is lo.
func (w *Watcher) passRTNL() error {
	if err := w.ask(getLink(1), nil); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("wait for the kernel: %w", err)
	}
	return nil
}

// dump reads all of one kind into n, again as long as it is interrupted.
func (w *Watcher) dump(k kind, n *snapshot) error {
	var err error
	for range maxDumps {
		n.begin(k, w.state)
		err = w.ask(dumpRequest(k), func(typ uint16, body []byte) error {
			w.count(n.add(w.state, k.family, typ, body))
			return w.isCanceled()
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	if k.typ == unix.RTM_GETNEXTHOP && errors.Is(err, unix.EOPNOTSUPP) {
		return nil // new in Linux 5.3
	}
	if k.family == IPv6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
		return nil // a kernel without IPv6
	}
	if err != nil {
		return fmt.Errorf("dump %s: %w", k, err)
	}
	return nil
}

// dumpRequest asks for all of one kind. With strict checking all fields that are
// not meant as filters must be zero.
func dumpRequest(k kind) []byte {
	var fixed []byte
	switch typ := k.typ; typ {
	case unix.RTM_GETNETCONF:
		return getForwards6()
	case unix.RTM_GETLINK:
		msg := newMessage(typ, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg))
		return appendU32(msg, unix.IFLA_EXT_MASK, rtextFilterSkipStats)
	case unix.RTM_GETADDR:
		fixed = make([]byte, unix.SizeofIfAddrmsg)
	case unix.RTM_GETRULE:
		fixed = make([]byte, sizeofFibRuleHdr)
	case unix.RTM_GETNEIGH:
		fixed = make([]byte, sizeofNdMsg)
	case unix.RTM_GETNEXTHOP:
		fixed = make([]byte, unix.SizeofNhmsg)
	case unix.RTM_GETROUTE:
		fixed = make([]byte, unix.SizeofRtMsg)
	}
	fixed[0] = byte(k.family)
	return newMessage(k.typ, unix.NLM_F_DUMP, fixed)
}

const rtextFilterSkipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS

// getLink asks for one link.
func getLink(index int) []byte {
	fixed := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(fixed[4:], uint32(index))
	return appendU32(newMessage(unix.RTM_GETLINK, 0, fixed), unix.IFLA_EXT_MASK, rtextFilterSkipStats)
}

func (k kind) String() string {
	family := ""
	if k.family == IPv6 {
		family = "IPv6 "
	}
	switch k.typ {
	case unix.RTM_GETNETCONF:
		return family + "settings"
	case unix.RTM_GETLINK:
		return "links"
	case unix.RTM_GETADDR:
		return family + "addresses"
	case unix.RTM_GETRULE:
		return family + "rules"
	case unix.RTM_GETNEIGH:
		return "neighbours"
	case unix.RTM_GETNEXTHOP:
		return "nexthop objects"
	}
	return family + "routes"
}
