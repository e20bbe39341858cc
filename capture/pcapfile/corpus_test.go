package pcapfile

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/nstest"
)

// asTshark fails unless tshark has the same packets of a file, with the same
// times, lengths and comments.
func asTshark(t *testing.T, file []byte) []Packet {
	t.Helper()
	got, _ := mustReadAll(t, file)
	var ours []string
	for _, p := range got {
		when := fmt.Sprintf("%d.%09d", p.Time/1e9, p.Time%1e9)
		if p.Has&HasTime == 0 {
			when = ""
		}
		ours = append(ours, fmt.Sprintf("%s|%d|%d|%s", when, p.Len, len(p.Data), bytes.Join(p.Comments, []byte(";"))))
	}
	theirs := fields(t, file, "frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment")
	if len(ours) != len(theirs) {
		t.Errorf("%d packets, tshark has %d", len(ours), len(theirs))
	}
	for i := range min(len(ours), len(theirs)) {
		if ours[i] != theirs[i] {
			t.Errorf("packet %d: %s, tshark has %s", i+1, ours[i], theirs[i])
		}
	}
	return got
}

// So is a file with all that there is.
func TestEverythingAsTshark(t *testing.T) {
	for _, order := range orders {
		b := &builder{ByteOrder: order}
		everything(b)
		asTshark(t, b.buf)
	}
}

// Captures of many kinds are read as tshark reads them.
func TestCorpus(t *testing.T) {
	dir := nstest.Captures(t)
	due, kinds, n := nstest.Due(t, 8), map[string]bool{}, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !slices.Contains([]string{".pcap", ".pcapng"}, filepath.Ext(path)) {
			return err
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// tshark takes half a second to start: one of each kind of file, and of the others those that are due.
		kind := string(file[:min(len(file), 4)]) + filepath.Ext(path)
		if len(file) >= 24 && filepath.Ext(path) == ".pcap" {
			kind += string(file[20:24]) // link type
		}
		if n++; due(n) || !kinds[kind] {
			kinds[kind] = true
			t.Run(d.Name(), func(t *testing.T) {
				t.Parallel()
				asTshark(t, file)
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kinds of %d files", len(kinds), n)
}

// capture runs a program that writes what it captures of datagrams on lo to its
// standard output, in a namespace of its own, until it ends.
func capture(t *testing.T, args ...string) []byte {
	t.Helper()
	nstest.Need(t, args[0])
	nstest.Enter(t)
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	to, err := net.Dial("udp", "127.0.0.1:9") // after it the program: both are of this thread's namespace
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick, patience := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, said.String())
			}
			return out.Bytes()
		case <-tick.C: // a datagram before the program listens is lost
			_, _ = to.Write([]byte("ping"))
		case <-patience:
			t.Fatalf("%s does not end\n%s", strings.Join(args, " "), said.String())
		}
	}
}

func TestReadDumpcap(t *testing.T) {
	began := time.Now()
	file := capture(t, "dumpcap", "-q", "-i", "lo", "-f", "udp", "-s", "64", "-c", "5", "--capture-comment", "for a test", "-w", "-")
	got := asTshark(t, file)
	_, r := mustReadAll(t, file)
	if len(got) != 5 || !slices.Equal(r.Section().Comments, []string{"for a test"}) || !strings.HasPrefix(r.Section().Application, "Dumpcap") {
		t.Errorf("%d packets, %+v", len(got), r.Section())
	}
	i := r.Interfaces()[0]
	if i.Name != "lo" || i.Filter != "udp" || i.SnapLen != 64 || i.TSResol != 9 || !strings.HasPrefix(i.OS, "Linux") || i.LinkType != LinkTypeEthernet {
		t.Errorf("%+v", i)
	}
	// dumpcap 4.0 has the times of the counters in microseconds, whatever the interface's resolution.
	s := i.Statistics
	if s == nil || s.Has != HasStartTime|HasEndTime|HasIfRecv|HasIfDrop || s.IfRecv < 5 || s.EndTime < s.StartTime || s.Time < s.EndTime {
		t.Errorf("%+v", s)
	}
	for _, p := range got {
		if string(p.Data[42:]) != "ping" || p.Time < began.UnixNano()-1e6 || p.Time > time.Now().UnixNano() || !p.Nanoseconds {
			t.Errorf("%+v", p)
		}
	}
}

func TestReadTcpdump(t *testing.T) {
	for _, precision := range []string{"--micro", "--nano"} {
		t.Run(precision, func(t *testing.T) {
			began := time.Now()
			got := asTshark(t, capture(t, "tcpdump", "-i", "any", "-s", "60", "-c", "4", precision, "-w", "-", "udp"))
			if len(got) != 4 {
				t.Errorf("%d packets", len(got))
			}
			for _, p := range got {
				if i := p.Interface; p.LinkType != LinkTypeLinuxSLL2 || i.SnapLen != 60 || p.Nanoseconds != (precision == "--nano") ||
					string(p.Data[48:]) != "ping" || p.Time < began.UnixNano()-1e6 {
					t.Errorf("%+v of %+v", p, i)
				}
			}
		})
	}
}
