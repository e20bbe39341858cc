package capture

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// endless repeats a text for ever.
type endless struct {
	text []byte
	at   int
}

func (e *endless) Read(b []byte) (n int, err error) {
	for n < len(b) {
		c := copy(b[n:], e.text[e.at:])
		n += c
		e.at = (e.at + c) % len(e.text)
	}
	return n, nil
}

// fed runs `proxyarpd capture` over what comes from a pipe.
func fed(t *testing.T, in io.Reader, args ...string) (out, errw string, code int, peakMB int64) {
	t.Helper()
	cmd := exec.CommandContext(labtest.Soon(t), labtest.Binary(t), append([]string{"capture"}, args...)...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &o, &e
	cmd.WaitDelay = time.Second
	_ = cmd.Run()
	return o.String(), e.String(), cmd.ProcessState.ExitCode(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10
}

// TestHostileStreams: what claims much, never ends, or is damaged costs an
// error and no memory.
func TestHostileStreams(t *testing.T) {
	t.Parallel()
	section := pcapfile.AppendSectionHeader(nil, &pcapfile.Section{})
	iface := pcapfile.AppendInterface(nil, &pcapfile.Interface{Name: strings.Repeat("x", 60000), LinkType: pcapfile.LinkTypeEthernet, SnapLen: 262144})
	packet := func(comments int) []byte {
		p := pcapfile.Packet{Data: make([]byte, 60), Len: 60}
		for range comments {
			p.Comments = append(p.Comments, bytes.Repeat([]byte("verdict=drop reason=y "), 2000))
		}
		return pcapfile.AppendEnhancedPacket(nil, 0, &p)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	const much = 200 << 20
	for _, c := range []struct {
		name string
		in   io.Reader
		args string
		code int
		says string
	}{
		{"zeros", &endless{text: make([]byte, 4096)}, "-r -", 1, "unknown file format"},
		{"text", strings.NewReader("GET / HTTP/1.0\r\n\r\n"), "-r -", 1, "unknown file format"},
		{"nothing", strings.NewReader(""), "-r -", 1, "truncated"},
		{"pcap of a huge packet", bytes.NewReader(join([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0}, make([]byte, 8), []byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 16))), "-nr -", 1, "invalid packet capture length"},
		{"a block of 4 GB", bytes.NewReader(join(section, []byte{6, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff})), "-nr -", 1, "block size"},
		{"a section of 4 GB", bytes.NewReader(join([]byte{0x0a, 0x0d, 0x0d, 0x0a, 0xfc, 0xff, 0xff, 0xff, 0x4d, 0x3c, 0x2b, 0x1a}, make([]byte, 64))), "-nr -", 1, "length"},
		{"interfaces without end", io.MultiReader(bytes.NewReader(section), &endless{text: iface}), "-nr -", 1, "bytes of text"},
		{"sections without end", io.LimitReader(&endless{text: join(section, iface, packet(1))}, much), "-nr - --summary", 1, "truncated"},
		{"comments without end", io.LimitReader(io.MultiReader(bytes.NewReader(join(section, iface)), &endless{text: packet(100)}), much), "-nr - --drops", 1, "truncated"},
		{"no interface", bytes.NewReader(join(section, packet(0))), "-nr -", 1, "no Interface Description Block"},
	} {
		out, errw, code, peak := fed(t, c.in, strings.Fields(c.args)...)
		t.Logf("%s: exit %d, %d MB, %d bytes: %.200q", c.name, code, peak, len(out), errw)
		if code != c.code || !strings.Contains(errw, c.says) || peak > 200 {
			t.Errorf("%s: exit %d, want %d; %d MB; %q, want %q", c.name, code, c.code, peak, errw, c.says)
		}
		if at := strings.IndexFunc(out+errw, func(r rune) bool { return r != '\n' && r != '\t' && (r < ' ' || r > '~') }); at >= 0 {
			t.Errorf("%s: not only ASCII", c.name)
		}
	}
}

// many is a capture file with so many packets on interfaces in turn.
func many(t *testing.T, packets, interfaces int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "many.pcapng")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapfile.NewWriter(f, &pcapfile.Section{})
	all := make([]pcapfile.Interface, interfaces)
	for i := range packets {
		n := i % interfaces
		if i < interfaces {
			all[n] = pcapfile.Interface{Name: "cali" + string(rune('a'+n%26)), LinkType: pcapfile.LinkTypeEthernet, SnapLen: 262144, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0}}
		}
		if err := w.WritePacket(&pcapfile.Packet{Data: make([]byte, 60), Len: 60, Time: int64(i) * 1000, Interface: &all[n]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestManyInterfaces: as many as a section may have cost no time that grows
// with their square.
func TestManyInterfaces(t *testing.T) {
	t.Parallel()
	name := many(t, 300_000, 60_000)
	copied := filepath.Join(t.TempDir(), "copy.pcapng")
	began := time.Now()
	command(t, labtest.Binary(t), "capture", "-nr", name, "-w", copied)
	if out := command(t, labtest.Binary(t), "capture", "-nr", copied, "--count"); out != "300000 packets\n" {
		t.Error(out)
	}
	t.Logf("took %v", time.Since(began))
}

// TestBrokenPipe: who has seen enough of a capture ends it, as with tcpdump; a
// file that is written at the same time is whole.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	name, copied := many(t, 50_000, 1), filepath.Join(t.TempDir(), "copy.pcapng")
	cmd := exec.CommandContext(labtest.Soon(t), labtest.Binary(t), "capture", "-nr", name, "-w", copied, "--print")
	var errw bytes.Buffer
	cmd.Stderr = &errw
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.HasSuffix(errw.String(), "\nproxyarpd: capture: unable to write output: broken pipe\n") || strings.Count(errw.String(), "\n") != 2 {
		t.Errorf("exit %d: %q", code, errw.String())
	}
	f, err := os.Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapfile.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var p pcapfile.Packet
	for ; err == nil; n++ {
		err = r.Next(&p)
	}
	if !errors.Is(err, io.EOF) || n < 2 {
		t.Errorf("the file ends after %d packets: %v", n-1, err)
	}
}

// TestDiskFull: a capture to a file system without room says so, once.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		nstest.Skip(t, "a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	name := many(t, 50_000, 1)
	for _, file := range []string{"x.pcapng", "x.pcap"} {
		_, errw, code, _ := fed(t, nil, "-nr", name, "-w", filepath.Join(dir, file))
		if code != 1 || strings.Count(errw, "no space left on device") != 1 || !strings.Contains(errw, file) {
			t.Errorf("exit %d: %q", code, errw)
		}
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
}
