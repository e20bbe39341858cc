package claim

import (
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/pktring"
)

// What is no untagged IPv4 to the host's MAC stays where it is.
func TestFramesLeftAlone(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r := openRing(t, s, 64)
	all, err := pktring.Open(pktring.Config{Slots: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	forward(t, s, e, 60)
	plain := packet(e.mac, "203.0.113.9")
	tagged := func(tci ...byte) []byte {
		b := append([]byte(nil), plain[:pktring.VnetLen+12]...)
		b = append(append(b, 0x81, 0x00), tci...)
		return append(b, plain[pktring.VnetLen+12:]...)
	}
	changed := func(at int, v ...byte) []byte {
		b := append([]byte(nil), plain...)
		copy(b[pktring.VnetLen+at:], v)
		return b
	}
	for name, c := range map[string]struct {
		frame  []byte
		ours   int
		tagged bool
	}{
		"plain":                      {plain, 1, false},
		"VLAN 5":                     {tagged(0, 5), 0, true},
		"priority tag":               {tagged(0xe0, 0), 1, true},
		"VLAN 5 with a priority":     {tagged(0xe0, 5), 0, true},
		"broadcast":                  {changed(0, 255, 255, 255, 255, 255, 255), 0, false},
		"multicast":                  {changed(0, 1, 0, 0x5e, 0, 0, 9), 0, false},
		"IPv6":                       {changed(12, 0x86, 0xdd), 0, false},
		"ARP":                        {changed(12, 0x08, 0x06), 0, false},
		"MPLS":                       {changed(12, 0x88, 0x47), 0, false},
		"no whole header":            {plain[:pktring.VnetLen+14+19], 0, false},
		"a bare header":              {plain[:pktring.VnetLen+14+20], 1, false},
		"wrong version, for us":      {changed(14, 0x65), 1, false}, // counted as IP_INHDR by the datapath
		"a header of 0 words, to us": {changed(14, 0x40), 1, false},
	} {
		e.put(t, c.frame)
		var seen pktring.Slot
		if !all.Next(&seen) || seen.Tagged != c.tagged {
			t.Errorf("%s: without a filter: %+v", name, seen)
		}
		all.Release(1)
		if n := drain(r, nil, 0); n != c.ours {
			t.Errorf("%s: %d in the ring, want %d", name, n, c.ours)
		}
	}
}

// The kernel gets a tagged frame whatever is claimed.
func TestTaggedFrameReachesTheKernel(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	openRing(t, s, 64)
	forward(t, s, e, 60)
	k := openKernel(t, e, unix.ETH_P_IP)
	plain := packet(e.mac, "203.0.113.9")
	tagged := append(append([]byte(nil), plain[:pktring.VnetLen+12]...), 0x81, 0, 0, 5)
	e.put(t, plain, append(tagged, plain[pktring.VnetLen+12:]...), plain)
	// There is no device for VLAN 5: __netif_receive_skb_core says so by the type.
	if types := k.got(t); len(types) != 1 || types[0] != unix.PACKET_OTHERHOST {
		t.Errorf("types %v, want the tagged frame alone", types)
	}
}

// The ARP filter bounds what one interface puts into the queue of all.
func TestARPPolicing(t *testing.T) {
	namespace(t)
	flooder, quiet, stranger, other := veth(t, "a"), veth(t, "b"), veth(t, "c"), veth(t, "d")
	const burst = 50
	s, err := Load(Config{ARP: ARPPolice{PerSecond: 10, Burst: burst}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := openARP(t, s)
	for _, e := range []*end{flooder, quiet} {
		if _, err := s.SetPort(Port{Ifindex: e.index, Workload: true, ARP: true, L2Len: 14}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.SetPort(Port{Ifindex: other.index, L2Len: 14}); err != nil { // an uplink
		t.Fatal(err)
	}
	arp := func(e *end) []byte {
		f := packet(e.mac, "203.0.113.9")
		f[pktring.VnetLen+13] = 0x06
		return f
	}
	const flood = 1000
	flooder.put(t, repeat(flood, arp(flooder))...)
	passed := len(k.got(t))
	if passed < burst || passed > burst+5 { // 10 a second may come on top
		t.Errorf("%d of %d frames passed, want %d", passed, flood, burst)
	}
	if c := s.Counters(flooder.index); c.ARPPassed != uint64(passed) || c.ARPPoliced != flood-uint64(passed) {
		t.Errorf("passed %d, policed %d; %d came", c.ARPPassed, c.ARPPoliced, passed)
	}
	quiet.put(t, repeat(burst, arp(quiet))...)
	if n := len(k.got(t)); n != burst {
		t.Errorf("another interface: %d of %d frames", n, burst)
	}
	stranger.put(t, repeat(burst, arp(stranger))...) // of which userspace does not know yet
	if n := len(k.got(t)); n != burst {
		t.Errorf("a new interface: %d of %d frames", n, burst)
	}
	other.put(t, arp(other)) // not a workload
	if n := len(k.got(t)); n != 0 {
		t.Errorf("an uplink: %d frames", n)
	}
	if c := s.Totals(); c.ARPPassed != uint64(passed)+2*burst || c.ARPPoliced != flood-uint64(passed) {
		t.Errorf("totals %+v", c)
	}
}

// openARP opens a socket with the filter of the responder's.
func openARP(t *testing.T, s *Set) *kernel {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = s.AttachARP(fd)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP)})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &kernel{fd}
}

// One sender's flood leaves the others behind its interface their share.
func TestARPSenders(t *testing.T) {
	namespace(t)
	e := veth(t, "a")
	const burst, flood, share = 100, 50, 10
	s, err := Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: burst, SenderPerSecond: 1, SenderBurst: share}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := openARP(t, s)
	if _, err := s.SetPort(Port{Ifindex: e.index, Workload: true, ARP: true, L2Len: 14}); err != nil {
		t.Fatal(err)
	}
	passes := func(n int, sender string, mac byte) int {
		t.Helper()
		f := packet(e.mac, "203.0.113.9")
		f[pktring.VnetLen+13] = 0x06
		arp := f[pktring.VnetLen+14:]
		copy(arp[8:], []byte{2, 0, 0, 0, 0, mac})
		copy(arp[14:], net.ParseIP(sender).To4())
		e.put(t, repeat(n, f)...)
		return len(k.got(t))
	}
	got := []int{passes(flood, "10.65.0.2", 1), passes(share, "10.65.0.3", 1), passes(flood, "0.0.0.0", 1), passes(share, "0.0.0.0", 2)}
	for i, n := range got { // one a second may come on top
		if n < share || n > share+2 {
			t.Errorf("passed %v, want %d of each sender (%d)", got, share, i)
		}
	}
	if c := s.Counters(e.index); c.ARPSender < 2*(flood-share)-4 || c.ARPPoliced != 0 {
		t.Errorf("%+v", c)
	}
	for i := range 2 * burst {
		passes(1, fmt.Sprintf("10.66.0.%d", i), 1)
	}
	if c := s.Counters(e.index); c.ARPPoliced == 0 {
		t.Errorf("ever new senders passed the interface's limit: %+v", c)
	}
}
