package filter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/nstest"
)

// tcpdump runs tcpdump on a capture, the expression last and behind "--", as it may begin with "-"; ok is false if it refuses the expression.
func tcpdump(t *testing.T, capture []byte, args ...string) (out []byte, ok bool) {
	t.Helper()
	cmd := exec.Command("tcpdump", append([]string{"-r", "-"}, args...)...)
	cmd.Stdin = bytes.NewReader(capture)
	cmd.Env = append(os.Environ(), "RES_OPTIONS=timeout:1 attempts:1") // should it ask for a name all the same
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil && exit.ExitCode() != 1 {
		t.Fatalf("tcpdump %q: %v: %s", args, err, stderr.Bytes())
	}
	return out, err == nil
}

// capture writes frames to a file; frame n has the time stamp n seconds.
func capture(t *testing.T, link LinkType, frames []frame) []byte {
	t.Helper()
	big := link == NullBig
	switch link {
	case RawDLT:
		link = Raw
	case NullBig:
		link = Null
	}
	var buf bytes.Buffer
	w := pcapfile.NewPcapWriter(&buf, pcapfile.PcapHeader{LinkType: pcapfile.LinkType(link)})
	for i, f := range frames {
		p := &pcapfile.Packet{Time: int64(i) * 1e9, Data: f.data, Len: uint32(f.len), LinkType: pcapfile.LinkType(link)}
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if big {
		swapHeaders(buf.Bytes())
	}
	return buf.Bytes()
}

// swapHeaders makes a little-endian pcap file one of a big-endian host.
func swapHeaders(b []byte) {
	swap := func(n int, sizes ...int) {
		for _, size := range sizes {
			slices.Reverse(b[n : n+size])
			n += size
		}
	}
	swap(0, 4, 2, 2, 4, 4, 4, 4)
	for b = b[24:]; len(b) > 0; {
		n := 16 + int(binary.LittleEndian.Uint32(b[8:]))
		swap(0, 4, 4, 4, 4)
		b = b[n:]
	}
}

// read returns the frames of a capture, and their time stamps in seconds.
func read(t *testing.T, r io.Reader) (frames []frame, seconds []int) {
	t.Helper()
	in, err := pcapfile.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var p pcapfile.Packet
		if err := in.Next(&p); errors.Is(err, io.EOF) {
			return frames, seconds
		} else if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame{slices.Clone(p.Data), int(p.Len)})
		seconds = append(seconds, int(p.Time/1e9))
	}
}

func selected(f *Filter, frames []frame) (numbers []int) {
	for i, fr := range frames {
		if f.Match(fr.data, fr.len) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// program is a filter's as tcpdump -ddd prints it.
func program(f *Filter) string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(len(f.prog)))
	for _, i := range f.prog {
		b.WriteString("\n" + strconv.Itoa(int(i.Op)) + " " + strconv.Itoa(int(i.Jt)) + " " + strconv.Itoa(int(i.Jf)) + " " + strconv.Itoa(int(i.K)))
	}
	return b.String() + "\n"
}

// score counts what is as tcpdump has it.
type score struct {
	expressions, refused, same, programs int
	due                                  func(n int) bool
}

// parts: tcpdump is asked for the program of each expression, and for what it selects where the program is another one or
// the expression is in the part that is due.
const parts = 4

// compare compiles an expression and compares: is it refused, is the program the same, and are the same frames selected.
func (s *score) compare(t *testing.T, expr string, link LinkType, capture []byte, frames []frame) {
	t.Helper()
	s.expressions++
	text, ok := tcpdump(t, capture, "-ddd", "--", expr)
	f, err := Compile(expr, link)
	switch {
	case !ok && err != nil:
		s.refused++
		s.same++
		s.programs++
		return
	case ok != (err == nil):
		t.Errorf("%v: %s: tcpdump accepts: %v; here: %v", link, expr, ok, err)
		return
	}
	program := program(f)
	if string(text) == program && !s.due(s.expressions) {
		s.same++
		s.programs++
		return
	}
	out, ok := tcpdump(t, capture, "-w", "-", "--", expr)
	if !ok {
		t.Errorf("%v: %s: tcpdump has a program and refuses the expression", link, expr)
		return
	}
	_, want := read(t, bytes.NewReader(out))
	if loops := check(f.prog, false) != nil; !loops && readsUnset(f.prog) >= 0 {
		want = selected(f, frames) // what libpcap does is not defined
	}
	if got := selected(f, frames); !slices.Equal(got, want) {
		t.Errorf("%v: %s selects %d frames, not %d: %v, not %v", link, expr, len(got), len(want), got, want)
		return
	}
	s.same++
	if string(text) == program {
		s.programs++
	} else {
		t.Errorf("%v: %s: the program is\n%s not\n%s", link, expr, program, text)
	}
}

