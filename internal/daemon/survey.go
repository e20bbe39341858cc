package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"proxyarpd/arpd"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/none"
	"proxyarpd/internal/explain"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/netstate"
)

// Survey looks at the host of the calling thread's network namespace as a daemon
// with that configuration would once it has started, and changes nothing: errands
// that only read are done, the others are taken to have gone well. The Requester is
// the caller's to close.
func Survey(ctx context.Context, cfg Config) (_ *explain.View, _ *netstate.Requester, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	watch, err := netstate.Open(netstate.Config{Logger: quiet, IPv6: cfg.IPv6})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, watch.Close()) }()
	req, err := netstate.NewRequester()
	if err != nil {
		return nil, nil, err
	}
	s := newSurvey(ctx, &cfg, quiet)
	done := errors.New("all is known")
	if err := watch.Run(ctx, func(events []netstate.Event) error {
		if err := s.owner.hear(events); err != nil {
			return err
		}
		if s.owner.phase == reading {
			return nil
		}
		return cmp.Or(s.settle(), done)
	}); !errors.Is(err, done) {
		return nil, nil, errors.Join(err, req.Close())
	}
	v := s.owner.view()
	v.Refused = s.refused
	v.From = "a daemon with these flags"
	return v.Clone(), req, nil
}

// survey is an owner that only looks.
type survey struct {
	owner   *owner
	sent    [lanes]errand
	refused string
}

func newSurvey(ctx context.Context, cfg *Config, log *slog.Logger) *survey {
	s := &survey{}
	eng := &paper{moves: cfg.forwards()}
	s.owner = &owner{
		cfg: cfg, log: log, life: ctx, eng: eng,
		builder: route.NewBuilder(route.Policy{Transit: cfg.Transit, Punt: cfg.Punt, IPv6: cfg.IPv6}), proxy: new(proxyRoutes),
		arp: unheard{}, taps: unseen{}, macs: unwritten{}, asking: new(asking), resolve: func(int32, netip.Addr) {},
		links: map[int]*netstate.Link{}, ports: map[int]*port{}, egress: map[int]bool{},
		dirty: newDirty(), ready: readiness{c: make(chan struct{})}, limits: &limits{}, begun: func() {},
		send: func(l lane, e errand) { s.sent[l] = e },
	}
	if cfg.IPv6 {
		s.owner.discovery = discovery{to: unheard{}, groups: unjoined{}, linkLocal: map[int]netstate.AddressState{}}
	}
	return s
}

// unjoined joins no groups.
type unjoined struct{}

func (unjoined) Hold(int, netip.Addr)    {}
func (unjoined) Release(int, netip.Addr) {}
func (unjoined) Forget(int)              {}
func (unjoined) Again(int)               {}

// settle does what is to be done until there is nothing more.
func (s *survey) settle() error {
	for o := s.owner; ; {
		o.dispatch()
		idle := true
		for l := range lanes {
			e := s.sent[l]
			if e == nil {
				continue
			}
			s.sent[l], o.work.out[l], idle = nil, false, false
			if err := s.pretend(e).take(o); err != nil {
				return err
			}
		}
		if idle && o.work.rest == nil {
			return nil
		}
		o.work.rest = nil // claims need not be spread
	}
}

// pretend is the outcome of an errand: what only reads is done, what would change
// something has gone well.
func (s *survey) pretend(e errand) outcome {
	switch e := e.(type) {
	case beginErrand:
		b := begun{beginErrand: e, host: readHostConf(route.DefaultHostConf, s.owner.cfg.IPv6)}
		b.all, b.all6 = readAll(kernelConf.dev, kernelConf.dev6, s.owner.cfg.IPv6)
		if e.inspect {
			b.rules = inspect(e.ifs, s.owner.cfg.IPv6, hostpolicy.All, nil)
			found, unknown := b.rules.Combined()
			if v := judge(s.owner.cfg, found, unknown, s.owner.forwards6(), s.owner.onlyReceives); v.err != nil {
				s.refused = v.err.Error()
				b.rules = hostpolicy.Results{} // and on, as if it had been let
			}
		}
		return b
	case readErrand:
		return e.do(&hands{cfg: s.owner.cfg, log: s.owner.log})
	case rulesErrand:
		return e.do(&hands{cfg: s.owner.cfg, log: s.owner.log, eng: s.owner.eng})
	case adoptErrand:
		return adopted{}
	case gateErrand:
		return gateSeen{gateErrand: e, results: s.owner.gate.results}
	case putBackErrand:
		return putBack{}
	case macErrand:
		return macsSet{e, make([]error, len(e.changes))}
	case claimErrand:
		return claimed{claimErrand: e}
	case memberErrand:
		return memberAsked{memberErrand: e}
	case deviceErrand:
		return deviceAttached{}
	}
	return released{}
}

// paper is the engine of a survey: it is told everything, and does nothing.
type paper struct {
	none.Engine
	moves bool
}

var _ engine.Engine = (*paper)(nil)

func (p *paper) Forwards() bool                       { return p.moves }
func (*paper) Decides() bool                          { return true }
func (*paper) CanClaim() bool                         { return true }
func (*paper) Owns(uint32) bool                       { return false }
func (*paper) SetPort(engine.Port) (uint32, error)    { return 0, nil }
func (*paper) DeletePort(int32) error                 { return nil }
func (*paper) SetNDTarget(claim.NDTarget, bool) error { return nil }
func (*paper) Orphans() []int32                       { return nil }
func (*paper) Claims() (how claim.Mode, claims int)   { return claim.TCX, 0 }

// unheard, unseen and unwritten are those who are told of an owner's decisions,
// where there is nobody.
type unheard struct{}

func (unheard) Publish(map[int]*arpd.Policy) {}

type unseen struct{}

func (unseen) SetLink(*netstate.Link, bool) {}
func (unseen) DeleteLink(int)               {}
func (unseen) Publish()                     {}

type unwritten struct{}

func (unwritten) Original(int) (m macs.MAC, changed bool) { return m, false }
func (unwritten) Renamed(int, string)                     {}
func (unwritten) Forget(int)                              {}

// view is what a packet is explained by. Its maps are the owner's.
func (o *owner) view() explain.View {
	v := explain.View{Table: o.proxy.table.Load(), Links: o.links, Policies: make(map[int]*arpd.Policy, len(o.ports)), Policies6: map[int]*arpd.Policy{},
		Left6: map[int]string{}, Used: map[int32]bool{}, Forwards: o.eng.Forwards()}
	for index, routes := range o.builder.UsedLinks() {
		v.Used[index] = routes > 0
	}
	for index, p := range o.ports {
		if p.policy != nil {
			v.Policies[index] = p.policy
		}
		if p.policy6 != nil {
			v.Policies6[index] = p.policy6
		}
		if l := o.links[index]; l != nil && p.toldLeft.v6 {
			v.Left6[index] = said(o.gated6(l))
		}
	}
	return v
}
