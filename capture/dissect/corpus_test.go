package dissect_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyarpd/capture/dissect"

	"github.com/google/gopacket/pcapgo"
)

var showLines = flag.Int("lines", 3, "lines that differ to show for each capture")

// variants are the options that the expected texts of the corpus were made with.
var variants = map[string]dissect.Options{
	"":     {Link: true, Numeric: 2},
	"tttt": {Link: true, Numeric: 2, TimeStamp: 4},
	"v":    {Link: true, Numeric: 2, Verbose: 1},
	"noe":  {Numeric: 2},
	"X":    {Numeric: 2, HexASCII: 1},
	"q":    {Link: true, Numeric: 2, Quiet: 1},
	"hash": {Link: true, Numeric: 2, Number: true},
}

// atLeast is the share of a folder's lines that are the same, by variant.
var atLeast = map[string]map[string]float64{
	"calico-host":    {},
	"tcpdump-corpus": {},
}

func corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("PROXYARPD_TCPDUMP_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "tcpdump")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no captures with tcpdump's text: PROXYARPD_TCPDUMP_DATA names no folder, and there is no %s", dir)
	}
	return dir
}

func TestCorpus(t *testing.T) {
	dir := corpus(t)
	for folder, shares := range atLeast {
		for variant, o := range variants {
			t.Run(folder+"/"+variant, func(t *testing.T) {
				same, all := 0, 0
				files, err := filepath.Glob(filepath.Join(dir, folder, "*.pcap*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range files {
					if ext := filepath.Ext(file); ext != ".pcap" && ext != ".pcapng" {
						continue
					}
					s, n := compare(t, file, variant, o)
					same, all = same+s, all+n
				}
				share := float64(same) / float64(max(all, 1))
				t.Logf("%d of %d lines, %.2f %%", same, all, 100*share)
				if share < shares[variant] {
					t.Errorf("%.2f %% of lines are tcpdump's; want %.2f", 100*share, 100*shares[variant])
				}
			})
		}
	}
}

// compare prints a capture and counts the lines that are those of the expected text.
func compare(t *testing.T, file, variant string, o dissect.Options) (same, all int) {
	t.Helper()
	name := file + ".expected"
	if variant != "" {
		name += "." + variant
	}
	want, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return 0, 0
	} else if err != nil {
		t.Fatal(err)
	}
	o.Location = time.UTC
	p := dissect.New(o)
	var got []byte
	for _, pkt := range readCapture(t, file) {
		got = p.Append(got, &pkt)
	}
	same, all, first := sameLines(want, got)
	if same < all {
		t.Logf("%s: %d of %d\n%s", filepath.Base(file), same, all, first)
	}
	return same, all
}

// sameLines counts the lines of want that are in got in the same place, but for lines that were left out or added.
func sameLines(want, got []byte) (same, all int, first string) {
	w, g := lines(want), lines(got)
	all = max(len(w), len(g))
	shown := 0
	for i, j := 0, 0; i < len(w); {
		if j < len(g) && w[i] == g[j] {
			same, i, j = same+1, i+1, j+1
			continue
		}
		if shown++; shown <= *showLines {
			has := "(end)"
			if j < len(g) {
				has = g[j]
			}
			first += "  want " + w[i] + "\n  got  " + has + "\n"
		}
		i, j = resume(w, g, i, j)
	}
	return same, all, first
}

// resume finds where two texts agree again, near i and j.
func resume(w, g []string, i, j int) (int, int) {
	for d := 1; d < 200; d++ {
		for k := 0; k <= d; k++ {
			if a, b := i+k, j+d-k; a < len(w) && b < len(g) && w[a] == g[b] {
				return a, b
			}
		}
	}
	return i + 1, j + 1
}

func lines(b []byte) []string {
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// readCapture reads a file of pcap or pcapng.
func readCapture(t testing.TB, file string) []dissect.Packet {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if binary.BigEndian.Uint32(data) == 0x0a0d0d0a {
		return readNg(t, data)
	}
	var order binary.ByteOrder = binary.LittleEndian
	magic := order.Uint32(data)
	if magic == 0xd4c3b2a1 || magic == 0x4d3cb2a1 {
		order = binary.BigEndian
		magic = order.Uint32(data)
	}
	unit := int64(time.Microsecond)
	if magic == 0xa1b23c4d {
		unit = 1
	}
	link := uint16(order.Uint32(data[20:]))
	var all []dissect.Packet
	for data = data[24:]; len(data) >= 16; {
		n := int(order.Uint32(data[8:]))
		if len(data) < 16+n {
			break
		}
		all = append(all, dissect.Packet{
			Time: time.Unix(int64(order.Uint32(data)), int64(order.Uint32(data[4:]))*unit), Data: data[16 : 16+n],
			Len: int(order.Uint32(data[12:])), LinkType: link,
		})
		data = data[16+n:]
	}
	return all
}

func readNg(t testing.TB, data []byte) (all []dissect.Packet) {
	r, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, ci, err := r.ReadPacketData()
		if err != nil {
			return all
		}
		all = append(all, dissect.Packet{Time: ci.Timestamp, Data: data, Len: ci.Length, LinkType: uint16(r.LinkType())})
	}
}
