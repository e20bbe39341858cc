package failure

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestUserNamespace runs the daemon as root of a user namespace, who may load no
// eBPF and see no tc program: it answers and forwards all the same, and says what
// it can't see.
func TestUserNamespace(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "unshare", "ip")
	control := filepath.Join(t.TempDir(), "control.sock")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	script := `
ip link set lo up && ip link add cali1 type veth peer name peer0 && ip link set cali1 up && ip link set peer0 up || exit 3
"$0" run --control "$1" & daemon=$!
"$0" status --control "$1" --wait 20s; ready=$?
kill $daemon; wait $daemon; end=$?
[ $ready = 0 ] && [ $end = 0 ]`
	out, err := exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, labtest.Binary(t), control).CombinedOutput()
	if strings.Contains(string(out), "unshare failed") {
		nstest.Skip(t, "a user namespace: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "in a user namespace tc programs can't be listed") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestReadOnlyRun: where nothing can be written to /run, the error says what to
// do, and that works.
func TestReadOnlyRun(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "unshare", "ip", "mount")
	elsewhere := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	script := `
mount -t tmpfs -o ro none /run && ip link set lo up && ip link add cali1 type veth peer name peer0 && ip link set cali1 up && ip link set peer0 up || exit 3
"$0" run && exit 4
"$0" run --state-dir "$1/state" && exit 5
"$0" run --state-dir "$1/state" --control "$1/control" & daemon=$!
"$0" status --control "$1/control" --wait 20s; ready=$?
ls "$1/state"
kill $daemon; wait $daemon; end=$?
[ $ready = 0 ] && [ $end = 0 ]`
	out, err := exec.CommandContext(ctx, "unshare", "--mount", "--net", "sh", "-c", script, labtest.Binary(t), elsewhere).CombinedOutput()
	if strings.Contains(string(out), "unshare failed") {
		nstest.Skip(t, "a mount namespace: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"/run/proxyarpd: read-only file system: --state-dir names another one", "/run/proxyarpd.sock", "--control names another one", ".lock"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q isn't said:\n%s", want, out)
		}
	}
}
