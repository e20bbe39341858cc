package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/shortage"
)

// What is slow - it takes the kernel's RTNL lock, or reads many files - is an
// errand: a value that goes out, and whose outcome comes back to the owner.
// Routes and neighbours go on being followed meanwhile. An errand knows what it
// was given, and touches nothing of the owner's.

// job is what an errand does for one interface.
type job uint8

const (
	jobMAC        job = iota // give it --mac
	jobMember                // ask the device for frames to --mac
	jobRules                 // look for rules of the host that are bound to it
	jobRead                  // read its settings
	jobClaim                 // attach the tc program, which is waited for
	jobClaimLater            // attach it when there is time
)

// lane is a queue of errands: in each one is out at a time.
type lane uint8

const (
	laneMAC   lane = iota // MACs, in the order of their errands
	laneClaim             // tc programs
	laneHost              // what only looks
	lanes
)

// errand is what goes out.
type errand interface{ do(h *hands) outcome }

// outcome is what comes back: it is taken on the owner's goroutine.
type outcome interface{ take(o *owner) error }

// ref names a port: an index may be another interface's by the time an errand is
// done.
type ref struct {
	index int
	id    uint64
}

// hands is what errands work with. All of it is for any goroutine, or for that
// of one lane alone.
type hands struct {
	cfg     *Config
	log     *slog.Logger
	eng     engine.Engine
	macs    *macs.Keeper
	members *members
	limits  *limits
	// announce tells the stations on an interface once who has an address; nil: nobody is told.
	announce func(arpd.Announcement) bool
}

// inspectTimeout is how long the host's rules may take to be read.
const inspectTimeout = 10 * time.Second

func inspect(ifs []hostpolicy.Interface, ipv6 bool, which hostpolicy.Sources, ours func(id uint32) bool) hostpolicy.Results {
	ctx, cancel := context.WithTimeout(context.Background(), inspectTimeout)
	defer cancel()
	return hostpolicy.InspectOnly(ctx, ifs, ipv6, which, ours)
}

// beginErrand is what has to be known before anything is changed.
type beginErrand struct {
	serve   map[int]bool // interfaces that will be
	ifs     []hostpolicy.Interface
	inspect bool
	succeed func() (*adoption, error) // nil: there is no predecessor that runs
}

type begun struct {
	beginErrand
	adoption *adoption
	refused  error // by the predecessor
	host     route.HostConf
	all      devConf
	all6     devConf6
	rules    hostpolicy.Results // of the host
	swept    error
}

func (e beginErrand) do(h *hands) outcome {
	b := begun{beginErrand: e, host: readHostConf(route.DefaultHostConf, h.cfg.IPv6)}
	b.all, b.all6 = readAll(kernelConf.dev, kernelConf.dev6, h.cfg.IPv6) // read again in a moment
	if h.eng.Decides() && e.succeed == nil {
		if err := claim.SweepAll(func(ifindex int) bool { return e.serve[ifindex] }); err != nil {
			b.swept = fmt.Errorf("remove the tc filters of a killed predecessor: %w", err)
			return b
		}
	}
	if e.inspect {
		b.rules = inspect(e.ifs, h.cfg.IPv6, hostpolicy.All, h.eng.Owns)
	}
	if e.succeed != nil {
		b.adoption, b.refused = e.succeed()
	}
	return b
}

// adoptErrand makes ours what a killed predecessor has changed and we would
// change too, and puts back the rest.
type adoptErrand struct{ changes []macs.Change }

func (e adoptErrand) do(h *hands) outcome {
	if len(e.changes) > 0 {
		for i, err := range h.macs.SetAll(e.changes) {
			if err != nil && !errors.Is(err, unix.ENODEV) {
				h.log.Warn("the MAC that a killed predecessor changed is not taken over", "interface", e.changes[i].Name, "err", err)
			}
		}
	}
	if err := h.macs.Restore(context.Background()); err != nil {
		h.log.Warn("not all MACs that a killed predecessor changed are back", "err", err)
	}
	return adopted{}
}

type adopted struct{}

// macErrand gives interfaces the answered MAC, all together.
type macErrand struct {
	refs    []ref
	changes []macs.Change
	moved   []moved // of each change; nothing is told where the former MAC is taken as well, and nobody has told of it
}

type macsSet struct {
	macErrand
	errs []error
}

func (e macErrand) do(h *hands) outcome {
	errs := h.macs.SetAll(e.changes)
	for i, err := range errs {
		if err == nil {
			h.tell(e.moved[i])
		}
	}
	return macsSet{e, errs}
}

