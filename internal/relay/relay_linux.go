// Package relay is a device of the daemon's own, by which it gets from the
// kernel what no receive ring can take, and gives back what it took too early.
//
// The device is a TAP without a queueing discipline. It can neither segment nor
// compute checksums, so a super-packet that the tc program redirects to it comes
// out of its descriptor in the packets that it stands for, made by the kernel's
// own code for whatever its GSO type is: a tunnel's segments, SCTP's, UFO. What
// is written to the descriptor comes in at the device, where another tc program
// sends it on to the interface that it came from (forward/claim).
//
// It is gone when the descriptor is closed, kill -9 included.
package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Length of the struct virtio_net_hdr before each frame, and of what stands for
// a link-layer header before it (struct relayhdr of forward/claim/bpf/claim.c),
// in bytes.
const (
	vnetLen   = 10
	headerLen = 14
)

// queueLen is how many packets wait for Read, at most.
const queueLen = 4096

// MaxFrame is the length of a buffer that any frame fits in, in bytes.
const MaxFrame = vnetLen + headerLen + headerLen + 1<<16

// Device is the relay of a network namespace. One goroutine reads; Return is for
// any.
type Device struct {
	fd      int
	ifindex int32
	name    string

	framing sync.Mutex // guards scratch; few interfaces have no link layer
	scratch []byte
}

// Open makes the device in the network namespace of the calling thread. An error
// that is os.ErrNotExist or os.ErrPermission says that there is no /dev/net/tun
// to be had.
func Open() (_ *Device, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	d := &Device{fd: fd}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	req, err := unix.NewIfreq("proxyarpd%d")
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, fmt.Errorf("relay: TUNSETIFF: %w", err)
	}
	d.name = req.Name()
	if err = d.configure(); err != nil {
		return nil, fmt.Errorf("relay %s: %w", d.name, err)
	}
	return d, nil
}

// Adopt makes a Device of another process's, by its descriptor, which is the Device's
// from then on.
func Adopt(fd int) (*Device, error) {
	req, err := unix.NewIfreq("proxyarpd%d") // the kernel writes the name
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return nil, fmt.Errorf("relay: TUNGETIFF: %w", err)
	}
	d := &Device{fd: fd, name: req.Name()}
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return nil, fmt.Errorf("relay %s: %w", d.name, err)
	}
	d.ifindex = int32(link.Attrs().Index)
	return d, nil
}

// configure has nobody but us send there: no addresses, no ARP, no queueing
// discipline that would keep or reorder packets.
func (d *Device) configure() error {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return err
	}
	d.ifindex = int32(link.Attrs().Index)
	const addrGenNone = 1                                // IN6_ADDR_GEN_MODE_NONE
	_ = netlink.LinkSetIP6AddrGenMode(link, addrGenNone) // there may be no IPv6
	if err := netlink.LinkSetARPOff(link); err != nil {
		return err
	}
	if err := netlink.LinkSetTxQLen(link, queueLen); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return netlink.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: int(d.ifindex), Handle: netlink.HANDLE_NONE, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	})
}

// Dropped is how many packets the device has lost: the kernel could not make
// segments of them, or too many were waiting for Read.
func (d *Device) Dropped() (uint64, error) {
	link, err := netlink.LinkByIndex(int(d.ifindex))
	if err != nil {
		return 0, fmt.Errorf("relay %s: %w", d.name, err)
	}
	if s := link.Attrs().Statistics; s != nil {
		return s.TxDropped, nil
	}
	return 0, nil
}

// Ifindex is the device's.
func (d *Device) Ifindex() int32 { return d.ifindex }

// Name is the device's.
func (d *Device) Name() string { return d.name }

// FD is readable while a packet waits.
func (d *Device) FD() int { return d.fd }

// Packet is one that came through.
type Packet struct {
	Buf      []byte // virtio_net_hdr and frame, in the buffer that Read got
	Ifindex  int32  // where it came in
	Ethernet bool   // there is an Ethernet header
}

// Read takes the next packet into b, which has MaxFrame bytes. It never waits: ok
// is false if there is none.
func (d *Device) Read(b []byte) (p Packet, ok bool) {
	for {
		n, err := unix.Read(d.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n <= 0:
			return p, false
		}
		if p, ok = parse(b[:n]); ok {
			return p, true
		}
		// The kernel's own: a listener report, say.
	}
}

// magic is that of struct relayhdr.
const magic = "parpd\x00"

// parse reads what the tc program has put before a frame.
func parse(b []byte) (p Packet, ok bool) {
	if len(b) < vnetLen+headerLen || string(b[vnetLen+6:vnetLen+12]) != magic {
		return p, false
	}
	h := b[vnetLen:]
	p.Ifindex, p.Ethernet = int32(binary.NativeEndian.Uint32(h)), h[4] != 0
	p.Buf = b[headerLen:]
	clear(p.Buf[:vnetLen]) // nothing is left for others to do
	return p, true
}

// Return has the kernel handle a frame as if it had come in at an interface just
// now. buf is virtio_net_hdr and frame, whose source address is lost.
func (d *Device) Return(buf []byte, ifindex int32, ethernet bool) error {
	if !ethernet {
		d.framing.Lock()
		defer d.framing.Unlock()
		buf = d.framed(buf)
	}
	src := buf[vnetLen+6 : vnetLen+12]
	src[0], src[1] = 'p', 'r'
	binary.NativeEndian.PutUint32(src[2:], uint32(ifindex))
	if _, err := unix.Write(d.fd, buf); err != nil {
		return fmt.Errorf("relay %s: write: %w", d.name, err)
	}
	return nil
}

// framed gives a packet without link layer one, until the next call.
func (d *Device) framed(buf []byte) []byte {
	const ethIPv4, ethIPv6 = 0x0800, 0x86dd
	etherType := uint16(ethIPv4)
	if packet := buf[vnetLen:]; len(packet) > 0 && packet[0]>>4 == 6 {
		etherType = ethIPv6
	}
	b := append(d.scratch[:0], buf[:vnetLen]...)
	b = append(b, make([]byte, headerLen)...)
	binary.BigEndian.PutUint16(b[vnetLen+12:], etherType)
	d.scratch = append(b, buf[vnetLen:]...)
	for _, at := range []int{2, 6} { // hdr_len and csum_start count from the frame's first byte
		if v := binary.NativeEndian.Uint16(d.scratch[at:]); v != 0 {
			binary.NativeEndian.PutUint16(d.scratch[at:], v+headerLen)
		}
	}
	return d.scratch
}

// Close removes the device.
func (d *Device) Close() error { return unix.Close(d.fd) }
