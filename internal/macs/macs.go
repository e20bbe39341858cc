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

	"proxyarpd/internal/instance"
	"proxyarpd/internal/printable"
)

// A MAC is an Ethernet address.
type MAC = [6]byte

// ErrNoLink is what a [Netlink] returns (errors.Is) for an interface that is not there: ENODEV, as the kernel says.
const ErrNoLink = syscall.ENODEV

// Netlink is what a [Keeper] needs of rtnetlink. [Kernel] is one; the daemon brings its own.
type Netlink interface {
	// Link returns what the interface is now.
	Link(ifindex int) (Link, error)
	SetMAC(ifindex int, mac MAC) error
	// PermanentNeighbours returns the entries in state NUD_PERMANENT, of IPv4 and IPv6, without proxy entries, of
	// all interfaces.
	PermanentNeighbours() ([]Neighbour, error)
	// AddNeighbour adds a permanent entry. It replaces one that the kernel has begun to resolve meanwhile, and
	// leaves alone what somebody has made permanent, or otherwise theirs ([netstate.Neighbour.Fixed]).
	AddNeighbour(Neighbour) error
}

// A Link is an interface as it is at the moment.
type Link struct {
	Name string
	MAC  MAC
	Identity
}

// recorded is the name as the record, which is JSON, can have it. A name may be any bytes.
func (l *Link) recorded() string { return printable.UTF8(l.Name) }

// An Identity tells an interface from another one that has its index or its name by now. The name is not part of
// it: that may change, while no daemon runs too.
type Identity struct {
	// Inode is that of its directory in sysfs, which it keeps for life and no other gets (kernfs_new_node in
	// fs/kernfs/dir.c); 0 where there is no sysfs of the namespace. Where it is known it decides.
	Inode     uint64
	Kind      string // IFLA_INFO_KIND
	Permanent MAC    // IFLA_PERM_ADDRESS; zero where there is none, as of a veth
	Peer      int    // IFLA_LINK: the other end of a veth
}

// same reports whether b may be a. Where there is doubt, it is not: a MAC that is not put back is seen, one that a
// stranger is given may not be.
func (a Identity) same(b Identity, sameName bool) bool {
	switch {
	case a.Inode != 0 && b.Inode != 0:
		return a.Inode == b.Inode
	case a == Identity{}: // of a record that has none
		return sameName
	case a.Kind != b.Kind || a.Permanent != b.Permanent || a.Peer != b.Peer:
		return false
	}
	return sameName || a.Permanent != MAC{}
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

	// mu is held while the kernel is asked and the file written, which takes a while for many interfaces. What
	// must not wait for that leaves word: see later.
	mu      sync.Mutex
	closed  bool
	entries map[int]*entry // by ifindex

	quick     sync.Mutex
	originals map[int]MAC // of entries
	words     []func()    // to be called with mu held
}

// An entry is what is known of one changed interface. It is in the file before the interface changes.
type entry struct {
	ifindex  int
	name     string
	id       Identity
	original MAC
	set      MAC // what we gave it
	// previous is what we gave it before set, while one change is under way: the interface has either.
	previous MAC
	// pending are neighbours that a change under way has flushed or is about to flush.
	pending []Neighbour
	// own: this process has called Set for it. Else a predecessor left it.
	own bool
}

// is tells whether the interface that has the index now is the one of the entry. Of one that we have set ourselves
// the kernel would have told that it went; that it did may be on its way.
func (e *entry) is(l *Link) bool {
	if e.own && (e.id.Inode == 0 || l.Inode == 0) {
		return e.id.Kind == l.Kind
	}
	return e.id.same(l.Identity, e.name == l.recorded())
}

// ours tells whether mac is one that we gave the interface.
func (e *entry) ours(mac MAC) bool { return mac == e.set || e.previous != MAC{} && mac == e.previous }

