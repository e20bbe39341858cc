package cni

import (
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
)

// FuzzConf: any configuration is read or refused.
func FuzzConf(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"pods","type":"proxyarpd-cni","mtu":1400,"ipam":{"type":"host-local"}}`))
	f.Add([]byte(`{"cniVersion":"1.0.0","ipam":{"type":"x"},"prevResult":{"ips":[{"address":"10.0.0.1/32","interface":7}]}}`))
	f.Add([]byte(`{"mac":"","gateway":"","ipam":{}}`))
	f.Fuzz(func(t *testing.T, stdin []byte) {
		c, err := parseConf(stdin)
		if err != nil {
			return
		}
		if name, err := c.hostName(&skel.CmdArgs{ContainerID: "c", IfName: "eth0"}); err != nil || len(name) > 15 {
			t.Errorf("%q, %v", name, err)
		}
		if c.prev != nil {
			c.ours("/run/netns/x", "eth0")
		}
	})
}

func TestHostName(t *testing.T) {
	c := &conf{Prefix: "cali"}
	names := map[string]string{}
	for _, args := range []skel.CmdArgs{
		{ContainerID: "a", IfName: "eth0"}, {ContainerID: "a", IfName: "eth1"}, {ContainerID: "b", IfName: "eth0"},
		{ContainerID: "a", IfName: "eth0", Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"},
		{ContainerID: "a", IfName: "eth1", Args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;SOMETHING=else"},
	} {
		name, err := c.hostName(&args)
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := names[name]; taken {
			t.Errorf("%s for %+v and for %s", name, args, other)
		}
		names[name] = args.ContainerID + args.IfName + args.Args
	}
	// sha1sum of default.web-0, as libcalico-go has it.
	if names["cali0d7763386da"] == "" {
		t.Errorf("%v", names)
	}
}

func TestAlias(t *testing.T) {
	a := attachment{"pods", "0123", "eth0"}
	if got, ours := parseAlias(a.alias()); !ours || got != a {
		t.Errorf("%+v, %v", got, ours)
	}
	for _, other := range []string{"", "uplink to core", "proxyarpd-cni", "proxyarpd-cni a b c d"} {
		if got, ours := parseAlias(other); ours {
			t.Errorf("%q: %+v", other, got)
		}
	}
}
