package macs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"proxyarpd/internal/instance"
)

const recordFile = "/netns-42.0.json"

func absent(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir + recordFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is still there: %v", err)
	}
}

func TestSetAndClose(t *testing.T) {
	f, dir := newFake(), t.TempDir()+"/state"
	found := f.state()
	k := open(t, dir, f)
	check(t, k.Set(7, "cali7", random, ee))
	check(t, k.Set(8, "cali8", other, other)) // nothing to do
	if f.links[7].mac != ee || len(f.links[7].neighbours) != 2 {
		t.Errorf("after Set: %+v", f.links[7])
	}
	if got, ok := k.Original(7); !ok || got != random {
		t.Errorf("original %v, %t", got, ok)
	}
	if _, ok := k.Original(8); ok {
		t.Error("an interface that was left alone has an original")
	}
	st, err := os.Stat(dir + recordFile)
	check(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("the record has mode %v", st.Mode())
	}
	check(t, k.Set(7, "cali7", ee, ee))
	check(t, k.Set(7, "cali7", random, ee)) // the caller is behind
	if f.calls != 1 {
		t.Errorf("%d changes for one", f.calls)
	}
	check(t, k.Close())
	check(t, k.Close())
	if got := f.state(); got != found {
		t.Errorf("after Close:\n%s\nfound:\n%s", got, found)
	}
	absent(t, dir)
	if err := k.Set(7, "cali7", random, ee); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Set after Close: %v", err)
	}
}

// Killed at every step of every operation, and again at every step of the restoring after it.
func TestKillAtEveryStep(t *testing.T) {
	for name, do := range map[string]func(*Keeper){
		"set":         func(k *Keeper) { _ = k.Set(7, "cali7", random, ee) },
		"set two":     func(k *Keeper) { _ = k.Set(7, "cali7", random, ee); _ = k.Set(8, "cali8", other, ee) },
		"set another": func(k *Keeper) { _ = k.Set(7, "cali7", random, ee); _ = k.Set(7, "cali7", ee, other) },
		"set back":    func(k *Keeper) { _ = k.Set(7, "cali7", random, ee); _ = k.Set(7, "cali7", ee, random) },
		"set, close":  func(k *Keeper) { _ = k.Set(7, "cali7", random, ee); _ = k.Close() },
		"together":    func(k *Keeper) { _ = k.SetAll(both(ee)); _ = k.SetAll(both(other)); _ = k.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			cases := 0
			for i, more := 0, true; more; i++ {
				for j, again := 0, true; again; j++ {
					f, dir := newFake(), t.TempDir()+"/state"
					found := f.state()
					more = f.killAt(i, func() { do(open(t, dir, f)) })
					again = f.killAt(j, func() { _ = open(t, dir, f).Restore(context.Background()) })
					k := open(t, dir, f)
					check(t, k.Restore(context.Background()))
					// Neighbours and MAC are back; without a kill nothing but a Close would have been needed.
					if got := f.state(); got != found {
						t.Fatalf("killed at step %d, then at step %d:\n%s\nfound:\n%s", i, j, got, found)
					}
					absent(t, dir)
					cases++
				}
			}
			t.Log(cases, "cases")
		})
	}
}

// both asks for a MAC for the interfaces of a fake.
func both(want MAC) []Change {
	return []Change{{7, "cali7", MAC{}, want}, {8, "cali8", MAC{}, want}}
}

// Many are changed together, each by itself: one that can't be has its own error, and is as it was.
func TestSetAll(t *testing.T) {
	f, dir := newFake(), t.TempDir()+"/state"
	var all []Change
	for i := range 3 * together {
		f.link(100+i, fmt.Sprintf("cali%d", 100+i), MAC{2, 0, 0, 1, byte(i >> 8), byte(i)})
		f.neighbour(100+i, "10.0.0.1", byte(i))
		all = append(all, Change{100 + i, f.links[100+i].name, MAC{}, ee})
	}
	found := f.state()
	all[5].Want = MAC{1}     // no unicast address
	all[6].Want = random     // another one
	all[7].Current = ee      // no change, as far as the caller knows
	delete(f.links, 100+200) // gone
	k := open(t, dir, f)
	errs := k.SetAll(all)
	for i, err := range errs {
		switch l := f.links[100+i]; {
		case i == 5 && (err == nil || l.mac == ee):
			t.Errorf("no unicast address: %v", err)
		case i == 200 && !errors.Is(err, ErrNoLink):
			t.Errorf("gone: %v", err)
		case i == 5, i == 200:
		case err != nil:
			t.Errorf("%d: %v", i, err)
		case i == 6 && l.mac != random, i == 7 && l.mac == ee, i != 6 && i != 7 && l.mac != ee:
			t.Errorf("%d has %v", i, text(l.mac))
		case len(l.neighbours) != 1:
			t.Errorf("%d has lost its neighbour", i)
		}
	}
	check(t, open(t, dir, f).Restore(context.Background())) // after a kill
	f.link(300, "cali300", MAC{2, 0, 0, 1, 0, 200})
	f.neighbour(300, "10.0.0.1", 200)
	if got := f.state(); got != found {
		t.Errorf("after Restore:\n%s\nfound:\n%s", got, found)
	}
	absent(t, dir)
}

