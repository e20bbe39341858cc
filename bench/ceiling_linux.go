package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dropper is nobody: every packet of a pod is dropped at the host's tc ingress,
// by an eBPF program of two instructions (act_gact and cls_matchall are modules
// that a kernel may lack). What the generator reaches then is its ceiling.
type dropper struct{ undo []func() error }

func (d *dropper) name() string { return Ceiling }

func (d *dropper) processes() []*process { return nil }

func (d *dropper) start(_ context.Context, b *bed, hosts ...int) error {
	for _, n := range hosts {
		err := b.Do(host(n), func() error { return d.attach(b, n) })
		if err != nil {
			return errors.Join(err, d.stop())
		}
	}
	return nil
}

func (d *dropper) attach(b *bed, n int) error {
	const shot = 2 // TC_ACT_SHOT
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "drop", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, shot), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("bench: load the dropping program: %w", err)
	}
	defer prog.Close() // the filters hold it
	for _, p := range b.Pods() {
		if p.Host != n {
			continue
		}
		qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: p.Index,
			Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		if err := netlink.QdiscAdd(qdisc); err != nil {
			return fmt.Errorf("bench: clsact on %s: %w", p.Iface, err)
		}
		d.undo = append(d.undo, func() error {
			return b.Do(host(n), func() error { return netlink.QdiscDel(qdisc) })
		})
		filter := &netlink.BpfFilter{Fd: prog.FD(), Name: "drop", DirectAction: true,
			FilterAttrs: netlink.FilterAttrs{LinkIndex: p.Index, Parent: netlink.HANDLE_MIN_INGRESS,
				Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1}}
		if err := netlink.FilterAdd(filter); err != nil {
			return fmt.Errorf("bench: filter on %s: %w", p.Iface, err)
		}
	}
	return nil
}

func (d *dropper) stop() error {
	err := undo(d.undo)
	d.undo = nil
	return err
}
