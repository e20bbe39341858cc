package macs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/instance"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/nstest"
)

func sh(t testing.TB, script string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(script) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if _, err := exec.LookPath(args[0]); err != nil {
			nstest.Skip(t, "%s is not installed", args[0])
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		all.Write(out)
	}
	return all.String()
}

// kernel is that of the test's network namespace.
func kernel(t testing.TB) *Kernel {
	t.Helper()
	req, err := netstate.NewRequester()
	check(t, err)
	k := &Kernel{Requester: req}
	t.Cleanup(func() {
		check(t, k.Close())
		check(t, req.Close())
	})
	return k
}

// shown is what iproute2 says of the interface.
func shown(t testing.TB) string {
	t.Helper()
	lines := strings.Split(sh(t, `ip -o link show dev cali0
		ip -4 neigh show dev cali0 nud permanent
		ip -6 neigh show dev cali0 nud permanent`), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestKernel(t *testing.T) {
	nstest.Enter(t)
	sh(t, `ip link add cali0 type veth peer name eth0
		ip link set cali0 up
		ip link set eth0 up
		ip neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev cali0 nud permanent
		ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev cali0 nud permanent proto bird
		ip -6 neigh add fd00::1 lladdr 02:00:00:00:00:03 dev cali0 nud permanent router
		ip neigh add proxy 10.0.0.3 dev cali0`)
	l, err := netlink.LinkByName("cali0")
	check(t, err)
	index := l.Attrs().Index
	found := shown(t)
	original := MAC(l.Attrs().HardwareAddr)

	// What all this is for: the kernel does flush them, even for the MAC that it has.
	check(t, kernel(t).SetMAC(index, original))
	if n, err := kernel(t).PermanentNeighbours(); err != nil || len(n) != 0 {
		t.Errorf("after a change to the same MAC: %v, %v", n, err)
	}
	sh(t, `ip neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev cali0 nud permanent
		ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev cali0 nud permanent proto bird
		ip -6 neigh add fd00::1 lladdr 02:00:00:00:00:03 dev cali0 nud permanent router`)

	dir := t.TempDir() + "/state"
	k := open(t, dir, kernel(t))
	check(t, k.Set(index, "cali0", original, ee))
	want := strings.Replace(found, text(original), text(ee), 1)
	if got := shown(t); got != want {
		t.Errorf("after Set:\n%s\nwant:\n%s", got, want)
	}
	// Killed: the next one puts it back.
	k = open(t, dir, kernel(t))
	check(t, k.Restore(context.Background()))
	if got := shown(t); got != found {
		t.Errorf("after Restore:\n%s\nwant:\n%s", got, found)
	}
	check(t, k.Set(index, "cali0", original, ee))
	check(t, k.Close())
	if got := shown(t); got != found {
		t.Errorf("after Close:\n%s\nwant:\n%s", got, found)
	}
	absent(t, dir)

	// Down is fine too.
	sh(t, `ip link set cali0 down
		ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:01 dev cali0 nud permanent`)
	found = shown(t)
	k = open(t, dir, kernel(t))
	check(t, k.Set(index, "cali0", original, ee))
	check(t, k.Close())
	if got := shown(t); got != found {
		t.Errorf("down, after Close:\n%s\nwant:\n%s", got, found)
	}

	// And gone.
	k = open(t, dir, kernel(t))
	check(t, k.Set(index, "cali0", original, ee))
	sh(t, `ip link del cali0`)
	check(t, k.Close())
	absent(t, dir)
}

// TestRenamed: what a killed daemon changed is put back though the interface has another name, and not given to a
// new interface that has its index, its name and its MAC.
func TestRenamed(t *testing.T) {
	nstest.Enter(t)
	sh(t, `ip link add cali0 type veth peer name eth0`)
	l, err := netlink.LinkByName("cali0")
	check(t, err)
	index, original := l.Attrs().Index, MAC(l.Attrs().HardwareAddr)
	is := func(name string, want MAC) {
		t.Helper()
		l, err := netlink.LinkByName(name)
		check(t, err)
		if got := MAC(l.Attrs().HardwareAddr); got != want || l.Attrs().Index != index {
			t.Errorf("%s has %s and index %d, want %s and %d", name, text(got), l.Attrs().Index, text(want), index)
		}
	}
	dir := t.TempDir() + "/state"
	set := func(name string) { // by one that is killed then
		t.Helper()
		check(t, open(t, dir, kernel(t)).Set(index, name, original, ee))
		is(name, ee)
	}
	set("cali0")
	sh(t, `ip link set cali0 name net0`)
	k := kernel(t)
	got, err := k.Link(index)
	check(t, err)
	if got.Inode == 0 {
		nstest.Skip(t, "a sysfs of the namespace can't be had: CAP_SYS_ADMIN")
	}
	check(t, open(t, dir, k).Restore(context.Background()))
	is("net0", original)
	absent(t, dir)

	for _, name := range []string{"net0", "cali9"} {
		set("net0")
		sh(t, fmt.Sprintf(`ip link del net0
			ip link add %s index %d address %s type veth peer name eth0`, name, index, text(ee)))
		check(t, open(t, dir, kernel(t)).Restore(context.Background()))
		is(name, ee)
		absent(t, dir)
		sh(t, fmt.Sprintf(`ip link del %s
			ip link add net0 index %d address %s type veth peer name eth0`, name, index, text(original)))
	}
	check(t, k.Close())
}

// An entry that the kernel has begun to resolve is replaced.
func TestAddNeighbourReplaces(t *testing.T) {
	nstest.Enter(t)
	sh(t, `ip link add cali0 type veth peer name eth0
		ip link set cali0 up
		ip link set eth0 up
		ip neigh add 10.0.0.1 lladdr 02:00:00:00:00:09 dev cali0 nud stale`)
	l, err := netlink.LinkByName("cali0")
	check(t, err)
	n := Neighbour{Ifindex: l.Attrs().Index, IP: netip.MustParseAddr("10.0.0.1"), MAC: other, Protocol: 4}
	check(t, kernel(t).AddNeighbour(n))
	got, err := kernel(t).PermanentNeighbours()
	if err != nil || len(got) != 1 || got[0] != n {
		t.Errorf("got %v, %v, want %v", got, err, n)
	}
	n.Ifindex = 4711
	if err := kernel(t).AddNeighbour(n); err == nil || !strings.Contains(err.Error(), "no such device") {
		t.Errorf("no such device: %v", err)
	}
	if _, err := kernel(t).Link(4711); err == nil {
		t.Error("an interface that is not there has a MAC")
	}
}

// An entry that somebody has made permanent, or learns outside of the kernel, is not replaced: it came after the look
// at what was missing.
func TestAddNeighbourLeavesOthers(t *testing.T) {
	nstest.Enter(t)
	sh(t, `ip link add cali0 type veth peer name eth0
		ip link set cali0 up
		ip link set eth0 up
		ip neigh add 10.0.0.1 lladdr 02:00:00:00:00:09 dev cali0 nud permanent
		ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev cali0 nud stale extern_learn`)
	l, err := netlink.LinkByName("cali0")
	check(t, err)
	k := kernel(t)
	for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
		check(t, k.AddNeighbour(Neighbour{Ifindex: l.Attrs().Index, IP: netip.MustParseAddr(ip), MAC: other}))
	}
	if got := sh(t, `ip neigh show dev cali0`); strings.Count(got, "02:00:00:00:00:09") != 2 {
		t.Errorf("others' entries have become\n%s", got)
	}
}

// TestOtherNeighboursKept: entries that are not permanent, which the Keeper does not record, are there after a change
// of the MAC too, unless it is known that there are none.
func TestOtherNeighboursKept(t *testing.T) {
	nstest.Enter(t)
	sh(t, `ip link add cali0 type veth peer name eth0
		ip link set cali0 up
		ip link set eth0 up`)
	l, err := netlink.LinkByName("cali0")
	check(t, err)
	index := l.Attrs().Index
	k := kernel(t)
	var since time.Time
	k.Flushed = func(i int, t time.Time) {
		if i == index {
			since = t
		}
	}
	k.Lost = func(err error) { t.Error(err) }
	kept := func(bare bool, want int) {
		t.Helper()
		sh(t, `ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev cali0 nud reachable
			ip -6 neigh replace fd00::1 lladdr 02:00:00:00:00:02 dev cali0 nud stale router
			ip neigh replace 10.0.0.3 lladdr 02:00:00:00:00:03 dev cali0 nud permanent`)
		k.Bare = func(i int) bool { return bare && i == index }
		before := time.Now()
		check(t, k.SetMAC(index, ee))
		if since.Before(before) || since.After(time.Now()) {
			t.Errorf("flushed since %v", since)
		}
		got := sh(t, `ip neigh show dev cali0`)
		if n := strings.Count(got, "02:00:00:00:00:0"); n != want || strings.Contains(got, "10.0.0.3") || want > 0 && !strings.Contains(got, "router") {
			t.Errorf("bare %v: %d entries\n%s", bare, n, got)
		}
	}
	kept(false, 2)
	kept(true, 0)
	since = time.Time{}
	if err := k.SetMAC(4711, ee); !errors.Is(err, ErrNoLink) || !since.IsZero() {
		t.Errorf("no such interface: %v, flushed since %v", err, since)
	}
}

// TestRecordedKind: records of earlier versions have other words for some kinds.
func TestRecordedKind(t *testing.T) {
	for kind, want := range map[string]string{"": "device", "tun": "tuntap", "veth": "veth", "ipvlan": "ipvlan"} {
		if got := recordedKind(kind); got != want {
			t.Errorf("%q is recorded as %q, want %q", kind, got, want)
		}
	}
}

// BenchmarkHundreds changes 500 interfaces of a fake kernel and puts them back: what the record costs.
func BenchmarkHundreds(b *testing.B) {
	for b.Loop() {
		f := newFake()
		var all []Change
		for i := 100; i < 600; i++ {
			f.link(i, fmt.Sprintf("cali%d", i), random)
			all = append(all, Change{i, f.links[i].name, random, ee})
		}
		k, err := Open(b.TempDir()+"/state", instance.Netns{Cookie: 42}, f, slog.New(slog.DiscardHandler))
		check(b, err)
		for _, err := range k.SetAll(all) {
			check(b, err)
		}
		check(b, k.Close())
	}
}
