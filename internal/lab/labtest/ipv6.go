package labtest

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"proxyarpd/internal/nstest"
)

// NeedIPv6 skips a test where the kernel or the program under test does not do IPv6.
func NeedIPv6(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		nstest.Skip(t, "the kernel does no IPv6: %v", err)
	}
	if ok, err := servesIPv6(Binary(t)); err != nil {
		t.Fatal(err)
	} else if !ok {
		nstest.Skip(t, "the program does no IPv6: `proxyarpd run` has no flag --ipv6")
	}
}

var servesIPv6 = func() func(string) (bool, error) {
	var once sync.Once
	var ok bool
	var err error
	return func(binary string) (bool, error) {
		once.Do(func() {
			var help []byte
			help, err = exec.Command(binary, "run", "--help").CombinedOutput()
			ok = strings.Contains(string(help), "--ipv6")
		})
		return ok, err
	}
}()
