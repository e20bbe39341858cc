package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/capture/pcapfile"
)

// hostileNames are what a terminal would obey, a table break at, or a filter of
// control characters not see.
var hostileNames = []string{"\x1b[2J\x1b]0;owned\x07", "a\nb => forward", "\u009b31m\u202e", "\x7f\x00\xff\xfe", strings.Repeat("x", 100), "a b\tc"}

// hostileFile is a capture file with such names and comments.
func hostileFile() []byte {
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b, &pcapfile.Section{Application: "proxyarpd", Comments: []string{interfacesComment + "any \x1b[1m"}})
	for i, name := range hostileNames {
		for _, link := range []pcapfile.LinkType{pcapfile.LinkTypeEthernet, pcapfile.LinkTypeRaw, pcapfile.LinkTypeLinuxSLL2, pcapfile.LinkTypePPP} {
			iface := &pcapfile.Interface{Name: name, Description: "ifindex 99999999999", LinkType: link, SnapLen: 262144, MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}}
			for _, comment := range []string{name, "verdict=drop reason=" + name, "verdict=forward in=" + name + " out=" + name + " neigh=" + name + " icmp=" + name + " rule=" + name + " src=" + name + " ttl=" + name,
				"verdict=" + name, "verdict=answer is-at=zz id=99999999999999999999 took_ns=9223372036854775807 mtu=2147483647"} {
				p := pcapfile.Packet{Time: 1, Data: make([]byte, 7*i), Len: uint32(9 * i), Interface: iface, Comments: [][]byte{[]byte(comment)}, Has: pcapfile.HasFlags | pcapfile.HasDropCount, Flags: pcapfile.Flags(i), DropCount: 1 << 63}
				if err := w.WritePacket(&p); err != nil {
					panic(err)
				}
			}
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// readings are command lines that read a file, but for -r.
var readings = [][]string{
	{"-n"}, {"-nnevv", "--verdict", "line"}, {"-nq", "--verdict", "json"}, {"--summary"}, {"-nnXX#", "-tttt", "--verdict", "off"},
	{"-nA", "--drops"}, {"-n", "--reason", "*"}, {"--count", "host", "10.65.0.2", "or", "arp"}, {"-n", "tcp", "port", "80"},
}

// printed runs the command over a file and gives what a terminal would get.
func printed(args ...string) (string, error) {
	var out, errw bytes.Buffer
	err := Run(context.Background(), args, Env{Out: &out, Err: &errw})
	text := out.String() + errw.String()
	if err != nil {
		text += err.Error()
	}
	return text, err
}

func obeyed(text string) int {
	return strings.IndexFunc(text, func(c rune) bool { return c != '\n' && c != '\t' && (c < ' ' || c >= 0x7f) })
}

// TestHostileFile: whatever a file's names and comments are, a terminal gets
// lines of ASCII.
func TestHostileFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(name, hostileFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range readings {
		text, err := printed(append(args, "-r", name)...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if at := obeyed(text); at >= 0 {
			t.Errorf("%v: %q", args, text[max(at-50, 0):at+10])
		}
		if strings.Contains(text, "\nb => forward") {
			t.Errorf("%v: a name makes a line of its own", args)
		}
	}
}

// FuzzRead: whatever a file is, it is printed, counted and written again
// without a panic, and as lines of ASCII.
func FuzzRead(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("..", "dissect", "testdata", "*.pcap*"))
	if err != nil {
		f.Fatal(err)
	}
	for i, name := range seeds {
		if b, err := os.ReadFile(name); err == nil && len(b) < 1<<16 {
			f.Add(b, uint8(i))
		}
	}
	for i := range readings {
		f.Add(hostileFile(), uint8(i))
	}
	in := filepath.Join(f.TempDir(), fmt.Sprint(os.Getpid()))
	out := in + ".pcapng"
	f.Fuzz(func(t *testing.T, file []byte, how uint8) {
		if len(file) > 1<<16 {
			return
		}
		if err := os.WriteFile(in, file, 0o600); err != nil {
			t.Fatal(err)
		}
		text, _ := printed(append(readings[int(how)%len(readings)], "-r", in)...)
		if at := obeyed(text); at >= 0 {
			t.Fatalf("%q", text[max(at-50, 0):at+1])
		}
		if _, err := printed("-r", in, "-w", out); err != nil {
			return // damaged, or of several link types
		}
		if text, err := printed("-n", "-r", out); err != nil && !strings.Contains(text, "truncated") {
			t.Fatalf("what was written can't be read: %v", err)
		}
	})
}

// FuzzOptions: no command line makes the parser panic, or leaves options that
// go beyond their bounds.
func FuzzOptions(f *testing.F) {
	for _, args := range []string{"-ni\x00any\x00host\x00a", "-eXXvvvttttt#c3", "--reason=*\x00--drops\x00--verdict\x00json", "-C\x001m\x00-W\x009\x00-w\x00x",
		"-B9223372036854775807", "-s-1", "-s\x00\x00-c0", "--\x00-n", "-h", "-Q\x00inout\x00-i[", "-y\x00PPP", "-r\x00-\x00--count"} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "F") || strings.Contains(line, "expression-file") {
			return // reads the file that is named
		}
		o, err := parse(strings.Split(line, "\x00"), "/run/x", io.Discard)
		if err != nil {
			return
		}
		if o.snap <= 0 || o.snap > pcapfile.MaxSnapLen || o.count < 0 || o.buffer < 0 || o.buffer<<10 < o.buffer {
			t.Errorf("%q: %+v", line, o)
		}
	})
}
