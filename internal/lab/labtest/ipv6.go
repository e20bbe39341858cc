package labtest

import (
	"os"
	"testing"

	"proxyarpd/internal/nstest"
)

// NeedIPv6 skips a test where the kernel does no IPv6.
func NeedIPv6(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		nstest.Skip(t, "the kernel does no IPv6: %v", err)
	}
}
