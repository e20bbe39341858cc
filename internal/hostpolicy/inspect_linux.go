package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inspect returns everything in the network namespace of the calling thread that userspace forwarding on ifs
// would bypass. Findings stand in a fixed order: nftables, iptables, tc, qdisc, xfrm, ipvs, each as the kernel lists it.
//
// Where one source cannot be read the error names it, and what the others gave is returned beside it: the caller
// must then refuse, and may show both. Where that is nothing but the user namespace's limits the error is
// ErrUserNamespace. An interface that vanished meanwhile is not an error.
func Inspect(ctx context.Context, ifs []Interface) ([]Finding, error) {
	in := &inspector{ifs: ifs, dump: dump}
	// Every source opens sockets or files of the thread's namespace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	return collect(ctx, []source{
		{"nftables rules", in.nftables},
		{"legacy iptables rules", in.iptables},
		{"qdiscs and tc filters", in.qdiscs},
		{"tcx programs", in.tcx},
		{"IPsec policies", in.xfrm},
		{"IPVS services", in.ipvs},
	})
}

type source struct {
	name string
	read func(context.Context) ([]Finding, error)
}

// collect asks every source. What a kernel does not have at all is passed over.
func collect(ctx context.Context, sources []source) ([]Finding, error) {
	var (
		found []Finding
		errs  []error
		blind error
	)
	for _, source := range sources {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		f, err := source.read(ctx)
		found = append(found, f...)
		if errors.Is(err, ErrUserNamespace) {
			blind = err
		} else if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			errs = append(errs, fmt.Errorf("hostpolicy: cannot read the %s: %w%s", source.name, err, hint(err)))
		}
	}
	if len(errs) == 0 {
		return found, blind
	}
	return found, errors.Join(errs...)
}

// hint says what is missing where the kernel only says EPERM.
func hint(err error) string {
	if errors.Is(err, unix.EPERM) {
		return " (CAP_NET_ADMIN is needed)"
	}
	return ""
}
