package cni

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// conf is a network's configuration, as the runtime gives it on stdin.
type conf struct {
	types.PluginConf
	MTU     int    `json:"mtu"`     // bytes; 0: that of the host's default route
	MAC     string `json:"mac"`     // of the host's end
	Gateway string `json:"gateway"` // of IPv4
	Prefix  string `json:"interfacePrefix"`
	Control string `json:"control"` // the daemon's control socket, for STATUS; "": nobody asks

	mac     net.HardwareAddr
	gateway netip.Addr
	prev    *types100.Result
}

// Bounds of what a configuration says.
const (
	hashDigits = 11 // of an interface's name, as Calico's have
	maxPrefix  = 15 - hashDigits
	minMTU     = 68 // RFC 791
	maxMTU     = 65535
)

// parseConf reads a configuration. Its error says which key is wrong, and is of
// the code that the specification has for that.
func parseConf(stdin []byte) (*conf, error) {
	c := &conf{MAC: "ee:ee:ee:ee:ee:ee", Gateway: "169.254.1.1", Prefix: "cali", Control: "/run/proxyarpd.sock"}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "configuration", err.Error())
	}
	var err error
	if c.mac, err = net.ParseMAC(c.MAC); err != nil || len(c.mac) != 6 || c.mac[0]&1 != 0 {
		return nil, invalid("mac", c.MAC, "want the MAC of one station")
	}
	if c.gateway, err = netip.ParseAddr(c.Gateway); err != nil || !c.gateway.Is4() || c.gateway.IsMulticast() || c.gateway.IsUnspecified() {
		return nil, invalid("gateway", c.Gateway, "want an IPv4 address")
	}
	switch {
	case c.IPAM.Type == "":
		return nil, invalid("ipam.type", "", "want the name of a plugin that gives addresses, such as host-local")
	case c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU):
		return nil, invalid("mtu", fmt.Sprint(c.MTU), fmt.Sprintf("want 0 or %d to %d", minMTU, maxMTU))
	case c.Prefix == "" || len(c.Prefix) > maxPrefix || !isName(c.Prefix):
		return nil, invalid("interfacePrefix", c.Prefix, fmt.Sprintf("want 1 to %d letters, digits, - or _", maxPrefix))
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult", err.Error())
	}
	if c.PrevResult != nil {
		if c.prev, err = types100.NewResultFromResult(c.PrevResult); err != nil {
			return nil, types.NewError(types.ErrDecodingFailure, "prevResult", err.Error())
		}
	}
	return c, nil
}

func isName(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return false
		}
	}
	return true
}

func invalid(key, value, why string) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("%s %q", key, value), why)
}

// hostName names the host's end of a pod's interface. Where Kubernetes asks, it
// is the name that Calico would choose (VethNameForWorkload in libcalico-go), so
// that what goes by these names finds them; else a hash of container and
// interface.
func (c *conf) hostName(args *skel.CmdArgs) (string, error) {
	var kubernetes struct {
		types.CommonArgs
		K8S_POD_NAMESPACE types.UnmarshallableString
		K8S_POD_NAME      types.UnmarshallableString
	}
	kubernetes.IgnoreUnknown = true
	if err := types.LoadArgs(args.Args, &kubernetes); err != nil {
		return "", types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS", err.Error())
	}
	id := args.ContainerID + "." + args.IfName
	if pod := kubernetes.K8S_POD_NAME; pod != "" {
		if id = fmt.Sprintf("%s.%s", kubernetes.K8S_POD_NAMESPACE, pod); args.IfName != "eth0" {
			id += "." + args.IfName
		}
	}
	sum := sha1.Sum([]byte(id))
	return c.Prefix + hex.EncodeToString(sum[:])[:hashDigits], nil
}
