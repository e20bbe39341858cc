package claim

import (
	"errors"
	"fmt"
	"maps"
	"reflect"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Replacement is programs that are to take the place of those of a Set.
type Replacement struct {
	set *Set
	cfg Config
	now *loaded // nil: those that run are what is wanted
}

// Prepare loads the programs anew, for another Config, of which IPv6,
// Translates, Carry and Gateways count; those that run go on. The error is like Load's.
func (s *Set) Prepare(cfg Config) (*Replacement, error) {
	cfg.Rooms = s.cfg.Rooms
	if reflect.DeepEqual(cfg, s.cfg) {
		return &Replacement{set: s, cfg: cfg}, nil
	}
	if !s.cfg.Replaceable {
		return nil, errors.New("the eBPF programs were not loaded to be exchanged")
	}
	if err := room(loadDescriptors); err != nil {
		return nil, fmt.Errorf("load eBPF: %w", err)
	}
	l, err := loadPrograms(cfg, s.seesGSO, s.kept(cfg))
	if err != nil {
		return nil, err
	}
	s.own(l.claim)
	return &Replacement{set: s, cfg: cfg, now: l}, nil
}

// kept are the maps that go on being used: what was said and counted stays.
func (s *Set) kept(cfg Config) map[string]*ebpf.Map {
	have := map[string]*ebpf.Map{
		bpfMapParpPorts: s.objs.ParpPorts, bpfMapParpHosts: s.objs.ParpHosts, bpfMapParpNets: s.objs.ParpNets, bpfMapParpStats: s.objs.ParpStats,
		bpfMapParpConsumed: s.objs.ParpConsumed, bpfMapParpReader: s.objs.ParpReader, bpfMapParpBuckets: s.objs.ParpBuckets,
		bpfMapParpDecision: s.objs.ParpDecision, sectionBSS: s.sections,
	}
	if s.keeps6(cfg) {
		for name, m := range s.maps6() {
			have[name] = *m
		}
	}
	if s.keepsFlows(cfg) {
		have[bpfMapParpFlows], have[bpfMapParpNatted] = s.objs.ParpFlows, s.objs.ParpNatted
	}
	if s.cfg.Carry && cfg.Carry {
		for name, m := range s.carried() {
			have[name] = *m
		}
		if s.keepsCarried6(cfg) {
			for name, m := range s.carried6() {
				have[name] = *m
			}
		}
	}
	return have
}

// keepsFlows reports whether the maps of flows are large enough.
func (s *Set) keepsFlows(cfg Config) bool {
	return !cfg.Translates || s.objs.ParpFlows.MaxEntries() > 1
}

// keeps6 reports whether the maps of IPv6 are large enough.
func (s *Set) keeps6(cfg Config) bool {
	return !cfg.IPv6 || s.objs.ParpHosts6.MaxEntries() > 1
}

// keepsCarried6 is keeps6 for programs that carry, and carry on.
func (s *Set) keepsCarried6(cfg Config) bool {
	return !cfg.IPv6 || s.objs.ParpDirect6.MaxEntries() > 1
}

// maps6 are the maps of IPv6, but for those of carrying.
func (s *Set) maps6() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		bpfMapParpHosts6: &s.objs.ParpHosts6, bpfMapParpNets6: &s.objs.ParpNets6, bpfMapParpNdTargets: &s.objs.ParpNdTargets,
	}
}

// carried6 are the maps of carrying that are IPv6's.
func (s *Set) carried6() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		bpfMapParpDirect6: &s.objs.ParpDirect6, bpfMapParpRoutes6: &s.objs.ParpRoutes6, bpfMapParpNeighs6: &s.objs.ParpNeighs6,
		bpfMapParpMemo6: &s.objs.ParpMemo6,
	}
}

// carried are the other maps of carrying.
func (s *Set) carried() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		bpfMapParpRoot: &s.objs.ParpRoot, bpfMapParpChunks: &s.objs.ParpChunks, bpfMapParpHops: &s.objs.ParpHops, bpfMapParpWays: &s.objs.ParpWays,
		bpfMapParpNeighs: &s.objs.ParpNeighs, bpfMapParpCarried: &s.objs.ParpCarried, bpfMapParpUsed: &s.objs.ParpUsed, bpfMapParpMemo: &s.objs.ParpMemo,
		bpfMapParpShown: &s.objs.ParpShown,
	}
}

// Drop is for a Replacement that is not wanted after all.
func (r *Replacement) Drop() error {
	if r.now == nil {
		return nil
	}
	return r.now.close()
}

