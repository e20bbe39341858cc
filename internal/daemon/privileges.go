package daemon

import (
	"context"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/engine/afpacket"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/privilege"
)

// need is what decides which capabilities the daemon uses after its start.
type need struct {
	programs bool // eBPF programs are loaded
	carries  bool // they forward: rooms for destinations and for captures are maps that are made when they are due
	reloads  bool // another configuration may come, with another engine or nice value
	mapsFree bool // the kernel asks for no capability where a process uses a map that it has
}

// capabilities are those that the daemon goes on using.
func (n need) capabilities(has func(capability int) bool) []int {
	// Packet sockets: a reload, a ring that is replaced, a device that is asked for frames.
	// MACs, neighbours, tc programs, the host's rules: whenever an interface comes.
	keep := []int{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}
	if n.reloads {
		keep = append(keep, unix.CAP_SYS_NICE)
	}
	var bpf []int
	if n.programs && (n.reloads || n.carries || !n.mapsFree) {
		bpf = append(bpf, unix.CAP_BPF)
	}
	if n.programs && (n.reloads || n.carries) { // a successor has it leave carrying, and go back if that fails
		bpf = append(bpf, unix.CAP_PERFMON)
	}
	for _, c := range bpf {
		if !has(c) && has(unix.CAP_SYS_ADMIN) { // which stands for both, and was all that there was before Linux 5.8
			c = unix.CAP_SYS_ADMIN
		}
		keep = append(keep, c)
	}
	return keep
}

func (d *Daemon) need() need {
	return need{programs: d.programs.Set() != nil, carries: d.config().Engine == EngineEBPF, reloads: d.caller.Reread != nil, mapsFree: mapsFree()}
}

// mapsFree reports whether bpf(2) lets a process use maps and programs whose descriptors it has without CAP_BPF, where
// kernel.unprivileged_bpf_disabled is set: since Linux 5.19.
func mapsFree() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return kernelFrom(unix.ByteSliceToString(u.Release[:]), 5, 19)
}

// kernelFrom reports whether a release, 6.1.0-18-amd64 say, is not before a version.
func kernelFrom(release string, major, minor int) bool {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}

// confine gives up what only the start needs: it looks for what killed daemons have left, which takes the eyes of
// root, and has the threads that forward and answer take their nice value. Packets do not wait for it, readiness does.
func (d *Daemon) confine(ctx context.Context, ring *afpacket.Engine) {
	if d.heir != nil { // its own configuration, and threads, come with the packets
		select {
		case <-d.heir.became:
		case <-ctx.Done():
			return
		}
		ring = d.heir.ring
	}
	d.sweep()
	if ring != nil {
		ring.AwaitThreads()
	}
	select {
	case <-d.answering.begun:
	case <-ctx.Done():
		return
	}
	if err := privilege.Keep(d.need().capabilities(privilege.Has)...); err != nil {
		d.log.Warn("keeps privileges that it does not need", "err", err)
	}
	d.owner.ask(ctx, func() {
		d.owner.confining = false
		d.owner.signalReady()
	})
}

// sweep removes what others have left.
func (d *Daemon) sweep() {
	switch removed, err := instance.Sweep(d.config().StateDir); {
	case err != nil:
		d.log.Warn("files of daemons that were killed stay", "err", err)
	case removed > 0:
		d.log.Info("removed files of daemons that were killed, whose network namespaces are gone", "files", removed)
	}
}