// endErrand puts MACs back, and detaches tc programs where nothing depends on
// them, while packets still pass: for many interfaces it takes a while.
type endErrand struct {
	moved   []moved
	release []int32
}

type ended struct{ err error }

func (e endErrand) do(h *hands) outcome {
	err := h.macs.Close()
	if err == nil {
		h.tell(e.moved...)
	}
	for _, index := range e.release {
		err = errors.Join(err, h.eng.Release(index))
	}
	return ended{err}
}

// deviceErrand has frames go through the engine's device.
type deviceErrand struct{}

type deviceAttached struct{}

func (deviceErrand) do(h *hands) outcome {
	err := shortage.Retry(context.Background(), startPatience, h.eng.AttachDevice, func(error, time.Duration) {})
	if err != nil {
		h.log.Warn("super-packets that no ring can take are lost where the kernel does not forward", "err", err)
	}
	return deviceAttached{}
}

// putBackErrand gives interfaces that lead to workloads no more the MACs that they
// had.
type putBackErrand struct {
	changes []macs.Change
	moved   []moved // of each change
}

type putBack struct{}

func (e putBackErrand) do(h *hands) outcome {
	for i, err := range h.macs.SetAll(e.changes) {
		switch {
		case err == nil:
			h.tell(e.moved[i])
		case !errors.Is(err, unix.ENODEV):
			h.log.Warn("the MAC from before is not back; it is at the end", "interface", e.changes[i].Name, "err", err)
		}
	}
	return putBack{}
}

// claimErrand attaches the tc program to an interface.
type claimErrand struct {
	ref
	later bool // it was not waited for
}

type claimed struct {
	claimErrand
	eng  engine.Engine // that was told
	took time.Duration
	err  error
}

func (e claimErrand) do(h *hands) outcome {
	began := time.Now()
	err := h.limits.roomToClaim(h.eng)
	if err == nil {
		err = h.eng.Claim(int32(e.index))
	}
	return claimed{e, h.eng, time.Since(began), err}
}

// releaseErrand detaches it from an interface that is served no more.
type releaseErrand struct{ index int }

type released struct{}

func (e releaseErrand) do(h *hands) outcome {
	if err := h.eng.Release(int32(e.index)); err != nil {
		h.log.Error("interface not let go", "index", e.index, "err", err)
	}
	return released{}
}

// rulesErrand asks whether forwarding for interfaces would bypass rules that are
// bound to them, which appeared with them or after the start.
type rulesErrand struct {
	refs []ref
	ifs  []hostpolicy.Interface
}

type rulesFound struct {
	rulesErrand
	found []hostpolicy.Finding
	err   error
}

func (e rulesErrand) do(h *hands) outcome {
	rules := inspect(e.ifs, h.cfg.IPv6, hostpolicy.All, h.eng.Owns)
	found, err := rules.Combined()
	if errors.Is(err, hostpolicy.ErrUserNamespace) {
		err = nil // the start has said it
	}
	return rulesFound{e, found, err}
}

// readErrand reads settings.
type readErrand struct {
	host, all bool // those that count for all
	knownHost route.HostConf
	knownAll  devConf
	knownAll6 devConf6
	ifs       []readInterface
	last      int       // the tick's place behind it, when all could be read
	hangup    time.Time // not zero: a signal asked for it then
}

type readInterface struct {
	ref
	name  string
	known ifConf
	err   error
}

// settingsRead has what was read where the errand has what was known.
type settingsRead struct{ readErrand }

func (e readErrand) do(h *hands) outcome {
	if e.host {
		e.knownHost = readHostConf(e.knownHost, h.cfg.IPv6)
	}
	if e.all {
		e.knownAll, e.knownAll6 = readAll(e.knownAll, e.knownAll6, h.cfg.IPv6)
	}
	for i := range e.ifs {
		r := &e.ifs[i]
		r.known, r.err = readIfConf(r.name, r.known, h.cfg.IPv6)
		r.known.offloads = h.cfg.Engine == EngineEBPF && offloads(r.name)
	}
	return settingsRead{e}
}

// memberErrand asks a device for frames to --mac.
type memberErrand struct{ ref }

type memberAsked struct {
	memberErrand
	err error
}

func (e memberErrand) do(h *hands) outcome { return memberAsked{e, h.members.add(e.index, h.cfg.MAC)} }
