package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/shortage"
)

// ARPPolice bounds what one interface may put into the ARP socket's queue.
type ARPPolice struct {
	PerSecond int
	Burst     int
}

// Config says what programs and maps are to be loaded for.
type Config struct {
	ARP ARPPolice
	// Translates says that the kernel may translate flows that it is left (NAT):
	// who sent into such a flow is remembered, and what answers is left to it, too.
	Translates bool
	// Replaceable keeps open what Set.Prepare needs: a descriptor a map.
	Replaceable bool
	// Carry loads the programs that forward on their own: see Carrier.
	Carry bool
	// Gateways are whom ARP requests ask for that these programs answer; they answer
	// none if there are more than MaxGateways.
	Gateways []netip.Addr
	// Rooms is for how many rings there is to be room, up to MaxWorkers; 0 is one.
	// Where it is more than one, rings are to be a group, also if there is one.
	Rooms int
}

// MaxGateways is MAX_GATEWAYS of bpf/carry.h.
const MaxGateways = 8

// Load loads programs and maps. An error that is ErrNotSupported, by
// errors.Is, says why this host can't: the kernel, or a missing capability. One
// that passes (internal/shortage) says nothing of the kind.
func Load(cfg Config) (*Set, error) {
	if err := room(loadDescriptors); err != nil {
		return nil, fmt.Errorf("load eBPF: %w", err)
	}
	if countsMemlock() {
		raiseMemlock()
	}
	return loadSet(cfg, true)
}

// loadDescriptors is more than programs, maps and the library's probes have open
// at a time.
const loadDescriptors = 32

// room is an error unless n descriptors are free. Some of the library's probes
// take it for a missing feature if none is, and remember that.
func room(n int) (err error) {
	have := make([]int, 0, n)
	for len(have) < n && err == nil {
		var fd int
		if fd, err = unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			have = append(have, fd)
		}
	}
	for _, fd := range have {
		_ = unix.Close(fd)
	}
	return os.NewSyscallError("open", err)
}

// countsMemlock reports whether the kernel counts maps and programs as locked
// memory (before 5.11), and says EPERM if that is more than the limit.
func countsMemlock() bool {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < 5 || major == 5 && minor < 11
}

// raiseMemlock allows as much locked memory as it may: all takes
// CAP_SYS_RESOURCE.
func raiseMemlock() {
	var l unix.Rlimit
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) == nil {
		return
	}
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l) == nil {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &l)
	}
}

