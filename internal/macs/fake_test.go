package macs

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"proxyarpd/internal/instance"
)

var (
	random = MAC{0x02, 0, 0, 0, 0, 0x11}
	ee     = MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	other  = MAC{0x02, 0, 0, 0, 0, 0x22}
)

// A fake is a kernel with interfaces and neighbours. It plays kill -9: a test sets fuse, and the call that burns
// it down panics, before or after it has done its work.
type fake struct {
	links map[int]*fakeLink
	calls int // of SetMAC
	fuse  int // < 0: never
	steps int
	made  uint64 // inodes
	// during, if set, is called while a MAC is being set, and flushed when the neighbours are.
	during, flushed func()
}

type fakeLink struct {
	name       string
	mac        MAC
	id         Identity
	neighbours map[netip.Addr]Neighbour
}

type killed struct{}

func newFake() *fake {
	f := &fake{fuse: -1, links: map[int]*fakeLink{}}
	f.link(7, "cali7", random)
	f.neighbour(7, "10.0.0.7", 1)
	f.neighbour(7, "fd00::7", 2)
	f.link(8, "cali8", other)
	return f
}

func (f *fake) link(ifindex int, name string, mac MAC) {
	f.made++
	f.links[ifindex] = &fakeLink{name, mac, Identity{Inode: f.made, Kind: "veth", Peer: 1}, map[netip.Addr]Neighbour{}}
}

func (f *fake) neighbour(ifindex int, ip string, last byte) {
	a := netip.MustParseAddr(ip)
	f.links[ifindex].neighbours[a] = Neighbour{ifindex, a, MAC{2, 0, 0, 0, 1, last}, last, 4}
}

// step stands before and after each effect.
func (f *fake) step() {
	f.steps++
	if f.fuse >= 0 && f.steps > f.fuse {
		panic(killed{})
	}
}

// killAt runs do and says whether it was killed at step n.
func (f *fake) killAt(n int, do func()) (was bool) {
	f.fuse, f.steps = n, 0
	defer func() {
		f.fuse = -1
		if r := recover(); r != nil {
			if _, was = r.(killed); !was {
				panic(r)
			}
		}
	}()
	do()
	return false
}

func (f *fake) Link(ifindex int) (Link, error) {
	f.step()
	l := f.links[ifindex]
	if l == nil {
		return Link{}, fmt.Errorf("link: %w", ErrNoLink)
	}
	return Link{l.name, l.mac, l.id}, nil
}

func (f *fake) SetMAC(ifindex int, mac MAC) error {
	f.step()
	l := f.links[ifindex]
	if l == nil {
		return ErrNoLink
	}
	if f.during != nil {
		f.during()
	}
	f.calls++
	l.mac = mac
	clear(l.neighbours)
	if f.flushed != nil {
		f.flushed()
	}
	f.step()
	return nil
}

func (f *fake) PermanentNeighbours() (all []Neighbour, err error) {
	f.step()
	for _, i := range slices.Sorted(maps.Keys(f.links)) {
		all = append(all, slices.SortedFunc(maps.Values(f.links[i].neighbours), func(a, b Neighbour) int { return a.IP.Compare(b.IP) })...)
	}
	return all, nil
}

func (f *fake) AddNeighbour(n Neighbour) error {
	f.step()
	l := f.links[n.Ifindex]
	if l == nil {
		return ErrNoLink
	}
	l.neighbours[n.IP] = n
	f.step()
	return nil
}

// state is what must be as it was found.
func (f *fake) state() string {
	s := ""
	for _, i := range slices.Sorted(maps.Keys(f.links)) {
		l := f.links[i]
		s += fmt.Sprintln(i, l.name, text(l.mac))
	}
	all, _ := f.PermanentNeighbours()
	for _, n := range all {
		s += fmt.Sprintln("  ", n)
	}
	return s
}

func open(t testing.TB, dir string, nl Netlink) *Keeper {
	t.Helper()
	k, err := Open(dir, instance.Netns{Cookie: 42}, nl, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	ip := netip.MustParseAddr("fd00::1")
	want := map[int]*entry{
		3: {ifindex: 3, name: "cali3", original: random, set: ee},
		1 << 30: {ifindex: 1 << 30, name: "ü\"\\", original: random, set: ee, previous: other,
			id: Identity{Inode: 1<<64 - 1, Kind: "vlan\"", Permanent: other, Peer: 9}, pending: []Neighbour{{1 << 30, ip, other, 128, 4}}},
	}
	b, err := encodeRecord(42, want)
	check(t, err)
	got, err := decodeRecord(b, 42)
	check(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s came back as %v", b, got)
	}
}

func FuzzRecord(f *testing.F) {
	b, _ := encodeRecord(42, map[int]*entry{3: {ifindex: 3, name: "cali3", original: random, set: ee, previous: other,
		id: Identity{Inode: 7, Kind: "veth", Permanent: other, Peer: 9}, pending: []Neighbour{{3, netip.MustParseAddr("10.0.0.1"), other, 0, 4}}}})
	f.Add(b)
	f.Add([]byte(`{"version":1,"netns":42,"entries":[{"ifindex":1,"name":"x","original":"02:00:00:00:00:01","set":"ee:ee:ee:ee:ee:ee"}]} x`))
	f.Add([]byte(`{"version":3}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := decodeRecord(b, 42)
		if err != nil {
			return
		}
		b, err = encodeRecord(42, entries)
		check(t, err)
		again, err := decodeRecord(b, 42)
		check(t, err)
		if !reflect.DeepEqual(again, entries) {
			t.Errorf("%s came back as %v", b, again)
		}
	})
}
