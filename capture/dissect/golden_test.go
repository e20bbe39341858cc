package dissect_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyarpd/capture/dissect"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

var update = flag.Bool("update", false, "capture the lab's traffic anew and let the installed tcpdump 4.99.3 write the texts")

// A text is what tcpdump prints of a capture with some options.
type text struct {
	name, args string
	o          dissect.Options
}

// everyTexts are there of every capture in testdata.
var everyTexts = []text{
	{"e", "-nn -e", dissect.Options{Numeric: 2, Link: true}},
	{"vv", "-nn -vv", dissect.Options{Numeric: 2, Verbose: 2}},
}

// labTexts are there besides of the lab's captures, and dumpTexts of that with a short snapshot length.
var labTexts = []text{
	{"plain", "-nn", dissect.Options{Numeric: 2}},
	{"v", "-nn -e -v", dissect.Options{Numeric: 2, Link: true, Verbose: 1}},
	{"q", "-nn -e -q", dissect.Options{Numeric: 2, Link: true, Quiet: 1}},
	{"qq", "-nn -qq", dissect.Options{Numeric: 2, Quiet: 2}},
	{"nano", "-nn -K -v --nano", dissect.Options{Numeric: 2, Verbose: 1, NoChecksum: true, Nano: true}},
	{"nanottt", "-nn -ttt --nano", dissect.Options{Numeric: 2, TimeStamp: 3, Nano: true}},
}

var dumpTexts = []text{
	{"x", "-nn -x -S -#", dissect.Options{Numeric: 2, Hex: 1, AbsoluteSeq: true, Number: true}},
	{"xx", "-nn -xx -tt", dissect.Options{Numeric: 2, Hex: 2, TimeStamp: 2}},
	{"X", "-nn -X -t", dissect.Options{Numeric: 2, HexASCII: 1, TimeStamp: 1}},
	{"XX", "-nn -XX -ttt", dissect.Options{Numeric: 2, HexASCII: 2, TimeStamp: 3}},
	{"A", "-nn -A -tttt", dissect.Options{Numeric: 2, ASCII: 1, TimeStamp: 4}},
	{"AA", "-nn -AA -ttttt", dissect.Options{Numeric: 2, ASCII: 2, TimeStamp: 5}},
}

// timeTexts are there besides of captures with odd time stamps.
var timeTexts = []text{
	{"tt", "-nn -tt", dissect.Options{Numeric: 2, TimeStamp: 2}},
	{"ttt", "-nn -ttt", dissect.Options{Numeric: 2, TimeStamp: 3}},
	{"tttt", "-nn -tttt", dissect.Options{Numeric: 2, TimeStamp: 4}},
	{"ttttt", "-nn -ttttt --nano", dissect.Options{Numeric: 2, TimeStamp: 5, Nano: true}},
	{"nanott", "-nn -tt --nano", dissect.Options{Numeric: 2, TimeStamp: 2, Nano: true}},
}

// TestGolden compares with the texts in testdata. With -update they are made first.
func TestGolden(t *testing.T) {
	if *update {
		nstest.NeedTcpdump(t)
		captureLab(t)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Fatal("no captures: ", err)
	}
	for _, file := range files {
		for _, x := range textsOf(filepath.Base(file)) {
			name := strings.TrimSuffix(file, "pcap") + x.name + ".txt"
			if *update {
				writeText(t, file, name, x.args)
			}
			t.Run(filepath.Base(name), func(t *testing.T) {
				want, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				o := x.o
				o.Location = time.UTC
				p := dissect.New(o)
				var got []byte
				for _, pkt := range readCapture(t, file) {
					got = p.Append(got, &pkt)
				}
				if same, all, first := sameLines(want, got); same != all {
					t.Errorf("%d of %d lines are tcpdump's\n%s", same, all, first)
				}
			})
		}
	}
}

func textsOf(file string) []text {
	switch {
	case strings.HasPrefix(file, "lab-snap"):
		return slices.Concat(everyTexts, labTexts, dumpTexts)
	case strings.HasPrefix(file, "lab"):
		return slices.Concat(everyTexts, labTexts)
	case strings.HasPrefix(file, "hand-time"):
		return slices.Concat(everyTexts, timeTexts)
	}
	return everyTexts
}

