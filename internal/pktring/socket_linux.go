package pktring

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what ring to make. Zero values take the defaults.
type Config struct {
	Slots    int // number of slots, a power of two; default 4096
	SlotSize int // bytes a slot, a power of two; default 2048
	// Filter is called with the socket before it can receive: attach the
	// socket filter here.
	Filter func(fd int) error
	// Queue is the size in bytes of the socket's queue, where frames wait that
	// do not fit a slot; default 16 MB. Root may exceed net.core.rmem_max.
	Queue int
	// Plain rings have no virtio_net_hdr, and what this host sends is received
	// too: for looking on.
	Plain bool
	// Ifindex is the only interface to receive from; 0 is all. Promiscuous asks
	// it for other hosts' frames.
	Ifindex     int
	Promiscuous bool
	// Group, if set, is the fanout group that the ring is one of.
	Group *Group
	// Handed, if set, is a ring that is there already, made by another process with
	// the same Config. Filter is not called for it.
	Handed *Handed
	// Spin is how long Wait looks at the ring before it sleeps.
	Spin time.Duration
	// BeforeSleep, if set, is called when the ring is empty and Wait is about
	// to sleep.
	BeforeSleep func()
	// Beside, if BesideReady is set, is a further descriptor: Wait returns when it
	// is readable, or when BesideReady says so while Wait has not gone to sleep.
	Beside      int
	BesideReady func() bool
}

// Socket is a receive ring for all interfaces of the network namespace it was
// opened in. One goroutine receives; Wake, Close and Drops are for any.
type Socket struct {
	*Ring
	// Loaded is set by the reader while many frames come at a time: Wait then
	// keeps the CPU that a busy sender would not give back soon.
	Loaded bool
	// BesideReadable is set by a Wait that slept: Config.Beside has something.
	BesideReadable bool
	spin           spinner
	crowded        time.Time // until when no CPU is to be given away
	gather         gatherer
	fd             int
	wakeFD         int
	cfg            Config
	mem            []byte
	closed         atomic.Bool
	statMu         sync.Mutex // guards fd against Reopen, and drops
	drops          uint64
}

const (
	defaultSlots    = 4096
	defaultSlotSize = 2048
	defaultQueue    = 16 << 20
	blockSize       = 1 << 17
)

// Open makes a ring for IPv4 and all else that the filter lets through
// (ETH_P_ALL, so that it sees frames before tc ingress), in the network
// namespace of the calling thread.
func Open(cfg Config) (*Socket, error) {
	if cfg.Slots == 0 {
		cfg.Slots = defaultSlots
	}
	if cfg.SlotSize == 0 {
		cfg.SlotSize = defaultSlotSize
	}
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	s := &Socket{fd: -1, wakeFD: -1, cfg: cfg, spin: newSpinner(cfg.Spin)}
	var err error
	if s.wakeFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if cfg.Handed != nil {
		err, s.cfg.Handed = s.adopt(cfg.Handed), nil
	} else {
		err = s.Reopen()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Bind has the socket receive from one interface, or with 0 from all, from now
// on; what waits in the ring stays. For any goroutine.
func (s *Socket) Bind(ifindex int) error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex}); err != nil {
		return fmt.Errorf("packet socket: bind to interface %d: %w", ifindex, err)
	}
	return nil
}

// Refilter calls Config.Filter again: what it attaches takes the place of the
// filter before, between two frames. For any goroutine.
func (s *Socket) Refilter() error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	return s.cfg.Filter(s.fd)
}

// Promiscuous asks an interface for other hosts' frames, or says that they are no
// longer wanted; it counts. For any goroutine.
func (s *Socket) Promiscuous(ifindex int, on bool) error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	opt := unix.PACKET_DROP_MEMBERSHIP
	if on {
		opt = unix.PACKET_ADD_MEMBERSHIP
	}
	if err := promiscuous(s.fd, opt, ifindex); err != nil {
		return fmt.Errorf("packet socket: promiscuous mode of interface %d: %w", ifindex, err)
	}
	return nil
}

func promiscuous(fd, opt, ifindex int) error {
	return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, opt, &unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_PROMISC})
}

// Reopen replaces the ring by a new one: for the receiving goroutine, with
// nothing borrowed. Frames that wait in the old one are lost. In a group the new
// ring gets nothing until the old one is closed, and then what that would have got.
func (s *Socket) Reopen() error {
	fd, mem, err := s.cfg.open(s.fd >= 0)
	if err != nil {
		return err
	}
	s.statMu.Lock()
	defer s.statMu.Unlock()
	err = s.closeRing()
	s.fd = fd
	s.use(mem)
	return err
}

