package failure

import (
	"fmt"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// macOf is the MAC of an interface, indexOf its index.
func macOf(t testing.TB, l *lab.Lab, node, name string) string {
	t.Helper()
	f := strings.Fields(labtest.Run(t, l, node, "ip", "-o", "link", "show", "dev", name))
	for i := range f {
		if f[i] == "link/ether" {
			return f[i+1]
		}
	}
	t.Fatalf("%q has no MAC: %s", name, f)
	return ""
}

func indexOf(t testing.TB, l *lab.Lab, node, name string) string {
	t.Helper()
	n, _, _ := strings.Cut(labtest.Run(t, l, node, "ip", "-o", "link", "show", "dev", name), ":")
	return n
}

// TestRenamedWhileDead: an interface that was renamed after kill -9 has its MAC
// back at the next end, whether it is still served or not, and one that was made
// anew with its index, its name and its MAC is not given the old one.
func TestRenamedWhileDead(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	for name, c := range map[string]struct {
		after func(t *testing.T, l *lab.Lab, was string) (is string)
		back  bool
	}{
		"renamed, and served": {func(t *testing.T, l *lab.Lab, was string) string {
			run(t, l, "host0", "ip link set "+was+" name vethrenamed")
			return "vethrenamed"
		}, true},
		"renamed, and not served": {func(t *testing.T, l *lab.Lab, was string) string {
			run(t, l, "host0", "ip link set "+was+" name net0")
			return "net0"
		}, true},
		"anew": {func(t *testing.T, l *lab.Lab, was string) string {
			i := indexOf(t, l, "host0", was)
			run(t, l, "host0", "ip link del "+was)
			run(t, l, "host0", fmt.Sprintf("ip link add %s index %s address %s type veth peer name peer0", was, i, answerMAC))
			return was
		}, false},
		"anew, with another name": {func(t *testing.T, l *lab.Lab, was string) string {
			i := indexOf(t, l, "host0", was)
			run(t, l, "host0", "ip link del "+was)
			run(t, l, "host0", fmt.Sprintf("ip link add net0 index %s address %s type veth peer name peer0", i, answerMAC))
			return "net0"
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := hosts(t, 1, 1)
			was := pods(l, 0)[0].Iface
			had := macOf(t, l, "host0", was)
			serve(t, l, "--uplink", "ens192")[0].Kill()
			if got := macOf(t, l, "host0", was); got != answerMAC {
				t.Fatalf("it has %s", got)
			}
			is := c.after(t, l, was)
			p := serve(t, l, "--uplink", "ens192")[0]
			p.Stop(t)
			want := answerMAC
			if c.back {
				want = had
			}
			if got := macOf(t, l, "host0", is); got != want {
				t.Errorf("%s has %s, want %s\n%s", is, got, want, p.Stderr())
			}
			if left := records(t, l, "host0"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
