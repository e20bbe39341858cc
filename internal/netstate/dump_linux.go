package netstate

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxDumps bounds how often one dump is begun again after an interruption.
const maxDumps = 100

// dumpOrder: links first, since their dump takes the RTNL lock, as whoever
// changes routes does: the dumps after it do not see a change half made.
var dumpOrder = []uint16{unix.RTM_GETLINK, unix.RTM_GETADDR, unix.RTM_GETRULE, unix.RTM_GETNEXTHOP, unix.RTM_GETROUTE, unix.RTM_GETNEIGH}

// load reads everything and makes it the State.
func (w *Watcher) load() error {
	var n snapshot
	for _, typ := range dumpOrder {
		if err := w.dump(typ, &n); err != nil {
			if n.routes != nil {
				n.routes.clear()
			}
			return err
		}
	}
	w.state.adopt(&n)
	return nil
}

// reloadSets reads the addresses and rules again. Who changes them holds the
// RTNL lock, and a dump of rules takes none.
func (w *Watcher) reloadSets() error {
	if err := w.passRTNL(); err != nil {
		return err
	}
	var n snapshot
	for _, typ := range []uint16{unix.RTM_GETADDR, unix.RTM_GETRULE} {
		if err := w.dump(typ, &n); err != nil {
			return err
		}
	}
	w.state.adoptSets(&n)
	return nil
}

// reloadRoutes reads the routes again. The kernel tells of a link or an
// address first and only then drops its routes, but under one hold of the RTNL
// lock; a dump of routes takes no lock (inet_dump_fib in
// net/ipv4/fib_frontend.c). So take and release it before.
func (w *Watcher) reloadRoutes() error {
	if err := w.passRTNL(); err != nil {
		return err
	}
	var n snapshot
	for _, typ := range []uint16{unix.RTM_GETNEXTHOP, unix.RTM_GETROUTE} {
		if err := w.dump(typ, &n); err != nil {
			if n.routes != nil {
				n.routes.clear()
			}
			return err
		}
	}
	w.state.adoptRoutes(&n)
	w.stats.routeDumps.Add(1)
	return nil
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
func (w *Watcher) dump(typ uint16, n *snapshot) error {
	var err error
	for range maxDumps {
		n.begin(typ, w.state)
		err = w.ask(dumpRequest(typ), func(typ uint16, body []byte) error {
			w.count(n.add(typ, body))
			return w.isCanceled()
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	if typ == unix.RTM_GETNEXTHOP && errors.Is(err, unix.EOPNOTSUPP) {
		return nil // new in Linux 5.3
	}
	if err != nil {
		return fmt.Errorf("dump %s: %w", dumpName(typ), err)
	}
	return nil
}

// dumpRequest asks for all of one kind, of routes, rules and addresses for
// those of IPv4. With
// strict checking all fields that are not meant as filters must be zero.
func dumpRequest(typ uint16) []byte {
	var fixed []byte
	switch typ {
	case unix.RTM_GETLINK:
		msg := newMessage(typ, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg))
		return appendU32(msg, unix.IFLA_EXT_MASK, rtextFilterSkipStats)
	case unix.RTM_GETADDR:
		fixed = make([]byte, unix.SizeofIfAddrmsg)
	case unix.RTM_GETRULE:
		fixed = make([]byte, sizeofFibRuleHdr)
	case unix.RTM_GETNEIGH: // of any family: a gateway may be IPv6
		return newMessage(typ, unix.NLM_F_DUMP, make([]byte, sizeofNdMsg))
	case unix.RTM_GETNEXTHOP:
		return newMessage(typ, unix.NLM_F_DUMP, make([]byte, unix.SizeofNhmsg))
	case unix.RTM_GETROUTE:
		fixed = make([]byte, unix.SizeofRtMsg)
	}
	fixed[0] = unix.AF_INET
	return newMessage(typ, unix.NLM_F_DUMP, fixed)
}

const rtextFilterSkipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS

// getLink asks for one link.
func getLink(index int) []byte {
	fixed := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(fixed[4:], uint32(index))
	return appendU32(newMessage(unix.RTM_GETLINK, 0, fixed), unix.IFLA_EXT_MASK, rtextFilterSkipStats)
}

func dumpName(typ uint16) string {
	switch typ {
	case unix.RTM_GETLINK:
		return "links"
	case unix.RTM_GETADDR:
		return "addresses"
	case unix.RTM_GETRULE:
		return "rules"
	case unix.RTM_GETNEIGH:
		return "neighbours"
	case unix.RTM_GETNEXTHOP:
		return "nexthop objects"
	}
	return "routes"
}