// use has the ring be that of mem.
func (s *Socket) use(mem []byte) {
	s.mem, s.Ring = mem, NewRing(mem, s.cfg.SlotSize)
	if s.cfg.Plain {
		s.Ring.vnetLen = 0
	}
}

// open makes a socket and maps its ring; replaces says that there is an older one.
func (c *Config) open(replaces bool) (fd int, mem []byte, err error) {
	// Protocol 0: nothing is received before bind, hence nothing unfiltered.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("packet socket: %w", err)
	}
	opened := fd
	defer func() {
		if err != nil {
			_ = unix.Close(opened)
		}
	}()
	for _, o := range []struct {
		name       string
		opt, value int
	}{
		{"PACKET_VERSION", unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1},
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1},
		{"PACKET_COPY_THRESH", unix.PACKET_COPY_THRESH, 1},
	} {
		if c.Plain && (o.opt == unix.PACKET_VNET_HDR || o.opt == unix.PACKET_IGNORE_OUTGOING) {
			continue
		}
		if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, o.opt, o.value); err != nil {
			return -1, nil, fmt.Errorf("packet socket: %s: %w", o.name, err)
		}
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, c.Queue) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, c.Queue)
	}
	if c.Group != nil {
		err = mute(fd)
	} else {
		err = c.filter(fd)
	}
	if err != nil {
		return -1, nil, err
	}
	size := c.Slots * c.SlotSize
	block := min(blockSize, size)
	req := unix.TpacketReq{
		Block_size: uint32(block), Block_nr: uint32(size / block),
		Frame_size: uint32(c.SlotSize), Frame_nr: uint32(c.Slots),
	}
	if err = unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return -1, nil, fmt.Errorf("packet socket: PACKET_RX_RING of %d bytes: %w", size, err)
	}
	mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return -1, nil, fmt.Errorf("packet socket: mmap of %d bytes: %w", size, err)
	}
	ll := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: c.Ifindex}
	if err = unix.Bind(fd, &ll); err == nil && c.Promiscuous {
		err = promiscuous(fd, unix.PACKET_ADD_MEMBERSHIP, c.Ifindex)
	}
	if err != nil {
		_ = unix.Munmap(mem)
		return -1, nil, fmt.Errorf("packet socket: bind: %w", err)
	}
	if c.Group != nil {
		if err = c.enter(fd, replaces); err != nil {
			_ = unix.Munmap(mem)
			return -1, nil, err
		}
	}
	return fd, mem, nil
}

// filter attaches the socket's filter.
func (c *Config) filter(fd int) error {
	if c.Filter == nil {
		return nil
	}
	return c.Filter(fd)
}

// enter makes a socket that is muted a member of the group.
func (c *Config) enter(fd int, replaces bool) (err error) {
	if err := c.Group.join(fd); err != nil {
		return err
	}
	if replaces {
		settle() // who still delivers to the socket by itself must find it muted
	}
	if c.Filter == nil {
		err = unmute(fd)
	} else {
		err = c.Filter(fd)
	}
	if err != nil {
		c.Group.leave()
	}
	return err
}

// Gather lets frames gather for a moment where they come in quick succession. To
// be called where the ring is Ready.
func (s *Socket) Gather() {
	waiting := s.Waiting(gatherWant)
	if waiting < 2 {
		return
	}
	if t := s.gather.pause(waiting); t > 0 {
		doze(t)
	}
}

// Came says when the kernel took in a frame that was received, for Gather.
func (s *Socket) Came(at int64) { s.gather.note(at) }

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Wait returns when a frame is there, after Wake or Close, or when timeout is
// over (negative: never). It looks at the ring for the configured spin time
// first, so that a packet that answers another finds the thread awake.
func (s *Socket) Wait(timeout time.Duration) error {
	if s.closed.Load() {
		return os.ErrClosed
	}
	if s.ready() {
		return nil
	}
	start := time.Now()
	if timeout != 0 && (s.look(start) || s.doze(start)) {
		return nil
	}
	if s.cfg.BeforeSleep != nil {
		s.cfg.BeforeSleep()
	}
	if err := s.poll(timeout); err != nil {
		return err
	}
	if s.cfg.Spin > 0 && s.Ready() {
		s.spin.note(time.Since(start))
	}
	if s.closed.Load() {
		return os.ErrClosed
	}
	return nil
}

