package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestForms has every pair of pods and hosts talk, in each form of the lab.
func TestForms(t *testing.T) {
	labtest.Need(t, "ping", "ip")
	for i, form := range lab.Forms() {
		for j, engine := range []string{"af_packet", "ebpf", "none"} {
			for _, keep := range []bool{false, true} {
				if keep && (i+j)%3 != 0 {
					continue // the MAC is kept in each form, and by each engine: by another one in each
				}
				args := []string{"--engine", engine, fmt.Sprintf("--keep-mac=%v", keep)}
				t.Run(fmt.Sprintf("%s,%s,keep-mac=%v", form, engine, keep), func(t *testing.T) {
					t.Parallel()
					spec := lab.Spec{Form: form, PodsPerHost: 2}
					if form == lab.FormCalico {
						spec.PodsPerHost = 3
					}
					testForm(t, spec, engine == "none", keep, args)
				})
			}
		}
	}
}

func testForm(t *testing.T, spec lab.Spec, kernel, keep bool, args []string) {
	l := labtest.New(t, spec)
	if kernel { // engine none answers ARP only: the kernel has to forward
		for _, host := range []string{"host0", "host1"} {
			if err := l.SetSysctl(host, "net.ipv4.ip_forward", "1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := map[string]string{}
	for _, p := range l.Pods() {
		found[p.Name] = p.MAC
	}
	w := &world{Lab: l}
	w.daemons(t, args...)

	mine, others := pods(l, 0), pods(l, 1)
	for range 5 { // nobody knows anybody: the first packet has to arrive
		flushNeighbours(t, l)
		wantTTL(t, l, mine[0].Node, ip(others[0]), 62)
	}
	flushNeighbours(t, l)
	wantTTL(t, l, others[1].Node, ip(mine[1]), 62)
	wantTTL(t, l, mine[0].Node, ip(mine[1]), 63)
	flushNeighbours(t, l)
	wantTTL(t, l, others[1].Node, ip(others[0]), 63)
	wantTTL(t, l, mine[0].Node, host0IP, 64) // its own host
	wantTTL(t, l, mine[0].Node, host1IP, 63)
	flushNeighbours(t, l)
	wantTTL(t, l, "host0", ip(mine[0]), 64)
	wantTTL(t, l, "host0", ip(others[0]), 63)
	flushNeighbours(t, l)
	wantTTL(t, l, "host1", ip(mine[1]), 63)

	for _, p := range mine {
		ping(t, l, p.Node, host1IP)
		if got := run(t, l, p.Node, "ip neigh show "+gateway); !strings.Contains(got, answerMAC) {
			t.Errorf("%s's gateway: %s", p.Name, got)
		}
	}
	s := statusOf(t, w.d[0])
	for _, p := range mine {
		i := s.port(p.Iface)
		if i == nil {
			t.Fatalf("status does not list %s", p.Iface)
		}
		want := answerMAC
		if keep {
			want = found[p.Name]
		}
		if i.Answers != answerMAC || i.MAC != want || i.ARPReplies == 0 || i.Forwards == kernel {
			t.Errorf("%s: %+v, want answers %s and MAC %s", p.Iface, i, answerMAC, want)
		}
	}
	if !kernel {
		closedKernel(t, l)
	}
	w.d[0].Stop(t)
	for _, p := range mine {
		if got := linkMAC(t, l, "host0", p.Iface); got != found[p.Name] {
			t.Errorf("%s: MAC %s after the daemon's end, %s before its start", p.Iface, got, found[p.Name])
		}
	}
}

// linkMAC is an interface's address as the kernel has it.
func linkMAC(t testing.TB, l *lab.Lab, node, name string) string {
	t.Helper()
	fields := strings.Fields(run(t, l, node, "ip -br link show dev "+name))
	if len(fields) < 3 {
		t.Fatalf("ip link show %s: %q", name, fields)
	}
	return fields[2]
}

// closedKernel checks that the hosts' kernels neither forward nor proxy.
func closedKernel(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, host := range []string{"host0", "host1"} {
		for key, value := range ipv4Sysctls(t, l, host) {
			switch filepath.Base(key) {
			case "ip_forward", "forwarding", "proxy_arp", "proxy_arp_pvlan":
				if value != "0" {
					t.Errorf("%s: %s is %s", host, key, value)
				}
			}
		}
	}
}

// ipv4Sysctls reads all that a node's IPv4 can be told.
func ipv4Sysctls(t testing.TB, l *lab.Lab, node string) map[string]string {
	t.Helper()
	return sysctlsBelow(t, l, node, "/proc/sys/net/ipv4")
}

// sysctlsBelow reads all sysctls of a node below a folder.
func sysctlsBelow(t testing.TB, l *lab.Lab, node, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := l.Do(node, func() error {
		return fs.WalkDir(os.DirFS(folder), ".", func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			// Some can only be written, and some not be read without IPv6.
			if b, err := os.ReadFile(filepath.Join(folder, path)); err == nil {
				all[path] = strings.TrimSpace(string(b))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
