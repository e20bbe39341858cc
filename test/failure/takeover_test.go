package failure

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/handover"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// between stands between a successor and the daemon that it takes over from, and lets
// their messages pass, until one of them is to come to pass at step.
type between struct {
	Control string // for the successor
	l       *net.UnixListener
	to      string        // control socket of the daemon
	step    int           // before which message meet is called, from 0, the request, on
	meet    func() error  // an error hangs up on both
	done    chan struct{} // closed when both have been hung up on
	said    []string      // messages that passed
}

// Messages, in their order.
const (
	sayRequest = iota
	sayOffer
	sayFreeze
	sayFrozen
	sayGive
	sayGiven
	sayCaptured
	sayDone
	messages
)

// daemonSays are the messages of the one that is taken over.
var daemonSays = [messages]bool{sayOffer: true, sayFrozen: true, sayGiven: true, sayCaptured: true}

func newBetween(t *testing.T, to string, step int, meet func() error) *between {
	t.Helper()
	dir, err := os.MkdirTemp("", "parp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &between{Control: filepath.Join(dir, "between.sock"), to: to, step: step, meet: meet, done: make(chan struct{})}
	if b.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: b.Control, Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	b.l.SetUnlinkOnClose(false) // the successor's has its name by then
	t.Cleanup(func() { b.l.Close() })
	go b.run()
	return b
}

func (b *between) run() {
	defer close(b.done)
	heir, err := b.l.AcceptUnix()
	if err != nil {
		return
	}
	defer heir.Close()
	_ = b.l.Close() // what comes later is for the successor itself
	old, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.to, Net: "unix"})
	if err != nil {
		return
	}
	defer old.Close()
	for n := range messages {
		if n == b.step {
			if b.meet() != nil {
				return
			}
		}
		from, to := heir, old
		if daemonSays[n] {
			from, to = old, heir
		}
		if n <= sayOffer { // a line each, and behind the second one the offer
			line, err := handover.ReadLine(from, 1<<16)
			if err != nil {
				return
			}
			if _, err := to.Write(line); err != nil {
				return
			}
			b.said = append(b.said, string(line))
			if n == sayRequest || strings.Contains(string(line), `"error"`) {
				continue
			}
		}
		var body json.RawMessage
		fds, err := handover.Receive(from, &body, 1<<26)
		if err == nil {
			err = handover.Send(to, body, fds)
		}
		handover.CloseAll(fds)
		if err != nil {
			return
		}
		b.said = append(b.said, string(body))
	}
	_, _ = old.Read(make([]byte, 1)) // it ends
}

var errHangUp = errors.New("hang up")

// TestTakeoverKilled kills the successor, or the daemon that it takes over from, before
// each message that they say to each other: the other one goes on, the MACs stay, and it
// can be taken over from, as the next round shows. At most a batch of packets goes with the one that is killed.
func TestTakeoverKilled(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ndisc6")
	l := hosts(t, 2, 2)
	old := serve(t, l)[0]
	here, there := pods(l, 0), pods(l, 1)
	labtest.Warm(t, l, here[0].Node, ip(there[0]))
	labtest.NeedIPv6(t)
	const gateway6 = "fe80::ecee:eeff:feee:eeee"
	run(t, l, "host0", "ip addr add "+gateway6+"/64 dev "+here[1].Iface+" nodad") // as Calico has it: the kernel would answer, too
	const batch = 512
	for _, who := range []string{"successor", "daemon"} {
		for step := sayOffer; step < messages; step++ {
			what := fmt.Sprintf("%s killed before message %d", who, step)
			flow := labtest.StartFlow(t, l, here[0], there[0], 1)
			var heir *labtest.Process
			started := make(chan struct{})
			b := newBetween(t, old.Control, step, func() error {
				<-started
				if who == "successor" {
					heir.Kill()
				} else {
					old.Kill()
				}
				return errHangUp
			})
			heir = old.SuccessorAt(t, b.Control, "--workload", "veth*")
			close(started)
			<-b.done
			stays := old
			if who == "daemon" {
				stays = heir
				await(t, what+": the successor serves", func() bool {
					return strings.Contains(heir.Stderr(), "taken over") || strings.Contains(heir.Stderr(), "msg=ready")
				})
			} else {
				await(t, what+": the daemon notices", func() bool { return strings.Contains(old.Stderr(), "this daemon goes on") })
			}
			stays.AwaitReady(t)
			flow.Progress(100)
			before := status(t, stays).ND.Verdicts["answer"]
			out := run(t, l, here[1].Node, "ndisc6 -m -r1 -w100 "+gateway6+" eth0")
			if n := status(t, stays).ND.Verdicts["answer"]; strings.Count(out, "Target link-layer address") != 1 || n == before {
				t.Errorf("%s: who solicits the gateway gets, after %d answers of ours, %d\n%s", what, before, n, out)
			}
			if n := len(stays.ThreadsOfNice(t, -20)); n != 3 && labtest.OneWorker() { // one that forwards, and those that answer ARP and neighbour discovery
				t.Errorf("%s: %d threads have nice -20", what, n)
			}
			sent, missing, doubled := flow.StopMissing()
			lost := len(missing)
			if who == "daemon" && step == sayOffer {
				lost = 0 // there is nothing yet to go on with: it is a start after a kill
			}
			if lost > batch || doubled > batch {
				t.Errorf("%s: of %d datagrams %d lost, %d doubled\n%s", what, sent, lost, doubled, stays.Stderr())
			}
			t.Logf("%s: of %d datagrams %d lost, %d doubled", what, sent, len(missing), doubled)
			if got := run(t, l, "host0", "ip -br link show dev "+here[0].Iface); !strings.Contains(got, answerMAC) {
				t.Errorf("%s: %s has %s", what, here[0].Iface, got)
			}
			old = stays // and hands over next
		}
	}
	next := old.Successor(t, "--workload", "veth*")
	if err := old.Wait(t); err != nil {
		t.Errorf("taken over at the end: %v\n%s", err, old.Stderr())
	}
	next.AwaitReady(t)
	labtest.EachOnce(t, l, here[0], there[0], 500)
}

