package forward

import (
	"os/exec"
	"regexp"
	"testing"

	"proxyarpd/internal/nstest"
)

// TestInlined: what each packet passes through and is only a comparison, a field
// or a few bytes costs no call. A method of a nil tapping is one comparison.
func TestInlined(t *testing.T) {
	nstest.Need(t, "go")
	if nstest.Race {
		nstest.Excused(t, nstest.RaceDetector, "the compiler says the same of each build")
	}
	for dir, functions := range map[string][]string{
		".": {
			"(*Frame).ethernet", "(*Frame).l2len", "(*Frame).isIPv6", "isIPv6", "etherType", "forwardsToo", "(*result).readdress", "Vnet.lacksChecksums", "Vnet.flags", "Vnet.gso", "Vnet.wants", "Vnet.headerLen", "setMACs",
			"(*result).drop", "(*turn).begin", "(*turn).now", "(*turn).old", "(*coalescer).alone", "(*coalescer).reset", "(*coalescer).forget", "key4", "key6", "(*flowKey).bucket", "(*appetite).learn", "(*Batch).Limit",
			"(*hopQueue).empty", "(*missQueue).empty", "(*waiter).until",
			"(*tapping).arrive", "(*tapping).decided", "(*tapping).settle", "(*tapping).leave", "(*tapping).sending",
			"(*tapping).flushed", "(*tapping).looking", "(*tapping).resume", "(*tapping).failed", "(*tapping).report",
		},
		"./route": {
			"(*Table).Link", "(*links).get", "(*Table).punted", "(*Table).Copies", "(*Table).Host", "(*Table).nexthopFor",
			"(*Link).AnswersTo", "(*Link).Ethernet", "(*Link).L2Len", "(*Link).Up", "(*Link).Workload", "(*Link).KernelForwards",
			"(*Link).Neighbour", "(*Link).serves", "(*Nexthop).class", "(*Policy).owner", "(*Route).delivers", "(*Neighbour).Touch",
			"(*Decision).drop", "(*Decision).dropWith", "(*fibNode).kid", "rank",
		},
	} {
		out, err := exec.Command("go", "build", "-gcflags=-m", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		inlined := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m): can inline (\S+)`).FindAllStringSubmatch(string(out), -1) {
			inlined[m[1]] = true
		}
		if len(inlined) == 0 {
			t.Fatalf("the compiler says nothing:\n%s", out)
		}
		for _, f := range functions {
			if !inlined[f] {
				t.Errorf("%s: %s is called, not inlined", dir, f)
			}
		}
	}
}
