package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestConfigFile sets everything in a file, and one flag that wins.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "arping", "nft")
	l := labtest.New(t, lab.Spec{PodsPerHost: 2})
	labtest.Daemon(t, l, "host1", "--workload", "veth*", "--proxy", "10.20.1.0/24")
	dir, err := os.MkdirTemp("", "parp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "proxyarpd.yaml")
	rules := filepath.Join(dir, "rules.nft")
	for name, content := range map[string]string{
		rules: "table inet f { chain c { type filter hook forward priority 0; ip saddr 10.9.9.9 drop; }; }",
		config: `# every key of run
workload: [veth0, "veth[1-9]"]
uplink: ens*
transit: false
gateway:
  - 169.254.1.1
  - 10.20.1.1
proxy: [10.20.1.0/24]
mac: 02:00:5e:00:53:01
engine: af_packet
punt: [10.96.0.0/12]
keep-mac: true
bypass-policy: true
claim: clsact
log-level: debug
log-format: json
control: ` + dir + "/c.sock\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, l, "host0", "nft -f "+rules)
	p := spawn(t, l, "host0", labtest.Binary(t)+" run --config "+config+" --mac 02:00:5e:00:53:02 --gateway 10.20.1.200")
	var s status
	if err := json.Unmarshal([]byte(run(t, l, "host0", labtest.Binary(t)+" status --wait 10s -o json --control "+dir+"/c.sock")), &s); err != nil {
		t.Fatal(err)
	}
	veth0 := s.port("veth0")
	if s.Engine != "af_packet" || s.Claim != "clsact" || len(s.Workloads) != 2 || len(s.Uplinks) != 1 || veth0.MAC != pods(l, 0)[0].MAC {
		t.Errorf("status: %+v", s)
	}
	for target, want := range map[string]string{"10.20.1.200": "02:00:5e:00:53:02", gateway: "", "10.20.1.1": "", "10.20.1.3": "02:00:5e:00:53:02"} {
		if got, _, _ := arping(t, l, "ns0", "-c1 -w1 "+target); got != want {
			t.Errorf("%s: answer %q, want %q", target, got, want)
		}
	}
	wantTTL(t, l, "ns0", "10.20.1.3", 62)
	if !strings.Contains(p.output(), `"level":"DEBUG"`) {
		t.Error("log-level debug, log-format json: nothing is")
	}
}
