package daemon

import (
	"os"
	"strconv"
	"testing"
	"time"

	"proxyarpd/forward/route"
)

// TestHostConf: what can be read counts, in the kernel's ticks where it has
// those, and the kernel's defaults for the rest.
func TestHostConf(t *testing.T) {
	const ms = int64(time.Millisecond)
	own := route.DefaultHostConf
	own.HashSeed = bootSeed(0)
	for _, c := range []struct {
		name string
		hz   int64
		is   map[string]int
		want func(*route.HostConf)
	}{
		{"nothing to be read", 250, nil, func(*route.HostConf) {}},
		{"the defaults at 250 Hz", 250, map[string]int{"error_cost": 250, "error_burst": 1250, "redirect_load": 5, "redirect_number": 9, "redirect_silence": 5120}, func(*route.HostConf) {}},
		{"the defaults at 1000 Hz", 1000, map[string]int{"error_cost": 1000, "error_burst": 5000, "redirect_load": 20, "redirect_number": 9, "redirect_silence": 20480}, func(*route.HostConf) {}},
		{"others at 100 Hz", 100, map[string]int{"error_cost": 7, "error_burst": 300, "redirect_load": 1, "redirect_number": 3, "redirect_silence": 2}, func(h *route.HostConf) {
			h.ErrorCost, h.ErrorBurst, h.RedirectLoad, h.RedirectNumber, h.RedirectSilence = 70*ms, 3000*ms, 10*ms, 3, 20*ms
		}},
		{"one alone", 1000, map[string]int{"error_cost": 5}, func(h *route.HostConf) { h.ErrorCost = 5 * ms }},
		{"none", 1000, map[string]int{"error_cost": 0, "error_burst": 0, "redirect_load": 0, "redirect_number": 0, "redirect_silence": 0}, func(h *route.HostConf) {
			h.ErrorCost, h.ErrorBurst, h.RedirectLoad, h.RedirectNumber, h.RedirectSilence = 0, 0, 0, 0, 0
		}},
		{"less", 1000, map[string]int{"error_cost": -1, "error_burst": -2, "redirect_load": -3, "redirect_number": -4, "redirect_silence": -5}, func(h *route.HostConf) {
			h.ErrorCost, h.ErrorBurst, h.RedirectLoad, h.RedirectNumber, h.RedirectSilence = route.MaxTime, route.MaxTime, -1, -4, -1
		}},
		{"more than there can be", 100, map[string]int{"error_cost": 1 << 40}, func(h *route.HostConf) { h.ErrorCost = (1<<31 - 1) * 10 * ms }},
	} {
		want := own
		c.want(&want)
		root := t.TempDir() + "/"
		if err := os.Mkdir(root+"route", 0o700); err != nil {
			t.Fatal(err)
		}
		for name, n := range c.is {
			if err := os.WriteFile(root+"route/"+name, []byte(strconv.Itoa(n)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := hostConf(sysctls{root: root}, route.HostConf{}, int64(time.Second)/c.hz)
		if got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

// TestTick: the kernel's defaults are a second, 5 s and so on, whatever its HZ.
// They are shown in the first network namespace.
func TestTick(t *testing.T) {
	if n := tick(); n < int64(time.Second)/10000 || n > int64(time.Second)/20 {
		t.Errorf("a tick of %v", time.Duration(n))
	}
	for name, want := range map[string]int64{"error_cost": route.DefaultHostConf.ErrorCost, "redirect_silence": route.DefaultHostConf.RedirectSilence} {
		if _, err := os.Stat(sysctlIPv4 + "route/" + name); err != nil {
			t.Logf("%s: %v: not the first network namespace", name, err)
			continue
		}
		s := sysctls{root: sysctlIPv4}
		if got := int64(s.number("route/"+name, 0, 0)) * tick(); got != want {
			t.Logf("%s is %v here, the default %v", name, time.Duration(got), time.Duration(want)) // somebody's setting
		}
	}
}
