package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/shortage"
)

// ARPPolice bounds what one interface, and one sender on it, may put into the ARP
// socket's queue: frames a second, and how many at once. A rate of 0 is no bound.
type ARPPolice struct {
	PerSecond, Burst             int
	SenderPerSecond, SenderBurst int
}

// constants are what one frame costs and what may be saved up, both ns of credit.
func constants(perSecond, burst int) (cost, most uint64) {
	if perSecond <= 0 {
		return 0, 0
	}
	cost = uint64(1e9) / uint64(perSecond)
	return cost, cost * uint64(max(burst, 1))
}

// Config says what programs and maps are to be loaded for.
type Config struct {
	ARP ARPPolice
	// IPv6 says that frames of IPv6 are looked at at all: without it they are the
	// kernel's, and cost the programs nothing.
	IPv6 bool
	// Translates says that the kernel may translate flows that it is left (NAT):
	// who sent into such a flow is remembered, and what answers is left to it, too.
	Translates bool
	// Replaceable keeps open what Set.Prepare needs: a descriptor a map.
	Replaceable bool
	// Carry loads the programs that forward on their own: see Carrier.
	Carry bool
	// Gateways are whom ARP requests ask for that these programs answer; they answer
	// none if there are more than MaxGateways. Of solicitations see Set.SetNDTarget.
	Gateways []netip.Addr
	// Rooms is for how many rings there is to be room, up to MaxWorkers; 0 is one.
	// Where it is more than one, rings are to be a group, also if there is one.
	Rooms int
}

// MaxGateways is MAX_GATEWAYS of bpf/answer.h.
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
	return loadSet(cfg, true, nil)
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

