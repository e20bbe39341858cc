package e2e

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestForeignTCX finds another's program on an interface, before the start and
// on a pod that comes later.
func TestForeignTCX(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		nstest.Skip(t, "eBPF: %v", err)
	}
	defer prog.Close()
	attach := func(p lab.Pod) link.Link {
		t.Helper()
		var tcx link.Link
		err := l.Do("host0", func() (err error) {
			tcx, err = link.AttachTCX(link.TCXOptions{Interface: p.Index, Program: prog, Attach: ebpf.AttachTCXIngress})
			return err
		})
		if err != nil {
			nstest.Skip(t, "TCX (Linux 6.6): %v", err)
		}
		return tcx
	}
	first := pods(l, 0)[0]
	tcx := attach(first)
	refused := labtest.Start(t, l, "host0", "--workload", "veth*")
	if err := refused.Wait(t); err == nil {
		t.Fatal("it runs")
	}
	message := errorLine(t, refused.Stderr())
	for _, want := range []string{"tcx ingress", first.Iface, "foreign", "1 program", "--bypass-policy"} {
		if !strings.Contains(message, want) {
			t.Errorf("no %q in %s", want, message)
		}
	}
	if err := tcx.Close(); err != nil {
		t.Fatal(err)
	}

	p := labtest.Daemon(t, l, "host0", "--workload", "veth*")
	wantTTL(t, l, first.Node, ip(pods(l, 0)[1]), 63)
	later, err := l.AddPod(t.Context(), 0, lab.PodOptions{Iface: "later0", Down: true})
	if err != nil {
		t.Fatal(err)
	}
	tcx = attach(later)
	defer tcx.Close()
	run(t, l, "host0", "ip link set later0 name veth9")
	later.Iface = "veth9"
	if err := l.Up(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	s := status{}
	await(t, "status says why "+later.Iface+" is left to the kernel", func() bool {
		s = statusOf(t, p)
		i := s.port(later.Iface)
		return i != nil && strings.Contains(i.Error, "tcx ingress of veth9 (") // by its ID: a name takes CAP_SYS_ADMIN, which is given up
	})
	// Its ARP is answered, and it talks with its host; the others are served.
	await(t, later.Iface+" has its MAC", func() bool { return linkMAC(t, l, "host0", later.Iface) == answerMAC })
	wantTTL(t, l, later.Node, host0IP, 64)
	wantTTL(t, l, "host0", ip(later), 64)
	if out, code := try(t, l, later.Node, "ping -n -c1 -W1 "+ip(first)); code != 1 {
		t.Errorf("it is forwarded for:\n%s", out)
	}
	wantTTL(t, l, first.Node, ip(pods(l, 0)[1]), 63)
	s = statusOf(t, p)
	if i := s.port(later.Iface); i.Forwards || s.Ready || i.Error == "" {
		t.Errorf("ready %v, %+v", s.Ready, i)
	}
}

// TestSparedEgress: with --bypass-policy, frames to an interface with an egress
// program still pass it, on one that was there at the start and on one that
// comes later; those to others go past the queueing discipline.
func TestSparedEgress(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	const protocol, etherTypeIPv4 = 16, 0x0800 // offset in struct __sk_buff
	drop := asm.Mov.Imm(asm.R0, 2)             // TC_ACT_SHOT
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "wall", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, protocol, asm.Word),
			asm.HostTo(asm.BE, asm.R1, asm.Half),
			drop,
			asm.JEq.Imm(asm.R1, etherTypeIPv4, "out"),
			asm.Mov.Imm(asm.R0, -1), // TCX_NEXT: ARP passes
			asm.Return().WithSymbol("out"),
		}})
	if err != nil {
		nstest.Skip(t, "eBPF: %v", err)
	}
	defer prog.Close()
	wall := func(p lab.Pod) link.Link {
		t.Helper()
		var tcx link.Link
		err := l.Do("host0", func() (err error) {
			tcx, err = link.AttachTCX(link.TCXOptions{Interface: p.Index, Program: prog, Attach: ebpf.AttachTCXEgress})
			return err
		})
		if err != nil {
			nstest.Skip(t, "TCX (Linux 6.6): %v", err)
		}
		return tcx
	}
	first, second := pods(l, 0)[0], pods(l, 0)[1]
	stops := func(to lab.Pod, tcx link.Link) {
		t.Helper()
		if out, code := try(t, l, second.Node, "ping -n -c2 -i0.1 -W1 "+ip(to)); code != 1 {
			t.Errorf("the egress program of %s is passed by:\n%s", to.Iface, out)
		}
		if err := tcx.Close(); err != nil {
			t.Fatal(err)
		}
		wantTTL(t, l, second.Node, ip(to), 63) // nothing else was in the way
	}
	tcx := wall(first)
	p := labtest.Daemon(t, l, "host0", "--workload", "veth*", "--bypass-policy")
	stops(first, tcx)

	later, err := l.AddPod(t.Context(), 0, lab.PodOptions{Iface: "later0", Down: true})
	if err != nil {
		t.Fatal(err)
	}
	tcx = wall(later)
	run(t, l, "host0", "ip link set later0 name veth9")
	later.Iface = "veth9"
	if err := l.Up(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	await(t, later.Iface+" is forwarded for", func() bool {
		s := statusOf(t, p)
		i := s.port(later.Iface)
		return i != nil && i.Forwards && s.Ready
	})
	stops(later, tcx)
}
