// Package privilege tells what the process may do beyond what any process may, and gives up what it does not need.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// State is what the process may do, as capabilities(7) and prctl(2) say.
type State struct {
	UID          int      // effective
	Capabilities []string // in effect, as cap_net_raw, in the kernel's order
	NoNewPrivs   bool     // an exec gives none back
	Seccomp      bool     // a filter of system calls is in force
}

// Now reads the state of the calling thread. All threads have the same.
func Now() State {
	s := State{UID: os.Geteuid(), Capabilities: []string{}}
	set := cap.GetProc()
	for v := range cap.MaxBits() {
		if on, err := set.GetFlag(cap.Effective, v); err == nil && on {
			s.Capabilities = append(s.Capabilities, v.String())
		}
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil {
		s.NoNewPrivs = n == 1
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err == nil {
		s.Seccomp = n == unix.SECCOMP_MODE_FILTER
	}
	return s
}

// Has reports whether a capability, unix.CAP_NET_RAW say, is in effect.
func Has(capability int) bool {
	on, err := cap.GetProc().GetFlag(cap.Effective, cap.Value(capability))
	return err == nil && on
}

// Keep gives up, for good and on all threads, every capability but those that are named, and all that an exec could
// give (no_new_privs). What is named and not there stays missing. All is tried, whatever fails.
//
// The world stops for a moment, once a system call.
func Keep(capabilities ...int) error {
	var errs []error
	have, kept := cap.GetProc(), cap.NewSet()
	for _, c := range capabilities {
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			if on, err := have.GetFlag(flag, cap.Value(c)); err == nil && on {
				errs = append(errs, kept.SetFlag(flag, true, cap.Value(c)))
			}
		}
	}
	// With no_new_privs the bounding set has no say any more. It is for who reads /proc/PID/status.
	if on, err := have.GetFlag(cap.Effective, cap.SETPCAP); err == nil && on {
		if err := cap.DropBound(unbound(capabilities)...); err != nil {
			errs = append(errs, fmt.Errorf("bounding set: %w", err))
		}
	}
	// What is not inheritable is not ambient either.
	if err := kept.SetProc(); err != nil {
		errs = append(errs, fmt.Errorf("capabilities: %w", err))
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		errs = append(errs, fmt.Errorf("no_new_privs: %w", err))
	}
	return errors.Join(errs...)
}

// unbound are the capabilities that are in the bounding set and not to be kept.
func unbound(kept []int) (drop []cap.Value) {
	for v := range cap.MaxBits() {
		if on, err := cap.GetBound(v); err == nil && on && !slices.Contains(kept, int(v)) {
			drop = append(drop, v)
		}
	}
	return drop
}
