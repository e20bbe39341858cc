package cni

import (
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
)

// attachment is whose an interface is. It is written into the alias of the
// host's end (ip link show: alias), which is there as long as the interface: so
// nothing is kept in files.
type attachment struct{ network, container, ifname string }

func (c *conf) attachment(args *skel.CmdArgs) attachment {
	return attachment{c.Name, args.ContainerID, args.IfName}
}

const aliasPrefix = "proxyarpd-cni"

// alias is the text of the alias. Names of networks, containers and interfaces
// have no spaces.
func (a attachment) alias() string {
	return fmt.Sprintf("%s %s %s %s", aliasPrefix, a.network, a.container, a.ifname)
}

// parseAlias tells whose an interface is, if it is one of this plugin's.
func parseAlias(alias string) (a attachment, ours bool) {
	f := strings.Split(alias, " ")
	if len(f) != 4 || f[0] != aliasPrefix {
		return attachment{}, false
	}
	return attachment{f[1], f[2], f[3]}, true
}