func writeText(t *testing.T, file, name, args string) {
	t.Helper()
	cmd := exec.Command("tcpdump", append(strings.Fields(args), "-r", file)...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// labTraffic is what host0, $L, does to host1, $A, and to $N, which nobody has, while the wire between them is captured.
const labTraffic = `
ping -c2 -i0.2 $A
ping -c1 -s3000 $A
ping -c1 -M do -s1400 -t3 $A
ping -c1 -R $A
ping -c1 -T tsonly $A
ping -c1 -Q 0x2e $A
ping -c2 -i0.2 -6 2001:db8::1
echo text >/dev/udp/$A/9
head -c4000 /dev/zero >/dev/udp/$A/7777
iperf3 -c $A -p 8080 -n 4K
iperf3 -u -c $A -p 5201 -n 3K
: </dev/tcp/$A/81
ip link add link ens192 name v10 type vlan id 10 && ip addr add 192.0.2.1/24 dev v10 && ip link set v10 up
ping -c1 -W1 192.0.2.2
ip link add x0 type vxlan id 4096 dstport 4789 remote $A dev ens192 && ip addr add 198.51.100.1/24 dev x0 && ip link set x0 up
ping -c1 -W1 198.51.100.2
ip link add g0 type gre remote $A local $L && ip addr add 203.0.113.1/24 dev g0 && ip link set g0 up
ping -c1 -W1 203.0.113.2
ip link add i0 type ipip remote $A local $L && ip addr add 203.0.113.9/30 dev i0 && ip link set i0 up
ping -c1 -W1 203.0.113.10
ping -c1 -W1 $N
true
`

// captureLab captures what two hosts on one wire say, in the lab, into testdata.
func captureLab(t *testing.T) {
	t.Helper()
	labtest.Need(t, "tcpdump", "ping", "iperf3", "bash", "ip")
	l := labtest.New(t, lab.Spec{Hosts: 2, PodsPerHost: 1})
	const host0, host1 = "host0", "host1"
	for node, addr := range map[string]string{host0: "2001:db8::/64", host1: "2001:db8::1/64"} {
		if err := l.SetSysctl(node, "net/ipv6/conf/ens192/disable_ipv6", "0"); err != nil {
			t.Fatal(err)
		}
		labtest.Run(t, l, node, "ip", "addr", "add", addr, "dev", "ens192", "nodad")
	}
	for _, short := range []bool{false, true} {
		file, snap := filepath.Join("testdata", "lab.pcap"), "262144"
		if short {
			file, snap = filepath.Join("testdata", "lab-snap.pcap"), "64"
		}
		stop := startCapture(t, l, host0, file, snap)
		for _, port := range []string{"8080", "5201"} {
			labtest.Run(t, l, host1, "iperf3", "-s", "-1", "-D", "-p", port)
		}
		n0, n1 := labNode(t, l, host0), labNode(t, l, host1)
		script := "A=" + n1.Addr.Addr().String() + " L=" + n0.Addr.Addr().String() + " N=" +
			n1.Addr.Masked().Addr().Next().Next().Next().String() + labTraffic
		labtest.Run(t, l, host0, "bash", "-c", script)
		stop()
	}
}

func labNode(t *testing.T, l *lab.Lab, name string) lab.Node {
	t.Helper()
	for _, n := range l.Nodes() {
		if n.Name == name {
			return n
		}
	}
	t.Fatal("no node ", name)
	return lab.Node{}
}

// startCapture runs tcpdump in a node; stop ends it when it has written what came.
func startCapture(t *testing.T, l *lab.Lab, node, file, snap string) (stop func()) {
	t.Helper()
	cmd := l.Command(context.Background(), node, "tcpdump", "-i", "ens192", "-s", snap, "-w", file,
		"--time-stamp-precision=nano", "--immediate-mode", "-Z", "root")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 0, 4096)
	for !bytes.Contains(said, []byte("listening on")) {
		n, err := stderr.Read(said[len(said):cap(said)])
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		said = said[:len(said)+n]
	}
	return func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
