package pcapfile

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/nstest"
)

func newPcap(w io.Writer) PacketWriter {
	return NewPcapWriter(w, PcapHeader{LinkType: LinkTypeEthernet})
}

// files returns the names and contents of a directory's files.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

// large makes a file of so many packets of 1016 bytes, with their headers, each.
func large(t *testing.T, packets int) []byte {
	t.Helper()
	var file bytes.Buffer
	w := newPcap(&file)
	for i := range packets {
		data := make([]byte, 1000)
		copy(data, strconv.Itoa(i))
		if err := w.WritePacket(&Packet{Time: int64(i) * 1e9, Data: data, Len: 1000, LinkType: LinkTypeEthernet}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// copyAll writes the packets of a file to what o says.
func copyAll(t *testing.T, file []byte, o Rotation) error {
	t.Helper()
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	w, err := o.Open()
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	for r.Next(&p) == nil {
		if err := w.WritePacket(&p); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

// tcpdump writes the same into files of the same names.
func TestRotateAsTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		nstest.Skip(t, "needs the program tcpdump")
	}
	file := large(t, 4500)
	for _, c := range []struct {
		name  string
		flags []string
		o     Rotation
	}{
		{"one", nil, Rotation{}},
		{"size", []string{"-C", "1"}, Rotation{Size: 1e6}},
		{"size 2", []string{"-C", "2"}, Rotation{Size: 2e6}},
		{"ring of 1", []string{"-C", "1", "-W", "1"}, Rotation{Size: 1e6, Count: 1}},
		{"ring of 2", []string{"-C", "1", "-W", "2"}, Rotation{Size: 1e6, Count: 2}},
		{"ring of 10", []string{"-C", "1", "-W", "10"}, Rotation{Size: 1e6, Count: 10}},
		{"ring of 11", []string{"-C", "1", "-W", "11"}, Rotation{Size: 1e6, Count: 11}},
		{"ring of 101", []string{"-C", "1", "-W", "101"}, Rotation{Size: 1e6, Count: 101}},
		{"count alone", []string{"-W", "3"}, Rotation{Count: 3}},
		{"percent", []string{"-C", "1"}, Rotation{Name: "%Y%%", Size: 1e6}},
		{"period", []string{"-G", "86400"}, Rotation{Name: "x-%Y%%", Seconds: 86400}},
		{"period and size", []string{"-G", "86400", "-C", "1"}, Rotation{Name: "x-%y-", Seconds: 86400, Size: 1e6}},
		{"all", []string{"-G", "86400", "-C", "1", "-W", "3"}, Rotation{Name: "x", Seconds: 86400, Size: 1e6, Count: 3}},
		{"all of 12", []string{"-G", "86400", "-C", "1", "-W", "12"}, Rotation{Name: "x", Seconds: 86400, Size: 1e6, Count: 12}},
	} {
		if c.o.Name == "" {
			c.o.Name = "x"
		}
		theirs, ours := t.TempDir(), t.TempDir()
		// As root tcpdump would become a user who may not write here.
		args := append([]string{"tcpdump", "-r", "-", "-w", filepath.Join(theirs, c.o.Name)}, c.flags...)
		if os.Getuid() == 0 {
			args = append(args, "-Z", "root")
		}
		must(t, file, args...)
		c.o.Name = filepath.Join(ours, c.o.Name)
		c.o.New = newPcap
		if err := copyAll(t, file, c.o); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		want, got := files(t, theirs), files(t, ours)
		if !maps.Equal(got, want) {
			t.Errorf("%s: tcpdump writes %v, we %v", c.name, sizes(want), sizes(got))
		}
	}
}

func sizes(files map[string]string) []string {
	var s []string
	for name, content := range files {
		s = append(s, name+": "+strconv.Itoa(len(content)))
	}
	slices.Sort(s)
	return s
}

// steps is a clock that goes on by a second with each packet.
func steps() func() time.Time {
	t := time.Date(2024, 2, 29, 23, 59, 57, 999e6, time.FixedZone("CET", 3600))
	first := true
	return func() time.Time {
		if !first {
			t = t.Add(time.Second)
		}
		first = false
		return t
	}
}

func TestRotateByTime(t *testing.T) {
	for _, c := range []struct {
		name    string
		o       Rotation
		packets int
		want    []string
		err     error
	}{
		{"period", Rotation{Name: "x_%F_%T.pcap", Seconds: 2}, 5,
			[]string{"x_2024-02-29_23:59:57.pcap: 1040", "x_2024-02-29_23:59:59.pcap: 2056", "x_2024-03-01_00:00:01.pcap: 2056"}, nil},
		{"the same name", Rotation{Name: "x", Seconds: 2}, 5, []string{"x: 2056"}, nil},
		{"limit", Rotation{Name: "x%S", Seconds: 2, Count: 2}, 5, []string{"x57: 1040", "x59: 2056"}, ErrFileLimit},
		{"sizes", Rotation{Name: "x%S-", Seconds: 4, Size: 1000}, 7,
			[]string{"x01-1: 1040", "x01-2: 1040", "x01-3: 1040", "x01-: 1040", "x57-1: 1040", "x57-2: 1040", "x57-: 1040"}, nil},
		{"ring of sizes", Rotation{Name: "x%S-", Seconds: 4, Size: 1000, Count: 2}, 7,
			[]string{"x01-0: 1040", "x01-1: 1040", "x57-0: 1040", "x57-1: 1040"}, nil},
	} {
		dir := t.TempDir()
		c.o.Name = filepath.Join(dir, c.o.Name)
		c.o.New, c.o.Now = newPcap, steps()
		if err := copyAll(t, large(t, c.packets), c.o); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := sizes(files(t, dir)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Each pcapng file of a rotation is complete: it describes its interfaces, and
// can get its counters at its end.
func TestRotatePcapng(t *testing.T) {
	dir := t.TempDir()
	o := Rotation{Name: filepath.Join(dir, "x"), Size: 1000,
		New: func(w io.Writer) PacketWriter { return NewWriter(w, &sectionSample) },
		End: func(w PacketWriter) error { return w.(*Writer).WriteStatistics(uplink, &counters) },
	}
	w, err := o.Open()
	if err != nil {
		t.Fatal(err)
	}
	p := samples[0]
	p.Data = make([]byte, 1000)
	for range 3 {
		if err := w.WritePacket(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got["x2"]) != int(w.Size()) {
		t.Errorf("flushed %v, size %d", sizes(got), w.Size())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := w.WritePacket(&p); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a packet for a closed file: %v", err)
	}
	got := files(t, dir)
	if len(got) != 3 {
		t.Errorf("%v", sizes(got))
	}
	for name, content := range got {
		all, r := mustReadAll(t, []byte(content))
		if len(all) != 1 || all[0].Interface.Name != cali.Name || *r.Interfaces()[1].Statistics != counters {
			t.Errorf("%s: %+v", name, all)
		}
	}
}

func TestRotateErrors(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []Rotation{
		{Name: "-", Size: 1e6},
		{Name: "-", Seconds: 1},
		{Name: ""},
		{Name: filepath.Join(dir, "no", "x")},
		{Name: filepath.Join(dir, "%Q"), Seconds: 1},
		{Name: filepath.Join(dir, "%"), Seconds: 1},
	} {
		o.New = newPcap
		if w, err := o.Open(); err == nil {
			t.Errorf("%q is opened: %v", o.Name, w.Close())
		}
	}
	// The directory goes, and the error stays.
	gone := filepath.Join(dir, "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := Rotation{Name: filepath.Join(gone, "x"), Size: 1, New: newPcap}.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.WritePacket(&samples[0]); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	if err := w.Flush(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestParseFileSize(t *testing.T) {
	for s, want := range map[string]int64{"1": 1e6, "20": 20e6, "9223372036854": 9223372036854e6} {
		if got, err := ParseFileSize(s); got != want || err != nil {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "1k", "1M", "1.5", "x"} {
		if got, err := ParseFileSize(s); err == nil || err.Error() != "invalid file size "+strconv.Quote(s) {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"9223372036855", "99999999999999999999"} {
		if got, err := ParseFileSize(s); err == nil || err.Error() != "file size "+s+" is too large" {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}

func TestStrftime(t *testing.T) {
	const all = "%Y %m %d %H %M %S %s %F %T %j %y %b %a %e %Z %z %% plain é"
	at := time.Date(2024, 3, 5, 4, 5, 6, 0, time.UTC)
	got, err := strftime(all, at)
	if want := "2024 03 05 04 05 06 1709611506 2024-03-05 04:05:06 065 24 Mar Tue  5 UTC +0000 % plain é"; got != want || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if date := strings.TrimSuffix(must(t, nil, "date", "-u", "-d", "@1709611506", "+"+all), "\n"); got != date {
		t.Errorf("%q, date says %q", got, date)
	}
	for _, bad := range []string{"%", "x%", "%Q", "%E", "%5d"} {
		if got, err := strftime(bad, at); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