// While many are being changed, nobody waits who only leaves word, or asks what an interface had.
func TestDoesNotWait(t *testing.T) {
	f, dir := newFake(), t.TempDir()+"/state"
	k := open(t, dir, f)
	check(t, k.Set(7, "cali7", random, ee))
	under, goOn := make(chan struct{}), make(chan struct{})
	f.during = func() { close(under); <-goOn; f.during = nil }
	done := make(chan error)
	go func() { done <- k.Set(8, "cali8", other, ee) }()
	<-under
	if mac, ok := k.Original(7); !ok || mac != random {
		t.Errorf("original %v, %v", mac, ok)
	}
	k.Renamed(7, "net7")
	k.Renamed(9, "none")
	k.Forget(8)
	k.Forget(9)
	close(goOn)
	check(t, <-done)
	b, err := os.ReadFile(dir + recordFile)
	check(t, err)
	if text := string(b); !strings.Contains(text, "net7") || strings.Contains(text, "cali8") {
		t.Errorf("the record is %s", text)
	}
	f.links[7].name = "net7"
	check(t, k.Close())
	absent(t, dir)
}

// A successor that takes over changes nothing, keeps what was found first, and adds what was lost.
func TestTakeOver(t *testing.T) {
	for i, more := 0, true; more; i++ {
		f, dir := newFake(), t.TempDir()+"/state"
		found := f.state()
		more = f.killAt(i, func() { _ = open(t, dir, f).Set(7, "cali7", random, ee) })
		k := open(t, dir, f)
		calls := f.calls
		check(t, k.Set(7, "cali7", f.links[7].mac, ee))
		check(t, k.Restore(context.Background()))
		if f.links[7].mac != ee || len(f.links[7].neighbours) != 2 {
			t.Fatalf("killed at step %d: %+v", i, f.links[7])
		}
		if calls == 1 && f.calls != 1 {
			t.Errorf("killed at step %d: set again", i)
		}
		check(t, k.Close())
		if got := f.state(); got != found {
			t.Fatalf("killed at step %d:\n%s\nfound:\n%s", i, got, found)
		}
		absent(t, dir)
	}
}

// What is somebody else's by now is left alone, and the reason is logged.
func TestLeftAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(*fake)
		says      string
	}{
		"gone":                                {func(f *fake) { delete(f.links, 7) }, "is gone"},
		"another one with its index":          {func(f *fake) { f.link(7, "veth7", ee) }, "veth7"},
		"another one with its index and name": {func(f *fake) { f.link(7, "cali7", ee) }, "another interface"},
		"another MAC":                         {func(f *fake) { f.links[7].mac = other }, text(other)},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := newFake(), t.TempDir()+"/state"
			check(t, open(t, dir, f).Set(7, "cali7", random, ee)) // and killed
			tt.meanwhile(f)
			before := f.state()
			var said bytes.Buffer
			k, err := Open(dir, instance.Netns{Cookie: 42}, f, slog.New(slog.NewTextHandler(&said, nil)))
			check(t, err)
			check(t, k.Restore(context.Background()))
			if got := f.state(); got != before {
				t.Errorf("was\n%s\nis\n%s", before, got)
			}
			if !strings.Contains(said.String(), tt.says) || !strings.Contains(said.String(), "cali7") {
				t.Errorf("log: %s", said.String())
			}
			absent(t, dir)
		})
	}
}

