// Package cni has tests of the CNI plugin as a runtime uses it: with cnitool,
// and with host-local, portmap and bandwidth as Debian ships them.
package cni

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// debian is where Debian has the plugins.
const debian = "/usr/lib/cni"

// built are the plugin and cnitool, in a directory that stays open.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cni")
	if err != nil {
		return "", err
	}
	for _, pkg := range []string{"proxyarpd/cmd/proxyarpd-cni", "github.com/containernetworking/cni/cnitool"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := built(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// runtime is a host's container runtime.
type runtime struct {
	l    *lab.Lab
	node string
	bin  string
	path string // CNI_PATH
	conf string // NETCONFPATH
	data string // of host-local
	env  []string
}

func newRuntime(t *testing.T, l *lab.Lab, node string) *runtime {
	t.Helper()
	if _, err := os.Stat(debian + "/host-local"); err != nil {
		nstest.Skip(t, "%v: install containernetworking-plugins", err)
	}
	labtest.Need(t, "ip", "ping", "arping")
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return &runtime{l: l, node: node, bin: bin, path: bin + ":" + debian, conf: t.TempDir(), data: t.TempDir()}
}

// network writes a list of plugins, of which the first is the one under test.
func (r *runtime) network(t *testing.T, name, version string, plugins ...map[string]any) {
	t.Helper()
	list := map[string]any{"cniVersion": version, "name": name, "plugins": plugins}
	b, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(r.conf, name+".conflist"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// wires is the plugin's own part of a list.
func (r *runtime) wires(subnet string, more map[string]any) map[string]any {
	all := map[string]any{"type": "proxyarpd-cni",
		"ipam": map[string]any{"type": "host-local", "dataDir": r.data, "ranges": [][]map[string]any{{{"subnet": subnet}}}}}
	for k, v := range more {
		all[k] = v
	}
	return all
}

// tool runs cnitool.
func (r *runtime) tool(t *testing.T, command, network, pod string) (stdout, stderr string, code int) {
	t.Helper()
	args := append([]string{"CNI_PATH=" + r.path, "NETCONFPATH=" + r.conf, "HOME=" + r.conf}, r.env...)
	args = append(args, r.bin+"/cnitool", command, network, "/run/netns/"+pod)
	return labtest.Exec(t, r.l, r.node, "env", args...)
}

func (r *runtime) does(t *testing.T, command, network, pod string) string {
	t.Helper()
	out, errw, code := r.tool(t, command, network, pod)
	if code != 0 {
		t.Fatalf("%s %s: %d\n%s%s", command, pod, code, out, errw)
	}
	return out
}

// result is of ADD what the tests look at.
type result struct {
	Interfaces []struct{ Name, Mac, Sandbox string }
	IPs        []struct {
		Address   string
		Interface *int
	}
	Routes []struct{ Dst, GW string }
}

func (r *runtime) add(t *testing.T, network, pod string) (res result) {
	t.Helper()
	out := r.does(t, "add", network, pod)
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return res
}

// sandbox makes a namespace for a pod.
func sandbox(t *testing.T, l *lab.Lab, name string) string {
	t.Helper()
	name = l.Name() + "-" + name
	labtest.Need(t, "ip")
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	in(t, name, "ip link set lo up")
	return name
}

// in runs a command in a pod.
func in(t *testing.T, pod, line string) (out string, ok bool) {
	t.Helper()
	b, err := exec.Command("ip", append([]string{"netns", "exec", pod}, strings.Fields(line)...)...).CombinedOutput()
	return string(b), err == nil
}

func must(t *testing.T, pod, line string) string {
	t.Helper()
	out, ok := in(t, pod, line)
	if !ok {
		t.Fatalf("%s: %s\n%s", pod, line, out)
	}
	return out
}

// birdConfig has BIRD tell the other host of a host's block of pods, by BGP.
const birdConfig = `log stderr all;
router id 192.168.1.%[1]d;
protocol device { }
protocol kernel { ipv4 { import none; export where proto = "neighbour"; }; }
protocol static pods { ipv4; route 10.65.%[3]d.0/24 blackhole; }
protocol bgp neighbour {
  local 192.168.1.%[1]d as 64512;
  neighbor 192.168.1.%[2]d as 64512;
  direct;
  connect delay time 1; connect retry time 1; error wait time 1, 1;
  ipv4 { import all; export where proto = "pods"; next hop self; };
}
`

func startBIRD(t *testing.T, l *lab.Lab, host int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bird") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	own, other := 32, 16
	if host == 1 {
		own, other = other, own
	}
	if err := os.WriteFile(dir+"/conf", fmt.Appendf(nil, birdConfig, own, other, host), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := l.Command(t.Context(), fmt.Sprint("host", host), "bird", "-f", "-c", dir+"/conf", "-s", dir+"/ctl", "-P", dir+"/pid")
	cmd.Stderr = &labtest.Buffer{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// Two hosts without the kernel's forwarding and proxy_arp: pods that the plugin
// wires reach their gateway, each other, and pods of the other host.
func TestPodsReachEachOther(t *testing.T) {
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: lab.NoPods})
	labtest.Need(t, "bird")
	var pods, addresses []string
	for host, subnet := range []string{"10.65.0.128/25", "10.65.1.128/25"} {
		node := fmt.Sprint("host", host)
		labtest.Daemon(t, l, node)
		startBIRD(t, l, host)
		r := newRuntime(t, l, node)
		r.network(t, "pods", "1.0.0", r.wires(subnet, nil))
		for n := range 2 {
			pod := sandbox(t, l, fmt.Sprintf("cni%d%d", host, n))
			res := r.add(t, "pods", pod)
			defer r.does(t, "del", "pods", pod)
			if len(res.Interfaces) != 2 || len(res.IPs) != 1 || !strings.HasPrefix(res.Interfaces[0].Name, "cali") || res.Interfaces[0].Mac != "ee:ee:ee:ee:ee:ee" ||
				!strings.HasSuffix(res.IPs[0].Address, "/32") || len(res.Routes) != 1 || res.Routes[0].Dst != "0.0.0.0/0" || res.Routes[0].GW != "169.254.1.1" {
				t.Errorf("%+v", res)
			}
			pods, addresses = append(pods, pod), append(addresses, strings.TrimSuffix(res.IPs[0].Address, "/32"))
			r.does(t, "check", "pods", pod)
		}
	}
	if out := must(t, pods[0], "arping -c1 -w5 -I eth0 169.254.1.1"); !strings.Contains(out, "EE:EE:EE:EE:EE:EE") {
		t.Error(out)
	}
	for host := range 2 {
		labtest.Await(t, "the other host's route", func() bool {
			return strings.Contains(labtest.Line(t, l, fmt.Sprint("host", host), "ip route show proto bird"), fmt.Sprintf("10.65.%d.0/24 via", 1-host))
		})
	}
	for _, to := range addresses[1:] {
		must(t, pods[0], "ping -n -c1 -W5 "+to)
	}
}

// What check sees, and that DEL may come when it likes.
func TestCheckAndDelete(t *testing.T) {
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: lab.NoPods})
	r := newRuntime(t, l, "host0")
	r.network(t, "pods", "1.0.0", r.wires("10.65.0.128/25", nil))
	pod := sandbox(t, l, "cni")
	r.does(t, "del", "pods", pod)
	res := r.add(t, "pods", pod)
	host := res.Interfaces[0].Name
	r.does(t, "check", "pods", pod)
	for _, c := range []struct{ node, spoil, cure, want string }{
		{"host", "ip link set " + host + " down", "ip link set " + host + " up", host + " is down"},
		{"host", "ip route del " + res.IPs[0].Address, "ip route replace " + res.IPs[0].Address + " dev " + host + " scope link", "route " + res.IPs[0].Address},
		{"pod", "ip route del default", "ip route add default via 169.254.1.1", "route 0.0.0.0/0"},
		{"pod", "ip addr del " + res.IPs[0].Address + " dev eth0", "ip addr add " + res.IPs[0].Address + " dev eth0", "address " + res.IPs[0].Address},
		{"host", "ip link set " + host + " alias none", "", "is not that of container"},
	} {
		do := func(line string) {
			if c.node == "pod" {
				must(t, pod, line)
			} else if line != "" {
				labtest.Line(t, l, "host0", line)
			}
		}
		do(c.spoil)
		if _, errw, code := r.tool(t, "check", "pods", pod); code == 0 || !strings.Contains(errw, c.want) {
			t.Errorf("after %s: %d %s, want %q", c.spoil, code, errw, c.want)
		}
		if do(c.cure); strings.Contains(c.spoil, " down") { // took the route with it
			labtest.Line(t, l, "host0", "ip route replace "+res.IPs[0].Address+" dev "+host+" scope link")
		}
	}
	labtest.Line(t, l, "host0", "ip link del "+host)
	r.does(t, "del", "pods", pod)
	if left, _ := filepath.Glob(r.data + "/pods/10.*"); len(left) > 0 {
		t.Errorf("addresses that stay taken: %v", left)
	}
	r.add(t, "pods", pod)
	exec.Command("ip", "netns", "del", pod).Run()
	r.does(t, "del", "pods", pod)
}

// With the plugins that come behind it in a list, and by one before it.
func TestChained(t *testing.T) {
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: lab.NoPods})
	labtest.Need(t, "iptables", "tc")
	r := newRuntime(t, l, "host0")
	capabilities := func(name string) map[string]any { return map[string]any{name: true} }
	r.network(t, "pods", "1.0.0", map[string]any{"type": "loopback"}, r.wires("10.65.0.128/25", map[string]any{"mtu": 1400}),
		map[string]any{"type": "portmap", "capabilities": capabilities("portMappings"), "snat": false},
		map[string]any{"type": "bandwidth", "capabilities": capabilities("bandwidth")})
	r.env = []string{`CAP_ARGS={"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}],"bandwidth":{"ingressRate":1000000,"ingressBurst":1000000}}`}
	pod := sandbox(t, l, "cni")
	res := r.add(t, "pods", pod)
	host := res.Interfaces[len(res.Interfaces)-1]
	for _, i := range res.Interfaces {
		if strings.HasPrefix(i.Name, "cali") {
			host = i
		}
	}
	if out := labtest.Line(t, l, "host0", "tc qdisc show dev "+host.Name); !strings.Contains(out, "tbf") {
		t.Errorf("bandwidth did not find %s: %s", host.Name, out)
	}
	if out := labtest.Line(t, l, "host0", "iptables -t nat -S"); !strings.Contains(out, "--to-destination "+strings.TrimSuffix(res.IPs[len(res.IPs)-1].Address, "/32")+":80") {
		t.Errorf("portmap:\n%s", out)
	}
	if out := must(t, pod, "ip link show eth0"); !strings.Contains(out, "mtu 1400") {
		t.Error(out)
	}
	r.does(t, "del", "pods", pod) // no CHECK: Debian's portmap looks for rules of IPv6, without an address
	if out := labtest.Line(t, l, "host0", "iptables -t nat -S"); strings.Contains(out, "to-destination") {
		t.Errorf("after DEL:\n%s", out)
	}
}

// The same pod in a new container, whose ADD comes before the old one's DEL.
func TestPodComesAgain(t *testing.T) {
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: lab.NoPods})
	r := newRuntime(t, l, "host0")
	r.network(t, "pods", "1.0.0", r.wires("10.65.0.128/25", nil))
	r.env = []string{"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=x"}
	older, newer := sandbox(t, l, "old"), sandbox(t, l, "new")
	a, b := r.add(t, "pods", older), r.add(t, "pods", newer)
	if a.Interfaces[0].Name != b.Interfaces[0].Name {
		t.Errorf("%s, then %s", a.Interfaces[0].Name, b.Interfaces[0].Name)
	}
	r.does(t, "del", "pods", older)
	r.does(t, "check", "pods", newer)
	r.does(t, "del", "pods", newer)
}

