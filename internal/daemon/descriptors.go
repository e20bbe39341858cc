package daemon

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/shortage"
)

// Descriptors is how many files the process may have open: what it has, what it
// may have, and what it needs at most with the interfaces that there are.
type Descriptors struct {
	InUse  int `json:"in_use"`
	Limit  int `json:"limit"`
	Needed int `json:"needed"`
}

// spareDescriptors are for what comes and goes: clients of the control socket,
// captures, and what is open for the length of a question to the kernel.
const spareDescriptors = controlClients + 2*captureSessions + 8

// fewDescriptors are those with which nothing goes on but slowly: a claim or two, a client, a file, a socket.
const fewDescriptors = 8

// ofControl are the control socket and its directory.
const ofControl = 2

// enoughDescriptors is an error if the daemon, which has made all else that it needs for its whole life, could not even
// say why it does not get on.
func enoughDescriptors() error {
	base, limit := openDescriptors()+ofControl, limitOfDescriptors()
	if limit-base >= fewDescriptors {
		return nil
	}
	return fmt.Errorf("the limit of %d descriptors is too low, raise it (ulimit -n, LimitNOFILE): %d are the least, %d are wanted, and one an interface",
		limit, base+fewDescriptors, base+spareDescriptors)
}

// descriptors are those of the process, without claims: one an interface where
// the kernel has TCX.
type descriptors struct {
	base   int // open when the daemon had started
	warned int // the need that was warned of
}

// limitOfDescriptors is the soft limit, which Go's runtime has raised to the
// hard one.
func limitOfDescriptors() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Cur > 1<<30 {
		return 1 << 30 // more than any kernel gives
	}
	return int(l.Cur)
}

// openDescriptors counts. Linux 6.2 and later do, without a descriptor for the
// question (proc_fd_getattr in fs/proc/fd.c).
func openDescriptors() int {
	var st unix.Stat_t
	if unix.Stat("/proc/self/fd", &st) == nil && st.Size > 0 {
		return int(st.Size)
	}
	f, err := os.Open("/proc/self/fd")
	switch {
	case shortage.Passing(err):
		return limitOfDescriptors()
	case err != nil:
		return 0
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return max(len(names)-1, 0)
}

// ofClaims is how many descriptors the claims have, or would have with all
// interfaces served. mu is held.
func (d *Daemon) ofClaims() (have, need int) {
	if d.claim == nil || d.cfg.Claim == claim.None {
		return 0, 0
	}
	have = d.claim.Links()
	if d.claim.Mode() == claim.Clsact {
		return have, have
	}
	for _, p := range d.ports {
		if d.loop != nil && !p.refused || p.aliases != [2]macAddr{} {
			need++
		}
	}
	return have, max(have, need)
}

// descriptorStatus is for `status`. mu is held.
func (d *Daemon) descriptorStatus() Descriptors {
	_, need := d.ofClaims()
	return Descriptors{InUse: openDescriptors(), Limit: limitOfDescriptors(), Needed: d.fds.base + spareDescriptors + need}
}

// roomToClaim is an error if one more claim would take of the descriptors that
// all else needs: then nobody could ask why. Of few, claims take half.
func (d *Daemon) roomToClaim() error {
	limit := limitOfDescriptors()
	if free := limit - d.fds.base; d.claim.Mode() == claim.Clsact || d.claim.Links() < max(free-spareDescriptors, free/2) {
		return nil
	}
	return fmt.Errorf("the limit of %d descriptors leaves none to further interfaces, raise it (ulimit -n, LimitNOFILE): %w", limit, unix.EMFILE)
}

// warnDescriptors says once, and again if it gets worse by half, that the limit
// may be met.
func (d *Daemon) warnDescriptors() {
	s := d.descriptorStatus()
	if s.Needed <= s.Limit || 2*s.Needed < 3*d.fds.warned {
		return
	}
	d.fds.warned = s.Needed
	d.log.Warn("descriptors may run out: raise the limit (ulimit -n, LimitNOFILE)", "needed", s.Needed, "limit", s.Limit, "in use", s.InUse)
}
