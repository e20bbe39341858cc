package ndp

import (
	"testing"

	"golang.org/x/net/bpf"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// The filter passes what may be a solicitation or advertisement, whatever is wrong with
// it, and nothing else. Its one extension is unknown to the VM of x/net/bpf: a packet
// type is put in its place.
func TestFilter(t *testing.T) {
	vm := func(pkttype uint32) *bpf.VM {
		prog := new(protocol).Filter()
		prog[0] = bpf.LoadConstant{Dst: bpf.RegA, Val: pkttype}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		return vm
	}
	received, sent := vm(2), vm(packetOutgoing)
	check := func(name string, frame []byte, want bool) {
		t.Helper()
		n, err := received.Run(frame)
		if err != nil || (n > 0) != want || n > 0 && n < len(frame) {
			t.Errorf("%s: %d, %v, want %t", name, n, err, want)
		}
		if n, _ := sent.Run(frame); n != 0 {
			t.Errorf("%s: passes what this host sends", name)
		}
	}
	for _, c := range asked {
		check(c.name, c.s.bytes(), true)
	}
	for _, c := range malformed {
		var s Solicitation
		v := s.Read(c.frame)
		// The kernel shows a socket of ETH_P_IPV6 no other EtherType, and version and
		// lengths are Read's to check.
		want := v != arpd.IgnoreNDOther && v != arpd.DropTooSmall
		switch c.name {
		case "shorter than a solicitation":
			want = true
		case "no packet":
			want = false
		}
		check(c.name, c.frame, want)
	}
	check("MLD report", who(gatewayIP).with(func(s *solicit) { s.next, s.headers, s.typ = 0, []byte{58, 0, 5, 2, 0, 0, 1, 0}, 143 }).bytes(), false)
	check("TCP", who(gatewayIP).with(func(s *solicit) { s.next = wire.ProtoTCP }).bytes(), false)
	if _, err := bpf.Assemble(new(protocol).Filter()); err != nil {
		t.Fatal(err)
	}
}
