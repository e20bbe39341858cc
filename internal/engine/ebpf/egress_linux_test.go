package ebpf

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// TestReadEgress: what devices and queueing disciplines have dropped is what the netlink
// library, which reads all of both, says.
func TestReadEgress(t *testing.T) {
	nstest.Need(t, "tc")
	nstest.Enter(t)
	nstest.NoIPv6()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}))
	index := map[string]int32{}
	for _, name := range []string{"a", "b"} {
		l, err := netlink.LinkByName(name)
		must(err)
		must(netlink.LinkSetUp(l))
		index[name] = int32(l.Attrs().Index)
	}
	out, err := exec.Command("tc", strings.Fields("qdisc add dev a root tbf rate 8kbit burst 2kb limit 3000")...).CombinedOutput()
	if err != nil {
		t.Fatalf("tc: %v: %s", err, out)
	}
	b, err := netlink.LinkByName("b")
	must(err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(fd)
	send := func(from string) {
		for range 20 { // the queue drops some; a device without carrier all
			_, _ = unix.SendmsgN(fd, make([]byte, 1000), nil, &unix.SockaddrLinklayer{Ifindex: int(index[from])}, 0)
		}
	}
	send("a")
	must(netlink.LinkSetDown(b))
	send("a")

	got, err := readEgress()
	must(err)
	links, err := netlink.LinkList()
	must(err)
	if len(got) != len(links) {
		t.Errorf("counters of %d interfaces, there are %d", len(got), len(links))
	}
	for _, l := range links {
		if a := l.Attrs(); got[int32(a.Index)].Device != a.Statistics.TxDropped {
			t.Errorf("%s: dropped %d, want %d", a.Name, got[int32(a.Index)].Device, a.Statistics.TxDropped)
		}
	}
	qdiscs, err := netlink.QdiscList(nil)
	must(err)
	seen := uint64(0)
	for _, q := range qdiscs {
		a := q.Attrs()
		if a.Parent != netlink.HANDLE_ROOT {
			continue
		}
		seen += uint64(a.Statistics.Queue.Drops)
		if want := uint64(a.Statistics.Queue.Drops); got[int32(a.LinkIndex)].Qdisc != want {
			t.Errorf("queueing discipline of %d: dropped %d, want %d", a.LinkIndex, got[int32(a.LinkIndex)].Qdisc, want)
		}
	}
	if seen == 0 {
		t.Error("no queueing discipline has dropped: the test shows nothing")
	}
	for m := range 24 { // what is cut short is no counter, and no end
		deviceDrops(make([]byte, m))
		qdiscDrops(make([]byte, m))
		attribute([]byte{byte(m), 0, 1, 0, 0}, 1)
	}
}
