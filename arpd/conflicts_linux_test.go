package arpd

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"proxyarpd/internal/wire"
)

// TestClaimsFilter passes what one of the addresses sends, and nothing else.
func TestClaimsFilter(t *testing.T) {
	frame := func(sender string) []byte {
		b := make([]byte, wire.EthernetLen+wire.ARPLen)
		eth := wire.Ethernet(b)
		eth.SetType(wire.EtherTypeARP)
		wire.PutARP(eth.Payload(), wire.ARPReply, wire.MAC{2}, netip.MustParseAddr(sender), wire.MAC{}, netip.IPv4Unspecified())
		return b
	}
	for _, n := range []int{0, 1, 300, claimsMost, claimsMost + 1} {
		var addresses []netip.Addr
		for i := range n {
			addresses = append(addresses, netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i/256, i%256)))
		}
		// The extension is the kernel's: what is received is 0.
		vm, err := bpf.NewVM(claimsFilter(addresses)[3:])
		if err != nil {
			t.Fatal(err)
		}
		passes := func(b []byte) bool {
			got, err := vm.Run(b)
			if err != nil {
				t.Fatal(err)
			}
			return got > 0
		}
		for i := range addresses {
			if got := passes(frame(addresses[i].String())); got != (n <= claimsMost) {
				t.Errorf("%d addresses: %s passes: %t", n, addresses[i], got)
				break
			}
		}
		if passes(frame("10.9.0.0")) || passes(make([]byte, 20)) {
			t.Errorf("%d addresses: another passes", n)
		}
		if _, err := bpf.Assemble(claimsFilter(addresses)); err != nil {
			t.Error(err)
		}
	}
}