// An interface is told by what stays with it: renamed while no daemon ran it is put back or taken over, and one that
// is new is left alone, whatever of it is the same.
func TestIdentity(t *testing.T) {
	const was = "cali7"
	for _, c := range []struct {
		name  string
		is    Identity // by now; was: as it is made by link
		now   string
		found Identity // when the MAC was set
		same  bool
	}{
		{"renamed", Identity{5, "veth", MAC{}, 1}, "net7", Identity{5, "veth", MAC{}, 1}, true},
		{"renamed, and its peer is elsewhere", Identity{5, "veth", MAC{}, 9}, "net7", Identity{5, "veth", MAC{}, 1}, true},
		{"new", Identity{6, "veth", MAC{}, 1}, was, Identity{5, "veth", MAC{}, 1}, false},
		{"new, with another name", Identity{6, "veth", MAC{}, 1}, "net7", Identity{5, "veth", MAC{}, 1}, false},
		{"no sysfs, nothing has changed", Identity{0, "veth", MAC{}, 1}, was, Identity{0, "veth", MAC{}, 1}, true},
		{"no sysfs when it was set", Identity{5, "veth", MAC{}, 1}, was, Identity{0, "veth", MAC{}, 1}, true},
		{"no sysfs any more", Identity{0, "veth", MAC{}, 1}, was, Identity{5, "veth", MAC{}, 1}, true},
		{"no sysfs, renamed", Identity{0, "veth", MAC{}, 1}, "net7", Identity{0, "veth", MAC{}, 1}, false},
		{"no sysfs, another peer", Identity{0, "veth", MAC{}, 2}, was, Identity{0, "veth", MAC{}, 1}, false},
		{"no sysfs, another kind", Identity{0, "tun", MAC{}, 1}, was, Identity{0, "veth", MAC{}, 1}, false},
		{"no sysfs, hardware renamed", Identity{0, "", other, 0}, "net7", Identity{0, "", other, 0}, true},
		{"no sysfs, other hardware", Identity{0, "", random, 0}, was, Identity{0, "", other, 0}, false},
		{"a record without identities", Identity{5, "veth", MAC{}, 1}, was, Identity{}, true},
		{"a record without identities, renamed", Identity{5, "veth", MAC{}, 1}, "net7", Identity{}, false},
	} {
		for _, take := range []string{"Restore", "Set"} {
			f, dir := newFake(), t.TempDir()+"/state"
			f.links[7].id = c.found
			check(t, open(t, dir, f).Set(7, was, random, ee)) // and killed
			f.links[7].id, f.links[7].name = c.is, c.now
			k := open(t, dir, f)
			if take == "Set" {
				check(t, k.Set(7, c.now, ee, ee))
			}
			_, known := k.Original(7)
			check(t, k.Restore(context.Background()))
			if take == "Set" && known != c.same {
				t.Errorf("%s, Set: the original is known: %v", c.name, known)
			}
			check(t, k.Close())
			if restored := f.links[7].mac == random; restored != c.same {
				t.Errorf("%s, %s: has %v", c.name, take, text(f.links[7].mac))
			}
			absent(t, dir)
		}
	}
	// A new one in the place of one of ours, of which no event has told yet.
	f, dir := newFake(), t.TempDir()+"/state"
	k := open(t, dir, f)
	check(t, k.Set(7, was, random, ee))
	f.link(7, was, ee)
	check(t, k.Close())
	if f.links[7].mac != ee {
		t.Errorf("a new one has been given %v", text(f.links[7].mac))
	}
	absent(t, dir)
}

// What a daemon before identities has left is read.
func TestFirstVersion(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	check(t, os.Chmod(dir, 0o700))
	f.links[7].mac = ee
	text := `{"version":1,"netns":42,"entries":[{"ifindex":7,"name":"cali7","original":"02:00:00:00:00:11","set":"ee:ee:ee:ee:ee:ee"}]}`
	check(t, os.WriteFile(dir+recordFile, []byte(text), 0o600))
	check(t, open(t, dir, f).Restore(context.Background()))
	if f.links[7].mac != random {
		t.Errorf("has %v", f.links[7].mac)
	}
}

