package claim

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Mode is how the tc program is attached.
type Mode string

// The modes. Auto is TCX where the kernel has it (6.6), else clsact.
const (
	Auto   Mode = "auto"
	TCX    Mode = "tcx"
	Clsact Mode = "clsact"
	None   Mode = "none"
)

// programName is how our programs are known to tc and bpftool.
const programName = "parp_claim"

// own notes tc programs that were loaded. No other one gets the ID of a program soon (idr_alloc_cyclic in
// kernel/bpf/syscall.c).
func (s *Set) own(programs ...*ebpf.Program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range programs {
		info, err := p.Info()
		if err != nil {
			continue // it is known by its name, where that may be read
		}
		if id, ok := info.ID(); ok {
			s.ids[uint32(id)] = true
		}
	}
}

// Owns reports whether a program is one of the tc programs that were loaded for the Set, by its ID. A name would do for
// who has CAP_SYS_ADMIN. For any goroutine.
func (s *Set) Owns(id uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}

// IDs are those of the programs that Owns knows, in order. For any goroutine.
func (s *Set) IDs() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.ids))
}

// attached is one interface's claim.
type attached struct {
	link   link.Link             // TCX
	filter *netlink.BpfFilter    // clsact
	qdisc  *netlink.GenericQdisc // clsact, if we made it
	relay  bool                  // it is the relay's program
}

// SetMode chooses how Claim attaches. It must come before the first Claim.
func (s *Set) SetMode(m Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = m
}

// Mode tells how claims are attached.
func (s *Set) Mode() Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode
}

// Claim makes the kernel drop what the ring takes from an interface. It is
// idempotent. The program stands at the head of the TCX chain: behind another
// program's verdict it might never run.
func (s *Set) Claim(ifindex int32) error {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	if s.Claimed(ifindex) || s.Mode() == None {
		return nil
	}
	return s.attach(ifindex, s.claim)
}

// attach attaches a program at ingress of an interface, in the way that works.
// attaching is held. mu is not, since the kernel takes its time.
func (s *Set) attach(ifindex int32, program *ebpf.Program) error {
	var a attached
	mode := s.Mode()
	if mode != Clsact {
		l, err := attachTCX(program.FD(), int(ifindex))
		if err == nil {
			mode, a.link = TCX, l
		} else if mode == TCX || !errors.Is(err, ErrNotSupported) {
			return fmt.Errorf("tcx ingress: %w", err)
		}
	}
	if a.link == nil {
		var err error
		if a, err = s.attachClsact(int(ifindex), program); err != nil {
			return err
		}
		mode = Clsact
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.relay = program == s.back
	s.mode, s.claims[ifindex] = mode, a
	if a.link != nil {
		s.links++
	}
	return nil
}

// AttachRelay makes an interface the relay: frames that the ring can't take as
// they are go through it, and what userspace sends into it goes back to where it
// came in. It lets go of it at Close.
func (s *Set) AttachRelay(ifindex int32) error {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	if s.Mode() == None {
		return fmt.Errorf("relay: %w: no tc program is wanted", ErrNotSupported)
	}
	err := s.attach(ifindex, s.back)
	if err == nil {
		err = s.vars.Relay.Set(uint32(ifindex))
	}
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}

// DetachRelay undoes AttachRelay.
func (s *Set) DetachRelay(ifindex int32) error {
	if !s.Claimed(ifindex) {
		return nil
	}
	return errors.Join(s.vars.Relay.Set(uint32(0)), s.Release(ifindex))
}

// attachClsact is for kernels before 6.6. The lowest preference that is not
// reserved puts the program before those of others.
func (s *Set) attachClsact(ifindex int, program *ebpf.Program) (attached, error) {
	var a attached
	// One socket for all, as long as the Set lives: what was attached can be
	// detached though no descriptor is free.
	if s.rtnl == nil {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return a, fmt.Errorf("clsact: netlink socket: %w", err)
		}
		s.rtnl = h
	}
	if err := sweep(s.rtnl, ifindex); err != nil { // it may have become ours just now
		return a, fmt.Errorf("clsact: %w", err)
	}
	q := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
	switch err := s.rtnl.QdiscAdd(q); {
	case err == nil:
		a.qdisc = q
	case errors.Is(err, unix.EEXIST):
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP):
		return a, fmt.Errorf("clsact: %w: %w", ErrNotSupported, err)
	default:
		return a, fmt.Errorf("clsact: %w", err)
	}
	a.filter = &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_INGRESS,
			Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd: program.FD(), Name: programName, DirectAction: true,
	}
	if err := s.addFilter(a.filter); err != nil {
		if a.qdisc != nil {
			err = errors.Join(err, s.rtnl.QdiscDel(a.qdisc))
		}
		return a, fmt.Errorf("clsact filter: %w", err)
	}
	return a, nil
}