// TestTakeoverCapture: captures go on in the successor, with what went before: each packet
// of the datapath once, and each of the host's own; and at the end the summary of all.
func TestTakeoverCapture(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	l := hosts(t, 2, 1)
	p := serve(t, l)[0]
	here, there := pods(l, 0)[0], pods(l, 1)[0]
	labtest.Warm(t, l, here.Node, ip(there))
	own := regexp.MustCompile(`inet ([0-9.]+)/`).FindStringSubmatch(run(t, l, "host0", "ip -4 address show scope global"))
	if own == nil {
		t.Fatal("the host has no address")
	}
	file := filepath.Join(t.TempDir(), "x.pcapng")
	written := capturing(t, l, p, "-n", "-i", here.Iface, "-Q", "in", "-w", file, "udp or icmp")
	shown := capturing(t, l, p, "-nl", "-i", "any", "-Q", "in", "icmp[0] = 8 and dst "+own[1])
	const pings = 300
	pinged := make(chan string, 1)
	go func() {
		out, _ := l.Command(t.Context(), here.Node, "ping", "-nq", "-i", "0.02", "-c", fmt.Sprint(pings), own[1]).CombinedOutput()
		pinged <- string(out)
	}()
	flow := labtest.StartFlow(t, l, here, there, 1)
	for range 3 {
		next := p.Successor(t, "--workload", "veth*")
		if err := p.Wait(t); err != nil {
			t.Fatalf("taken over: %v\n%s\n%s", err, p.Stderr(), next.Stderr())
		}
		next.AwaitReady(t)
		flow.Progress(200)
		p = next
	}
	sent, lost, doubled := flow.Stop()
	if lost+doubled > 0 {
		t.Errorf("of %d datagrams %d lost, %d doubled", sent, lost, doubled)
	}
	if out := <-pinged; !strings.Contains(out, fmt.Sprintf("%d received", pings)) {
		t.Errorf("ping: %s", out)
	}
	await(t, "all pings are shown", func() bool { return strings.Count(shown.text(t), "ICMP echo request") >= pings })
	for _, c := range []*cli{written, shown} {
		c.signal(syscall.SIGINT)
		if code, _, said := c.ended(t); code != 0 || talliesOf(t, said).dropped+talliesOf(t, said).lost > 0 {
			t.Errorf("exit %d: %s", code, said)
		}
	}
	numbers := map[string]int{}
	for _, seq := range regexp.MustCompile(`seq [0-9]+,`).FindAllString(shown.text(t), -1) {
		numbers[seq]++
	}
	for seq, n := range numbers {
		if n != 1 {
			t.Errorf("%s is shown %d times", seq, n)
		}
	}
	if len(numbers) != pings {
		t.Errorf("%d of %d requests to the host are shown", len(numbers), pings)
	}
	seen, ids := map[uint32]int{}, map[uint64]bool{}
	requests := 0
	eachIn(t, file, func(p *pcapfile.Packet) {
		frame := wire.Ethernet(p.Data)
		packet := wire.IPv4(frame.Payload())
		switch packet.Protocol() {
		case unix.IPPROTO_ICMP:
			requests++
		case unix.IPPROTO_UDP:
			seen[binary.BigEndian.Uint32(packet[28:])]++
			if ids[p.PacketID] {
				t.Fatalf("two packets of the number %d", p.PacketID)
			}
			ids[p.PacketID] = true
		}
	})
	for i := range sent {
		if seen[uint32(i)] != 1 {
			t.Errorf("datagram %d is %d times in the file", i, seen[uint32(i)])
		}
	}
	if requests != pings {
		t.Errorf("%d of %d requests to the host are in the file", requests, pings)
	}
	if _, _, said := written.ended(t); talliesOf(t, said).captured != packetsIn(t, file) {
		t.Errorf("%d packets in the file, and it says %s", packetsIn(t, file), said)
	}
}

