package pktring

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// ethtool is SIOCETHTOOL with an ethtool_value (include/uapi/linux/ethtool.h).
func ethtool(t testing.TB, name string, cmd, value uint32) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	v := [2]uint32{cmd, value}
	var ifr struct {
		name [16]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifr.name[:15], name)
	ifr.data = unsafe.Pointer(&v)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		t.Fatalf("ethtool %#x on %s: %v", cmd, name, errno)
	}
}

// noOffloads has an interface send segments, each with a whole checksum.
func noOffloads(t testing.TB, name string) {
	t.Helper()
	const stso, stxcsum = 0x1f, 0x17
	ethtool(t, name, stso, 0)
	ethtool(t, name, stxcsum, 0)
}

// to changes a frame's destination, and its EtherType.
func to(b []byte, mac [6]byte, protocol uint16) []byte {
	b = append([]byte(nil), b...)
	copy(b[VnetLen:], mac[:])
	binary.BigEndian.PutUint16(b[VnetLen+12:], protocol)
	return b
}

// TestIPFilter: what the classic filters leave to the kernel alone.
func TestIPFilter(t *testing.T) {
	namespace(t)
	from, at := nstest.Veth(t, "a", "b")
	l, err := netlink.LinkByIndex(int(at))
	if err != nil {
		t.Fatal(err)
	}
	host, other := [6]byte(l.Attrs().HardwareAddr), [6]byte{2, 3, 4, 5, 6, 7}
	all, some, both := openRing(t, Config{}), openRing(t, Config{Filter: AttachIPv4}), openRing(t, Config{Filter: AttachIP})
	s := openSender(t, false)
	tag := func(b []byte, tpid, tci uint16) []byte {
		tagged := append([]byte(nil), b[:VnetLen+12]...)
		tagged = binary.BigEndian.AppendUint16(tagged, tpid)
		tagged = binary.BigEndian.AppendUint16(tagged, tci)
		return append(tagged, b[VnetLen+12:]...)
	}
	plain := ethernet(testProto, 7, 46)
	for name, c := range map[string]struct {
		frame []byte
		taken bool
		six   bool // taken by who takes IPv6, too
	}{
		"IPv4 to us":              {to(plain, host, unix.ETH_P_IP), true, false},
		"IPv4 to another":         {to(plain, other, unix.ETH_P_IP), true, false},
		"GSO":                     {to(gsoTCP(7, 60000, 1448), host, unix.ETH_P_IP), true, false},
		"IPv4 to all":             {to(plain, [6]byte{255, 255, 255, 255, 255, 255}, unix.ETH_P_IP), false, false},
		"IPv4 multicast":          {to(plain, [6]byte{1, 0, 0x5e, 0, 0, 1}, unix.ETH_P_IP), false, false},
		"ARP":                     {to(plain, host, unix.ETH_P_ARP), false, false},
		"IPv6":                    {to(plain, host, unix.ETH_P_IPV6), false, true},
		"IPv6 to another":         {to(plain, other, unix.ETH_P_IPV6), false, true},
		"IPv6 multicast":          {to(plain, [6]byte{0x33, 0x33, 0, 0, 0, 1}, unix.ETH_P_IPV6), false, false},
		"tagged IPv6":             {tag(to(plain, host, unix.ETH_P_IPV6), unix.ETH_P_8021Q, 5), false, false},
		"tagged IPv4":             {tag(to(plain, host, unix.ETH_P_IP), unix.ETH_P_8021Q, 5), false, false},
		"tagged twice":            {tag(tag(to(plain, host, unix.ETH_P_IP), unix.ETH_P_8021Q, 5), unix.ETH_P_8021AD, 6), false, false},
		"priority-tagged IPv4":    {tag(to(plain, host, unix.ETH_P_IP), unix.ETH_P_8021Q, 7<<13), true, false},
		"shorter than IPv4 is":    {to(ethernet(testProto, 7, 4), host, unix.ETH_P_IP), true, false},
		"an 802.3 frame's length": {to(plain, host, 46), false, false},
	} {
		send(t, s, from, c.frame)
		slot, _ := receive(t, all)
		var got Slot
		taken := some.Next(&got)
		if taken {
			some.Release(1)
		}
		if taken != c.taken {
			t.Errorf("%s: taken %v, want %v; without filter: type %d, tagged %v", name, taken, c.taken, slot.PktType, slot.Tagged)
		}
		if taken = both.Next(&got); taken {
			both.Release(1)
		}
		if want := c.taken || c.six; taken != want {
			t.Errorf("%s: both families: taken %v, want %v", name, taken, want)
		}
	}
}