// loadSet loads the filter that sees GSO types only if exact is wanted. have are maps
// that there are already.
func loadSet(cfg Config, exact bool, have map[string]*ebpf.Map) (*Set, error) {
	l, err := loadPrograms(cfg, exact, have)
	if err != nil {
		return nil, err
	}
	coll := l.coll
	defer coll.Close()
	s := &Set{seesGSO: l.sees, judges: l.judges, cfg: cfg, ports: map[int32]ported{}, ids: map[uint32]bool{}, classes: map[netip.Prefix]classed{}, targets: map[NDTarget]bool{}, claims: map[int32]attached{}}
	if err := coll.Assign(&s.vars); err != nil {
		return nil, err
	}
	s.objs = detachMaps(coll)
	s.sections = coll.DetachMap(sectionBSS)
	s.ring, s.watch, s.claim = l.ring, l.watch, l.claim
	take := func(name string) *ebpf.Program { return withoutTypes(coll.DetachProgram(name)) }
	s.arp, s.back = take(bpfProgParpArp), take(bpfProgParpReturn)
	if cfg.IPv6 {
		s.nd = take(bpfProgParpNd)
	}
	if cfg.Rooms > 1 {
		s.fanout = take(bpfProgParpFanout)
		if have == nil { // else flows would change their rings
			if err := s.vars.FanoutSeed.Set(rand.Uint32()); err != nil {
				return nil, errors.Join(fmt.Errorf("eBPF variables: %w", err), s.Close())
			}
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
	if err := errors.Join(s.sections.Close(), s.shed(cfg)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// detachMaps takes all maps that a collection has; the others are nil.
func detachMaps(coll *ebpf.Collection) (to bpfMaps) {
	v := reflect.ValueOf(&to).Elem()
	for i := range v.NumField() {
		m := coll.DetachMap(v.Type().Field(i).Tag.Get("ebpf"))
		v.Field(i).Set(reflect.ValueOf(m))
	}
	return to
}

// sectionBSS is the map of the programs' variables.
const sectionBSS = ".bss"

// loaded are programs that run nowhere yet. Those that are named are not coll's.
type loaded struct {
	coll               *ebpf.Collection
	ring, claim, watch *ebpf.Program
	sees               bool // the filter that sees GSO types
	judges             bool // the claim that asks conntrack
}

func (l *loaded) close() error {
	l.coll.Close()
	return errors.Join(l.ring.Close(), l.claim.Close(), l.watch.Close())
}

// loadPrograms loads programs, with the maps that have says and new ones for the rest.
func loadPrograms(cfg Config, exact bool, have map[string]*ebpf.Map) (*loaded, error) {
	kernel := readKernel()
	defer func() { k := kernel(); k.close() }()
	if exact && cfg.Translates {
		// Linux 6.0 with conntrack, and CAP_PERFMON.
		l, err := loadKind(cfg, kernel, kind{exact: true, judges: true}, have)
		if err == nil || shortage.Passing(err) {
			return l, err
		}
	}
	return loadKind(cfg, kernel, kind{exact: exact}, have)
}

// kind is which of the programs are to be loaded.
type kind struct {
	exact  bool // the filters that see GSO types, if that is possible
	judges bool // the claim that asks conntrack, or an error
}

func loadKind(cfg Config, kernel func() kernelNames, k kind, have map[string]*ebpf.Map) (*loaded, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	if err := configure(spec, cfg, k.judges); err != nil {
		return nil, err
	}
	names := choose(spec, cfg, k.judges)
	for name, m := range have {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	basic := map[string]*ebpf.ProgramSpec{}
	for _, name := range []string{names.ringBasic, names.watchBasic} {
		basic[name] = spec.Programs[name]
		delete(spec.Programs, name)
	}
	options := ebpf.CollectionOptions{MapReplacements: have}
	l := &loaded{judges: k.judges}
	err = ErrNotSupported
	if k.exact {
		l.coll, err = newCollection(spec, kernel(), options)
	}
	l.sees = err == nil
	if shortage.Passing(err) {
		return nil, fmt.Errorf("load eBPF: %w", err) // nothing is known of what the kernel can
	}
	if err != nil && k.judges {
		return nil, fmt.Errorf("load eBPF: %w", err)
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
func configure(spec *ebpf.CollectionSpec, cfg Config, judges bool) error {
	if !cfg.Translates {
		spec.Maps[bpfMapParpFlows].MaxEntries = 1 // an LRU map takes all of its memory at once
		spec.Maps[bpfMapParpNatted].MaxEntries = 1
	}
	if !cfg.IPv6 {
		delete(spec.Programs, bpfProgParpNd)
		for _, name := range maps6 {
			spec.Maps[name].MaxEntries = 1
		}
	}
	cost, burst := constants(cfg.ARP.PerSecond, cfg.ARP.Burst)
	senderCost, senderBurst := constants(cfg.ARP.SenderPerSecond, cfg.ARP.SenderBurst)
	if err := errors.Join(
		spec.Variables[bpfVarArpCostNs].Set(cost),
		spec.Variables[bpfVarArpBurstNs].Set(burst),
		spec.Variables[bpfVarArpSenderCostNs].Set(senderCost),
		spec.Variables[bpfVarArpSenderBurstNs].Set(senderBurst),
		spec.Variables[bpfVarIpv6].Set(number(cfg.IPv6)),
		spec.Variables[bpfVarTranslates].Set(number(cfg.Translates)),
		spec.Variables[bpfVarJudges].Set(number(judges)),
		spec.Variables[bpfVarPulseHz].Set(jiffies()),
		setGateways(spec, cfg.Gateways),
		setRooms(spec, max(cfg.Rooms, 1)),
	); err != nil {
		return fmt.Errorf("eBPF constants: %w", err)
	}
	return nil
}

// maps6 are the maps of IPv6.
var maps6 = []string{bpfMapParpHosts6, bpfMapParpNets6, bpfMapParpNdTargets,
	bpfMapParpDirect6, bpfMapParpRoutes6, bpfMapParpNeighs6, bpfMapParpMemo6}

func number(on bool) uint32 {
	if on {
		return 1
	}
	return 0
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
func (s *Set) shed(cfg Config) error {
	m := &s.objs
	unused := []*ebpf.Map{m.ParpBuckets, m.ParpStats, m.ParpConsumed, m.ParpReader, m.ParpMemo, m.ParpMemo6, m.ParpRoot, m.ParpHops, m.ParpWays}
	if !cfg.Translates {
		unused = append(unused, m.ParpFlows, m.ParpNatted)
	}
	if !cfg.IPv6 {
		unused = append(unused, m.ParpHosts6, m.ParpNets6, m.ParpNdTargets, m.ParpDirect6, m.ParpRoutes6, m.ParpNeighs6)
	}
	if !cfg.Carry { // the maps of carrying there are none: uncarried
		unused = append(unused, m.ParpDecision)
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
func choose(spec *ebpf.CollectionSpec, cfg Config, judges bool) chosen {
	plain := chosen{bpfProgParpRing, bpfProgParpRingBasic, bpfProgParpWatch, bpfProgParpWatchBasic, bpfProgParpClaim}
	carrying := chosen{bpfProgParpRingCarry, bpfProgParpRingCarryBasic, bpfProgParpWatchCarry, bpfProgParpWatchCarryBasic, bpfProgParpCarry}
	if judges {
		plain.claim, carrying.claim = bpfProgParpClaimCt, bpfProgParpCarryCt
	}
	want, other := plain, carrying
	if cfg.Carry {
		want, other = carrying, plain
	} else {
		uncarried(spec, cfg.Replaceable)
	}
	for _, name := range []string{other.ring, other.ringBasic, other.watch, other.watchBasic} {
		delete(spec.Programs, name)
	}
	for _, name := range []string{bpfProgParpClaim, bpfProgParpCarry, bpfProgParpClaimCt, bpfProgParpCarryCt} {
		if name != want.claim {
			delete(spec.Programs, name)
		}
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
	for _, p := range []*ebpf.Program{s.ring, s.fanout, s.arp, s.nd, s.claim, s.back, s.watch} {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, s.carrier.close(), s.objs.Close(), s.sections.Close(), s.windows.close())...)
}

// nativeAddr6 is struct addr6 of an address: of IPv4 the mapped one.
func nativeAddr6(a netip.Addr) (to bpfAddr6) {
	b := a.As16()
	for i := range to.Word {
		to.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return to
}

// nativeAddr gives the four bytes of an address as they lie in memory.
func nativeAddr(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}
