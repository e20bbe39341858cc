package dissect_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyarpd/capture/dissect"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/nstest"
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

// folders are of captures whose text is the same to the last byte.
var folders = []string{"calico-host", "tcpdump-corpus"}

// corpusFiles are the corpus's captures; none if it is not there.
func corpusFiles() (files []string) {
	for _, ext := range []string{"pcap", "pcapng"} {
		found, _ := filepath.Glob(filepath.Join(nstest.CapturesDir(), "*", "*."+ext))
		files = append(files, found...)
	}
	return files
}

func TestCorpus(t *testing.T) {
	dir := nstest.Captures(t)
	for _, folder := range folders {
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
				if t.Logf("%d of %d lines", same, all); same < all {
					t.Errorf("%d of %d lines are not tcpdump's", all-same, all)
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
func readCapture(t testing.TB, file string) (all []dissect.Packet) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapfile.NewReader(f)
	if err != nil {
		t.Fatal(file, err)
	}
	for {
		var p pcapfile.Packet
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(file, err)
		}
		exact := p.Exact()
		all = append(all, dissect.Packet{
			Seconds: exact.Seconds, Nanoseconds: exact.Nanoseconds, Data: bytes.Clone(p.Data), Len: int(p.Len), LinkType: uint16(p.LinkType),
		})
	}
}
