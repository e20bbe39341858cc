package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/printable"
)

// manager is the service manager that has started the daemon, if one did and wants to be told of it: sd_notify(3).
type manager struct {
	log    *slog.Logger
	wants  bool
	ready  atomic.Bool // it was told that the daemon has started
	failed sync.Once
}

func newManager(log *slog.Logger) *manager {
	return &manager{log: log, wants: os.Getenv("NOTIFY_SOCKET") != ""}
}

// tell sends assignments. The kernel may make the caller wait where the manager does not read.
func (m *manager) tell(lines ...string) {
	if !m.wants {
		return
	}
	if _, err := sd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		m.failed.Do(func() { m.log.Warn("the service manager can't be told what the daemon does", "err", err) })
	}
}

// reloading says that a reload has begun, as Type=notify-reload wants it. What is returned says that it is over.
func (m *manager) reloading() (over func()) {
	if !m.ready.Load() {
		return func() {} // READY=1 means something else yet
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	m.tell(sd.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
	return func() { m.tell(sd.SdNotifyReady) }
}

const (
	// startsWithin is after what time the daemon counts as started although an interface is not served: the others are.
	startsWithin = 20 * time.Second
	// informEvery is how often the manager is told what has changed.
	informEvery = 5 * time.Second
	// beatsIn is how often the parts are asked within the time that the manager waits for a sign of life.
	beatsIn = 5
)

// inform tells the manager that the daemon has started, what it does, and that it lives: as long as the owner answers
// and each thread of the datapath comes round.
func (d *Daemon) inform(ctx context.Context) {
	m := d.manager
	if !m.wants {
		return
	}
	waiting, stop := context.WithTimeout(ctx, startsWithin)
	d.awaitReady(waiting)
	stop()
	if ctx.Err() != nil {
		return
	}
	every, watched := informEvery, false
	switch patience, err := sd.SdWatchdogEnabled(false); {
	case err != nil:
		d.log.Warn("the service manager's watchdog is not served", "err", err)
	case patience > 0:
		every, watched = min(every, max(patience/beatsIn, time.Millisecond)), true
	}
	last, pulse := "", pulse{}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		var lines []string
		if m.ready.CompareAndSwap(false, true) {
			lines = append(lines, sd.SdNotifyReady)
		}
		summary, stuck := d.summary(ctx, every)
		if stuck == "" {
			stuck = pulse.beat(d.engine().Beats(), d.beats())
		}
		if ctx.Err() != nil {
			return
		}
		if watched && stuck == "" {
			lines = append(lines, sd.SdNotifyWatchdog)
		}
		if stuck != "" {
			summary = "stuck: " + stuck
			d.log.Error("a part of the daemon does not go on; the service manager's watchdog is not told that all is well", "err", stuck)
		}
		if summary != last {
			lines, last = append(lines, "STATUS="+summary), summary
		}
		if len(lines) > 0 {
			m.tell(lines...)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// summary is the daemon on one line, by the owner. It is stuck that does not answer in time.
func (d *Daemon) summary(ctx context.Context, patience time.Duration) (summary, stuck string) {
	asking, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if !d.owner.ask(asking, func() { summary = d.owner.summary() }) {
		return "", "the owner of the daemon's state"
	}
	if r := d.reloads.refused(); r != "" {
		summary += "; the last reload was refused: " + r
	}
	return summary, ""
}

func (o *owner) summary() string {
	ok, why := o.isReady()
	if !ok {
		return "not ready: " + printable.UTF8(why)
	}
	return fmt.Sprintf("ready: %d workload interfaces, %d uplinks, engine %s", o.countRole(roleWorkload), o.countRole(roleUplink), o.cfg.Engine)
}

// pulse is what the threads of the datapath had done when they were last asked.
type pulse struct {
	forward []uint64
	answer  [2]uint64 // the responders of ARP and of neighbour discovery
	asked   bool
}

// noBeat is of a responder that there is not.
const noBeat = math.MaxUint64

// beats are how many times each responder has come round.
func (d *Daemon) beats() [2]uint64 {
	b := [...]uint64{d.arp.Beat(), noBeat}
	if d.nd != nil {
		b[1] = d.nd.Beat()
	}
	return b
}

// beat takes how many times each thread has come round, and names one that has not since it was last told to; "" if
// all have.
func (p *pulse) beat(forward []uint64, answer [2]uint64) (stuck string) {
	defer func() { *p = pulse{slices.Clone(forward), answer, true} }()
	if !p.asked {
		return ""
	}
	for i, who := range [...]string{"the ARP responder", "the responder of neighbour discovery"} {
		if answer[i] <= p.answer[i] && answer[i] != noBeat {
			return who
		}
	}
	if len(forward) != len(p.forward) {
		return "" // another engine
	}
	for i := range forward {
		if forward[i] == p.forward[i] { // one that is less is another engine's
			return fmt.Sprintf("worker %d of the datapath", i)
		}
	}
	return ""
}

// tellMainPID tells systemd that another process is the service's main one from now on
// (sd_notify(3), MAINPID=). It comes from the one that was: that one alone may say so by
// NotifyAccess=main.
func tellMainPID(pid int) error {
	if pid == 0 {
		return nil // of another PID namespace, so of another service
	}
	_, err := sd.SdNotify(false, fmt.Sprintf("MAINPID=%d", pid))
	return err
}
