package daemon

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
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

// takes6 says whether frames of IPv6 are taken.
func (b *bench) takes6(index int32, want bool) {
	b.t.Helper()
	b.takes(index, true) // of IPv4 in any case
	if got := b.fake.ports[index].IPv6; got != want {
		b.t.Errorf("frames of IPv6 of interface %d are taken: %t", index, got)
	}
	if l := b.proxy.table.Load().Link(index); (l.MTU6 != 0) != want {
		b.t.Errorf("interface %d has MTU %d for IPv6", index, l.MTU6)
	}
}

// dual is an interface that has IPv6.
func dual(l *netstate.Link) *netstate.Link {
	l.IPv6, l.MTU6 = true, l.MTU
	return l
}

// TestGateIPv6: rules of IPv6 alone that are there at the start leave IPv6 to the kernel
// as long as they are there, and IPv4 is forwarded; those that appear later leave it with
// --on-policy leave.
func TestGateIPv6(t *testing.T) {
	six := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "nft table ip6 f", Count: 3, Family: hostpolicy.IPv6}
	later := hostpolicy.Finding{Kind: hostpolicy.KindIPTables, What: "ip6tables (legacy)", Count: 3, Family: hostpolicy.IPv6}
	for _, how := range []string{PolicyWarn, PolicyLeave} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.OnPolicy = how })
			if err := b.begins([]hostpolicy.Finding{six}, dual(pod(1)), dual(nic(2))); err != nil {
				t.Fatal(err)
			}
			b.settle()
			b.takes6(1, false)
			if s := b.gateStatus(); s.State != "left" || len(s.Findings) != 1 || !s.Findings[0].Left || !s.Findings[0].IPv6 {
				t.Errorf("%+v", s)
			}
			if why := b.ipv6Why(b.links[1]); !strings.Contains(why, "nft table ip6 f") {
				t.Errorf("IPv6 is left to the kernel: %q", why)
			}
			if said := b.said.String(); !strings.Contains(said, "IPv6 is left to the kernel") || strings.Contains(said, "appeared") {
				t.Errorf("it is said:\n%s", said)
			}
			late := dual(pod(4))
			b.events(set(late))
			b.settle()
			b.takes6(4, false)
			b.sees(hostpolicy.All, nft(six))
			b.takes6(1, false)
			b.sees(hostpolicy.NFTables, nft())
			b.takes6(1, true)
			b.takes6(2, true)
			b.takes6(4, true)
			b.sees(hostpolicy.NFTables, nft(six)) // a firewall that is loaded anew
			b.takes6(1, false)
			b.sees(hostpolicy.NFTables, nft())
			b.sees(hostpolicy.NFTables, nft(later))
			b.takes6(1, how == PolicyWarn)
			if b.proxy.table.Load().Link(1).Flags&route.LinkBypass == 0 {
				t.Error("rules of IPv6 take IPv4's frames off the fast way out")
			}
			if s := b.gateStatus(); s.Findings[0].Left != (how == PolicyLeave) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestGateIPv6Accepts: with --bypass-policy IPv6 is forwarded past its rules, and without
// it from then on left.
func TestGateIPv6Accepts(t *testing.T) {
	six := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "nft table ip6 f", Count: 3, Family: hostpolicy.IPv6}
	b := newBench(t, func(c *Config) { c.BypassPolicy = true })
	if err := b.begins([]hostpolicy.Finding{six}, dual(pod(1))); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.takes6(1, true)
	next := *b.cfg
	next.BypassPolicy = false
	rules := nft(six)
	j := judge(&next, rules[0].Found, nil, false, b.onlyReceives)
	j.rules = rules
	b.adopt(&next, &j)
	b.settle()
	b.takes6(1, false)
	if j.err != nil {
		t.Error(j.err)
	}
}

// TestGateIPv6NAT: where the kernel forwards IPv6 and translates it, and no destination of
// IPv6 is left to it, all of IPv6 is, whatever else is bypassed.
func TestGateIPv6NAT(t *testing.T) {
	nat := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "nft table ip6 nat", Count: 3, Family: hostpolicy.IPv6, NAT: true}
	for _, c := range []struct {
		punt     string
		forwards bool
		left     bool
	}{{"10.96.0.0/12", true, true}, {"fd00:96::/112", true, false}, {"10.96.0.0/12", false, false}} {
		b := newBench(t, func(cfg *Config) { cfg.BypassPolicy, cfg.Punt = true, prefixList(strings.Fields(c.punt)...) })
		p, n := dual(pod(1)), dual(nic(2))
		p.Forwards6, n.Forwards6 = c.forwards, c.forwards
		p.MAC = b.cfg.MAC
		if err := b.begins(nil, p, n); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.takes6(1, true)
		b.sees(hostpolicy.NFTables, nft(nat))
		b.takes6(1, !c.left)
		if said := strings.Contains(b.said.String(), "IPv6 is left to the kernel, which translates it"); said != c.left {
			t.Errorf("%+v: it is said:\n%s", c, &b.said)
		}
		if s := b.gateStatus(); s.Findings[0].Left != c.left {
			t.Errorf("%+v: %+v", c, s)
		}
	}
}

// TestGateIPv6Interface: rules of IPv6 at an interface leave its IPv6 to the kernel, and
// that of no other.
func TestGateIPv6Interface(t *testing.T) {
	filter := hostpolicy.Finding{Kind: hostpolicy.KindTC, What: "tc filters of cali1", Count: 1, Interface: "cali1", Family: hostpolicy.IPv6}
	b := newBench(t, nil)
	if err := b.begins([]hostpolicy.Finding{filter}, dual(pod(1)), dual(pod(3))); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.takes6(1, false)
	b.takes6(3, true)
	late := dual(pod(5))
	b.events(set(late))
	for l := range lanes {
		if e, ok := b.sent[l].(rulesErrand); ok {
			f := filter
			f.Interface = late.Name
			b.arrives(l, rulesFound{rulesErrand: e, found: []hostpolicy.Finding{f}})
		}
	}
	b.settle()
	b.takes6(5, false)
	b.sees(hostpolicy.All, hostpolicy.Results{})
	b.settle()
	b.takes6(1, true)
	b.takes6(5, true)
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
