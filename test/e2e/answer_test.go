package e2e

import (
	"regexp"
	"strings"
	"syscall"
	"testing"

	"proxyarpd/internal/lab/labtest"
)

// solicited is what is counted of neighbour discovery.
type solicited struct {
	ND struct {
		Verdicts counts
		Unrouted uint64
		Carried  uint64
	}
	Workloads []struct {
		Name string
		IPv6 struct{ Solicitations, Advertisements uint64 }
	}
}

// TestCarriedND: solicitations that the program answers get one answer, the responder's, and
// are counted and captured as its are: those of a pod that looks for its gateway, which it
// does from the address of its packet, and those by which it looks whether it is still there,
// which it does from its link-local address.
func TestCarriedND(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	labtest.NeedIPv6(t)
	w := carrying(t, 2)
	a, b := pods6(t, w.Lab, 0)[0], pods6(t, w.Lab, 0)[1]
	now := func() (s solicited) { w.d[0].StatusJSON(t, &s); return s }
	find := func() {
		run(t, w.Lab, a.Node, "ip -6 neigh flush dev eth0")
		ping(t, w.Lab, a.Node, ip(b), "-W5")
	}
	probe := func() {
		run(t, w.Lab, a.Node, "ip -6 neigh change "+gateway6+" lladdr "+answerMAC+" dev eth0 nud probe")
		await(t, "the gateway is still there", func() bool {
			return strings.Contains(run(t, w.Lab, a.Node, "ip -6 neigh show "+gateway6+" dev eth0"), "router REACHABLE")
		})
	}
	for _, asks := range []func(){find, probe} {
		await(t, "who asks is known", func() bool { // the first time by the responder
			was := now().ND.Carried
			asks()
			return now().ND.Carried > was
		})
	}
	const n = 5
	before := now()
	for range n {
		find()
		probe()
	}
	after := now()
	carried, answered := after.ND.Carried-before.ND.Carried, after.ND.Verdicts["answer"]-before.ND.Verdicts["answer"]
	if carried < 2*n || answered != carried || after.ND.Unrouted != before.ND.Unrouted {
		t.Errorf("%d answered, %d of them by the program; want %d", answered, carried, 2*n)
	}
	for i, p := range after.Workloads {
		was := before.Workloads[i].IPv6
		if asked, told := p.IPv6.Solicitations-was.Solicitations, p.IPv6.Advertisements-was.Advertisements; p.Name == a.Iface && (asked != carried || told != carried) {
			t.Errorf("%s: %d solicitations, %d advertisements, and the program answered %d", p.Name, asked, told, carried)
		}
	}

	c := spawn(t, w.Lab, "host0", labtest.Binary(t)+" capture --control "+w.d[0].Control+" -nvi "+a.Iface+" icmp6")
	c.await("listening on")
	find()
	c.await("tgt is " + gateway6)
	c.cmd.Process.Signal(syscall.SIGINT)
	out := c.end()
	asked := regexp.MustCompile(`neighbor solicitation, length 32, who has `+gateway6+`[^>]*=> answer.* #(\d+)`).FindAllStringSubmatch(out, -1)
	told := regexp.MustCompile(`neighbor advertisement, length 32, tgt is `+gateway6+`, Flags \[router, solicited, override\][^>]*=> originate.* #(\d+)`).FindAllStringSubmatch(out, -1)
	if len(asked) == 0 || len(asked) != len(told) || asked[0][1] != told[0][1] {
		t.Errorf("captured solicitations %q, advertisements %q:\n%s", asked, told, out)
	}
}
