package dissect_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyarpd/capture/dissect"
	"proxyarpd/internal/nstest"
)

var (
	mutations = flag.Int("mutations", 3, "changed copies of each packet that the installed tcpdump prints too")
	seed      = flag.Uint64("seed", 1, "of the changes")
)

// arguments are tcpdump's, and the same as Options.
var arguments = []struct {
	args string
	o    dissect.Options
}{
	{"-nn", dissect.Options{Numeric: 2}},
	{"-nn -e", dissect.Options{Numeric: 2, Link: true}},
	{"-nn -v", dissect.Options{Numeric: 2, Verbose: 1}},
	{"-nn -e -vv", dissect.Options{Numeric: 2, Link: true, Verbose: 2}},
	{"-nn -e -q", dissect.Options{Numeric: 2, Link: true, Quiet: 1}},
	{"-nn -S -x", dissect.Options{Numeric: 2, AbsoluteSeq: true, Hex: 1}},
	{"-nn -XX", dissect.Options{Numeric: 2, HexASCII: 2}},
	{"-nn -A", dissect.Options{Numeric: 2, ASCII: 1}},
}

// packetStart is the time stamp of a packet of writeCapture: its number, in seconds.
var packetStart = regexp.MustCompile(`(?m)^(\d+)\.000000 `)

// packets splits text at the time stamps.
func packets(text []byte) map[string]string {
	all := make(map[string]string)
	at := packetStart.FindAllSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		all[string(text[m[2]:m[3]])] = string(text[m[1]:end])
	}
	return all
}

// writeCapture writes packets of one link type and numbers them by their time.
func writeCapture(t *testing.T, file string, all []dissect.Packet) {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, 262144)
	b = binary.LittleEndian.AppendUint32(b, uint32(all[0].LinkType))
	for i, p := range all {
		all[i].Seconds, all[i].Nanoseconds = int64(i+1), 0
		for _, v := range []uint32{uint32(i + 1), 0, uint32(len(p.Data)), uint32(p.Len)} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, p.Data...)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// mutate returns a changed copy of p: other bytes, other 16-bit numbers such as lengths, fewer bytes, or more than one
// of these.
func mutate(r *rand.Rand, p dissect.Packet) dissect.Packet {
	p.Data = bytes.Clone(p.Data)
	if len(p.Data) == 0 {
		return p
	}
	for range r.IntN(3) {
		i := r.IntN(len(p.Data))
		if r.IntN(2) == 0 {
			i = r.IntN(min(len(p.Data), 80))
		}
		switch r.IntN(4) {
		case 0:
			p.Data[i] = byte(r.Uint32())
		case 1:
			p.Data[i] ^= 1 << r.IntN(8)
		case 2:
			p.Data[i]++
		case 3:
			i &^= 1
			copy(p.Data[i:], [][]byte{{0, 0}, {0, 1}, {0xff, 0xff}, {0x7f, 0xff}}[r.IntN(4)])
		}
	}
	if r.IntN(3) == 0 {
		p.Data = p.Data[:r.IntN(len(p.Data))+1]
		if r.IntN(2) == 0 {
			p.Len = len(p.Data)
		}
	}
	return p
}

// TestProgram compares with the installed tcpdump on changed copies of the packets of captures.
func TestProgram(t *testing.T) {
	nstest.NeedTcpdump(t)
	files, err := filepath.Glob(filepath.Join("testdata", "*.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, corpusFiles()...)
	// All packets of a link type are one capture: to start tcpdump takes longer than to have it print some.
	sets := make(map[uint16][]dissect.Packet)
	for _, file := range files {
		r := rand.New(rand.NewPCG(*seed, 0))
		for _, pkt := range readCapture(t, file) {
			set := append(sets[pkt.LinkType], pkt)
			for range *mutations {
				set = append(set, mutate(r, pkt))
			}
			sets[pkt.LinkType] = set
		}
	}
	differ, all := 0, 0
	kinds := make(map[string]bool)
	for link, set := range sets {
		name := filepath.Join(t.TempDir(), "c.pcap")
		writeCapture(t, name, set)
		for _, a := range arguments {
			args := append(strings.Fields(a.args), "-tt", "-r", name)
			text, err := exec.Command("tcpdump", args...).Output()
			if err != nil {
				t.Error(err)
			}
			want := packets(text)
			o := a.o
			o.TimeStamp = 2
			p := dissect.New(o)
			var got []byte
			for i := range set {
				got = p.Append(got, &set[i])
			}
			have := packets(got)
			for i := range set {
				n := fmt.Sprint(i + 1)
				all++
				if want[n] == have[n] {
					continue
				}
				differ++
				if k := kind(want[n], have[n]); !kinds[k] {
					kinds[k] = true
					t.Logf("link type %d %s, packet %s (%d of %d bytes)\n  want %s  got  %s  %x", link, a.args, n,
						len(set[i].Data), set[i].Len, want[n], have[n], set[i].Data[:min(len(set[i].Data), 200)])
				}
			}
		}
	}
	t.Logf("%d of %d packets differ", differ, all)
	if share := float64(differ) / float64(max(all, 1)); share > 0.01 {
		t.Errorf("%.2f %% of packets differ", 100*share)
	}
}

var number = regexp.MustCompile(`0x[0-9a-f]+|[0-9a-f]*[0-9][0-9a-f.:]*`)

// kind says roughly where two texts part, so that each kind of difference is shown once.
func kind(want, got string) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	cut := func(s string) string {
		return number.ReplaceAllString(s[max(0, i-12):min(len(s), i+12)], "#")
	}
	return cut(want) + "|" + cut(got)
}
