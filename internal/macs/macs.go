// Package macs gives workload interfaces the MAC that their pods are told, and puts back what was there.
//
// A pod that learnt ee:ee:ee:ee:ee:ee as its gateway sends frames for its own host to that MAC; where the host end
// of the veth has another one, the kernel takes them for somebody else's (PACKET_OTHERHOST). So the interface gets
// that MAC, as Calico's CNI plugin does. A veth has no permanent address to restore from, hence what was there is
// recorded in a file before anything changes: a clean end, or the next start after kill -9, puts it back.
//
// Setting a MAC, even to the value it has, makes the kernel flush the interface's neighbours, the permanent ones
// too (neigh_changeaddr in net/core/neighbour.c). They are recorded with it and added again.
package macs

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// A MAC is an Ethernet address.
type MAC = [6]byte

// ErrNoLink is what a [Netlink] returns (errors.Is) for an interface that is not there: ENODEV, as the kernel says.
const ErrNoLink = syscall.ENODEV

// Netlink is what a [Keeper] needs of rtnetlink. [Kernel] is one; the daemon brings its own.
type Netlink interface {
	// LinkMAC returns the name and the MAC that the interface has now.
	LinkMAC(ifindex int) (name string, mac MAC, err error)
	SetMAC(ifindex int, mac MAC) error
	// PermanentNeighbours returns the entries in state NUD_PERMANENT, of IPv4 and IPv6, without proxy entries.
	PermanentNeighbours(ifindex int) ([]Neighbour, error)
	// AddNeighbour adds a permanent entry, and replaces one that the kernel has begun to resolve meanwhile.
	AddNeighbour(Neighbour) error
}

// A Neighbour is one permanent neighbour of an interface.
type Neighbour struct {
	Ifindex  int
	IP       netip.Addr
	MAC      MAC
	Flags    uint8 // NTF_ROUTER and the like
	Protocol uint8 // who added it (RTPROT_...)
}

// A Keeper sets MACs and remembers what it found. Its methods may be called from several goroutines.
type Keeper struct {
	nl    Netlink
	log   *slog.Logger
	store *store

	mu      sync.Mutex
	closed  bool
	entries map[int]*entry // by ifindex
}

// An entry is what is known of one changed interface. It is in the file before the interface changes.
type entry struct {
	ifindex  int
	name     string
	original MAC
	set      MAC // what we gave it
	// previous is what we gave it before set, while one change is under way: the interface has either.
	previous MAC
	// pending are neighbours that a change under way has flushed or is about to flush.
	pending []Neighbour
	// own: this process has called Set for it. Else a predecessor left it.
	own bool
}

// ours tells whether mac is one that we gave the interface.
func (e *entry) ours(mac MAC) bool { return mac == e.set || e.previous != MAC{} && mac == e.previous }

// Open reads the record that a killed predecessor left in dir for the network namespace. It changes nothing:
// [Keeper.Restore] does. A record that is no record is an error that names the file.
func Open(dir string, netnsCookie uint64, nl Netlink, log *slog.Logger) (*Keeper, error) {
	s, err := openStore(dir, netnsCookie)
	if err != nil {
		return nil, err
	}
	entries, err := s.read()
	if err != nil {
		s.Close()
		return nil, err
	}
	return &Keeper{nl: nl, log: log, store: s, entries: entries}, nil
}

// Original returns the MAC that the interface had before it was given ours, and whether it was.
func (k *Keeper) Original(ifindex int) (MAC, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.entries[ifindex]
	if !ok {
		return MAC{}, false
	}
	return e.original, true
}

// Forget drops an interface that is gone from the record.
func (k *Keeper) Forget(ifindex int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.entries[ifindex]; ok && !k.closed {
		k.drop(e)
	}
}

// drop removes an entry. That the file cannot be written is only logged: the entry is of no use any more, and the
// next start drops it as well.
func (k *Keeper) drop(e *entry) {
	delete(k.entries, e.ifindex)
	if err := k.write(); err != nil {
		k.log.Warn("the record of changed MACs cannot be written", "interface", e.name, "error", err)
	}
}

func (k *Keeper) write() error { return k.store.write(k.entries) }

func text(m MAC) string { return net.HardwareAddr(m[:]).String() }

var errClosed = &os.PathError{Op: "use", Path: "record of changed MACs", Err: os.ErrClosed}
