package daemon

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
	"proxyarpd/internal/hostpolicy"
)

// sees has a bench look at the host's rules and find these.
func (b *bench) sees(which hostpolicy.Sources, r hostpolicy.Results) {
	b.t.Helper()
	done := make(chan time.Duration, 1)
	b.lookAtRules(which, done)
	b.dispatch()
	e, ok := b.sent[laneHost].(gateErrand)
	if !ok {
		b.t.Fatalf("out is %T", b.sent[laneHost])
	}
	if err := b.arrives(laneHost, gateSeen{gateErrand: e, results: r}); err != nil {
		b.t.Fatal(err)
	}
	<-done
	b.settle()
}

func nft(f ...hostpolicy.Finding) (r hostpolicy.Results) { r[0].Found = f; return r }
func tc(f ...hostpolicy.Finding) (r hostpolicy.Results)  { r[2].Found = f; return r }

var (
	aTable = hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "nft table ip f", Count: 1}
	aTC    = hostpolicy.Finding{Kind: hostpolicy.KindTC, What: "tc filters of cali1", Count: 1, Interface: "cali1"}
	aQdisc = hostpolicy.Finding{Kind: hostpolicy.KindQdisc, What: "qdisc tbf on cali1", Count: 1, Interface: "cali1"}
)

func watched(t *testing.T, edit func(*Config)) *bench {
	t.Helper()
	b := newBench(t, edit)
	if err := b.begins(nil, pod(1), pod(3), nic(2)); err != nil {
		t.Fatal(err)
	}
	b.events(routed("0.0.0.0/0", 2))
	b.settle()
	return b
}

// TestGateWarn: rules that appear are told of once, however their number changes,
// and packets go on.
func TestGateWarn(t *testing.T) {
	b := watched(t, nil)
	b.sees(hostpolicy.All, nft(aTable))
	more := aTable
	more.Count = 7
	b.sees(hostpolicy.NFTables, nft(more))
	s := b.gateStatus()
	if s.State != "bypassed" || len(s.Findings) != 1 || s.Changes != 1 || s.Looks != 2 {
		t.Errorf("%+v", s)
	}
	if n := strings.Count(b.said.String(), "have appeared"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, &b.said)
	}
	b.takes(1, true)
	if b.proxy.table.Load().Link(1).Flags&route.LinkBypass != 0 {
		t.Error("frames pass by the hooks at the egress")
	}
	b.sees(hostpolicy.NFTables, nft())
	if s := b.gateStatus(); s.State != "clear" || len(s.Findings) != 0 || s.Changes != 2 {
		t.Errorf("%+v", s)
	}
}

// TestGateLeave: rules of the host leave all packets to the kernel, those of an
// interface its own, until they are gone.
func TestGateLeave(t *testing.T) {
	b := watched(t, func(c *Config) { c.OnPolicy = PolicyLeave })
	b.sees(hostpolicy.NFTables, nft(aTable))
	for _, index := range []int{1, 2, 3} {
		b.is(index, left)
		b.takes(int32(index), false)
	}
	late := pod(4) // one that comes meanwhile
	b.events(set(late))
	b.settle()
	b.is(4, left)
	b.sees(hostpolicy.NFTables, nft())
	for _, index := range []int{1, 2, 3, 4} {
		b.is(index, open)
		b.takes(int32(index), true)
	}
	b.sees(hostpolicy.TC, tc(aTC))
	b.is(1, left)
	b.is(3, open)
	// What can't be read is as it was.
	var unread hostpolicy.Results
	unread[2].Err = unix.EAGAIN
	b.sees(hostpolicy.TC, unread)
	b.is(1, left)
	if s := b.gateStatus(); s.Unknown == "" || s.State != "left" {
		t.Errorf("%+v", s)
	}
	// A queueing discipline is passed on the way out, and a kernel that does not
	// forward would cut the interface off.
	b.sees(hostpolicy.TC, tc(aQdisc))
	b.is(1, open)
	forwards := pod(1)
	forwards.Forwards, forwards.MAC = true, b.cfg.MAC
	b.events(set(forwards))
	b.sees(hostpolicy.TC, tc(aQdisc))
	b.is(1, left)
}

// TestGateAccepts: with --bypass-policy what was there at the start is passed by, and
// what comes later is not.
func TestGateAccepts(t *testing.T) {
	b := newBench(t, func(c *Config) { c.OnPolicy, c.BypassPolicy = PolicyLeave, true })
	if err := b.begins([]hostpolicy.Finding{aTable}, pod(1), pod(3)); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.sees(hostpolicy.All, nft(aTable))
	b.is(1, open)
	if strings.Contains(b.said.String(), "have appeared") {
		t.Errorf("what was there is said to appear:\n%s", &b.said)
	}
	b.sees(hostpolicy.TC, tc(aTC))
	b.is(1, left)
	b.is(3, open)
}

// TestGateJudgesAgain: an interface that came with rules is forwarded for when they
// are gone.
func TestGateJudgesAgain(t *testing.T) {
	b := watched(t, nil)
	late := pod(5)
	b.events(set(late))
	for l := range lanes {
		if e, ok := b.sent[l].(rulesErrand); ok {
			b.arrives(l, rulesFound{rulesErrand: e, found: []hostpolicy.Finding{{Kind: hostpolicy.KindTC, What: "tc", Interface: late.Name}}})
		}
	}
	b.settle()
	b.is(5, left)
	b.sees(hostpolicy.TC, hostpolicy.Results{})
	b.is(5, open)
}

func TestSaidOnce(t *testing.T) {
	var s saidOnce
	now := time.Now()
	if !s.first("a", now) || s.first("a", now.Add(saidAgain-1)) || !s.first("b", now) || !s.first("a", now.Add(saidAgain)) {
		t.Error("wrong")
	}
	for i := range 2 * saidMost {
		s.first(string(rune('a'+i)), now)
	}
	if len(s.at) > saidMost {
		t.Errorf("%d keys are kept", len(s.at))
	}
}
