package daemon

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestManager: what the environment says, and where that is not what a main process is told, what the predecessor was.
func TestManager(t *testing.T) {
	before := managed{Socket: "/run/systemd/notify", Patience: 30 * time.Second}
	for name, c := range map[string]struct {
		socket, patience string
		predecessor      managed
		want             managed
	}{
		"none":                   {},
		"a main process":         {socket: "@a", patience: "2000000", want: managed{"@a", 2 * time.Second}},
		"no watchdog":            {socket: "@a", want: managed{Socket: "@a"}},
		"a successor":            {predecessor: before, want: before},
		"NotifyAccess=all":       {socket: before.Socket, predecessor: before, want: before},
		"another service":        {socket: before.Socket, patience: "1000000", predecessor: before, want: managed{before.Socket, time.Second}},
		"another manager":        {socket: "@a", predecessor: before, want: managed{Socket: "@a"}},
		"nobody was to be told":  {socket: "@a", patience: "1000000", want: managed{"@a", time.Second}},
		"a wrong WATCHDOG_USEC=": {socket: "@a", patience: "soon", want: managed{Socket: "@a"}},
	} {
		t.Setenv("NOTIFY_SOCKET", c.socket)
		t.Setenv("WATCHDOG_USEC", c.patience)
		t.Setenv("WATCHDOG_PID", "")
		if got := newManager(slog.New(slog.DiscardHandler), c.predecessor).managed; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := &manager{log: slog.New(slog.DiscardHandler), managed: managed{Socket: path}}
	m.tellMain(0)
	m.tellMain(7)
	m.tell("READY=1", "STATUS=x")
	b := make([]byte, 100)
	for _, want := range []string{"MAINPID=7", "READY=1\nSTATUS=x"} {
		if n, err := l.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("%q, %v, want %q", b[:n], err, want)
		}
	}
}

// TestPulse: who has not come round is named; another engine starts anew.
func TestPulse(t *testing.T) {
	var p pulse
	for i, c := range []struct {
		forward []uint64
		arp     uint64
		stuck   string
	}{
		{[]uint64{0, 0}, 0, ""}, // nobody was asked before
		{[]uint64{1, 9}, 1, ""},
		{[]uint64{2, 9}, 2, "worker 1 of the datapath"},
		{[]uint64{3, 10}, 3, ""},
		{[]uint64{4, 11}, 3, "the ARP responder"},
		{[]uint64{5, 12}, 4, ""},
		{nil, 5, ""},
		{[]uint64{0}, 6, ""},
		{[]uint64{0}, 7, "worker 0 of the datapath"},
		{[]uint64{3}, 8, ""},
		{[]uint64{1}, 9, ""}, // a ring that was opened anew
	} {
		if got := p.beat(c.forward, [2]uint64{c.arp, noBeat}); got != c.stuck {
			t.Errorf("%d: stuck is %q, want %q", i, got, c.stuck)
		}
	}
}

func TestKernelFrom(t *testing.T) {
	for release, want := range map[string]bool{"5.19.0": true, "5.18.99": false, "6.1.0-18-amd64": true, "5.4.0": false, "10.0": true, "5.20-rc1": true, "rubbish": false, "": false} {
		if got := kernelFrom(release, 5, 19); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}
