package daemon

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeptCapabilities: what is kept follows from what may still be asked for.
func TestKeptCapabilities(t *testing.T) {
	const raw, admin, bpf, perfmon, nice, sys = unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_NICE, unix.CAP_SYS_ADMIN
	all := []int{raw, admin, bpf, perfmon, nice, sys}
	old := []int{raw, admin, nice, sys} // before Linux 5.8
	for _, c := range []struct {
		need need
		have []int
		want []int
	}{
		{need{programs: true, mapsFree: true}, all, []int{raw, admin}},
		{need{programs: true}, all, []int{raw, admin, bpf}},
		{need{programs: true}, old, []int{raw, admin, sys}},
		{need{programs: true, carries: true, mapsFree: true}, all, []int{raw, admin, bpf, perfmon}},
		{need{programs: true, reloads: true, mapsFree: true}, all, []int{raw, admin, nice, bpf, perfmon}},
		{need{programs: true, reloads: true}, old, []int{raw, admin, nice, sys, sys}},
		{need{reloads: true, mapsFree: true}, all, []int{raw, admin, nice}}, // nothing can be loaded here
		{need{}, all, []int{raw, admin}},
	} {
		got := c.need.capabilities(func(capability int) bool { return slices.Contains(c.have, capability) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v with %v: %v, want %v", c.need, c.have, got, c.want)
		}
	}
}
