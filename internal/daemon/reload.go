package daemon

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"proxyarpd/internal/control"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
)

// A reload puts another configuration in the place of the one that is in force.
// All that can fail is prepared first, beside what runs (transition.go). Then the owner
// takes the new configuration (adopt.go), and what follows from it is the difference to what it told
// others before, as after any event of the kernel's (want.go).
//
// No frame is lost: the programs are exchanged between two frames
// (claim.Replacement), an interface that is served no more stays in the tables
// until the ring has nothing of it, and the ring itself is the same for all
// engines.

// reloads is what there is to say of them.
type reloads struct {
	one     sync.Mutex  // is held during a reload
	changed atomic.Bool // since the gate has looked
	mu      sync.Mutex
	state   status.Config
	wake    map[string]func() // by who it wakes
}

// onChange has a reload that changes something tell somebody of it.
func (r *reloads) onChange(who string, wake func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake == nil {
		r.wake = map[string]func(){}
	}
	r.wake[who] = wake
}

func (r *reloads) status(cfg *Config) status.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Values = cfg.values()
	return s
}

// refused says why the last reload was, "" if it was not.
func (r *reloads) refused() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Refused == nil {
		return ""
	}
	return r.state.Refused.Why
}

func (r *reloads) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.state.Refused = &status.Refused{At: time.Now(), Why: printable.UTF8(err.Error())}
		return
	}
	r.state.Refused, r.state.Read = nil, time.Now()
	r.state.Reloads++
	r.changed.Store(true)
	for _, wake := range r.wake {
		wake()
	}
}

// Reloaded is what a reload has changed.
type Reloaded struct {
	File    string   `json:"file"` // "": there is none
	Changes []Change `json:"changes"`
}

type reloadRequest struct {
	Op string `json:"op"`
}

type reloadReply struct {
	Error  string    `json:"error,omitempty"`
	Reload *Reloaded `json:"reload,omitempty"`
}

func (d *Daemon) answerReload(ctx context.Context, _ *control.Conn, _ []byte) (any, error) {
	r, err := d.reload(ctx)
	if err != nil {
		return nil, err
	}
	return reloadReply{Reload: r}, nil
}

// Reload has the daemon behind the control socket at path read its configuration
// again.
func Reload(ctx context.Context, path string) (*Reloaded, error) {
	var rep reloadReply
	const most = 8 << 20 // bytes: lists of 4096 values, twice
	if err := ask(ctx, path, time.Now(), func(time.Duration) any { return reloadRequest{Op: "reload"} }, &rep, most); err != nil {
		return nil, err
	}
	if rep.Error != "" || rep.Reload == nil {
		return nil, errors.New(cmp.Or(rep.Error, "the answer is none"))
	}
	return rep.Reload, nil
}

// hearHangups has each SIGHUP be a reload.
func (d *Daemon) hearHangups(ctx context.Context, hangup <-chan os.Signal) {
	for {
		select {
		case <-hangup:
			_, _ = d.reload(ctx) // which logs, and notes it for the status
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the configuration again, and the kernel's settings in any case.
func (d *Daemon) reload(ctx context.Context) (*Reloaded, error) {
	d.reloads.one.Lock()
	defer d.reloads.one.Unlock()
	if !d.awaitStart(ctx) {
		return nil, errEnding
	}
	defer d.manager.reloading()()
	defer d.owner.ask(ctx, d.owner.readAll)
	r := &Reloaded{File: d.caller.File, Changes: []Change{}}
	if d.caller.Reread == nil {
		return r, nil
	}
	var err error
	if r.Changes, err = d.tryReload(ctx); err != nil {
		d.log.Error("the configuration stays as it was", "err", err)
	}
	d.reloads.note(err)
	for _, c := range r.Changes {
		d.log.Info("configuration", "key", c.Key, "from", strings.Join(c.From, ","), "to", strings.Join(c.To, ","))
	}
	return r, err
}

func (d *Daemon) tryReload(ctx context.Context) ([]Change, error) {
	next, err := d.caller.Reread()
	if err != nil {
		return nil, err
	}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	now := d.config()
	changes, err := now.changesTo(&next)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	t := &transition{d: d, now: now, next: &next}
	if err := t.prepare(ctx); err != nil {
		return nil, errors.Join(err, t.drop())
	}
	return changes, t.carryOut(ctx)
}
