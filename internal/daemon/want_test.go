package daemon

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/descriptors"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/netstate"
)

// TestWants: what an interface should be, by what is known of it.
func TestWants(t *testing.T) {
	mac := macAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	own := macAddr{2, 0, 0, 0, 0, 1}
	up := route.LinkUp | route.LinkEthernet
	type given struct {
		s setting
		l *netstate.Link
		p port
		f facts
	}
	type wanted struct {
		answer  macAddr
		aliases [2]macAddr
		take    bool
		flags   route.LinkFlags
		jobs    []job
		waits   bool
	}
	// A workload interface that a daemon finds when it starts, whose kernel does not forward.
	pods := wanted{answer: mac, aliases: [2]macAddr{mac, own}, take: true, flags: up | route.LinkWorkload | route.LinkBypass,
		jobs: []job{jobMAC, jobRules, jobRead}, waits: true}
	kept := wanted{answer: mac, aliases: [2]macAddr{mac}, take: true, flags: pods.flags, jobs: []job{jobRules, jobRead}, waits: true}
	but := func(w wanted, edit func(*wanted)) wanted { edit(&w); return w }
	for name, c := range map[string]struct {
		edit func(*given)
		want wanted
	}{
		"a new one":        {func(*given) {}, pods},
		"before the start": {func(g *given) { g.s.started = false }, but(pods, func(w *wanted) { w.aliases[1] = macAddr{}; w.take, w.jobs, w.waits = false, nil, false })},
		"at the end":       {func(g *given) { g.s.ending = true }, but(pods, func(w *wanted) { w.aliases[1] = macAddr{}; w.jobs = []job{jobRules, jobRead} })},
		"the end of one":   {func(g *given) { g.s.ending, g.l.MAC, g.f = true, mac, facts{changed: true, original: own} }, but(pods, func(w *wanted) { w.aliases[1], w.jobs = own, []job{jobRules, jobRead} })},
		"its MAC is set":   {func(g *given) { g.l.MAC, g.p.mac, g.f = mac, done, facts{changed: true, original: own} }, but(pods, func(w *wanted) { w.aliases, w.jobs = [2]macAddr{own, mac}, []job{jobRules, jobRead} })},
		"it is being set": {func(g *given) {
			g.l.MAC, g.p = mac, port{role: roleWorkload, rules: done, read: done, claim: done, mac: underWay}
		}, but(pods, func(w *wanted) { w.aliases, w.jobs = [2]macAddr{mac}, nil })},
		"back to what it had": {func(g *given) { g.f = facts{changed: true, original: own} }, pods},
		"it can't be set":     {func(g *given) { g.p.mac = never }, kept},
		"rules are known":     {func(g *given) { g.p.rules = done }, but(pods, func(w *wanted) { w.jobs = []job{jobMAC, jobRead, jobClaim} })},
		"it came later":       {func(g *given) { g.p.first, g.p.rules = false, done }, but(pods, func(w *wanted) { w.jobs = []job{jobMAC, jobRead, jobClaimLater} })},
		"later, and claimed in time": {func(g *given) { g.l.MAC, g.p = mac, port{role: roleWorkload, rules: done, read: done, claim: underWay} },
			but(pods, func(w *wanted) { w.aliases, w.jobs, w.waits = [2]macAddr{mac}, nil, false })},
		"all is done":         {func(g *given) { g.l.MAC, g.p.rules, g.p.read, g.p.claim = mac, done, done, done }, but(pods, func(w *wanted) { w.aliases, w.jobs, w.waits = [2]macAddr{mac}, nil, false })},
		"many, it can wait":   {func(g *given) { g.s.ports, g.l.MAC, g.p.rules, g.p.read = fewPorts+1, mac, done, done }, but(pods, func(w *wanted) { w.aliases, w.jobs, w.waits = [2]macAddr{mac}, []job{jobClaimLater}, false })},
		"many, the first":     {func(g *given) { g.s.ports, g.s.modeless, g.p.rules = fewPorts+1, true, done }, but(pods, func(w *wanted) { w.jobs = []job{jobMAC, jobRead, jobClaim} })},
		"the kernel forwards": {func(g *given) { g.l.Forwards = true }, but(pods, func(w *wanted) { w.take, w.flags = false, pods.flags|route.LinkKernelForwards })},
		"and it is claimed":   {func(g *given) { g.l.Forwards, g.p.rules, g.p.claim = true, done, done }, but(pods, func(w *wanted) { w.flags |= route.LinkKernelForwards; w.jobs = []job{jobMAC, jobRead} })},
		"left to the kernel": {func(g *given) { g.p.rules, g.p.left = done, unix.EPERM }, but(pods, func(w *wanted) {
			w.take, w.flags, w.jobs = false, pods.flags|route.LinkLeft, []job{jobMAC, jobRead, jobClaim}
		})},
		"failed":                 {func(g *given) { g.p.err = unix.EPERM }, but(pods, func(w *wanted) { w.take = false })},
		"failed, but early":      {func(g *given) { g.p.err, g.p.filter.Forward = unix.EPERM, true }, pods},
		"egress rules":           {func(g *given) { g.f.egress = true }, but(pods, func(w *wanted) { w.flags = w.flags&^route.LinkBypass | route.LinkSorts })},
		"programs can't be seen": {func(g *given) { g.s.unseen = true }, but(pods, func(w *wanted) { w.flags = w.flags&^route.LinkBypass | route.LinkSorts })},
		"a shaped one":           {func(g *given) { g.l.Qdisc = "tbf" }, but(pods, func(w *wanted) { w.flags = w.flags&^route.LinkBypass | route.LinkSorts })},
		"noop, just up":          {func(g *given) { g.l.Qdisc = "noop" }, but(pods, func(w *wanted) { w.flags |= route.LinkUnsettled })},
		"no carrier":             {func(g *given) { g.l.Flags &^= unix.IFF_LOWER_UP }, but(pods, func(w *wanted) { w.flags &^= route.LinkUp })},
		"without ARP":            {func(g *given) { g.l.Flags |= unix.IFF_NOARP }, but(pods, func(w *wanted) { w.flags |= route.LinkNoARP })},
		"engine none":            {func(g *given) { g.s.forwards = false }, but(pods, func(w *wanted) { w.take, w.jobs = false, []job{jobMAC, jobRead, jobClaim} })},
		"engine none, MAC set":   {func(g *given) { g.s.forwards, g.l.MAC = false, mac }, but(pods, func(w *wanted) { w.aliases, w.take, w.jobs = [2]macAddr{}, false, []job{jobRead} })},
		"no tc program":          {func(g *given) { g.p.claim, g.p.rules = never, done }, but(pods, func(w *wanted) { w.jobs = []job{jobMAC, jobRead} })},
		"--keep-mac":             {func(g *given) { g.s.cfg.KeepMAC = true }, kept},
		"--keep-mac, no tc":      {func(g *given) { g.s.cfg.KeepMAC, g.s.canClaim = true, false }, but(kept, func(w *wanted) { w.answer, w.aliases = own, [2]macAddr{} })},
		"--keep-mac, macvlan":    {func(g *given) { g.s.cfg.KeepMAC, g.l.Kind = true, "macvlan" }, but(kept, func(w *wanted) { w.answer, w.aliases, w.flags = own, [2]macAddr{}, kept.flags|route.LinkSorts })},
		"--keep-mac, a card": {func(g *given) { g.s.cfg.KeepMAC, g.l.Kind = true, "" }, but(kept, func(w *wanted) {
			w.answer, w.aliases, w.flags, w.jobs = own, [2]macAddr{}, kept.flags|route.LinkSorts, []job{jobMember, jobRules, jobRead}
		})},
		"and it was asked":       {func(g *given) { g.s.cfg.KeepMAC, g.l.Kind, g.p.member = true, "", done }, but(kept, func(w *wanted) { w.flags |= route.LinkSorts })},
		"and it does not":        {func(g *given) { g.s.cfg.KeepMAC, g.l.Kind, g.p.member, g.p.ownMAC = true, "", done, true }, but(kept, func(w *wanted) { w.answer, w.aliases, w.flags = own, [2]macAddr{}, kept.flags|route.LinkSorts })},
		"an uplink":              {func(g *given) { g.p.role = roleUplink }, wanted{answer: mac, take: true, flags: up | route.LinkUplink | route.LinkBypass, jobs: []job{jobRules, jobRead}, waits: true}},
		"one that only receives": {func(g *given) { g.p = port{role: roleUplink, rules: done, read: done}; g.f.idle = true }, wanted{answer: mac, take: true, flags: up | route.LinkUplink | route.LinkBypass, jobs: []job{jobClaimLater}}},
		"a TUN device": {func(g *given) { g.p.role, g.l.Type, g.l.Multipoint = roleUplink, unix.ARPHRD_NONE, true },
			wanted{answer: mac, take: true, flags: route.LinkUp | route.LinkUplink | route.LinkBypass | route.LinkReceiveOnly, jobs: []job{jobRules, jobRead}, waits: true}},
		"PPP": {func(g *given) { g.p.role, g.l.Type = roleUplink, unix.ARPHRD_PPP },
			wanted{answer: mac, take: true, flags: route.LinkUp | route.LinkUplink | route.LinkBypass | route.LinkNoOffload, jobs: []job{jobRules, jobRead}, waits: true}},
	} {
		cfg := Default()
		g := given{s: setting{cfg: &cfg, forwards: true, canClaim: true, ports: 1, started: true}, l: pod(1), p: port{role: roleWorkload, first: true}}
		c.edit(&g)
		w := g.s.wants(g.l, &g.p, &g.f)
		got := wanted{w.answer, w.filter.Aliases, w.take, w.link.Flags, w.jobs(&g.p), w.waits(&g.p)}
		if got.answer != c.want.answer || got.aliases != c.want.aliases || got.take != c.want.take || got.flags != c.want.flags || !slices.Equal(got.jobs, c.want.jobs) || got.waits != c.want.waits {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, c.want)
		}
		if (w.policy != nil) != (g.p.role == roleWorkload) || w.filter.Forward {
			t.Errorf("%s: policy %v, filter %+v", name, w.policy, w.filter)
		}
	}
}

