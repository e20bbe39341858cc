package nstest

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// BacklogDrops is how many frames the CPUs' backlogs had no room for (net.core.netdev_max_backlog), of all namespaces:
// the second column of /proc/net/softnet_stat. Where floods are under way and the CPUs are busy, the frames of others
// are among them, and are lost before anybody sees them.
func BacklogDrops(t testing.TB) (sum uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		n, err := strconv.ParseUint(strings.Fields(line)[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// Unexplained is how many of the packets that were lost the CPUs' backlogs can't have dropped, which had dropped so many
// when they were sent: at most one in a hundred is put down to them, else it is not only them.
func Unexplained(t testing.TB, lost, sent int, before uint64) int {
	t.Helper()
	if lost == 0 {
		return 0
	}
	dropped := BacklogDrops(t) - before
	if dropped > 0 {
		t.Logf("%d of %d lost; the CPUs' backlogs have dropped %d frames of all namespaces meanwhile", lost, sent, dropped)
	}
	return lost - min(lost, int(dropped), sent/100)
}