// Open reads the record that a killed predecessor left in dir for the network namespace. It changes nothing:
// [Keeper.Restore] does. A record that is no record is an error that names the file.
func Open(dir string, ns instance.Netns, nl Netlink, log *slog.Logger) (*Keeper, error) {
	s, err := openStore(dir, ns)
	if err != nil {
		return nil, err
	}
	entries, err := s.read()
	if err != nil {
		s.Close()
		return nil, err
	}
	k := &Keeper{nl: nl, log: log, store: s, entries: map[int]*entry{}, originals: map[int]MAC{}}
	for _, e := range entries {
		k.put(e)
	}
	return k, nil
}

// Reread forgets what is known and reads the record again, which another process has
// written meanwhile. What that has changed counts as a predecessor's.
func (k *Keeper) Reread() error {
	k.lock()
	defer k.unlock()
	entries, err := k.store.read()
	if err != nil {
		return err
	}
	for ifindex := range k.entries {
		k.remove(ifindex)
	}
	for _, e := range entries {
		k.put(e)
	}
	return nil
}

// Abandon ends the Keeper and changes nothing: another process has the record now.
func (k *Keeper) Abandon() error {
	k.lock()
	defer k.unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return k.store.Close()
}

// put adds an entry, or follows a change of its original.
func (k *Keeper) put(e *entry) {
	k.entries[e.ifindex] = e
	k.quick.Lock()
	defer k.quick.Unlock()
	k.originals[e.ifindex] = e.original
}

// remove is the opposite of put.
func (k *Keeper) remove(ifindex int) {
	delete(k.entries, ifindex)
	k.quick.Lock()
	defer k.quick.Unlock()
	delete(k.originals, ifindex)
}

// Original returns the MAC that the interface had before it was given ours, and whether it was. It does not wait.
func (k *Keeper) Original(ifindex int) (MAC, bool) {
	k.quick.Lock()
	defer k.quick.Unlock()
	mac, ok := k.originals[ifindex]
	return mac, ok
}

// Forget drops an interface that is gone from the record. It does not wait: what is under way for other interfaces
// is done first.
func (k *Keeper) Forget(ifindex int) {
	if _, ok := k.Original(ifindex); !ok {
		return
	}
	k.later(func() {
		if e, ok := k.entries[ifindex]; ok {
			k.drop(e)
		}
	})
}

// Renamed follows an interface to its new name. It does not wait.
func (k *Keeper) Renamed(ifindex int, name string) {
	if _, ok := k.Original(ifindex); !ok {
		return
	}
	k.later(func() {
		e, ok := k.entries[ifindex]
		if !ok || e.name == printable.UTF8(name) {
			return
		}
		e.name = printable.UTF8(name)
		if err := k.write(); err != nil {
			k.log.Warn("the record of changed MACs cannot be written", "interface", name, "err", err)
		}
	})
}

// later has fn called with mu held: now, or by who has it.
func (k *Keeper) later(fn func()) {
	k.quick.Lock()
	k.words = append(k.words, fn)
	k.quick.Unlock()
	if k.mu.TryLock() {
		k.unlock()
	}
}

// lock does what others have left word of before.
func (k *Keeper) lock() {
	k.mu.Lock()
	k.attend()
}

func (k *Keeper) attend() {
	k.quick.Lock()
	words := k.words
	k.words = nil
	k.quick.Unlock()
	for _, fn := range words {
		if !k.closed {
			fn()
		}
	}
}

// unlock does so too. Somebody may leave more just before mu is free, and see that it is not.
func (k *Keeper) unlock() {
	for {
		k.attend()
		k.mu.Unlock()
		k.quick.Lock()
		more := len(k.words) > 0
		k.quick.Unlock()
		if !more || !k.mu.TryLock() {
			return
		}
	}
}

// drop removes an entry. That the file cannot be written is only logged: the entry is of no use any more, and the
// next start drops it as well.
func (k *Keeper) drop(e *entry) {
	k.remove(e.ifindex)
	if err := k.write(); err != nil {
		k.log.Warn("the record of changed MACs cannot be written", "interface", e.name, "err", err)
	}
}

func (k *Keeper) write() error { return k.store.write(k.entries) }

func text(m MAC) string { return net.HardwareAddr(m[:]).String() }

var errClosed = &os.PathError{Op: "use", Path: "record of changed MACs", Err: os.ErrClosed}
