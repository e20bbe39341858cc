package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// pane is a terminal of tmux in which a command runs.
type pane struct {
	t      *testing.T
	l      *lab.Lab
	socket string
}

// newPane starts a shell's command in a terminal of that size.
func newPane(t *testing.T, l *lab.Lab, width, height int, command string) *pane {
	t.Helper()
	labtest.Need(t, "tmux")
	dir, err := os.MkdirTemp("", "parp") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	p := &pane{t, l, filepath.Join(dir, "tmux")}
	t.Cleanup(func() {
		_, _ = labtest.Output(t, l, "host0", "tmux", "-S", p.socket, "kill-server")
		_ = os.RemoveAll(dir)
	})
	p.tmux("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), "TERM=screen; export TERM; "+command+"; echo exit $?; exec cat")
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	return labtest.Run(p.t, p.l, "host0", "tmux", append([]string{"-S", p.socket}, args...)...)
}

// shown waits until all texts are on the screen, which it gives.
func (p *pane) shown(texts ...string) (screen string) {
	p.t.Helper()
	labtest.Await(p.t, strings.Join(texts, ", ")+" on the screen", func() bool {
		screen = p.tmux("capture-pane", "-p")
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
	return screen
}

func (p *pane) type_(keys ...string) { p.t.Helper(); p.tmux(append([]string{"send-keys"}, keys...)...) }

// TestTop: the live view in a terminal of 80 columns: keys, another size, a daemon
// that restarts, stop and go on.
func TestTop(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "tmux", "ping")
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 3})
	d := labtest.Daemon(t, l, "host0")
	pods := labtest.Pods(l, 0)
	labtest.Run(t, l, "host0", "ip", "route", "add", "blackhole", "203.0.113.0/24")
	_, _ = labtest.Output(t, l, pods[1].Node, "ping", "-c", "3", "-i", "0.01", "-W", "1", "203.0.113.1")
	labtest.Run(t, l, pods[0].Node, "ping", "-c", "20", "-i", "0.01", "-W", "5", labtest.IP(pods[2]))

	command := labtest.Binary(t) + " top --every 300ms --control " + d.Control
	p := newPane(t, l, 80, 24, command)
	screen := p.shown("INTERFACE", pods[0].Iface, pods[1].Iface, "routes", "ready", "interfaces by rate", "PARP_ROUTE_BLACKHOLE")
	for line := range strings.Lines(screen) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("wider than 80: %q", line)
		}
	}
	p.type_("d", "Down", "Enter") // the first by drops
	p.shown(pods[1].Iface+"  index", fmt.Sprintf("%-30s %12s %12d", "PARP_ROUTE_BLACKHOLE", "0", 3), "FRAMES")
	p.type_("Escape")
	p.shown("interfaces by drops")
	p.type_("n")
	p.shown("interfaces by name")
	p.type_("h")
	p.shown("sort by rate")
	p.type_("x")
	p.shown("interfaces by name")
	p.type_("+")
	p.shown("every 600ms")
	p.type_("-", "Space")
	p.shown("every 300ms", "PAUSED")
	p.type_("Space")

	p.tmux("resize-window", "-x", "60", "-y", "10")
	labtest.Await(t, "it is drawn anew for another size", func() bool {
		all := strings.Split(strings.TrimRight(p.tmux("capture-pane", "-p"), "\n"), "\n")
		return len(all) <= 10 && strings.HasPrefix(all[len(all)-1], "3 interfaces by name")
	})
	p.tmux("resize-window", "-x", "80", "-y", "24")
	p.shown("enter detail  s sort")

	d.Stop(t)
	p.shown("waiting for the daemon")
	labtest.Start(t, l, "host0", "--control", d.Control)
	labtest.Await(t, "it goes on with the next daemon", func() bool {
		screen := p.tmux("capture-pane", "-p")
		return !strings.Contains(screen, "waiting for the daemon") && strings.Contains(screen, "in ")
	})
	p.type_("q")
	p.shown("exit 0")

	// ^Z gives the terminal back, fg takes it again.
	p = newPane(t, l, 80, 24, "bash --norc -i")
	p.type_("PS1=ready:; "+command, "Enter")
	p.shown("interfaces by rate")
	p.type_("C-z")
	p.shown("Stopped")
	p.type_("stty -a | grep -o ' icanon'; fg", "Enter")
	p.shown("interfaces by rate")
	p.type_("C-c")
	p.shown(" icanon", "ready:")

	for _, c := range []struct {
		command, want string
	}{
		{"TERM=dumb " + command, "use --batch"},
		{command + " </dev/null", "use --batch"},
		{labtest.Binary(t) + " top --control /nonexistent", "no such file"},
		{command + " --batch -n 2 | cat", "bit/s"},
	} {
		p := newPane(t, l, 100, 30, c.command)
		p.shown(c.want, "exit ")
	}
}
