package pktring

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

func remove(t testing.TB, ifindex int32) {
	t.Helper()
	if err := netlink.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}); err != nil {
		t.Fatal(err)
	}
}

func TestDropsAndReopen(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	filters := 0
	r := openRing(t, Config{Slots: 64, Filter: func(int) error { filters++; return nil }})
	s := openSender(t, false)
	var frames [][]byte
	for i := range uint32(100) {
		frames = append(frames, ethernet(testProto, i, 46))
	}
	send(t, s, from, frames...)
	if n := r.Drops(); n != 36 {
		t.Errorf("100 frames into 64 slots: %d drops, want 36", n)
	}
	for i := range uint32(64) {
		if _, b := receive(t, r); numberOf(b[VnetLen:]) != i {
			t.Fatalf("frame %d came, want %d", numberOf(b[VnetLen:]), i)
		}
	}
	quiet(t, r)

	send(t, s, from, frames...) // 64 of which wait in the ring that is replaced
	if err := r.Reopen(); err != nil {
		t.Fatal(err)
	}
	if filters != 2 {
		t.Errorf("the filter was attached %d times, want 2", filters)
	}
	quiet(t, r)
	if n := r.Drops(); n != 72 {
		t.Errorf("%d drops over both rings, want 72", n)
	}
	send(t, s, from, frames[:3]...)
	for i := range uint32(3) {
		if _, b := receive(t, r); numberOf(b[VnetLen:]) != i {
			t.Errorf("new ring: frame %d came, want %d", numberOf(b[VnetLen:]), i)
		}
	}
	r.Wake()
	if err := r.Wait(-1); err != nil { // still the same event
		t.Error(err)
	}
	if n := r.Drops(); n != 72 {
		t.Errorf("%d drops, want 72", n)
	}
}

// A Reopen that fails leaves the ring that there was.
func TestReopenFails(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	refuse := error(nil)
	r := openRing(t, Config{Filter: func(int) error { return refuse }})
	files := openFiles(t)
	refuse = unix.EPERM
	if err := r.Reopen(); err == nil {
		t.Fatal("the filter refuses, and Reopen does not")
	}
	if n := openFiles(t); n != files {
		t.Errorf("%d open files, %d before", n, files)
	}
	send(t, openSender(t, true), from, ethernet(testProto, 5, 46))
	if _, b := receive(t, r); numberOf(b[VnetLen:]) != 5 {
		t.Error("another frame came")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	namespace(t)
	before := openFiles(t)
	for range 3 {
		r, err := Open(Config{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenSender(true)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Reopen(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // twice does no harm
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if r.Drops() != 0 {
			t.Error("drops of a closed ring")
		}
		r.Wake()
	}
	if _, err := Open(Config{Filter: func(int) error { return unix.EPERM }}); err == nil {
		t.Error("Open without its filter")
	}
	if _, err := Open(Config{Slots: 3}); err == nil {
		t.Error("Open with 3 slots")
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d open files, %d before", after, before)
	}
	if maps := mappings(t); maps != 0 {
		t.Errorf("%d packet rings are still mapped", maps)
	}
}

// openFiles counts this process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// mappings counts what of this process's memory is a packet socket's.
func mappings(t testing.TB) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/map_files/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && len(to) > 7 && to[:7] == "socket:" {
			n++
		}
	}
	return n
}
