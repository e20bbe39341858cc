// Package packaging holds the tests of what is installed: the systemd unit under a real systemd, the Debian package,
// the container image. Each runs on a host of its own, made of namespaces: see root.sh.
package packaging

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// patience is how long something that must happen is waited for.
const patience = 30 * time.Second

// host is a host of its own: namespaces, a root file system, and a first process.
type host struct {
	t   *testing.T
	pid int // of the first process, as it is seen from here
}

// newHost makes one whose first process is that program. What the host holds is gone with the test.
func newHost(t *testing.T, init ...string) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		nstest.Skip(t, "not root")
	}
	labtest.Need(t, "unshare", "nsenter", "ip", "mount")
	script, err := filepath.Abs("root.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// The root is mounted in the host's mount namespace alone.
	args := append([]string{"--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", script, dir}, init...)
	cmd := exec.Command("unshare", args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "container=test"}
	var said labtest.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill() // and so its child, with all in its PID namespace
		<-ended
	})
	h := &host{t: t}
	labtest.Await(t, "the host's first process runs", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the host can't be made: %v\n%s", err, said.String())
		default:
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		h.pid, err = strconv.Atoi(strings.TrimSpace(string(children)))
		if err != nil {
			return false
		}
		program, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.pid))
		// It may have made way for another program already.
		return err == nil && len(program) > 0 && !strings.Contains(string(program), "\x00"+script+"\x00")
	})
	return h
}

// command is a command on the host.
func (h *host) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(h.pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// try runs a line of shell on the host and gives what it printed.
func (h *host) try(line string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.t.Context()), patience)
	defer cancel()
	out, err := h.command(ctx, "/bin/sh", "-c", line).CombinedOutput()
	return string(out), err
}

// run is try, and must go well.
func (h *host) run(line string) string {
	h.t.Helper()
	out, err := h.try(line)
	if err != nil {
		h.t.Fatalf("host# %s: %v\n%s", line, err, out)
	}
	return out
}

// put copies a file onto the host.
func (h *host) put(from, to string, mode os.FileMode) {
	h.t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(b, to, mode)
}

func (h *host) write(b []byte, to string, mode os.FileMode) {
	h.t.Helper()
	cmd := h.command(h.t.Context(), "/usr/bin/install", "-D", "-m", strconv.FormatInt(int64(mode), 8), "/dev/stdin", to)
	cmd.Stdin = bytes.NewReader(b)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", to, err, out)
	}
}

// await waits until a line of shell says that.
func (h *host) await(line, want string) {
	h.t.Helper()
	out := ""
	if !labtest.Within(patience, func() bool { out, _ = h.try(line); return strings.Contains(out, want) }) {
		h.t.Fatalf("host# %s: not within %v: %q, but\n%s", line, patience, want, out)
	}
}

// pods gives the host two pods, wired as Calico wires them, 10.65.0.1 and 10.65.0.2; in gives how to run a command in
// one.
func (h *host) pods() (in func(pod int) string) {
	h.t.Helper()
	var script strings.Builder
	script.WriteString("set -e\nmkdir -p /run/netns\n")
	for n := 1; n <= 2; n++ {
		fmt.Fprintf(&script, `ip netns add pod%[1]d
ip link add cali%[1]d type veth peer name eth0 netns pod%[1]d
ip link set cali%[1]d up
ip route add 10.65.0.%[1]d/32 dev cali%[1]d scope link
ip -n pod%[1]d link set eth0 up
ip -n pod%[1]d address add 10.65.0.%[1]d/32 dev eth0
ip -n pod%[1]d route add 169.254.1.1 dev eth0 scope link
ip -n pod%[1]d route add default via 169.254.1.1 dev eth0
`, n)
	}
	h.run(script.String())
	return func(pod int) string { return fmt.Sprintf("nsenter --net=/run/netns/pod%d ", pod) }
}

// pinging has pod 1 ping pod 2 once a millisecond while during runs. Each ping must be answered, but for what the machine's
// backlogs have dropped.
func (h *host) pinging(in func(pod int) string, what string, during func()) {
	h.t.Helper()
	const pings = 4000
	var out bytes.Buffer
	cmd := h.command(h.t.Context(), "/bin/sh", "-c", "exec "+in(1)+fmt.Sprintf("ping -nq -i 0.001 -c %d -W 5 10.65.0.2", pings))
	cmd.Stdout, cmd.Stderr = &out, &out
	overflowed := nstest.BacklogDrops(h.t)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	time.Sleep(300 * time.Millisecond)
	during()
	select {
	case err := <-ended:
		h.t.Errorf("%s: the pings were over before: %v\n%s", what, err, out.String())
	default:
		err := <-ended
		received := regexp.MustCompile(` (\d+) received, `).FindStringSubmatch(out.String())
		if received == nil {
			h.t.Fatalf("%s: %v\n%s", what, err, out.String())
		}
		n, err := strconv.Atoi(received[1])
		if err != nil || uint64(pings-n) > nstest.BacklogDrops(h.t)-overflowed {
			h.t.Errorf("%s: %v\n%s", what, err, out.String())
		}
		h.t.Logf("%s: %d of %d pings answered", what, n, pings)
	}
}