func TestWhileRunning(t *testing.T) {
	f, dir := newFake(), t.TempDir()+"/state"
	k := open(t, dir, f)
	check(t, k.Set(7, "cali7", random, ee))
	check(t, k.Set(8, "cali8", other, ee))
	// Renamed: put back under the new name by a successor.
	f.links[7].name = "cali70"
	check(t, k.Set(7, "cali70", ee, ee))
	// Somebody sets another one, and we insist: that one is put back.
	f.links[8].mac = MAC{2, 0, 0, 0, 0, 0x33}
	check(t, k.Set(8, "cali8", f.links[8].mac, ee))
	k = open(t, dir, f) // killed
	check(t, k.Restore(context.Background()))
	if f.links[7].mac != random || len(f.links[7].neighbours) != 2 {
		t.Errorf("renamed: %+v", f.links[7])
	}
	if f.links[8].mac != (MAC{2, 0, 0, 0, 0, 0x33}) {
		t.Errorf("set by somebody else: %+v", f.links[8])
	}
	// Gone, and forgotten.
	check(t, k.Set(7, "cali70", random, ee))
	delete(f.links, 7)
	k.Forget(7)
	k.Forget(7)
	absent(t, dir)
	if err := k.Set(7, "cali70", random, ee); !errors.Is(err, ErrNoLink) || !strings.Contains(err.Error(), "cali70") {
		t.Errorf("Set of an interface that is gone: %v", err)
	}
	// A neighbour deleted while we ran stays deleted, one that was added stays.
	f.link(9, "cali9", random)
	f.neighbour(9, "10.0.0.9", 9)
	check(t, k.Set(9, "cali9", random, ee))
	clear(f.links[9].neighbours)
	f.neighbour(9, "10.0.0.10", 10)
	want := f.links[9].neighbours
	check(t, k.Close())
	if got := f.links[9].neighbours; len(got) != 1 || len(want) != 1 {
		t.Errorf("neighbours %v", got)
	}
	absent(t, dir)
}

func TestNothingChangesWithoutRecord(t *testing.T) {
	f, dir := newFake(), t.TempDir()+"/state"
	k := open(t, dir, f)
	check(t, os.Mkdir(dir+recordFile, 0o700)) // rename(2) fails
	found := f.state()
	err := k.Set(7, "cali7", random, ee)
	if err == nil || !strings.Contains(err.Error(), recordFile) || !strings.Contains(err.Error(), "cali7") {
		t.Errorf("error %v", err)
	}
	if got := f.state(); got != found || f.calls != 0 {
		t.Errorf("changed without record:\n%s", got)
	}
	if _, ok := k.Original(7); ok {
		t.Error("an original is remembered")
	}
}

// A name is any bytes but a few.
func TestAnyName(t *testing.T) {
	const name = "cali\xff\x1b\a\u009b"
	f, dir := newFake(), t.TempDir()+"/state"
	f.links[7].name = name
	found := f.state()
	check(t, open(t, dir, f).Set(7, name, random, ee)) // and killed
	if f.links[7].mac != ee {
		t.Error("not set")
	}
	k := open(t, dir, f)
	check(t, k.Set(7, name, ee, ee))
	check(t, k.Close())
	if got := f.state(); got != found {
		t.Errorf("after Close:\n%s\nfound:\n%s", got, found)
	}
	absent(t, dir)
}

func TestBadMAC(t *testing.T) {
	f := newFake()
	k := open(t, t.TempDir()+"/state", f)
	for _, m := range []MAC{{}, {1}} {
		if err := k.Set(7, "cali7", random, m); err == nil || f.calls != 0 {
			t.Errorf("%v: %v, %d changes", m, err, f.calls)
		}
	}
}

func TestCorruptRecord(t *testing.T) {
	good := `{"version":1,"netns":42,"entries":[{"ifindex":7,"name":"cali7","original":"02:00:00:00:00:11","set":"ee:ee:ee:ee:ee:ee"}]}`
	for name, text := range map[string]string{
		"empty":             "",
		"cut short":         good[:60],
		"not JSON":          "hello",
		"another version":   `{"version":3,"new":true}`,
		"a negative inode":  strings.Replace(good, `"name"`, `"inode":-1,"name"`, 1),
		"another namespace": strings.Replace(good, "42", "43", 1),
		"unknown field":     strings.Replace(good, `"name"`, `"nom"`, 1),
		"no name":           strings.Replace(good, `cali7`, ``, 1),
		"long name":         strings.Replace(good, `cali7`, strings.Repeat(`cali`, 16), 1),
		"multicast":         strings.Replace(good, `02:00`, `03:00`, 1),
		"zero":              strings.Replace(good, `02:00:00:00:00:11`, `00:00:00:00:00:00`, 1),
		"long MAC":          strings.Replace(good, `02:00`, `02:00:00:00`, 1),
		"index 0":           strings.Replace(good, `:7,`, `:0,`, 1),
		"more after it":     good + good,
		"huge":              good + strings.Repeat(" ", recordSize),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.Chmod(dir, 0o700))
			check(t, os.WriteFile(dir+recordFile, []byte(text), 0o600))
			_, err := Open(dir, instance.Netns{Cookie: 42}, newFake(), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), dir+recordFile) || !strings.Contains(err.Error(), "remove") {
				t.Errorf("error %v", err)
			}
		})
	}
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o700))
	check(t, os.WriteFile(dir+"/elsewhere", []byte(good), 0o600))
	check(t, os.Symlink(dir+"/elsewhere", dir+recordFile))
	if _, err := Open(dir, instance.Netns{Cookie: 42}, newFake(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a symbolic link is read")
	}
}

