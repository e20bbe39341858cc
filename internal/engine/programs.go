package engine

import (
	"errors"
	"fmt"
	"net/netip"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// PuntedTo are the verdicts of what the ring's filter leaves to the kernel for
// another reason than that it is for the host.
var PuntedTo = map[claim.Owner]route.Verdict{
	claim.Punted: route.Punt, claim.Transit: route.PuntTransit, claim.Translated: route.PuntFlow,
	claim.Upper: route.PuntUpper, claim.GSO: route.PuntGSO, claim.Stalled: route.PuntStalled,
}

// Programs implements [Ports] by the eBPF programs, where there are any.
type Programs struct {
	set    *claim.Set // nil: no eBPF here
	wanted bool       // tc programs
}

// LoadPrograms loads them. Where the kernel has no eBPF, or does not let us use
// it, why says so and p is without: nothing is policed, and the kernel's
// forwarding setting decides who forwards.
func LoadPrograms(cfg claim.Config, mode claim.Mode) (p *Programs, why, err error) {
	set, err := claim.Load(cfg)
	switch {
	case errors.Is(err, claim.ErrNotSupported):
		return &Programs{}, err, nil
	case err != nil:
		return nil, nil, err
	}
	set.SetMode(mode)
	return &Programs{set: set, wanted: mode != claim.None}, nil, nil
}

// AdoptPrograms makes Programs of a Set that another process has loaded, nil for none.
func AdoptPrograms(set *claim.Set, mode claim.Mode) *Programs {
	return &Programs{set: set, wanted: set != nil && mode != claim.None}
}

// Set is that of the programs, nil if there is none.
func (p *Programs) Set() *claim.Set { return p.set }

// Close lets go of all interfaces.
func (p *Programs) Close() error {
	if p.set == nil {
		return nil
	}
	return p.set.Close()
}

// Decides implements [Ports].
func (p *Programs) Decides() bool { return p.set != nil }

// CanClaim implements [Ports].
func (p *Programs) CanClaim() bool { return p.set != nil && p.wanted }

// SetPort implements [Ports].
func (p *Programs) SetPort(port Port) (slot uint32, err error) {
	if p.set == nil {
		return 0, nil
	}
	return p.set.SetPort(port)
}

// DeletePort implements [Ports]. What is attached to the interface is let go of,
// if it is there still.
func (p *Programs) DeletePort(ifindex int32) error {
	if p.set == nil {
		return nil
	}
	return p.set.DeletePort(ifindex)
}

// SetNDTarget implements [Ports].
func (p *Programs) SetNDTarget(t claim.NDTarget, on bool) error {
	if p.set == nil {
		return nil
	}
	return p.set.SetNDTarget(t, on)
}

// Owns implements [Ports].
func (p *Programs) Owns(id uint32) bool { return p.set != nil && p.set.Owns(id) }

// Claim implements [Ports].
func (p *Programs) Claim(ifindex int32) error {
	if !p.CanClaim() {
		return fmt.Errorf("tc program: %w", claim.ErrNotSupported)
	}
	return p.set.Claim(ifindex)
}

// Release implements [Ports].
func (p *Programs) Release(ifindex int32) error {
	if p.set == nil {
		return nil
	}
	return p.set.Release(ifindex)
}

// Claimed implements [Ports].
func (p *Programs) Claimed(ifindex int32) bool { return p.set != nil && p.set.Claimed(ifindex) }

// Claims implements [Ports].
func (p *Programs) Claims() (how claim.Mode, descriptors int) {
	if p.set == nil {
		return claim.None, 0
	}
	return p.set.Mode(), p.set.Links()
}

// Orphans implements [Ports].
func (p *Programs) Orphans() []int32 {
	if p.set == nil {
		return nil
	}
	return p.set.Orphans()
}

// Counters implements [Ports].
func (p *Programs) Counters(ifindex int32) claim.Counters {
	if p.set == nil {
		return claim.Counters{}
	}
	return p.set.Counters(ifindex)
}

// Holds implements [Ports].
func (p *Programs) Holds(ifindex int32) bool { return p.set != nil && p.set.Holds(ifindex) }

// Stalls implements [Ports].
func (p *Programs) Stalls() claim.Stalls {
	if p.set == nil {
		return claim.Stalls{}
	}
	return p.set.Stalls()
}

// Carried implements [Ports].
func (p *Programs) Carried(ifindex int32) claim.Carried {
	if p.set == nil {
		return claim.Carried{}
	}
	return p.set.Carried(ifindex)
}

// Stats implements [Engine] for what the filters and the programs counted.
func (p *Programs) Stats() (s Stats) {
	if p.set == nil {
		return s
	}
	c := p.set.Totals()
	s.ARPPoliced, s.ARPSender = c.ARPPoliced, c.ARPSender
	s.ByVerdict[route.DropRateLimit] = c.Policed
	s.ByVerdict[route.DropGSO] = c.BadGSO - min(c.Relayed, c.BadGSO)
	s.ByVerdict[route.Local] = c.Left[claim.Local]
	s.ByVerdict[route.IgnoreTagged] = c.Left[claim.Tagged]
	s.ByVerdict[route.DropRAGuard] = c.Left[claim.RAGuard]
	for owner, verdict := range PuntedTo {
		s.ByVerdict[verdict] += c.Left[owner]
	}
	carried := p.set.AllCarried()
	s.PacketsIn, s.PacketsOut, s.BytesOut = carried.Taken(), carried.Packets, carried.Bytes
	s.ByVerdict[route.Forward] = carried.Packets
	s.ByVerdict[route.DropPktTooSmall] = carried.Small
	s.ByVerdict[route.DropNoMem] = carried.NoMem
	s.Carried, s.ARPAnswered, s.NDAnswered = carried.Packets, carried.Answered, carried.AnsweredND
	return s
}

// SetClass implements [Engine] for those whose filter decides.
func (p *Programs) SetClass(prefix netip.Prefix, c route.Class) error {
	if p.set == nil {
		return nil
	}
	return p.set.SetClass(prefix, claim.Class(c))
}

// AttachARP polices an ARP socket.
func (p *Programs) AttachARP(fd int) error {
	if p.set == nil {
		return fmt.Errorf("ARP filter: %w", claim.ErrNotSupported)
	}
	return p.set.AttachARP(fd)
}

// AttachND polices a socket of neighbour discovery; see [claim.Set.AttachND].
func (p *Programs) AttachND(fd int) error {
	if p.set == nil {
		return fmt.Errorf("filter of neighbour discovery: %w", claim.ErrNotSupported)
	}
	return p.set.AttachND(fd)
}

// OwnND says that the calling thread answers neighbour solicitations; see
// [claim.Set.OwnND].
func (p *Programs) OwnND() (disown func(), err error) {
	if p.set == nil {
		return func() {}, nil
	}
	return p.set.OwnND()
}

// AttachWatch implements [Ports].
func (p *Programs) AttachWatch(fd int, mark uint32, snap int) error {
	if p.set == nil {
		return claim.ErrNotSupported
	}
	return p.set.AttachWatch(fd, mark, snap)
}

// Show implements [Ports].
func (p *Programs) Show() (*claim.Shown, error) {
	if p.set == nil {
		return nil, nil
	}
	return p.set.Show()
}

// Translated implements [Ports].
func (p *Programs) Translated(packet []byte) bool { return p.set != nil && p.set.Translated(packet) }
