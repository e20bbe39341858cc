package packaging

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

const systemd = "/usr/lib/systemd/systemd"

// bootSystemd gives a host that systemd runs.
func bootSystemd(t *testing.T) *host {
	t.Helper()
	labtest.Need(t, systemd, "systemctl")
	h := newHost(t, "/bin/sh", "-c", "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "+systemd+
		" --system --unit=multi-user.target --log-target=null --show-status=no --crash-reboot=no")
	if out, err := h.try("true"); err != nil {
		nstest.Skip(t, "no host of its own: %v: %s", err, out)
	}
	h.await("systemctl is-active multi-user.target", "active\n")
	return h
}

// property is one of the unit's.
func (h *host) property(name string) string {
	h.t.Helper()
	return strings.TrimSpace(h.run("systemctl show --value --property " + name + " proxyarpd"))
}

// served fails the test unless pods reach each other, by the daemon.
func (h *host) served(in func(int) string) {
	h.t.Helper()
	h.run(in(1) + "ping -n -c2 -i0.1 -W5 10.65.0.2")
	if out := h.run(in(1) + "ip neigh show 169.254.1.1"); !strings.Contains(out, "ee:ee:ee:ee:ee:ee") {
		h.t.Errorf("the gateway: %s", out)
	}
}

// takenOver fails the test unless the service has another main process than it had, which systemd itself waits for, and
// which alone is left of it.
func (h *host) takenOver(what, before string) {
	h.t.Helper()
	pid := h.property("MainPID")
	if pid == before || pid == "0" {
		h.t.Fatalf("%s: the main process is %s, and was %s", what, pid, before)
	}
	if state := h.property("ActiveState"); state != "active" {
		h.t.Errorf("%s: %s", what, state)
	}
	if parent := strings.TrimSpace(h.run("awk '/^PPid:/ {print $2}' /proc/" + pid + "/status")); parent != "1" {
		h.t.Errorf("%s: process %s is the child of %s", what, pid, parent)
	}
	h.await(`test "$(cat /sys/fs/cgroup`+h.property("ControlGroup")+`/cgroup.procs)" = `+pid+" && echo alone", "alone")
}