// fakeIPAM speaks 1.1.0, which Debian's host-local does not.
const fakeIPAM = `#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}' ;;
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.65.0.200/24"},{"address":"2001:db8::5/64"}],"routes":[{"dst":"10.0.0.0/8"}]}' ;;
GC) cat >"$0.gc" ;;
STATUS) [ ! -e "$0.full" ] || { echo '{"cniVersion":"1.1.0","code":51,"msg":"full"}'; exit 1; } ;;
esac
`

// The commands of version 1.1.0, and what an IPAM plugin says of routes.
func TestCollectAndStatus(t *testing.T) {
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: lab.NoPods})
	r := newRuntime(t, l, "host0")
	ipam := filepath.Join(t.TempDir(), "ipam")
	if err := os.WriteFile(ipam, []byte(fakeIPAM), 0o755); err != nil {
		t.Fatal(err)
	}
	r.path += ":" + filepath.Dir(ipam)
	control := filepath.Join(r.conf, "s")
	r.network(t, "pods", "1.1.0", map[string]any{"type": "proxyarpd-cni", "control": control, "ipam": map[string]any{"type": "ipam"}})
	pod := sandbox(t, l, "cni")
	labtest.Line(t, l, "host0", "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	if _, errw, code := r.tool(t, "add", "pods", pod); code == 0 || !strings.Contains(errw, "disable_ipv6") {
		t.Errorf("without IPv6: %d %s", code, errw)
	}
	labtest.Line(t, l, "host0", "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
	res := r.add(t, "pods", pod)
	if out := must(t, pod, "ip route"); strings.Contains(out, "default") || !strings.Contains(out, "10.0.0.0/8 via 169.254.1.1") {
		t.Error(out)
	}
	if out := must(t, pod, "ip -6 route"); !strings.Contains(out, "default via fe80::ecee:eeff:feee:eeee") {
		t.Error(out)
	}
	r.does(t, "check", "pods", pod)
	if _, errw, code := r.tool(t, "add", "pods", pod); code == 0 || !strings.Contains(errw, "ADD came twice") {
		t.Errorf("a second ADD: %d %s", code, errw)
	}
	r.does(t, "check", "pods", pod)
	labtest.Line(t, l, "host0", "ip link add calisomebody type veth peer name other")
	r.does(t, "gc", "pods", pod) // cnitool: no attachment is valid
	if _, err := os.Stat(ipam + ".gc"); err != nil {
		t.Errorf("the IPAM plugin was not told: %v", err)
	}
	if out := labtest.Line(t, l, "host0", "ip -br link"); strings.Contains(out, res.Interfaces[0].Name) || !strings.Contains(out, "calisomebody") {
		t.Errorf("after GC:\n%s", out)
	}
	if _, errw, code := r.tool(t, "status", "pods", pod); code == 0 || !strings.Contains(errw, "proxyarpd does not run") {
		t.Errorf("without a daemon: %d %s", code, errw)
	}
	d := labtest.Daemon(t, l, "host0")
	if err := os.Symlink(d.Control, control); err != nil {
		t.Fatal(err)
	}
	r.does(t, "status", "pods", pod)
	if err := os.WriteFile(ipam+".full", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errw, code := r.tool(t, "status", "pods", pod); code == 0 || !strings.Contains(errw, "full") {
		t.Errorf("without addresses: %d %s", code, errw)
	}
}

// What is wrong with a configuration is named, and nothing is left behind.
func TestErrors(t *testing.T) {
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: lab.NoPods})
	r := newRuntime(t, l, "host0")
	before := labtest.Line(t, l, "host0", "ip -br link")
	pod := sandbox(t, l, "cni")
	for i, c := range []struct {
		more map[string]any
		want string
	}{
		{map[string]any{"mac": "01:00:5e:00:00:01"}, "mac"},
		{map[string]any{"gateway": "fe80::1"}, "gateway"},
		{map[string]any{"mtu": 20}, "mtu"},
		{map[string]any{"mtu": "x"}, "mtu"},
		{map[string]any{"interfacePrefix": "toolong"}, "interfacePrefix"},
		{map[string]any{"ipam": map[string]any{}}, "ipam.type"},
		{map[string]any{"ipam": map[string]any{"type": "no-such-plugin"}}, "no-such-plugin"},
		{map[string]any{"ipam": map[string]any{"type": "host-local", "dataDir": r.data}}, "no IP ranges"},
	} {
		name := fmt.Sprint("pods", i)
		r.network(t, name, "1.0.0", r.wires("10.65.0.128/25", c.more))
		if _, errw, code := r.tool(t, "add", name, pod); code == 0 || !strings.Contains(errw, c.want) {
			t.Errorf("%v: %d %s", c.more, code, errw)
		}
	}
	r.network(t, "pods", "1.0.0", r.wires("10.65.0.128/25", nil))
	must(t, pod, "ip link add eth0 type veth peer name other")
	if _, errw, code := r.tool(t, "add", "pods", pod); code == 0 || !strings.Contains(errw, "file exists") {
		t.Errorf("eth0 is taken: %d %s", code, errw)
	}
	if left, _ := filepath.Glob(r.data + "/*/10.*"); len(left) > 0 {
		t.Errorf("addresses that stay taken: %v", left)
	}
	if after := labtest.Line(t, l, "host0", "ip -br link"); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}
