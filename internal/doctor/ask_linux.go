package doctor

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// askFor is how long answers are waited for: the kernel's default proxy_delay has
// them come up to 800 ms later.
const askFor = time.Second

// ask broadcasts a request for each gateway on an interface of the calling thread's
// namespace, and gives all who answered for one of them. A sender of 0.0.0.0 makes
// it a probe (RFC 5227), by which nobody learns anything.
func ask(name string, sender netip.Addr, gateways []netip.Addr) (a answer) {
	a.where = name
	if len(gateways) > 0 {
		a.gateway = gateways[0].String()
	}
	a.macs, a.err = asked(name, sender, gateways)
	return a
}

func asked(name string, sender netip.Addr, gateways []netip.Addr) (macs []wire.MAC, err error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	if len(dev.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s has no Ethernet address", name)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: dev.Index}
	if err := unix.Bind(fd, to); err != nil {
		return nil, fmt.Errorf("bind to %s: %w", name, err)
	}
	mac := wire.MAC(dev.HardwareAddr)
	for _, g := range gateways {
		frame := make(wire.Ethernet, wire.EthernetLen+wire.ARPLen)
		frame.SetDst(wire.Broadcast)
		frame.SetSrc(mac)
		frame.SetType(wire.EtherTypeARP)
		wire.PutARP(frame.Payload(), wire.ARPRequest, mac, sender, wire.MAC{}, g)
		if err := unix.Sendto(fd, frame, 0, to); err != nil {
			return nil, fmt.Errorf("ask on %s: %w", name, err)
		}
	}
	for end := time.Now().Add(askFor); ; {
		left := time.Until(end).Milliseconds()
		if left <= 0 {
			return macs, nil
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left)); err == unix.EINTR || n == 0 {
			continue
		} else if err != nil {
			return macs, err
		}
		buf := make([]byte, 128)
		n, err := unix.Read(fd, buf)
		if err != nil {
			return macs, err
		}
		if m, ok := answers(buf[:n], gateways); ok && !slices.Contains(macs, m) {
			macs = append(macs, m)
		}
	}
}

// answers reports whether a frame is a reply for one of the gateways, and whose.
func answers(frame []byte, gateways []netip.Addr) (m wire.MAC, ok bool) {
	eth := wire.Ethernet(frame)
	if !eth.Valid() || eth.Type() != wire.EtherTypeARP {
		return m, false
	}
	a := wire.ARP(eth.Payload())
	if !a.Valid() || a.Op() != wire.ARPReply || !slices.Contains(gateways, a.SenderIP()) {
		return m, false
	}
	return wire.MAC(a.SenderHardwareAddr()), true
}

// htons is a number in network byte order.
func htons(n uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)) }
