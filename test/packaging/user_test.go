package packaging

import (
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab/labtest"
)

// TestUnitUser has the unit run as another user than root, with the drop-in of docs/INSTALL.md: it serves, and a
// successor takes over.
func TestUnitUser(t *testing.T) {
	h := bootSystemd(t)
	h.put(labtest.Binary(t), "/usr/local/bin/proxyarpd", 0o755)
	h.put(filepath.Join("..", "..", "deploy", "systemd", "proxyarpd.service"), "/etc/systemd/system/proxyarpd.service", 0o644)
	h.write([]byte("control: /run/proxyarpd/control.sock\nstate-dir: /run/proxyarpd\n"), "/etc/proxyarpd.yaml", 0o644)
	h.write([]byte(`[Service]
User=daemon
SupplementaryGroups=root
AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_SYS_NICE
StandardError=append:/var/log.txt
`), "/etc/systemd/system/proxyarpd.service.d/user.conf", 0o644)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.try("cat /var/log.txt; systemctl status proxyarpd")
			t.Log(out)
		}
	})
	in := h.pods()
	h.run("systemctl daemon-reload; systemctl start proxyarpd")
	h.served(in)
	pid := h.property("MainPID")
	h.pinging(in, "reload", func() { h.run("systemctl reload proxyarpd") })
	h.takenOver("reload", pid)
	if status := h.run("proxyarpd status --control /run/proxyarpd/control.sock"); !strings.Contains(status, "privileges: uid 1, ") || !strings.Contains(status, "nice -20") {
		t.Error(status)
	}
}