// TestTakeoverNewPod: a pod that comes while nobody follows the kernel is answered, and
// reached, with its first request and packet.
func TestTakeoverNewPod(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	l := hosts(t, 1, 1)
	p := labtest.Daemon(t, l, "host0", "--workload", "veth*")
	for _, step := range []int{sayFrozen, sayGive, sayGiven, sayCaptured, sayDone} {
		pinged := make(chan string, 1)
		b := newBetween(t, p.Control, step, func() error {
			pod, err := l.AddPod(t.Context(), 0, lab.PodOptions{})
			if err != nil {
				return err
			}
			asked := make(chan struct{})
			go func() {
				cmd := l.Command(t.Context(), pod.Node, "ping", "-n", "-c1", "-W5", ip(pods(l, 0)[0]))
				out := new(bytes.Buffer)
				cmd.Stdout = out
				err := cmd.Start()
				close(asked)
				if err == nil {
					err = cmd.Wait()
				}
				pinged <- fmt.Sprint(err, " ", out.String())
			}()
			<-asked
			return nil
		})
		next := p.SuccessorAt(t, b.Control, "--workload", "veth*")
		if err := p.Wait(t); err != nil {
			t.Fatalf("taken over: %v\n%s\n%s", err, p.Stderr(), next.Stderr())
		}
		// The kernel asks again after a second, and ping waits for that answer as well.
		if got := <-pinged; !strings.HasPrefix(got, "<nil>") || !regexp.MustCompile(`time=[0-9]{1,3}(\.[0-9]+)? ms`).MatchString(got) {
			t.Errorf("message %d: the pod's first packet: %s\n%s", step, got, next.Stderr())
		}
		<-b.done
		next.AwaitReady(t)
		p = next
	}
}

// TestTakeoverRefused: who speaks another protocol, keeps maps otherwise, or is nobody, is
// refused with a word, and the daemon goes on.
func TestTakeoverRefused(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	p := labtest.Daemon(t, l, "host0", "--workload", "veth*")
	ask := func(line string) string {
		c, err := net.Dial("unix", p.Control)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		answer, err := handover.ReadLine(c, 1<<16)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return string(answer)
	}
	var request string
	b := newBetween(t, p.Control, sayOffer, func() error { return errHangUp })
	heir := p.SuccessorAt(t, b.Control, "--workload", "veth*")
	<-b.done
	if len(b.said) > 0 {
		request = strings.TrimSpace(b.said[0])
	}
	await(t, "the daemon goes on", func() bool { return strings.Contains(p.Stderr(), "goes on") })
	_ = heir.Wait(t) // it finds that there is a daemon, and nobody who hands over
	for _, c := range []struct{ was, is, says string }{
		{`"protocol":2`, `"protocol":3`, "by protocol 2"},
		{`"protocol":2`, `"protocol":1`, "by protocol 2"},
		{`"layout":"`, `"layout":"x`, "keep their maps otherwise"},
		{`"Cookie":`, `"Cookie":1`, "another network namespace"},
		{`"protocol":2`, `"protocol":"2"`, "not a line of JSON"},
	} {
		other := strings.Replace(request, c.was, c.is, 1)
		if other == request {
			t.Fatalf("%s has no %s", request, c.was)
		}
		if got := ask(other); !strings.Contains(got, c.says) || !strings.Contains(got, `"error"`) {
			t.Errorf("%s: %s", other, got)
		}
	}
	// Configurations that can't be taken over, and a socket where nobody is.
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--claim", "none"}, "claim can't change"},
	} {
		next := p.Successor(t, append([]string{"--workload", "veth*"}, c.args...)...)
		if err := next.Wait(t); err == nil || !strings.Contains(next.Stderr(), c.says) {
			t.Errorf("%v: %v\n%s", c.args, err, next.Stderr())
		}
	}
	if said := exited(t, l, "host0", "--workload", "veth*", "--takeover"); !strings.Contains(said, "name its --control") {
		t.Errorf("another control socket: %s", said)
	}
	labtest.EachOnce(t, l, pods(l, 0)[0], pods(l, 0)[1], 200)
	alive(t, p)
}

// TestTakeoverAlone: where no daemon runs, --takeover is a start like any other.
func TestTakeoverAlone(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	p := labtest.Daemon(t, l, "host0", "--workload", "veth*", "--takeover")
	labtest.EachOnce(t, l, pods(l, 0)[0], pods(l, 0)[1], 100)
	p.Stop(t)
	if left := records(t, l, "host0"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
