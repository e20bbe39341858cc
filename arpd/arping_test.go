package arpd

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/nstest"
)

// TestArping asks as people do, with iputils-arping.
func TestArping(t *testing.T) {
	nstest.Need(t, "arping")
	l := newLab(t)
	s := l.veth("cali1")
	addr, err := netlink.ParseAddr("10.20.1.2/24")
	l.must(err)
	l.must(l.podLinks.AddrAdd(s.link, addr))
	r := l.start(Options{})
	r.Publish(map[int]*Policy{s.index: s.policy()})

	for _, c := range []struct {
		args, want string
		fails      bool
	}{
		// -f ends with the first answer, -b never goes over to unicast.
		{"-c 3 -w 5 -s 10.20.1.2 169.254.1.1", "Received 3 response", false},
		{"-b -c 3 -w 5 -s 10.20.1.2 169.254.1.1", "Received 3 response", false},
		{"-f -w 5 -s 10.20.1.2 10.20.1.3", "[EE:EE:EE:EE:EE:EE]", false},
		{"-D -w 5 169.254.1.1", "Received 1 response", true}, // the gateway is taken
		{"-D -c 1 -w 2 10.20.1.3", "Received 0 response", false},
		{"-c 1 -w 2 -s 10.20.1.2 10.20.1.99", "Received 0 response", true},
		{"-U -c 1 -w 2 -s 10.20.1.2 10.20.1.2", "Received 0 response", false},
		{"-A -c 1 -w 2 -s 10.20.1.2 10.20.1.2", "Received 0 response", false},
	} {
		t.Log("arping", c.args)
		var out []byte
		l.inPod(func() {
			args := append([]string{"-I", s.link.Attrs().Name}, strings.Fields(c.args)...)
			out, err = exec.Command("arping", args...).CombinedOutput()
		})
		if !strings.Contains(string(out), c.want) || (err != nil) != c.fails {
			t.Errorf("arping %s: %v, want %q:\n%s", c.args, err, c.want, out)
		}
	}
}
