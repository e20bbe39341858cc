package doctor

import (
	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
)

// needed are the capabilities, and what is lost without.
var needed = []struct {
	capability int
	name       string
	severity   Severity
	forwarding bool // needed by engines that forward alone
	without    string
}{
	{unix.CAP_NET_RAW, "CAP_NET_RAW", Error, false, "run can't open packet sockets, and refuses"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", Error, true, "run can't attach programs, set MACs and resolve neighbours, and refuses"},
	{unix.CAP_BPF, "CAP_BPF", Warning, true, "no eBPF: only forwarding=0 keeps the kernel from forwarding too, and floods are not limited before the ring"},
	{unix.CAP_PERFMON, "CAP_PERFMON", Warning, true, "the exact GSO type of a packet can't be seen, nor what stands on a device"},
	{unix.CAP_SYS_NICE, "CAP_SYS_NICE", Info, true, "the threads that forward keep their nice value, and get less CPU time where all CPUs are busy"},
}

func checkPrivileges(f *facts) (found []Finding) {
	for _, n := range needed {
		if n.forwarding && !f.forwards() || f.has(n.capability) {
			continue
		}
		found = append(found, Finding{"capability", n.severity, n.name, "this process does not have it, and so would not a daemon that is started like this: " + n.without,
			"run as root, or add it to the unit's AmbientCapabilities or the container's capabilities"})
	}
	return found
}

// checkKernel looks at what the kernel has.
func checkKernel(f *facts) (found []Finding) {
	if !f.forwards() {
		return nil
	}
	if f.programs != nil && f.has(unix.CAP_BPF) {
		found = append(found, Finding{"no-ebpf", Warning, "kernel", "the eBPF programs can't be loaded: " + f.programs.Error(),
			"a kernel with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and BTF (CONFIG_DEBUG_INFO_BTF)"})
	}
	if f.tun != nil {
		found = append(found, Finding{"no-tun", Warning, "/dev/net/tun", f.tun.Error() + ": super-packets that no packet socket can receive (TCP in tunnels of workloads, SCTP) have no way",
			"give the container or unit /dev/net/tun (modprobe tun), or turn the offload off in the pod: ethtool -K eth0 tx-udp_tnl-segmentation off"})
	}
	return found
}

// loadable says why the eBPF programs can't be loaded, nil if they can.
func loadable() error {
	set, err := claim.Load(claim.Config{})
	if err != nil {
		return err
	}
	return set.Close()
}
