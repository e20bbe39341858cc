package failure

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
)

// TestTakeoverTold has the successor, or the daemon that it takes over from, told to end before each message that they
// say to each other: the other one goes on, and nothing is lost.
func TestTakeoverTold(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	before := traces(t, l, "host0")
	p := labtest.Daemon(t, l, "host0", "--workload", "veth*")
	here := pods(l, 0)
	labtest.Warm(t, l, here[0].Node, ip(here[1]))
	for _, who := range []string{"successor", "daemon"} {
		for step := sayOffer; step < messages; step++ {
			what := fmt.Sprintf("%s told before message %d", who, step)
			flow := labtest.StartFlow(t, l, here[0], here[1], 1)
			var heir *labtest.Process
			started := make(chan struct{})
			b := newBetween(t, p.Control, step, func() error {
				<-started
				told := p
				if who == "successor" {
					told = heir
				}
				err := told.Cmd.Process.Signal(syscall.SIGTERM)
				time.Sleep(20 * time.Millisecond) // so that it has noticed
				return err
			})
			heir = p.SuccessorAt(t, b.Control, "--workload", "veth*")
			close(started)
			<-b.done
			if who == "daemon" {
				if err := p.Wait(t); err != nil {
					t.Fatalf("%s: %v\n%s\n%s", what, err, p.Stderr(), heir.Stderr())
				}
				p = heir
			} else if err := heir.Wait(t); err == nil || !strings.Contains(heir.Stderr(), "--takeover: interrupted before it was done") {
				t.Fatalf("%s: %v\n%s\n%s", what, err, p.Stderr(), heir.Stderr())
			}
			p.AwaitReady(t)
			flow.Progress(100)
			sent, missing, doubled := flow.StopMissing()
			t.Logf("%s: of %d datagrams %d lost, %d doubled", what, sent, len(missing), doubled)
			begun := who == "successor" || step > sayOffer // else it is a start after an end
			if doubled > 0 || begun && len(missing) > 0 {
				t.Errorf("%s: of %d datagrams %d lost, %d doubled; drops %v\n%s", what, sent, len(missing), doubled, status(t, p).Forward.Drops, p.Stderr())
			}
		}
	}
	p.Stop(t)
	if after := traces(t, l, "host0"); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("left behind: %v, and there was %v", after, before)
	}
}

// builtAs is the program with another version, and one that speaks another protocol where its number is not that of the
// tree.
func builtAs(t *testing.T, version string, protocol int) string {
	t.Helper()
	const file = "../../internal/daemon/handover.go"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^const handoverProtocol = (\d+)$`)
	if !line.Match(source) {
		t.Fatalf("%s names no protocol", file)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "handover.go")
	path, err := filepath.Abs(file)
	if err == nil {
		err = os.WriteFile(changed, line.ReplaceAll(source, fmt.Appendf(nil, "const handoverProtocol = %d", protocol)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "proxyarpd")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags", "-s -w -X main.version="+version, "-o", bin, "proxyarpd/cmd/proxyarpd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// TestTakeoverBuilds takes over from programs of other builds: one of another version that speaks the same protocol is
// taken over from, and takes over; one that speaks another is refused with a word, in both directions, and the running
// daemon goes on, without a lost packet.
func TestTakeoverBuilds(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	here := pods(l, 0)
	older, newer := builtAs(t, "v0.0.1", 2), builtAs(t, "v9.0.0", 3)
	p := labtest.DaemonOf(t, older, l, "host0", "--workload", "veth*")
	labtest.Warm(t, l, here[0].Node, ip(here[1]))
	flow := labtest.StartFlow(t, l, here[0], here[1], 1)
	refused := func(by, version, other string) {
		t.Helper()
		next := p.SuccessorOf(t, by, "--workload", "veth*")
		if err := next.Wait(t); err == nil || !strings.Contains(next.Stderr(), "stop the one and start the other") || !strings.Contains(next.Stderr(), version) {
			t.Errorf("%v\n%s", err, next.Stderr())
		}
		await(t, "the running daemon says so", func() bool { return strings.Contains(p.Stderr(), `msg="a successor is refused" version=`+other) })
		alive(t, p)
		flow.Progress(50)
	}
	refused(newer, "version v0.0.1, hands over by protocol 2, and version v9.0.0 takes over by 3", "v9.0.0")
	for _, by := range []string{labtest.Binary(t), older} {
		next := p.SuccessorOf(t, by, "--workload", "veth*")
		if err := p.Wait(t); err != nil {
			t.Fatalf("%v\n%s\n%s", err, p.Stderr(), next.Stderr())
		}
		p = next
		alive(t, p)
		flow.Progress(50)
	}
	if sent, lost, doubled := flow.Stop(); lost+doubled > 0 {
		t.Errorf("of %d datagrams %d lost, %d doubled", sent, lost, doubled)
	}
	p.Stop(t)
	p = labtest.DaemonOf(t, newer, l, "host0", "--workload", "veth*")
	flow = labtest.StartFlow(t, l, here[0], here[1], 1)
	refused(older, "version v9.0.0, hands over by protocol 3, and version v0.0.1 takes over by 2", "v0.0.1")
	if sent, lost, doubled := flow.Stop(); lost+doubled > 0 {
		t.Errorf("of %d datagrams %d lost, %d doubled", sent, lost, doubled)
	}
}