// Apply has the programs take their places: at each interface between two frames,
// and for no frame does the filter of one Config meet the claim of another that
// does not know its decision. refilter is called to have the rings' filters
// attached anew (AttachRing); nil: there is no ring. Who carries must have ended
// that before. If Apply fails the old programs run.
func (r *Replacement) Apply(refilter func() error) error {
	s := r.set
	if r.now == nil {
		return nil
	}
	s.attaching.Lock()
	defer s.attaching.Unlock()
	if refilter == nil {
		refilter = func() error { return nil }
	}
	ring := func(p *ebpf.Program) error {
		s.mu.Lock()
		s.ring = p
		s.mu.Unlock()
		return refilter()
	}
	if err := s.admit(r); err != nil {
		return errors.Join(err, r.now.close())
	}
	oldRing, oldClaim := s.ring, s.claim
	// Both claims do what a filter that does not carry has decided.
	steps := []func() error{func() error { return s.swapClaims(r.now.claim) }, func() error { return ring(r.now.ring) }}
	if !r.cfg.Carry {
		steps = []func() error{func() error { return ring(r.now.ring) }, Grace, func() error { return s.swapClaims(r.now.claim) }}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			undone := errors.Join(ring(oldRing), s.swapClaims(oldClaim), s.dismiss(r))
			return errors.Join(fmt.Errorf("exchange the eBPF programs: %w", err), undone, r.now.close())
		}
	}
	return errors.Join(s.settle(r), oldRing.Close(), oldClaim.Close())
}

// admit makes what the new programs need before they run.
func (s *Set) admit(r *Replacement) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.cfg.Carry || s.cfg.Carry {
		return nil
	}
	s.exchangeCarried(r)
	if s.carrier, err = newCarrier(s); err != nil {
		s.exchangeCarried(r)
	}
	return err
}

// exchangeCarried exchanges the maps of carrying with those that were loaded.
func (s *Set) exchangeCarried(r *Replacement) {
	s.exchange(r, s.carried())
	s.exchange(r, s.carried6())
}

// exchange exchanges maps with those that were loaded.
func (s *Set) exchange(r *Replacement, maps map[string]**ebpf.Map) {
	for name, m := range maps {
		*m, r.now.coll.Maps[name] = r.now.coll.Maps[name], *m
	}
}

// dismiss is the opposite of admit.
func (s *Set) dismiss(r *Replacement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.cfg.Carry || s.cfg.Carry {
		return nil
	}
	err := s.carrier.close()
	s.carrier = nil
	s.exchangeCarried(r)
	return err
}

// settle makes what was loaded the Set's, and lets go of what nothing uses any more.
func (s *Set) settle(r *Replacement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	coll := r.now.coll
	defer coll.Close()
	if !s.keepsFlows(r.cfg) {
		s.objs.ParpFlows, coll.Maps[bpfMapParpFlows] = coll.Maps[bpfMapParpFlows], s.objs.ParpFlows
		s.objs.ParpNatted, coll.Maps[bpfMapParpNatted] = coll.Maps[bpfMapParpNatted], s.objs.ParpNatted
	}
	if !s.keeps6(r.cfg) {
		s.exchange(r, s.maps6())
	}
	if s.cfg.Carry && r.cfg.Carry && !s.keepsCarried6(r.cfg) {
		s.exchange(r, s.carried6())
	}
	switch {
	case r.cfg.IPv6 && s.nd == nil:
		s.nd = withoutTypes(coll.DetachProgram(bpfProgParpNd))
	case !r.cfg.IPv6:
		err = s.nd.Close()
		s.nd = nil
	}
	if s.cfg.Carry && !r.cfg.Carry {
		err = errors.Join(err, s.retireCarrier())
		s.exchangeCarried(r)
	}
	err = errors.Join(err, s.watch.Close())
	s.watch, s.judges, s.cfg = r.now.watch, r.now.judges, r.cfg
	return err
}

// retireCarrier keeps what was carried, by interface too.
func (s *Set) retireCarrier() error {
	c := s.carrier
	s.carriedGone.add(c.gone)
	for ifindex, p := range s.ports {
		p.carried.add(c.read(p.slot))
		s.ports[ifindex] = p
	}
	s.carrier = nil
	return c.close()
}

// swapClaims puts a program in the place of the one at each interface.
func (s *Set) swapClaims(p *ebpf.Program) error {
	s.mu.Lock()
	s.claim = p
	claims := maps.Clone(s.claims)
	s.mu.Unlock()
	var errs []error
	for ifindex, a := range claims {
		if a.relay {
			continue
		}
		if err := s.swap(&a, p); err != nil {
			errs = append(errs, fmt.Errorf("interface %d: %w", ifindex, err))
		}
	}
	return errors.Join(errs...)
}

// swap puts a program in the place of the one of a claim.
func (s *Set) swap(a *attached, p *ebpf.Program) (err error) {
	if a.link != nil {
		err = a.link.Update(p)
	} else {
		f := *a.filter
		f.Fd = p.FD()
		err = s.rtnl.FilterReplace(&f)
	}
	if errors.Is(err, unix.ENOLINK) { // a link whose interface has gone
		return nil
	}
	return gone(err)
}

// Grace waits until no program is running that was when it was called: for an RCU
// grace period (membarrier(2)).
func Grace() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}
