package nstest

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Due divides a comparison with another program that takes too long for each run into parts, one of which is due each
// day. It says of the number of a case whether it is in today's part. PROXYARPD_TEST_PART names another part, and
// PROXYARPD_TEST_PART=all has all of it.
func Due(t testing.TB, parts int) func(n int) bool {
	t.Helper()
	part := int(time.Now().Unix()/(24*60*60)) % parts
	switch env := os.Getenv("PROXYARPD_TEST_PART"); env {
	case "":
	case "all":
		return func(int) bool { return true }
	default:
		var err error
		if part, err = strconv.Atoi(env); err != nil || part < 0 || part >= parts {
			t.Fatalf("PROXYARPD_TEST_PART=%s: want 0 to %d, or all", env, parts-1)
		}
	}
	t.Logf("part %d of %d; PROXYARPD_TEST_PART=%d has it again, =all has all", part, parts, part)
	return func(n int) bool { return n%parts == part }
}

// Rounds is how many rounds a test has that draws n cases and runs in one goroutine: n, and a fifth of them under the race
// detector, which has nothing to find there and makes each as dear as five. All of them are in the run without it.
func Rounds(n int) int {
	if Race {
		return n / 5
	}
	return n
}