// TestUnit has systemd run the unit, with all that it restricts.
func TestUnit(t *testing.T) {
	h := bootSystemd(t)
	h.put(labtest.Binary(t), "/usr/local/bin/proxyarpd", 0o755)
	h.put(filepath.Join("..", "..", "deploy", "systemd", "proxyarpd.service"), "/etc/systemd/system/proxyarpd.service", 0o644)
	h.put(filepath.Join("..", "..", "deploy", "systemd", "proxyarpd.yaml"), "/etc/proxyarpd.yaml", 0o644)
	// A drop-in alone: where the log goes, and a watchdog that a test can wait for.
	const watchdog = time.Second
	h.write([]byte("[Service]\nStandardError=append:/var/log.txt\nWatchdogSec="+watchdog.String()+"\nTimeoutAbortSec=500ms\nRestartSec=100ms\n"), "/etc/systemd/system/proxyarpd.service.d/test.conf", 0o644)
	h.run("systemctl daemon-reload")
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.try("cat /var/log.txt; systemctl status proxyarpd")
			t.Log(out)
		}
	})
	in := h.pods()
	for _, engine := range []string{"af_packet", "ebpf"} {
		h.run("sed -i 's/^engine: .*/engine: " + engine + "/' /etc/proxyarpd.yaml")
		if engine == "af_packet" {
			h.run("systemctl start proxyarpd")
		} else {
			pid := h.property("MainPID")
			h.pinging(in, "reload", func() { h.run("systemctl reload proxyarpd") })
			h.takenOver("reload", pid)
		}
		if got := h.property("ActiveState"); got != "active" {
			t.Fatalf("after the start: %s", got)
		}
		h.served(in)
		h.await("systemctl show --value --property StatusText proxyarpd", "ready: 2 workload interfaces, 0 uplinks, engine "+engine)
		status := h.run("proxyarpd status")
		for _, want := range []string{"engine " + engine, "claim tcx", "ready", "nice -20", "privileges: uid 0, cap_net_admin, cap_net_raw, cap_sys_nice, cap_perfmon, cap_bpf; no_new_privs; seccomp\n"} {
			if !strings.Contains(status, want) {
				t.Errorf("no %q in\n%s", want, status)
			}
		}
		if json := h.run("proxyarpd status -o json"); !strings.Contains(json, `"relay": "proxyarpd0"`) && !strings.Contains(json, `"relay":"proxyarpd0"`) {
			t.Errorf("no relay:\n%s", json)
		}
	}
	// Files that are refused, and one that only a restart can put in force: the running daemon goes on.
	pid := h.property("MainPID")
	for _, line := range []string{"s/^engine: .*/engine: warp/", "s/^claim: .*/claim: none/"} {
		h.run("cp /etc/proxyarpd.yaml /etc/good.yaml")
		if out, err := h.try("sed -i '" + line + "' /etc/proxyarpd.yaml; systemctl reload proxyarpd"); err == nil {
			t.Errorf("%s is reloaded: %s", line, out)
		}
		if now := h.property("MainPID"); now != pid || h.property("ActiveState") != "active" {
			t.Errorf("%s: the main process is %s, and was %s", line, now, pid)
		}
		h.run("mv /etc/good.yaml /etc/proxyarpd.yaml")
	}
	h.served(in)
	// The daemon itself reads its file again, on request.
	h.run("sed -i 's/^engine: .*/engine: auto/' /etc/proxyarpd.yaml; proxyarpd reload")
	if now := h.property("MainPID"); now != pid {
		t.Errorf("proxyarpd reload: the main process is %s, and was %s", now, pid)
	}
	// One successor after another; each gives the sign of life that systemd waits for.
	h.pinging(in, "three successors", func() {
		for range 3 {
			pid = h.property("MainPID")
			h.run("systemctl reload-or-restart proxyarpd")
			h.takenOver("reload-or-restart", pid)
		}
	})
	time.Sleep(2 * watchdog)
	if n := h.property("NRestarts"); n != "0" {
		t.Errorf("%s restarts", n)
	}
	pid = h.property("MainPID")
	for _, c := range []struct{ what, line, want string }{
		{"all threads have the capabilities of the unit, and no more", "grep -h ^Cap[PEB] /proc/" + pid + "/task/*/status | sort | uniq -c | awk '{print $3}' | sort -u", "000000c000803000\n"},
		{"the root file system is read-only", "grep ' / / ' /proc/" + pid + "/mountinfo | tail -1", " ro,"},
		{"it has a /tmp of its own", "grep -c ' /tmp rw' /proc/" + pid + "/mountinfo", "1\n"},
		{"the record of MACs is there", "find /run/proxyarpd -name '*.json' -o -name '*.macs' | head -1", "/run/proxyarpd/"},
	} {
		if out := h.run(c.line); !strings.Contains(out, c.want) {
			t.Errorf("%s: %q", c.what, out)
		}
	}
	// The watchdog: who does not go on is ended, and started again.
	h.run("kill -STOP " + pid)
	h.await("systemctl show --value --property NRestarts proxyarpd", "1")
	h.await("systemctl is-active proxyarpd", "active\n")
	if again := h.property("MainPID"); again == pid || again == "0" {
		t.Errorf("the main process is %s, as before", again)
	}
	h.served(in)
	// So does a crash: it does not end with the status for a wrong command line.
	h.run("kill -ABRT " + h.property("MainPID"))
	h.await("systemctl show --value --property NRestarts proxyarpd", "2")
	h.await("systemctl is-active proxyarpd", "active\n")
	h.served(in)
	h.run("systemctl stop proxyarpd")
	if got := h.property("Result"); got != "success" {
		t.Errorf("after the stop: %s", got)
	}
	if out := h.run("ip -br link show type veth"); strings.Contains(out, "ee:ee:ee:ee:ee:ee") {
		t.Errorf("MACs are not put back:\n%s", out)
	}
	// A wrong file: no attempt follows.
	h.run("echo engine: warp > /etc/proxyarpd.yaml")
	if out, err := h.try("systemctl start proxyarpd"); err == nil {
		t.Errorf("started with a wrong file: %s", out)
	}
	if n, err := strconv.Atoi(h.property("ExecMainStatus")); err != nil || n != 2 {
		t.Errorf("exit status %d, %v", n, err)
	}
	if got := h.property("ActiveState"); got != "failed" {
		t.Errorf("a wrong file: %s", got)
	}
}