// TestRecordAfterRename: the record follows an interface to its new name at once, so that where the name decides - no
// inode is known - a successor of a daemon that is killed then puts its MAC back.
func TestRecordAfterRename(t *testing.T) {
	f, dir := newFake(), t.TempDir()+"/state"
	f.links[7].id.Inode, f.links[8].id.Inode = 0, 0
	k := open(t, dir, f)
	check(t, k.Set(7, "cali7", random, ee))
	check(t, k.Set(8, "cali8", other, ee))
	f.links[7].name = "net7"
	k.Renamed(7, "net7")
	k.Renamed(8, "cali8") // no news
	b, err := os.ReadFile(dir + recordFile)
	check(t, err)
	if text := string(b); !strings.Contains(text, `"net7"`) || strings.Contains(text, `"cali7"`) || !strings.Contains(text, `"cali8"`) {
		t.Errorf("the record is %s", text)
	}
	check(t, open(t, dir, f).Restore(context.Background())) // killed
	if f.links[7].mac != random || f.links[8].mac != other {
		t.Errorf("restored: %s and %s", text(f.links[7].mac), text(f.links[8].mac))
	}
	absent(t, dir)

	// A name that is no text is recorded as it can be.
	k = open(t, dir, f)
	check(t, k.Set(7, "net7", random, ee))
	f.links[7].name = "net\xff"
	k.Renamed(7, "net\xff")
	check(t, open(t, dir, f).Restore(context.Background()))
	if f.links[7].mac != random {
		t.Errorf("an odd name: %s", text(f.links[7].mac))
	}
	absent(t, dir)
}

// TestRenameUnwritten: that the record can't be written is said, and the next change writes it.
func TestRenameUnwritten(t *testing.T) {
	f, dir := newFake(), t.TempDir()+"/state"
	var said bytes.Buffer
	k, err := Open(dir, instance.Netns{Cookie: 42}, f, slog.New(slog.NewTextHandler(&said, nil)))
	check(t, err)
	check(t, k.Set(7, "cali7", random, ee))
	check(t, os.Remove(dir+recordFile))
	check(t, os.Mkdir(dir+recordFile, 0o700)) // rename(2) fails
	k.Renamed(7, "net7")
	if !strings.Contains(said.String(), "cannot be written") || !strings.Contains(said.String(), "net7") {
		t.Errorf("log: %s", said.String())
	}
	check(t, os.Remove(dir+recordFile))
	check(t, k.Set(8, "cali8", other, ee))
	b, err := os.ReadFile(dir + recordFile)
	check(t, err)
	if !strings.Contains(string(b), "net7") {
		t.Errorf("the record is %s", b)
	}
}

// TestNeighbourAddedMeanwhile: an entry that somebody makes after the kernel has forgotten all, and before they are
// added again, is his, whatever MAC was there before; the others are added.
func TestNeighbourAddedMeanwhile(t *testing.T) {
	for name, do := range map[string]func(*Keeper) error{
		"set": func(k *Keeper) error { return k.Set(7, "cali7", random, ee) },
		"put back": func(k *Keeper) error {
			return errors.Join(k.Set(7, "cali7", random, ee), k.Close())
		},
	} {
		f, dir := newFake(), t.TempDir()+"/state"
		f.neighbour(7, "10.0.0.8", 8)
		f.neighbour(8, "10.0.0.7", 9) // another interface's is no reason
		f.flushed = func() {
			f.neighbour(7, "10.0.0.7", 70)
			f.neighbour(7, "fd00::7", 71)
		}
		check(t, do(open(t, dir, f)))
		var got []string
		all, _ := f.PermanentNeighbours()
		for _, n := range all {
			got = append(got, fmt.Sprint(n.Ifindex, " ", n.IP, " ", n.MAC[5]))
		}
		if want := "7 10.0.0.7 70,7 10.0.0.8 8,7 fd00::7 71,8 10.0.0.7 9"; strings.Join(got, ",") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
