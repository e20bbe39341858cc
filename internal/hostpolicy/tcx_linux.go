package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/shortage"
)

// tcx reports programs that are not ours at the tcx hooks (6.6) of the interfaces.
func (in *inspector) tcx(ctx context.Context) ([]Finding, error) {
	var found []Finding
	for _, ifc := range in.ifs {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		for _, hook := range [...]struct {
			name   string
			attach uint32
		}{{"ingress", bpfTCXIngress}, {"egress", bpfTCXEgress}} {
			ids, err := queryTCX(ifc.Index, hook.attach)
			switch {
			case errors.Is(err, unix.ENODEV):
				continue // gone since
			case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
				return found, nil // older than tcx, or no bpf(2)
			case errors.Is(err, unix.EPERM) && inUserNamespace():
				return found, ErrUserNamespace
			case err != nil:
				return found, fmt.Errorf("%s of %s: %w", hook.name, ifc.Name, err)
			}
			f, ok, err := in.judgeTCX(ifc, hook.name, ids)
			if err != nil {
				return found, fmt.Errorf("%s of %s: %w", hook.name, ifc.Name, err)
			}
			if ok {
				found = append(found, f)
			}
		}
	}
	return found, nil
}

// inUserNamespace reports whether the process runs in a user namespace other than the initial one, whose root may do
// much in its network namespace, but may not ask for its programs (kernel/bpf/syscall.c, bpf_prog_query).
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(b))
	return err == nil && !slices.Equal(f, []string{"0", "0", "4294967295"})
}

func (in *inspector) judgeTCX(ifc Interface, hook string, ids []uint32) (Finding, bool, error) {
	var foreign []string
	for _, id := range ids {
		if in.ours != nil && in.ours(id) {
			continue
		}
		name, err := in.programName(id)
		if err != nil {
			return Finding{}, false, err
		}
		if own(name) {
			continue
		}
		foreign = append(foreign, strings.TrimPrefix(fmt.Sprintf("%s id %d", name, id), " "))
	}
	return Finding{Kind: KindTC, Count: len(foreign), Interface: ifc.Name,
		What: fmt.Sprintf("tcx %s of %s (%s)", hook, ifc.Name, strings.Join(foreign, ", "))}, len(foreign) > 0, nil
}

// programName is programName, asked once.
func (in *inspector) programName(id uint32) (string, error) {
	if name, known := in.names[id]; known {
		return name, nil
	}
	name, err := programName(id)
	if err == nil && in.names != nil {
		in.names[id] = name
	}
	return name, err
}

// programName returns a program's name, empty if it has none or may not be read (BPF_PROG_GET_FD_BY_ID wants
// CAP_SYS_ADMIN). The error is one that passes: without its name a program of ours would count as another's.
func programName(id uint32) (string, error) {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err == nil {
		defer p.Close()
		var info *ebpf.ProgramInfo
		if info, err = p.Info(); err == nil {
			return info.Name, nil
		}
	}
	if shortage.Passing(err) {
		return "", fmt.Errorf("name of program %d: %w", id, err)
	}
	return "", nil
}
