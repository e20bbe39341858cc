// Package engine is the interface between the daemon and what moves packets.
// The daemon tells an engine the routing table and which interfaces are served.
// The engine takes their frames from the kernel, forwards them, and counts.
// Package afpacket below it forwards in userspace; package ebpf does so too, and
// has plain packets forwarded in the kernel; package none leaves all packets to
// the kernel.
//
// Interfaces are named by their index everywhere (IFLA_IFINDEX).
package engine

import (
	"context"
	"net/netip"

	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// Engine moves packets, or leaves them all to the kernel. Run is called once,
// on a goroutine of its own; Close after it has returned. All other methods may
// be called at any time, by one goroutine, but for those that say otherwise.
type Engine interface {
	// Forwards reports whether it moves packets at all. If not, the kernel
	// has every frame, and tables are for the responder alone.
	Forwards() bool
	// Workers is how many threads move packets.
	Workers() int
	// Run moves packets until ctx ends. What it holds then is handled first.
	Run(ctx context.Context) error
	// Publish has packets decided by another table from now on.
	Publish(t *route.Table)
	// SetClass says where the destinations of a prefix may lead; see [claim.Set.SetClass].
	SetClass(p netip.Prefix, c route.Class) error
	// SetTap has each packet that comes to userspace told to somebody; nil ends that.
	SetTap(t forward.Tap)
	// SetMark marks what is sent from now on (SO_MARK). For any goroutine.
	SetMark(mark uint32) error
	// Beats has each thread that forwards come round once more, and gives how many times
	// it has so far. For any goroutine.
	Beats() []uint64
	// Stats are the counters of all interfaces. For any goroutine.
	Stats() Stats
	// EgressDrops are what the kernel has lost of packets that were handed to it,
	// by interface and in all; none of an engine that is told of each loss itself.
	// It takes the kernel's RTNL lock, and is for any goroutine.
	EgressDrops() (each map[int32]EgressDrops, sum EgressDrops, err error)
	// Device is an interface of the engine's own, which is not to be served.
	// Its index is 0 if there is none.
	Device() Device
	// AttachDevice has frames go through Device from now on. It takes the
	// kernel's RTNL lock, and is for any goroutine.
	AttachDevice() error
	Ports
	// Close gives back what it took from the kernel, the ring first: without
	// it nothing that is left behind drops a frame.
	Close() error
}

// Ports tells an engine of interfaces, and the kernel whose frames are whose.
type Ports interface {
	// Decides reports whether an eBPF filter decides about each frame. If not,
	// the engine receives copies of what the kernel has too.
	Decides() bool
	// SetPort adds or changes an interface. slot is where its frames are counted.
	SetPort(p Port) (slot uint32, err error)
	// DeletePort forgets an interface. Its counters stay in Stats.
	DeletePort(ifindex int32) error
	// SetNDTarget says that neighbour solicitations for a target are the responder's
	// alone, or are so no more; see [claim.Set.SetNDTarget].
	SetNDTarget(t claim.NDTarget, on bool) error
	// CanClaim reports whether a tc program can take an interface's frames
	// from the kernel, as far as that is known.
	CanClaim() bool
	// Claim attaches the tc program to an interface, and Release detaches it.
	// Both take the kernel's RTNL lock, Claim for an RCU grace period too, and
	// are for any goroutine. ENODEV says that the interface has gone.
	Claim(ifindex int32) error
	Release(ifindex int32) error
	// Claimed reports whether it is attached. For any goroutine.
	Claimed(ifindex int32) bool
	// Owns reports whether a program is one of the engine's tc programs, by its ID. For
	// any goroutine.
	Owns(id uint32) bool
	// Claims is how programs are attached, and how many descriptors that takes.
	// For any goroutine.
	Claims() (how claim.Mode, descriptors int)
	// Orphans are interfaces whose program has gone although nobody let go of it.
	Orphans() []int32
	// Counters are those of the filters, of one interface. For any goroutine.
	Counters(ifindex int32) claim.Counters
	// Holds reports whether frames that were taken of an interface may not be
	// handled yet. For any goroutine.
	Holds(ifindex int32) bool
	// Stalls say when the kernel had what is ours because nobody read the ring.
	// For any goroutine.
	Stalls() claim.Stalls
	// Carried are what its programs did on their own, of one interface. For any
	// goroutine.
	Carried(ifindex int32) claim.Carried
	// AttachWatch makes a socket show what is left to the kernel; see
	// [claim.Set.AttachWatch]. The error is [claim.ErrNotSupported] without eBPF.
	AttachWatch(fd int, mark uint32, snap int) error
	// Show has the programs show what they carry and answer, for one that looks; nil
	// if they do neither. For any goroutine.
	Show() (*claim.Shown, error)
	// Translated reports whether the kernel may have translated a packet's flow.
	// For any goroutine.
	Translated(packet []byte) bool
}

// Port is what an engine is told of an interface.
type Port = claim.Port

// Device is an interface of an engine's own.
type Device struct {
	Index int
	Name  string
}

// EgressDrops count, by the kernel, what an interface did not send: what came from
// others included.
type EgressDrops struct {
	Device uint64 // by the device (tx_dropped)
	Qdisc  uint64 // by its queueing discipline
}

// Add adds others.
func (d *EgressDrops) Add(o EgressDrops) {
	d.Device += o.Device
	d.Qdisc += o.Qdisc
}

// Stats are an engine's counters.
type Stats struct {
	forward.Stats
	ByWorker []uint64 // PacketsIn of each thread that forwards
	Rebuilt  uint64   // rings that had to be replaced
	InRing   uint64   // frames that are in the rings
	Nice     int      // nice value of the threads that forward
	Carried  uint64   // of PacketsOut, packets that never came to userspace
	// ARPAnswered are requests that the programs answered.
	ARPAnswered uint64
	// NDAnswered are solicitations that they answered.
	NDAnswered uint64
	// ARPPoliced are frames of ARP and neighbour discovery that the programs refused:
	// their interfaces had had their share. ARPSender are those whose senders had.
	ARPPoliced, ARPSender uint64
}

// Add adds all counters of another; Nice stays.
func (s *Stats) Add(o *Stats) {
	s.Stats.Add(o.Stats)
	s.Rebuilt += o.Rebuilt
	s.Carried += o.Carried
	s.ARPAnswered += o.ARPAnswered
	s.NDAnswered += o.NDAnswered
	s.ARPPoliced += o.ARPPoliced
	s.ARPSender += o.ARPSender
}
