package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab/labtest"
)

func TestDemo(t *testing.T) {
	name := cliLab(t)
	labtest.Need(t, "ip", "ping", "iperf3")
	out, errw, code := command(t, "lab", "demo", "--name", name)
	if code != 0 || !strings.Contains(out, "are removed") {
		t.Errorf("exit %d\n%s%s", code, out, errw)
	}
	demoLeftNothing(t, name)
}

func TestInterruptedDemo(t *testing.T) {
	name := cliLab(t)
	labtest.Need(t, "ip", "ping", "iperf3")
	cmd := exec.Command(labtest.Binary(t), "lab", "demo", "--name", name)
	var out bytes.Buffer
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
