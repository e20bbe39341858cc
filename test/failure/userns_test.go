package failure

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
)

// TestUserNamespace runs the daemon as root of a user namespace, who may load no
// eBPF and see no tc program: it answers and forwards all the same, and says what
// it can't see.
func TestUserNamespace(t *testing.T) {
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
		labtest.Skip(t, "a user namespace: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "in a user namespace tc programs can't be listed") {
		t.Errorf("%v\n%s", err, out)
	}
}
