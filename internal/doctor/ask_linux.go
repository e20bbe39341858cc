package doctor

import (
	"encoding/binary"
	"errors"
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

// asking is what one family is asked by on an interface.
type asking struct {
	etherType int
	filter    []unix.SockFilter // of what is received; nil: all of the EtherType
	// put writes the frame that asks for an address. An unspecified sender makes it a
	// probe, by which nobody learns anything.
	put func(frame []byte, mac wire.MAC, sender, gateway netip.Addr) int
	// read says whether a frame is an answer, for which address, and whose.
	read func(frame []byte) (gateway netip.Addr, mac wire.MAC, host, ok bool)
}

var askings = map[*family]*asking{
	ipv4: {etherType: unix.ETH_P_ARP, put: putRequest, read: readReply},
	ipv6: {etherType: unix.ETH_P_IPV6, filter: advertisements, put: putSolicitation, read: readAdvertisement},
}

// ask asks for gateways on an interface of the calling thread's network namespace, and
// gives who answered for each. The first of senders of a gateway's family is who asks.
func ask(name string, senders, gateways []netip.Addr) (all []answer) {
	for _, g := range gateways {
		all = append(all, answer{where: name, gateway: g})
	}
	dev, err := net.InterfaceByName(name)
	if err == nil && len(dev.HardwareAddr) != 6 {
		err = fmt.Errorf("%s has no Ethernet address", name)
	}
	if err != nil {
		for i := range all {
			all[i].err = err
		}
		return all
	}
	byFamily := map[*family][]*answer{}
	for i := range all {
		byFamily[all[i].family()] = append(byFamily[all[i].family()], &all[i])
	}
	var open []opened
	for v, of := range byFamily {
		o, err := openAsking(v, dev)
		for _, a := range of {
			if err == nil {
				err = o.send(a.gateway, senderOf(v, senders))
			}
			a.err = err
		}
		if o != nil {
			defer unix.Close(o.fd)
			open = append(open, *o)
		}
	}
	if err := hear(open, all); err != nil {
		for i := range all {
			all[i].err = errors.Join(all[i].err, err)
		}
	}
	return all
}

func senderOf(v *family, senders []netip.Addr) netip.Addr {
	if i := slices.IndexFunc(senders, v.has); i >= 0 {
		return senders[i]
	}
	if v == ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// opened is a socket for the questions of one family.
type opened struct {
	*asking
	fd  int
	to  *unix.SockaddrLinklayer
	mac wire.MAC
}

func openAsking(v *family, dev *net.Interface) (*opened, error) {
	a := askings[v]
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	o := &opened{asking: a, fd: fd, to: &unix.SockaddrLinklayer{Protocol: htons(uint16(a.etherType)), Ifindex: dev.Index}, mac: wire.MAC(dev.HardwareAddr)}
	if a.filter != nil {
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(a.filter)), Filter: &a.filter[0]})
	}
	if err == nil {
		err = unix.Bind(fd, o.to)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind to %s: %w", dev.Name, err)
	}
	return o, nil
}

func (o *opened) send(gateway, sender netip.Addr) error {
	var frame [wire.SolicitationLen]byte
	if err := unix.Sendto(o.fd, frame[:o.put(frame[:], o.mac, sender, gateway)], 0, o.to); err != nil {
		return fmt.Errorf("ask for %s: %w", gateway, err)
	}
	return nil
}

// hear notes who answers, as long as answers are waited for.
func hear(open []opened, all []answer) error {
	fds := make([]unix.PollFd, len(open))
	for i, o := range open {
		fds[i] = unix.PollFd{Fd: int32(o.fd), Events: unix.POLLIN}
	}
	buf := make([]byte, 256)
	for end := time.Now().Add(askFor); len(open) > 0; {
		left := time.Until(end).Milliseconds()
		if left <= 0 {
			return nil
		}
		if n, err := unix.Poll(fds, int(left)); err == unix.EINTR || n == 0 {
			continue
		} else if err != nil {
			return err
		}
		for i, o := range open {
			if fds[i].Revents == 0 {
				continue
			}
			n, err := unix.Read(o.fd, buf)
			if err != nil {
				return err
			}
			if gateway, mac, host, ok := o.read(buf[:n]); ok {
				note(all, gateway, mac, host)
			}
		}
	}
	return nil
}

func note(all []answer, gateway netip.Addr, mac wire.MAC, host bool) {
	for i := range all {
		a := &all[i]
		if a.gateway != gateway {
			continue
		}
		if !slices.Contains(a.macs, mac) {
			a.macs = append(a.macs, mac)
		}
		if host && !slices.Contains(a.hosts, mac) {
			a.hosts = append(a.hosts, mac)
		}
	}
}

func putRequest(b []byte, mac wire.MAC, sender, gateway netip.Addr) int {
	frame := wire.Ethernet(b)
	frame.SetDst(wire.Broadcast)
	frame.SetSrc(mac)
	frame.SetType(wire.EtherTypeARP)
	wire.PutARP(frame.Payload(), wire.ARPRequest, mac, sender, wire.MAC{}, gateway)
	return wire.EthernetLen + wire.ARPLen
}

func putSolicitation(b []byte, mac wire.MAC, sender, gateway netip.Addr) int {
	return wire.PutSolicitation(b, mac, sender.As16(), gateway.As16())
}

func readReply(frame []byte) (gateway netip.Addr, m wire.MAC, host, ok bool) {
	eth := wire.Ethernet(frame)
	if !eth.Valid() || eth.Type() != wire.EtherTypeARP {
		return gateway, m, false, false
	}
	a := wire.ARP(eth.Payload())
	if !a.Valid() || a.Op() != wire.ARPReply {
		return gateway, m, false, false
	}
	return a.SenderIP(), wire.MAC(a.SenderHardwareAddr()), false, true
}

// readAdvertisement takes what a neighbour would heed (RFC 4861 section 7.1.2). host says
// that the router flag is not set.
func readAdvertisement(frame []byte) (gateway netip.Addr, m wire.MAC, host, ok bool) {
	eth := wire.Ethernet(frame)
	if !eth.Valid() || eth.Type() != wire.EtherTypeIPv6 {
		return gateway, m, false, false
	}
	ip := wire.IPv6(eth.Payload())
	if !ip.Valid() || ip.Version() != 6 || ip.NextHeader() != wire.ProtoICMPv6 || ip.HopLimit() != wire.NDHopLimit || len(ip.Payload()) < ip.PayloadLen() {
		return gateway, m, false, false
	}
	msg := wire.ND(ip.Payload()[:ip.PayloadLen()])
	if !msg.Valid() || msg[0] != wire.ICMPv6NeighAdvert || msg[1] != 0 ||
		wire.Fold(wire.Sum(msg, wire.PseudoSum6(ip.Src(), ip.Dst(), wire.ProtoICMPv6, len(msg)))) != 0 {
		return gateway, m, false, false
	}
	m, has, ok := msg.LinkLayer(wire.NDOptTargetLinkLayer)
	if !has {
		m = eth.Src()
	}
	return msg.Target(), m, msg.Flags()&wire.NDRouter == 0, ok
}

// advertisements passes neighbour advertisements without extension headers.
var advertisements = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: wire.EthernetLen + 6}, // next header
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: wire.ProtoICMPv6, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: wire.EthernetLen + wire.IPv6Len}, // type
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: wire.ICMPv6NeighAdvert, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 256},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// htons is a number in network byte order.
func htons(n uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)) }
