package differential

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// host is one of the two, with its stations.
type host struct {
	name     string
	stations []*station
	lab      *lab.Lab
}

// pair is the two hosts of a world.
type pair struct {
	t            testing.TB
	w            *world
	kernel, ours *host
	far          *lab.Lab // where the stations are
	own          *owned
	labs         []*lab.Lab // of kernel and ours
	daemon       *labtest.Process
}

// starved is for how long the daemon has waited for a CPU: what it was to do in that time it does later.
func (p *pair) starved() time.Duration {
	if p.daemon == nil {
		return 0
	}
	return p.daemon.WaitedForCPU(p.t)
}

const node = "host0"

// engine is the daemon's.
var engine = "af_packet"

// noEngine is the engine with which no daemon runs: the kernels of both hosts forward,
// and what still differs is chance.
const noEngine = "kernel"

// setUp makes both hosts and starts proxyarpd in one of them.
func setUp(t testing.TB, w *world) *pair {
	t.Helper()
	labtest.Need(t, "ip")
	single := lab.Spec{Hosts: 1, PodsPerHost: lab.NoPods}
	far := labtest.New(t, single)
	p := &pair{t: t, w: w, far: far, own: &owned{addrs: map[addr]bool{}, prefixes: w.delivered}}
	for _, a := range append(hostOwn, far.Nodes()[0].Addr.Addr().As4(), ip("192.0.0.8"), ip("127.0.0.1")) {
		p.own.addrs[a] = true
	}
	kernel, l := labtest.New(t, single), labtest.New(t, single)
	p.labs = []*lab.Lab{kernel, l}
	p.kernel = makeHost(t, w, kernel, far, "k", true)
	p.ours = makeHost(t, w, l, far, "o", w.both || engine == noEngine)
	if engine == noEngine {
		return p
	}
	flags := []string{"--engine", engine, "--workload", "cali*", "--uplink", "up*", fmt.Sprintf("--transit=%v", !w.both), "--rp-filter", strconv.Itoa(w.rpFilter)}
	p.daemon = labtest.Daemon(t, l, node, append(flags, w.flags...)...)
	return p
}

// dead reports whether nothing comes in at a port.
func (w *world) dead(port int) bool { return w.down && port == up1 }

// mute reports whether no fence comes from a port.
func (w *world) mute(port int) bool { return w.dead(port) || w.deaf && port == up1 }

func makeHost(t testing.TB, w *world, l, far *lab.Lab, prefix string, forwards bool) *host {
	t.Helper()
	netns := far.Nodes()[0].Netns
	h := &host{name: prefix, lab: l}
	var bare *station
	if w.bare {
		bare = openBare(t, l, ports[up1].name)
	}
	if w.ipv6 {
		setAll(t, l, before6())
	}
	w.ip(t, l, w.batch(netns, prefix))
	var up strings.Builder
	for i, p := range ports {
		if i != up1 || !w.bare {
			fmt.Fprintf(&up, "link set %s%s up\n", prefix, p.name)
		}
	}
	ipBatch(t, far, up.String())
	setAll(t, l, w.settings(forwards))
	w.make(t, l, w.objects)
	err := far.Do(node, func() error {
		for i, p := range ports {
			if i == up1 && w.bare {
				h.stations = append(h.stations, bare)
				continue
			}
			i, err := net.InterfaceByName(prefix + p.name)
			if err != nil {
				return err
			}
			s, err := openStation(i.Index)
			if err != nil {
				return err
			}
			h.stations = append(h.stations, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.down {
		ipBatch(t, far, fmt.Sprintf("link set %s%s down\n", prefix, ports[up1].name))
	}
	return h
}

func setAll(t testing.TB, l *lab.Lab, settings []string) {
	t.Helper()
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if err := l.SetSysctl(node, key, value); err != nil {
			t.Fatal(err)
		}
	}
}

// openBare makes a device without link-layer header in a host; whoever has its
// descriptor is the station behind it.
func openBare(t testing.TB, l *lab.Lab, name string) (s *station) {
	t.Helper()
	if err := l.Do(node, func() (err error) {
		s, err = openTUN(name)
		return err
	}); err != nil {
		nstest.Skip(t, "TUN devices: %v", err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// make runs commands one by one: groups of next hops have no family.
func (w *world) make(t testing.TB, l *lab.Lab, objects []string) {
	t.Helper()
	if !w.ipv6 {
		ipBatch(t, l, strings.Join(objects, "\n"))
		return
	}
	for _, o := range objects {
		if strings.Contains(o, " group ") {
			ipBatch(t, l, o)
		} else {
			ipBatch(t, l, o, "-6")
		}
	}
}

// ip runs commands of the world's family.
func (w *world) ip(t testing.TB, l *lab.Lab, text string) {
	t.Helper()
	if w.ipv6 {
		ipBatch(t, l, text, "-6")
	} else {
		ipBatch(t, l, text)
	}
}

func ipBatch(t testing.TB, l *lab.Lab, text string, flags ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, l, node, "ip", append(flags, "-batch", file)...)
}
