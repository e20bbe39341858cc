package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Inspect returns everything in the network namespace of the calling thread that userspace forwarding on ifs
// would bypass. Findings stand in a fixed order: nftables, iptables, tc, tcx, xfrm, ipvs, each as the kernel lists it.
//
// Where one source cannot be read the error names it, and what the others gave is returned beside it: the caller
// must then refuse, and may show both. Where that is nothing but the user namespace's limits the error is
// ErrUserNamespace. An interface that vanished meanwhile is not an error.
//
// Without ipv6, what concerns packets of IPv6 alone is no finding. ours says which programs at tcx hooks are the
// caller's; nil: their names alone count, which take CAP_SYS_ADMIN to read.
func Inspect(ctx context.Context, ifs []Interface, ipv6 bool, ours func(id uint32) bool) ([]Finding, error) {
	results := InspectOnly(ctx, ifs, ipv6, All, ours)
	return results.Combined()
}

// InspectOnly asks some of the sources, each for itself.
func InspectOnly(ctx context.Context, ifs []Interface, ipv6 bool, which Sources, ours func(id uint32) bool) (results Results) {
	in := &inspector{ifs: ifs, ipv6: ipv6, ours: ours, dump: dump, names: map[uint32]string{}}
	// Every source opens sockets or files of the thread's namespace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i, read := range [NumSources]func(context.Context) ([]Finding, error){in.nftables, in.iptables, in.qdiscs, in.tcx, in.xfrm, in.ipvs} {
		if which&(1<<i) == 0 {
			continue
		}
		r := &results[i]
		if r.Err = ctx.Err(); r.Err != nil {
			continue
		}
		if r.Found, r.Err = read(ctx); errors.Is(r.Err, errors.ErrUnsupported) {
			r.Err = nil // a kernel that does not have it at all
		}
		if !ipv6 {
			r.Found = slices.DeleteFunc(r.Found, func(f Finding) bool { return f.Family == IPv6 })
		}
	}
	return results
}

// Combined gives all findings. The error is ErrUserNamespace only if there is no other.
func (r *Results) Combined() (found []Finding, err error) {
	var errs []error
	for i := range r {
		found = append(found, r[i].Found...)
		switch e := r[i].Err; {
		case errors.Is(e, ErrUserNamespace):
			err = e
		case errors.Is(e, context.Canceled), errors.Is(e, context.DeadlineExceeded):
			return found, e
		case e != nil:
			errs = append(errs, fmt.Errorf("hostpolicy: cannot read the %s: %w%s", sourceNames[i], e, hint(e)))
		}
	}
	if len(errs) > 0 {
		err = errors.Join(errs...)
	}
	return found, err
}

// hint says what is missing where the kernel only says EPERM.
func hint(err error) string {
	if errors.Is(err, unix.EPERM) {
		return " (CAP_NET_ADMIN is needed)"
	}
	return ""
}
