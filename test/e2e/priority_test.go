package e2e

import (
	"maps"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestPriority: a packet has the priority that its TOS stands for, as if the
// kernel forwarded it, so that queueing disciplines sort it, and VLANs give it
// the PCP; unless the host says not to.
func TestPriority(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "sysctl")
	want := map[string]int{"0x00": 0, "0x02": 0, "0x08": 2, "0x10": 6, "0x18": 4, "0xb8": 4, "0xf0": 6}
	for _, engine := range []string{"kernel", "af_packet", "ebpf"} {
		l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 1})
		seen := countPriorities(t, l)
		if engine == "kernel" {
			kernelForwards(t, l)
		} else {
			labtest.Daemon(t, l, "host0", "--engine", engine, "--bypass-policy")
		}
		if got := priorities(t, l, seen, want); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", engine, got, want)
		}
		if engine != "kernel" {
			run(t, l, "host0", "sysctl -qw net.ipv4.ip_forward_update_priority=0")
			labtest.Await(t, "the sysctl to be read", func() bool {
				return priorities(t, l, seen, map[string]int{"0x10": 0})["0x10"] == 0
			})
		}
	}
}

// countPriorities has an egress program of the uplink count IPv4 packets by
// their priority.
func countPriorities(t *testing.T, l *lab.Lab) (counts *ebpf.Map) {
	t.Helper()
	const protocol, priority = 16, 32 // offsets in struct __sk_buff
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 8})
	if err != nil {
		nstest.Skip(t, "eBPF: %v", err)
	}
	t.Cleanup(func() { counts.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "priorities", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, protocol, asm.Word),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.JNE.Imm(asm.R2, 0x0800, "out"),
		asm.LoadMem(asm.R2, asm.R1, priority, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"), // TCX_NEXT
		asm.Return(),
	}})
	if err != nil {
		nstest.Skip(t, "eBPF: %v", err)
	}
	defer prog.Close()
	var tcx link.Link
	err = l.Do("host0", func() error {
		up, err := net.InterfaceByName(uplink)
		if err == nil {
			tcx, err = link.AttachTCX(link.TCXOptions{Interface: up.Index, Program: prog, Attach: ebpf.AttachTCXEgress})
		}
		return err
	})
	if err != nil {
		nstest.Skip(t, "TCX (Linux 6.6): %v", err)
	}
	t.Cleanup(func() { tcx.Close() })
	return counts
}

// priorities sends a packet for each TOS, and gives the priority with which it
// leaves the host.
func priorities(t *testing.T, l *lab.Lab, seen *ebpf.Map, of map[string]int) map[string]int {
	t.Helper()
	counts := func() (all [8]uint64) {
		for p := range all {
			if err := seen.Lookup(uint32(p), &all[p]); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	from, to := pods(l, 0)[0], pods(l, 1)[0]
	got := map[string]int{}
	for tos := range of {
		before := counts()
		try(t, l, from.Node, "ping -n -c1 -W0.1 -Q "+tos+" "+ip(to))
		labtest.Await(t, "the packet", func() bool {
			for p, n := range counts() {
				if n != before[p] {
					got[tos] = p
					return true
				}
			}
			return false
		})
	}
	return got
}
