package labtest

import (
	"os"
	"os/exec"
	"path/filepath"
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

func TestDemo(t *testing.T) {
	name := cliLab(t)
	Need(t, "ip", "ping", "iperf3")
	out, errw, code := cli(t, "lab", "demo", "--name", name)
	if code != 0 || !strings.Contains(out, "are removed") {
		t.Errorf("exit %d\n%s%s", code, out, errw)
	}
	demoLeftNothing(t, name)
}

func TestInterruptedDemo(t *testing.T) {
	name := cliLab(t)
	Need(t, "ip", "ping", "iperf3")
	cmd := exec.Command(Binary(t), "lab", "demo", "--name", name)
	var out Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	pod := watch(t, "/run/netns", name+"-ns1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pod()
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit %d\n%s", code, out.String())
	}
	demoLeftNothing(t, name)
}

func demoLeftNothing(t *testing.T, name string) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/" + name + "-*", "/run/proxyarpd/lab-" + name + "*", filepath.Join(os.TempDir(), "parp-"+name+"*")} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