// loadSet loads the filter that sees GSO types only if exact is wanted.
func loadSet(cfg Config, exact bool) (*Set, error) {
	l, err := loadPrograms(cfg, exact, nil)
	if err != nil {
		return nil, err
	}
	coll := l.coll
	defer coll.Close()
	s := &Set{seesGSO: l.sees, cfg: cfg, ports: map[int32]ported{}, ids: map[uint32]bool{}, classes: map[netip.Prefix]classed{}, claims: map[int32]attached{}}
	if err := errors.Join(coll.Assign(&s.objs), coll.Assign(&s.vars)); err != nil {
		return nil, err
	}
	s.sections = coll.DetachMap(sectionBSS)
	s.ring, s.watch, s.claim = l.ring, l.watch, l.claim
	take := func(name string) *ebpf.Program { return withoutTypes(coll.DetachProgram(name)) }
	s.arp, s.back = take(bpfProgParpArp), take(bpfProgParpReturn)
	if cfg.Rooms > 1 {
		s.fanout = take(bpfProgParpFanout)
		if err := s.vars.FanoutSeed.Set(rand.Uint32()); err != nil {
			return nil, errors.Join(fmt.Errorf("eBPF variables: %w", err), s.Close())
		}
	}
	s.own(s.claim, s.back)
	for slot := uint32(MaxPorts - 1); slot > 0; slot-- {
		s.free = append(s.free, slot)
	}
	if s.windows, err = newWindows(max(cfg.Rooms, 1), &s.objs); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if cfg.Carry {
		if s.carrier, err = newCarrier(s); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	s.windows.press = func(quota uint32) error { return s.vars.Pressed.Set(quota) }
	if cfg.Replaceable { // Prepare needs all maps
		return s, nil
	}
	if err := errors.Join(s.sections.Close(), s.shed(cfg.Carry)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// sectionBSS is the map of the programs' variables.
const sectionBSS = ".bss"

// loaded are programs that run nowhere yet. Those that are named are not coll's.
type loaded struct {
	coll               *ebpf.Collection
	ring, claim, watch *ebpf.Program
	sees               bool // the filter that sees GSO types
}

func (l *loaded) close() error {
	l.coll.Close()
	return errors.Join(l.ring.Close(), l.claim.Close(), l.watch.Close())
}

// loadPrograms loads programs, with the maps that have says and new ones for the rest.
func loadPrograms(cfg Config, exact bool, have map[string]*ebpf.Map) (*loaded, error) {
	kernel := readKernel()
	defer func() { k := kernel(); k.close() }()
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	if err := configure(spec, cfg); err != nil {
		return nil, err
	}
	names := choose(spec, cfg.Carry)
	for name, m := range have {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	basic := map[string]*ebpf.ProgramSpec{}
	for _, name := range []string{names.ringBasic, names.watchBasic} {
		basic[name] = spec.Programs[name]
		delete(spec.Programs, name)
	}
	options := ebpf.CollectionOptions{MapReplacements: have}
	l := &loaded{}
	err = ErrNotSupported
	if exact {
		l.coll, err = newCollection(spec, kernel(), options)
	}
	l.sees = err == nil
	if shortage.Passing(err) {
		return nil, fmt.Errorf("load eBPF: %w", err) // nothing is known of what the kernel can
	}
	if err != nil {
		// bpf_rdonly_cast needs Linux 6.2 and CAP_PERFMON: go by the IP protocol.
		first := err
		delete(spec.Programs, names.ring)
		delete(spec.Programs, names.watch)
		maps.Copy(spec.Programs, basic)
		if l.coll, err = ebpf.NewCollectionWithOptions(spec, options); err != nil {
			return nil, fmt.Errorf("load eBPF: %w", unsupported(err, first))
		}
	}
	ring, watch := names.ring, names.watch
	if !l.sees {
		ring, watch = names.ringBasic, names.watchBasic
	}
	take := func(name string) *ebpf.Program { return withoutTypes(l.coll.DetachProgram(name)) }
	l.ring, l.watch, l.claim = take(ring), take(watch), take(names.claim)
	return l, nil
}

// configure sets what is constant in the programs.
func configure(spec *ebpf.CollectionSpec, cfg Config) error {
	translates := uint32(0)
	if cfg.Translates {
		translates = 1
	} else {
		spec.Maps[bpfMapParpFlows].MaxEntries = 1 // an LRU map takes all of its memory at once
	}
	if err := errors.Join(
		spec.Variables[bpfVarArpCostNs].Set(uint64(1e9)/uint64(max(cfg.ARP.PerSecond, 1))),
		spec.Variables[bpfVarArpBurstNs].Set(uint64(1e9)/uint64(max(cfg.ARP.PerSecond, 1))*uint64(max(cfg.ARP.Burst, 1))),
		spec.Variables[bpfVarTranslates].Set(translates),
		spec.Variables[bpfVarPulseHz].Set(jiffies()),
		setGateways(spec, cfg.Gateways),
		setRooms(spec, max(cfg.Rooms, 1)),
	); err != nil {
		return fmt.Errorf("eBPF constants: %w", err)
	}
	return nil
}

// withoutTypes gives the program without the descriptor of its types, which the
// library would keep. It closes p, unless it has to return it.
func withoutTypes(p *ebpf.Program) *ebpf.Program {
	fd, err := unix.FcntlInt(uintptr(p.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return p
	}
	lean, err := ebpf.NewProgramFromFD(fd) // which closes fd if it fails
	if err != nil {
		return p
	}
	_ = p.Close()
	return lean
}

// shed closes the descriptors of maps that only programs use from here on, or
// that are mapped into memory: a limit of 48 is to be enough for a small host.
func (s *Set) shed(carry bool) error {
	m := &s.objs
	unused := []*ebpf.Map{m.ParpBuckets, m.ParpStats, m.ParpConsumed, m.ParpReader, m.ParpMemo, m.ParpRoot, m.ParpHops, m.ParpWays}
	if !carry {
		unused = append(unused, m.ParpDecision, m.ParpChunks, m.ParpNeighs, m.ParpCarried, m.ParpUsed, m.ParpShown)
	}
	var errs []error
	for _, m := range unused {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// jiffies is how many there are a second: the coarse clocks are counted in them.
func jiffies() uint32 {
	var tick unix.Timespec
	if unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick) != nil || tick.Nano() <= 0 {
		return 1000 // the most that kernels are made with: where there are fewer, the programs wait longer
	}
	return uint32(1e9 / tick.Nano())
}

// setRooms says how many rings there may be. For one there is nothing to choose,
// and the filter's counters of all are its own.
func setRooms(spec *ebpf.CollectionSpec, n int) error {
	if n == 1 {
		delete(spec.Programs, bpfProgParpFanout)
	}
	spec.Maps[bpfMapParpConsumed].MaxEntries = uint32(consumedEntries(n))
	return spec.Variables[bpfVarRooms].Set(uint32(n))
}

func setGateways(spec *ebpf.CollectionSpec, all []netip.Addr) error {
	var list [MaxGateways]uint32
	if len(all) > len(list) {
		return nil
	}
	for i, a := range all {
		list[i] = nativeAddr(a)
	}
	return errors.Join(spec.Variables[bpfVarGateways].Set(list), spec.Variables[bpfVarGatewayCount].Set(uint32(len(all))))
}

// chosen are the names of the programs of which there are two kinds.
type chosen struct{ ring, ringBasic, watch, watchBasic, claim string }

// choose takes those programs out of spec that are not wanted, and their maps.
func choose(spec *ebpf.CollectionSpec, carry bool) chosen {
	plain := chosen{bpfProgParpRing, bpfProgParpRingBasic, bpfProgParpWatch, bpfProgParpWatchBasic, bpfProgParpClaim}
	carrying := chosen{bpfProgParpRingCarry, bpfProgParpRingCarryBasic, bpfProgParpWatchCarry, bpfProgParpWatchCarryBasic, bpfProgParpCarry}
	want, other := plain, carrying
	if carry {
		want, other = carrying, plain
	} else {
		placeholders(spec)
	}
	for _, name := range []string{other.ring, other.ringBasic, other.watch, other.watchBasic, other.claim} {
		delete(spec.Programs, name)
	}
	return want
}

// newCollection loads what needs the kernel's types.
func newCollection(spec *ebpf.CollectionSpec, kernel kernelNames, options ebpf.CollectionOptions) (*ebpf.Collection, error) {
	types, err := kernel.types(spec)
	if shortage.Passing(err) || errors.Is(err, ErrNotSupported) {
		return nil, err
	}
	// Without types the library looks for them itself, and takes its time.
	options.Programs.KernelTypes = types
	return ebpf.NewCollectionWithOptions(spec, options)
}

// unsupported wraps what a host without eBPF answers.
func unsupported(err, first error) error {
	if shortage.Passing(err) {
		return err
	}
	if errors.Is(err, unix.EPERM) { // about which the library has a guess that is wrong since Linux 5.11
		return fmt.Errorf("%w: CAP_BPF or CAP_NET_ADMIN is missing, or forbidden here", ErrNotSupported)
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) || errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return errors.Join(err, first)
}

// AttachRing makes the ring's filter the socket filter of fd.
func (s *Set) AttachRing(fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return attachSocket(fd, s.ring, "ring filter")
}

// AttachFanout has the programs choose among the rings of a group to which a
// socket belongs, by PACKET_FANOUT_DATA. It is for Config.Rooms of more than one.
func (s *Set) AttachFanout(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA, s.fanout.FD()); err != nil {
		return fmt.Errorf("choice of a ring: PACKET_FANOUT_DATA: %w", err)
	}
	return nil
}

// AttachWatch makes the filter of a capture the socket filter of fd: it keeps
// out what the ring and the ARP socket take, and what is sent with that mark
// (SO_MARK). Of the rest it passes snap bytes.
func (s *Set) AttachWatch(fd int, mark uint32, snap int) error {
	if err := errors.Join(s.vars.WatchSnap.Set(uint32(snap)), s.vars.WatchMark.Set(mark)); err != nil {
		return fmt.Errorf("capture filter: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return attachSocket(fd, s.watch, "capture filter")
}

// AttachARP makes the ARP policing filter the socket filter of fd.
func (s *Set) AttachARP(fd int) error { return attachSocket(fd, s.arp, "ARP filter") }

func attachSocket(fd int, p *ebpf.Program, what string) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.FD()); err != nil {
		return fmt.Errorf("%s: SO_ATTACH_BPF: %w", what, err)
	}
	return nil
}

// Rooms is for how many rings there is room.
func (s *Set) Rooms() int { return len(s.windows.of) }

// SetWorkers has the first n rings of the group get frames from now on, each flow in
// one of them; before the first call the first ring gets all. For a moment the
// programs may still choose among as many as there were. For any goroutine.
func (s *Set) SetWorkers(n int) error {
	if n < 1 || n > s.Rooms() {
		return fmt.Errorf("%d rings: there is room for %d", n, s.Rooms())
	}
	if err := s.vars.Workers.Set(uint32(n)); err != nil {
		return fmt.Errorf("number of rings: %w", err)
	}
	return nil
}

// Window is a worker's half of the policing.
func (s *Set) Window(worker int) *Window {
	w := s.windows.of[worker]
	if w.before == nil {
		w.before, w.seen = make([]uint64, MaxPorts), make([]uint64, MaxPorts)
	}
	return w
}

// Close detaches and unloads all.
func (s *Set) Close() error {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	s.mu.Lock()
	claims := slices.Collect(maps.Keys(s.claims))
	s.mu.Unlock()
	var errs []error
	for _, ifindex := range claims {
		errs = append(errs, s.release(ifindex))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rtnl != nil {
		s.rtnl.Close()
		s.rtnl = nil
	}
	for _, p := range []*ebpf.Program{s.ring, s.fanout, s.arp, s.claim, s.back, s.watch} {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, s.carrier.close(), s.objs.Close(), s.sections.Close(), s.windows.close())...)
}

// nativeAddr gives the four bytes of an address as they lie in memory.
func nativeAddr(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}
