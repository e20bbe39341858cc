package bench

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/ethtool"
)

// offloads names the offloads that are on, as ethtool -k calls them in short, in the calling thread's namespace. What
// the device cannot say is left out.
func offloads(iface string) (string, error) {
	names := []string{"rx-checksum", "tx-checksum", "sg", "tso", "gso", "gro"}
	values, err := ethtool.Get(iface, unix.ETHTOOL_GRXCSUM, unix.ETHTOOL_GTXCSUM, unix.ETHTOOL_GSG, unix.ETHTOOL_GTSO, unix.ETHTOOL_GGSO, unix.ETHTOOL_GGRO)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	var on []string
	for i, v := range values {
		if v != 0 {
			on = append(on, names[i])
		}
	}
	return strings.Join(on, " "), nil
}
