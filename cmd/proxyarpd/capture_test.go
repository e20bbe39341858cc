package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// tcpdump's ways to write the same options are the same here: clusters, values that stand with their letter, options
// behind the expression, and what stands behind --.
func TestCaptureForms(t *testing.T) {
	files, err := filepath.Glob("../../capture/dissect/testdata/hand-icmp.pcap")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	file := files[0]
	for _, same := range [][]string{
		{"-n -v -v -r FILE -c 3", "-nvvrFILE -c3", "-nvvr FILE -c3", "-c3 -nvvrFILE", "--numeric --verbose --verbose --read FILE --packets=3", "-n=1 -v=2 -r=FILE -c 3"},
		{"-n -r FILE -s 64", "-nr FILE -s64", "-s64 -nr FILE", "-nrFILE --snapshot-length 64"},
		{"-n -r FILE icmp", "icmp -n -r FILE", "-n icmp -r FILE", "-nr FILE -- icmp", "-nrFILE icmp --"},
		{"-n -r FILE not udp -c 2", "-n -c2 -r FILE not udp"},
		{"-nr FILE --nano", "-nr FILE --time-stamp-precision nano", "-nr FILE --time-stamp-precision=nano"},
		{"-nr FILE --verdict off", "-nr FILE --verdict=off"},
	} {
		var want result
		for i, line := range same {
			got := call(t, append([]string{"capture"}, strings.Fields(strings.ReplaceAll(line, "FILE", file))...)...)
			if i == 0 {
				want = got
			}
			if got.code != 0 || got.out == "" || got.out != want.out || got.errw != want.errw {
				t.Errorf("%s: exit %d: %s%s\nnot as %s: %s%s", line, got.code, got.errw, got.out, same[0], want.errw, want.out)
			}
		}
	}
	if c := call(t, "capture", "--nonsense", "--help"); c.code != exitUsage { // from left to right
		t.Errorf("exit %d", c.code)
	}
	if c := call(t, "capture", "--", "-n", "-r", file); c.code != exitUsage || !strings.Contains(c.errw, "expression") { // no options, but an expression
		t.Errorf("exit %d: %s", c.code, c.errw)
	}
	if c := call(t, "capture", "-r", "/no/such/file"); c.code != exitFailed || !strings.HasPrefix(c.errw, "proxyarpd: capture: ") {
		t.Errorf("exit %d: %s", c.code, c.errw)
	}
	if c := call(t, "capture", "--version"); c.code != 0 || !strings.HasPrefix(c.out, "proxyarpd capture "+versionString()+"\n") {
		t.Errorf("exit %d: %s", c.code, c.out)
	}
}
