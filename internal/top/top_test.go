package top

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/status"
	"proxyarpd/internal/status/statustest"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a status after so many seconds in which a pod has been busy.
func at(seconds uint64) sample {
	s := &status.Status{Version: "v1", PID: 7, Engine: "af_packet", Ready: true, Uptime: float64(10 + seconds)}
	s.Workloads = []status.Interface{
		{Name: "cali1", Index: 1, MAC: "ee:ee:ee:ee:ee:ee", Up: true, Answers: "ee:ee:ee:ee:ee:ee", Received: 1000 * seconds, Local: 5 * seconds, ARPRequests: seconds,
			Verdicts: map[string]uint64{"forward": 900 * seconds, "local": 5 * seconds}, Drops: map[string]uint64{"IP_RPFILTER": 100 * seconds}, ARPVerdicts: map[string]uint64{"answer": seconds},
			IPv6: &status.IPv6{Forwards: true, Answers: "ee:ee:ee:ee:ee:ee", Solicitations: 3 * seconds, Advertisements: 2 * seconds, Defended: seconds, Verdicts: map[string]uint64{"answer": 2 * seconds, "IPV6_NDISC_NS_OTHERHOST": seconds}}},
		{Name: "cali2", Index: 2, Up: true, IPv6: &status.IPv6{Why: "not served: x"}, Received: 5000, Drops: map[string]uint64{"IP_INNOROUTES": 2 + 300*seconds}},
	}
	s.ARP.Verdicts, s.ND.Verdicts = s.Workloads[0].ARPVerdicts, s.Workloads[0].IPv6.Verdicts
	s.Uplinks = []status.Interface{{Name: "ens192", Index: 3, Up: true, Error: "no such thing"}}
	s.Forward = status.Forward{PacketsIn: 1000 * seconds, PacketsOut: 900 * seconds, BytesOut: 125000 * seconds, Routes: 9,
		Verdicts: map[string]uint64{"forward": 900 * seconds, "queue": 1}, Drops: map[string]uint64{"IP_RPFILTER": 100 * seconds}}
	return sample{s, began.Add(time.Duration(seconds) * time.Second)}
}

func text(s *screen) string {
	var all []string
	for _, l := range s.lines() {
		all = append(all, l.text)
	}
	return strings.Join(all, "\n") + "\n"
}

func TestRates(t *testing.T) {
	v := since(at(2), at(4))
	r := v.rows[0]
	if !v.rated || r.in.rate != 1005 || r.forwarded.rate != 900 || r.dropped.rate != 100 || r.left.rate != 5 || r.arp.rate != 1 || r.dropped.total != 400 || v.in.rate != 1000 || v.lost.rate != 100 {
		t.Errorf("%+v\n%+v", v, r)
	}
	if v.total[0].name != "forward" || v.total[1].rate != 0 {
		t.Errorf("%+v", v.total)
	}
	// Another daemon's numbers have nothing to do with it, nor has the first look a rate.
	other := at(4)
	other.PID = 8
	for _, v := range []*view{since(at(2), other), since(sample{}, at(4)), since(at(4), at(2))} {
		if v.rated || v.rows[0].in.rate != 0 || v.rows[0].in.total == 0 {
			t.Errorf("%+v", v.rows[0].in)
		}
	}
}

func TestSort(t *testing.T) {
	names := func(by order) (s string) {
		v := since(at(2), at(4))
		v.sort(by)
		for _, r := range v.rows {
			s += r.Name + " "
		}
		return s
	}
	for by, want := range map[order]string{byRate: "cali1 cali2 ens192 ", byDrops: "cali2 cali1 ens192 ", byName: "cali1 cali2 ens192 "} {
		if got := names(by); got != want {
			t.Errorf("by %s: %s", orderNames[by], got)
		}
	}
}

// TestLines: what is shown fits, whatever the size, and nothing of a name acts on
// the terminal.
func TestLines(t *testing.T) {
	now := at(4)
	now.Workloads[1].Name = "a\x1b[2Jb"
	v := since(at(2), now)
	for _, size := range [][2]int{{80, 24}, {80, 6}, {40, 10}, {200, 60}, {1, 1}, {0, 0}} {
		for _, s := range []*screen{{view: v, selected: 1}, {view: v, detail: 1}, {view: v, detail: 99}, {view: v, help: true}, {trouble: "x"}, {view: v, trouble: "gone", paused: true}} {
			s.width, s.height = size[0], size[1]
			all := s.lines()
			if len(all) > s.height {
				t.Errorf("%v: %d lines", size, len(all))
			}
			for _, l := range all {
				if len([]rune(l.text)) > s.width || strings.ContainsAny(l.text, "\x1b\n\r") {
					t.Errorf("%v: %q", size, l.text)
				}
			}
		}
	}
	s := &screen{view: v, width: 80, height: 24, every: time.Second}
	for _, want := range []string{"in 1.0k/s  out 900/s  1.0Mbit/s  drops 100/s", "INTERFACE       ROLE     IP     IN/s FORW/s DROP/s KERNEL/s ARP/s  ND/s  DROPS\n",
		"cali1           workload 4 6    1.0k    900    100      5.0   1.0   3.0    400\n", "ens192          uplink   -         0      0      0        0     0     0      0 !\n",
		"a\\x1b[2Jb       workload -         0      0    300        0     0     0   1.2k\n", "verdicts/s  forward 900  queue 0\n", "arp/s       answer 1.0\n", "nd/s        answer 2.0  IPV6_NDISC_NS_OTHERHOST 1.0\n"} {
		if !strings.Contains(text(s), want) {
			t.Errorf("no %q in\n%s", want, text(s))
		}
	}
	for _, l := range helpLines {
		if len(l.text) > 80 {
			t.Errorf("wider than 80: %q", l.text)
		}
	}
	s.detail, s.height = 1, 60
	if got := text(s); !strings.Contains(got, "IP_RPFILTER                             100          400\n") || !strings.Contains(got, "answers ee:ee") || !strings.Contains(got, "serves IPv4 and IPv6\n") ||
		!strings.Contains(got, "NEIGHBOUR DISCOVERY") || !strings.Contains(got, "IPV6_NDISC_NS_OTHERHOST                 1.0            4\n") || !strings.Contains(got, "answers to DAD                          1.0            4\n") {
		t.Errorf("detail\n%s", got)
	}
}

