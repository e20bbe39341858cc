package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
)

// checkCapabilities refuses early, and by name, what would fail later in the
// middle of something.
func checkCapabilities(cfg *Config) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	has := func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	if !has(unix.CAP_NET_RAW) {
		return errors.New("CAP_NET_RAW is missing: packet sockets can't be opened; run as root or with that capability")
	}
	if has(unix.CAP_NET_ADMIN) {
		return nil
	}
	switch {
	case cfg.Engine != EngineNone:
		return errors.New("CAP_NET_ADMIN is missing: neighbours can't be resolved, frames not be claimed; add it, or use --engine none --keep-mac")
	case !cfg.KeepMAC:
		return errors.New("CAP_NET_ADMIN is missing: the MAC of workload interfaces can't be set; add it, or use --keep-mac")
	}
	return nil
}

// start is called once all of the kernel's state is known and before anything
// is changed.
func (d *Daemon) start() error {
	if d.claim != nil {
		if err := claim.SweepAll(d.serves); err != nil {
			return fmt.Errorf("remove the tc filters of a killed predecessor: %w", err)
		}
	}
	for _, l := range d.links {
		d.warnLeftAlone(l, "")
	}
	d.host = readHostConf(route.DefaultHostConf)
	d.builder.SetHost(d.host)
	d.confAll, _ = readDevConf("all", kernelConf.dev) // read again in a moment
	if d.loop == nil {
		return nil
	}
	return d.checkPolicy()
}

// serves reports whether an interface is a workload's or an uplink.
func (d *Daemon) serves(index int) bool {
	l := d.links[index]
	return l != nil && d.roleOf(l) != roleNone
}

// started is called after the first reconciliation. The rest is the opener's.
func (d *Daemon) started() error {
	for index, p := range d.ports {
		if l := d.links[index]; l != nil && d.left[index] == nil {
			d.checkNew(l, p) // before running: those that come later are asked for one by one
		}
	}
	d.running = true
	d.caughtUp.Store(true)
	close(d.firstSync)
	d.wakeOpener()
	return nil
}

// warnLeftAlone says so, unless it has been said before.
func (d *Daemon) warnLeftAlone(l *netstate.Link, said string) {
	if why := d.leftAlone(l); why != "" && why != said {
		d.log.Warn(why, "interface", l.Name)
	}
}

const inspectTimeout = 10 * time.Second

// checkPolicy refuses to pass by the host's own rules. An uplink that only
// receives is no reason: one that has rules of its own is left to the kernel.
func (d *Daemon) checkPolicy() error {
	var ifs []hostpolicy.Interface
	for index, l := range d.links {
		if d.roleOf(l) != roleNone {
			ifs = append(ifs, hostpolicy.Interface{Name: l.Name, Index: index})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), inspectTimeout)
	defer cancel()
	found, err := hostpolicy.Inspect(ctx, ifs)
	if errors.Is(err, hostpolicy.ErrUserNamespace) {
		d.log.Warn("packets to all interfaces take the ordinary way, for the tc programs that may be there", "err", err)
		d.unseen, err = true, nil
	}
	if err != nil && !d.cfg.BypassPolicy {
		return fmt.Errorf("can't tell whether rules of this host would be bypassed: %w (--bypass-policy forwards all the same)", err)
	}
	if puntsAll(d.cfg.Punt) {
		return nil
	}
	var all []string
	for _, f := range found {
		if d.leaveIdle(f) {
			continue
		}
		all = append(all, f.String())
		d.spare(f)
	}
	switch {
	case len(all) == 0:
		return nil
	case d.cfg.BypassPolicy:
		d.log.Warn("rules of this host do not apply to what is forwarded", "bypassed", strings.Join(all, "; "))
		return nil
	}
	return fmt.Errorf("forwarding would bypass %s: use --engine none to answer ARP only, or --bypass-policy to forward all the same, with --punt for destinations that the kernel is to handle",
		strings.Join(all, "; "))
}

// leaveIdle notes that a finding concerns an uplink that only receives: it is
// refused when it is opened.
func (d *Daemon) leaveIdle(f hostpolicy.Finding) bool {
	if f.Interface == "" || d.cfg.BypassPolicy {
		return false
	}
	for _, l := range d.links {
		if l.Name == f.Interface && d.roleOf(l) == roleUplink && d.builder.UsedLinks()[int32(l.Index)] == 0 {
			d.left[l.Index] = append(d.left[l.Index], f.String())
			return true
		}
	}
	return false
}

// puntsAll reports whether every destination is left to the kernel.
func puntsAll(punt []netip.Prefix) bool {
	halves := 0
	for _, p := range punt {
		switch p.Bits() {
		case 0:
			return true
		case 1:
			halves++
		}
	}
	return halves == 2
}

// spare keeps frames to an interface with a shaping qdisc, a tc program or
// netdev hooks on the ordinary way out, so that what can still apply does.
func (d *Daemon) spare(f hostpolicy.Finding) {
	for index, l := range d.links {
		if l.Name == f.Interface || (f.Interface == "" && f.Kind == hostpolicy.KindNFTables) {
			d.egress[index] = true
		}
	}
}

func (d *Daemon) claimMode() string {
	if d.claim == nil {
		return string(claim.None)
	}
	if m := d.claim.Mode(); m != "" {
		return string(m)
	}
	return string(claim.Auto)
}

// kernelForwards is an error if the kernel would forward what we forward too:
// no tc program takes the originals, and forwarding is on.
func (d *Daemon) kernelForwards(l *netstate.Link) error {
	if !l.Forwards || d.claim != nil && d.claim.Claimed(int32(l.Index)) {
		return nil
	}
	return fmt.Errorf("no tc program can take packets from the kernel, and it forwards them too: set net.ipv4.conf.%s.forwarding=0, or use --engine none", l.Name)
}