// TestWantsFilter: what the ring's filter is told.
func TestWantsFilter(t *testing.T) {
	cfg := Default()
	s := setting{cfg: &cfg, forwards: true, canClaim: true, started: true}
	l := pod(7)
	l.Forwards, l.MAC = true, cfg.MAC
	for role, want := range map[role]engine.Port{
		roleWorkload: {Ifindex: 7, Workload: true, ARP: true, Anywhere: true, KernelForwards: true, Quota: workloadQuota, L2Len: 14, Aliases: [2]macAddr{cfg.MAC},
			Answer: cfg.MAC},
		roleUplink: {Ifindex: 7, KernelForwards: true, Quota: uplinkQuota, L2Len: 14},
	} {
		if got := s.wants(l, &port{role: role}, &facts{}).filter; got != want {
			t.Errorf("%s: %+v", role, got)
		}
	}
	cfg.Transit = true
	l.Type = unix.ARPHRD_NONE
	if got := s.wants(l, &port{role: roleUplink}, &facts{}).filter; !got.Anywhere || got.L2Len != 0 {
		t.Errorf("--transit, a TUN device: %+v", got)
	}
}

// TestLife: each state of a port, by its tasks.
func TestLife(t *testing.T) {
	w := &want{forwards: true, read: true}
	done := &want{forwards: true}
	for name, c := range map[string]struct {
		p    port
		w    *want
		want life
	}{
		"described": {port{}, w, described},
		"early":     {port{filter: engine.Port{Forward: true}}, w, early},
		"open":      {port{filter: engine.Port{Forward: true}}, done, open},
		"not taken": {port{}, done, described},
		"none":      {port{}, &want{}, open},
		"left":      {port{left: unix.EPERM, err: unix.EIO}, done, left},
		"failed":    {port{err: unix.EIO}, done, failed},
		"can't":     {port{}, &want{forwards: true, impossible: unix.EBUSY}, failed},
	} {
		if got := c.p.life(c.w); got != c.want || got.String() == "" {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestRoomToClaim: claims leave descriptors to others, of few one half.
func TestRoomToClaim(t *testing.T) {
	e := &fakeEngine{how: claim.TCX, claims: map[int32]bool{}}
	for _, c := range []struct {
		base, have int
		how        claim.Mode
		room       bool
	}{
		{descriptors.Limit() - 20, 9, claim.TCX, true}, {descriptors.Limit() - 20, 10, claim.TCX, false}, // of 20, 10
		{0, 0, claim.TCX, true}, {0, 1 << 40, claim.TCX, false}, {1 << 40, 0, claim.TCX, false}, {1 << 40, 0, claim.Clsact, true},
	} {
		e.how, e.attached = c.how, c.have
		if err := (&limits{base: c.base}).roomToClaim(e); (err == nil) != c.room {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