// TestEveryCounter: the detail of an interface has all that is counted on it.
func TestEveryCounter(t *testing.T) {
	now, numbers := statustest.Filled()
	for i, all := range [][]status.Interface{now.Workloads, now.Uplinks} {
		all[0].Index = i + 1
		s := &screen{view: since(sample{}, sample{now, began}), width: 80, height: 100, detail: i + 1, selected: -1}
		s.head()
		shown := text(s)
		for path, n := range numbers {
			of, key, _ := strings.Cut(path[1:], ".")
			if key == "ARPReplies" || key == "IPv6.Advertisements" { // a verdict has it
				continue
			}
			if of == []string{"Workloads", "Uplinks"}[i] && !strings.Contains(shown, fmt.Sprint(n)) {
				t.Errorf("%s: %s is not shown", of, key)
			}
		}
		if t.Failed() {
			t.Log(shown)
		}
	}
}

// TestScroll: the selected row is always seen.
func TestScroll(t *testing.T) {
	now := at(4)
	now.Workloads = nil
	for i := range 100 {
		now.Workloads = append(now.Workloads, status.Interface{Name: fmt.Sprintf("cali%02d", i), Index: i + 1})
	}
	s := &screen{view: since(at(2), now), width: 80, height: 24, selected: -1}
	term := &terminal{s: *s}
	for _, k := range []key{keyDown, keyPageDown, keyPageDown, keyPageDown, keyPageUp, keyUp, keyPageDown, keyPageDown, keyPageDown, keyPageDown, keyPageDown, keyPageDown, keyPageDown} {
		term.press(k, 0)
		term.s.scroll()
		if name := term.s.rows[term.s.selected].Name; !strings.Contains(text(&term.s), name) {
			t.Fatalf("%s is not seen, first %d\n%s", name, term.s.first, text(&term.s))
		}
	}
	if term.s.selected != 100 { // the uplink
		t.Errorf("at %d", term.s.selected)
	}
}

func TestKeys(t *testing.T) {
	for in, want := range map[string][]key{"q": {keyQuit}, "\x1b[A\x1b[B": {keyUp, keyDown}, "\x1b": {keyBack}, "jk\r": {keyDown, keyUp, keyEnter}, "\x1b[1;5Aq": {keyNone, keyQuit}, "\x1b[": {keyNone}, "\x1bx": {keyNone}, "s": {keyOther}, "\x1a\x03": {keyStop, keyQuit}} {
		b := []byte(in)
		for _, w := range want {
			var k key
			if k, _, b = nextKey(b); k != w {
				t.Errorf("%q: %d, want %d", in, k, w)
			}
		}
		if len(b) != 0 {
			t.Errorf("%q: left %q", in, b)
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("\x1b[5~x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := 0; len(b) > 0; n++ {
			before := len(b)
			if _, _, b = nextKey(b); len(b) >= before {
				t.Fatal("nothing is taken")
			}
		}
	})
}

// TestBatch: text, a look behind the other; a daemon that restarts is waited for.
func TestBatch(t *testing.T) {
	n := uint64(0)
	o := Options{Batch: true, Looks: 3, Every: time.Millisecond, Query: func(context.Context) (*status.Status, error) {
		if n++; n == 3 {
			return nil, errors.New("gone")
		}
		return at(n).Status, nil
	}}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- errors.Join(Run(t.Context(), os.Stdin, w, o), w.Close()) }()
	out, err := io.ReadAll(r)
	if err = errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	if c := bytes.Count(out, []byte("INTERFACE")); c != 3 || bytes.Count(out, []byte("waiting for the daemon: gone")) != 1 {
		t.Errorf("%d looks\n%s", c, out)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	o.Batch = false
	if err := Run(t.Context(), os.Stdin, null, o); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("no terminal: %v", err)
	}
	o.Query = func(context.Context) (*status.Status, error) { return nil, errors.New("none") }
	if err := Run(t.Context(), os.Stdin, null, o); err == nil || err.Error() != "none" {
		t.Errorf("no daemon: %v", err)
	}
}

func TestNumber(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 0.25: "0.2", 9.9: "9.9", 9.96: "10", 999: "999", 999.6: "1.0k", 12345: "12.3k", 123456: "123k", 9.9999e5: "1.0M", 1e15: "1000T"} {
		if got := number(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}