// A yield that took so long gave the CPU to somebody who keeps it, up to the end
// of a tick. For a while then the thread sleeps instead of yielding: to be woken
// takes the CPU back at once.
const (
	yieldLost  = 200 * time.Microsecond
	crowdedFor = 20 * time.Millisecond
)

// look looks at the ring for as long as it is worth it, and reports whether
// something came.
func (s *Socket) look(start time.Time) bool {
	if s.spin.limit == 0 || start.Before(s.crowded) {
		return false
	}
	if g := s.cfg.Group; g != nil {
		if !g.looking.begin(g.Most) {
			return false
		}
		defer g.looking.end()
	}
	for i := 0; ; i++ {
		if s.ready() {
			s.spin.note(time.Since(start))
			return true
		}
		if i&15 != 15 {
			continue
		}
		before := time.Since(start)
		if before >= s.spin.limit {
			return false
		}
		if s.Loaded {
			continue
		}
		yield()
		if after := time.Since(start); after-before > yieldLost {
			s.crowded = start.Add(after + crowdedFor)
		}
	}
}

// doze lets frames of a dense stream gather where the CPU is not to be given away
// otherwise: to be woken by each of them would cost more than it is worth.
func (s *Socket) doze(start time.Time) bool {
	if !start.Before(s.crowded) {
		return false
	}
	if t := s.gather.pause(0); t > 0 {
		doze(t)
	}
	return s.ready()
}

// ready reports whether Wait has nothing to wait for.
func (s *Socket) ready() bool { return s.Ready() || s.cfg.BesideReady != nil && s.cfg.BesideReady() }

func (s *Socket) poll(timeout time.Duration) error {
	fds := [3]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.wakeFD), Events: unix.POLLIN}, {Fd: -1}}
	if s.cfg.BesideReady != nil {
		fds[2] = unix.PollFd{Fd: int32(s.cfg.Beside), Events: unix.POLLIN}
	}
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	_, err := unix.Ppoll(fds[:], ts, nil)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("packet socket: poll: %w", err)
	}
	s.BesideReadable = fds[2].Revents != 0
	if fds[1].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(s.wakeFD, b[:])
	}
	if fds[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		// ENETDOWN says that some interface went down; the ring goes on.
		_, _ = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	}
	return nil
}

// ReadCopy takes the frame that belongs to a slot marked Copied into b, as
// Slot.Data would have it, and returns its length. ok is false when b is too
// short (the frame is lost then) or the queue is empty.
func (s *Socket) ReadCopy(b []byte) (n int, ok bool) {
	n, errno := recv(s.fd, b, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if errno != 0 || n > len(b) || n < s.vnetLen {
		return 0, false
	}
	return n, true
}

// Wake makes a Wait under way, or the next one, return.
func (s *Socket) Wake() {
	one := [8]byte{1}
	if s.wakeFD >= 0 {
		_, _ = unix.Write(s.wakeFD, one[:])
	}
}

// Drops is how many frames the kernel could not give to the ring since Open:
// no free slot (PACKET_STATISTICS tp_drops).
func (s *Socket) Drops() uint64 {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	s.readDrops()
	return s.drops
}

// readDrops collects the kernel's count, which reading resets.
func (s *Socket) readDrops() {
	if s.fd < 0 {
		return
	}
	if st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		s.drops += uint64(st.Drops)
	}
}

// closeRing lets go of the ring; statMu is held.
func (s *Socket) closeRing() error {
	if s.fd < 0 {
		return nil
	}
	s.readDrops()
	err := errors.Join(unix.Munmap(s.mem), unix.Close(s.fd))
	if s.cfg.Group != nil {
		s.cfg.Group.leave()
	}
	s.fd, s.mem, s.Ring = -1, nil, NewRing(nil, s.cfg.SlotSize)
	return err
}

// Mute has the ring get nothing more: the frames are left to the kernel. For any
// goroutine.
func (s *Socket) Mute() error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	if s.fd < 0 {
		return nil
	}
	return mute(s.fd)
}

// Shut makes Wait return os.ErrClosed from now on. For any goroutine.
func (s *Socket) Shut() {
	s.closed.Store(true)
	s.Wake()
}

// Close releases sockets and memory; nothing may use s any more.
func (s *Socket) Close() error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	s.closed.Store(true)
	err := s.closeRing()
	if s.wakeFD >= 0 {
		err = errors.Join(err, unix.Close(s.wakeFD))
		s.wakeFD = -1
	}
	return err
}
