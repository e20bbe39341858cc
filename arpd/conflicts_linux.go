package arpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// Claims hears who claims some addresses, on all interfaces of a network namespace.
// It has a socket of its own, whose filter passes nothing else: on a host where
// nobody does it costs a look at each ARP frame.
type Claims struct{ conn *packet.Conn }

// claimsMost is how many addresses the filter can look for; of more, none is.
const claimsMost = 1024

// Of a flood, so many are heard in so long a time.
const (
	claimsBatch = 64
	claimsPause = 10 * time.Millisecond
)

// ListenClaims makes the socket, in the network namespace of the calling thread. It
// needs CAP_NET_RAW.
func ListenClaims(addresses []netip.Addr) (*Claims, error) {
	filter, err := bpf.Assemble(claimsFilter(addresses))
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(&net.Interface{}, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("ARP socket: %w", err)
	}
	return &Claims{conn}, nil
}

// SetAddresses has it hear of others from now on. For any goroutine.
func (c *Claims) SetAddresses(addresses []netip.Addr) error {
	filter, err := bpf.Assemble(claimsFilter(addresses))
	if err == nil {
		err = c.conn.SetBPF(filter)
	}
	return err
}

// claimsFilter passes received frames whose ar$spa is one of the addresses.
func claimsFilter(addresses []netip.Addr) []bpf.Instruction {
	const spa = wire.EthernetLen + wire.ARPFixedLen + 6
	var match []bpf.Instruction
	for _, a := range addresses[:min(len(addresses), claimsMost+1)] {
		if b := a.As4(); len(addresses) <= claimsMost {
			match = append(match, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), SkipTrue: 1},
				bpf.RetConstant{Val: snapLen})
		}
	}
	head := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packetOutgoing, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: spa, Size: 4}, // a shorter frame ends here
	}
	return append(append(head, match...), bpf.RetConstant{Val: 0})
}

// Run calls heard for each claim until ctx ends (nil) or the socket fails.
func (c *Claims) Run(ctx context.Context, heard func(Claim)) error {
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	var b [snapLen]byte
	for n := 0; ; n++ {
		if n%claimsBatch == claimsBatch-1 {
			select {
			case <-time.After(claimsPause):
			case <-ctx.Done():
			}
		}
		var size int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			size, from, failed = unix.Recvfrom(int(fd), b[:], 0)
			return !errors.Is(failed, unix.EAGAIN)
		})
		switch err = errors.Join(err, failed); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.EINTR): // an interface went
			continue
		case errors.Is(err, os.ErrClosed):
			return os.ErrClosed
		case err != nil:
			return fmt.Errorf("ARP socket: %w", err)
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		if claim, ok := readClaim(b[:size], ll.Ifindex); ok {
			heard(claim)
		}
	}
}

// Close releases the socket, after Run has returned.
func (c *Claims) Close() error { return c.conn.Close() }
