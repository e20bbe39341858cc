package labtest

import (
	"strings"
	"testing"

	"proxyarpd/internal/lab"
)

func TestDaemonLivesAndDies(t *testing.T) {
	Need(t, "ping")
	l := New(t, lab.Spec{Form: lab.FormSlash32})
	args := []string{"--workload", "veth*"}
	killed := Daemon(t, l, "host0", args...)
	Daemon(t, l, "host1", args...)
	Run(t, l, "ns0", "ping", "-c1", "-W5", "10.20.1.3")
	killed.Kill()
	again := Daemon(t, l, "host0", args...)
	Run(t, l, "ns0", "ping", "-c1", "-W5", "10.20.1.3")
	if out := again.Status(t); !strings.Contains(out, "veth0") {
		t.Errorf("status does not name veth0:\n%s", out)
	}
	refused := Start(t, l, "host1", args...)
	if err := refused.Wait(t); err == nil || refused.Stderr() == "" {
		t.Errorf("a second daemon in one namespace: %v\n%s", err, refused.Stderr())
	}
}