func (s *score) log(t *testing.T) {
	t.Logf("%d of %d expressions decide as tcpdump's (%d of them are refused), %d have the same program", s.same, s.expressions, s.refused, s.programs)
}

// allLinks are the link types that there are filters for.
var allLinks = []LinkType{
	Ethernet, RawDLT, LinuxSLL, LinuxSLL2, Null, NullBig, Loop, IPv4, IPv6, PPP, PPPSerial, PPPEther, PPPBSDOS, PPPPppd, NFLOG,
}

// Expressions made at random decide as tcpdump's do.
func TestAsTcpdump(t *testing.T) {
	nstest.NeedTcpdump(t)
	const seed = 20
	due := nstest.Due(t, parts)
	for _, link := range allLinks {
		expressions := 15
		switch link {
		case Ethernet, RawDLT, LinuxSLL, LinuxSLL2:
			expressions = 200
		}
		t.Run(link.String(), func(t *testing.T) {
			t.Parallel()
			all := frames(seed, link, 300)
			file := capture(t, link, all)
			g := newExprGen(seed, link)
			s := score{due: due}
			for range expressions {
				s.compare(t, g.expr(2), link, file, all)
				s.compare(t, g.broken(), link, file, all)
			}
			s.log(t)
		})
	}
}

// data returns the folder of the captures that tcpdump's decisions are known of.
func data(t *testing.T) string {
	t.Helper()
	return nstest.Captures(t, "filters")
}

func merged(t *testing.T, dir string) (file []byte, all []frame) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, "merged.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	all, _ = read(t, bytes.NewReader(file))
	return file, all
}

func TestAsTcpdumpOnData(t *testing.T) {
	dir := data(t)
	nstest.NeedTcpdump(t)
	file, all := merged(t, dir)
	g := newExprGen(21, Ethernet)
	s := score{due: nstest.Due(t, parts)}
	for range 200 {
		s.compare(t, g.expr(1), Ethernet, file, all)
	}
	s.log(t)
}

// The decisions that stand in a table.
func TestTable(t *testing.T) {
	dir := data(t)
	_, all := merged(t, dir)
	table, err := os.Open(filepath.Join(dir, "filters.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	expressions, exact := 0, 0
	for s := bufio.NewScanner(table); s.Scan(); {
		if s.Text() == "" || s.Text()[0] == '#' {
			continue
		}
		columns := append(strings.Split(s.Text(), "\t"), "", "")
		expressions++
		f, err := Compile(columns[0], Ethernet)
		if refuse := columns[1] == "ERR"; refuse || err != nil {
			if refuse && err != nil {
				exact++
			} else {
				t.Errorf("%s: %v, refused by tcpdump: %v", columns[0], err, refuse)
			}
			continue
		}
		if got, want := selected(f, all), ranges(t, columns[2]); slices.Equal(got, want) {
			exact++
		} else {
			t.Errorf("%s selects %v, not %v", columns[0], got, want)
		}
	}
	t.Logf("%d of %d expressions exact", exact, expressions)
}

// ranges reads "1-3,7".
func ranges(t *testing.T, s string) (numbers []int) {
	t.Helper()
	for r := range strings.SplitSeq(s, ",") {
		if r == "" {
			continue
		}
		first, last, ok := strings.Cut(r, "-")
		if !ok {
			last = first
		}
		a, err1 := strconv.Atoi(first)
		b, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil {
			t.Fatalf("%q is not a list of ranges", s)
		}
		for n := a; n <= b; n++ {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