// addFilter takes the first handle that nobody has: of the filters with one
// preference the newest runs first.
func (s *Set) addFilter(f *netlink.BpfFilter) (err error) {
	for f.Handle = 1; f.Handle < 100; f.Handle++ {
		if err = s.rtnl.FilterAdd(f); !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return err
}

// Claimed reports whether an interface's originals are dropped.
func (s *Set) Claimed(ifindex int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.claims[ifindex]
	return ok
}

// Claimants are the interfaces whose originals are dropped.
func (s *Set) Claimants() (all []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ifindex, a := range s.claims {
		if !a.relay {
			all = append(all, ifindex)
		}
	}
	return all
}

// Orphans are the interfaces whose program has gone although nobody let go of it:
// they were removed, and those that have their indices now are others.
func (s *Set) Orphans() (gone []int32) {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	s.mu.Lock()
	claims := maps.Clone(s.claims)
	s.mu.Unlock()
	for ifindex, a := range claims {
		if !a.holds(s.rtnl) {
			gone = append(gone, ifindex)
		}
	}
	return gone
}

// holds reports whether the program is attached still. If that can't be told, it is.
func (a *attached) holds(rtnl *netlink.Handle) bool {
	if a.link != nil {
		info, err := a.link.Info()
		return err != nil || info.TCX() == nil || info.TCX().Ifindex != 0
	}
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.filter.LinkIndex}}
	filters, err := rtnl.FilterList(dev, netlink.HANDLE_MIN_INGRESS)
	return err != nil || slices.ContainsFunc(filters, func(f netlink.Filter) bool {
		b, ok := f.(*netlink.BpfFilter)
		return ok && b.Name == programName && b.Handle == a.filter.Handle
	})
}

// Links is how many descriptors the claims have: one each with TCX.
func (s *Set) Links() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links
}

// Release gives an interface back to the kernel.
func (s *Set) Release(ifindex int32) error {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	return s.release(ifindex)
}

// release detaches. A clsact qdisc that we made goes only if nobody else has put
// a filter into it meanwhile.
func (s *Set) release(ifindex int32) error {
	s.mu.Lock()
	a, ok := s.claims[ifindex]
	delete(s.claims, ifindex)
	if a.link != nil {
		s.links--
	}
	s.mu.Unlock()
	if !ok {
		return nil
	}
	if a.link != nil {
		return gone(a.link.Close())
	}
	err := gone(s.rtnl.FilterDel(a.filter))
	if a.qdisc != nil {
		err = errors.Join(err, removeIfEmpty(s.rtnl, a.qdisc))
	}
	return err
}

func removeIfEmpty(rtnl *netlink.Handle, q *netlink.GenericQdisc) error {
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: q.LinkIndex}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		fs, err := rtnl.FilterList(dev, parent)
		if err != nil || len(fs) > 0 {
			return gone(err)
		}
	}
	return gone(rtnl.QdiscDel(q))
}

// gone takes away the errors that say that the interface has vanished, and its
// programs with it.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// SweepAll is Sweep for those interfaces that ours says. One question finds the
// few that may have something.
func SweepAll(ours func(ifindex int) bool) error {
	req := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_DUMP)
	req.AddData(&nl.TcMsg{})
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return nil // there are no queueing disciplines
	case err != nil && !errors.Is(err, nl.ErrDumpInterrupted): // what changes is not our predecessor's
		return fmt.Errorf("RTM_GETQDISC: %w", err)
	}
	var errs []error
	for _, m := range msgs {
		if len(m) < nl.SizeofTcMsg {
			continue
		}
		if q := nl.DeserializeTcMsg(m); q.Parent == netlink.HANDLE_CLSACT && ours(int(q.Ifindex)) {
			if err := Sweep(int(q.Ifindex)); err != nil {
				errs = append(errs, fmt.Errorf("interface %d: %w", q.Ifindex, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Sweep removes the clsact filters that a killed predecessor left on an
// interface, and the qdisc if nothing else is in it. TCX links die with their
// process.
func Sweep(ifindex int) error { return sweep(&netlink.Handle{}, ifindex) }

func sweep(rtnl *netlink.Handle, ifindex int) error {
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	fs, err := rtnl.FilterList(dev, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return gone(err)
	}
	var errs []error
	found := false
	for _, f := range fs {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == programName {
			found = true
			errs = append(errs, gone(rtnl.FilterDel(b)))
		}
	}
	if found {
		errs = append(errs, removeIfEmpty(rtnl, &netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
			QdiscType:  "clsact",
		}))
	}
	return errors.Join(errs...)
}
