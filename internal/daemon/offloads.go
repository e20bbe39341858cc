package daemon

import (
	"slices"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/ethtool"
)

// offloads reports whether an interface takes checksums that are yet to be
// filled in, and TCP that is yet to be cut into segments. It takes RTNL. What
// can't be found out is a no.
func offloads(name string) bool {
	values, err := ethtool.Get(name, unix.ETHTOOL_GTXCSUM, unix.ETHTOOL_GTSO)
	return err == nil && !slices.Contains(values, 0)
}
