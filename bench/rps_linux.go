package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelRPS is the kernel with receive packet steering over all CPUs on all interfaces of the host
// (Documentation/networking/scaling.rst).
type kernelRPS struct {
	kernel
	masks []func() error
}

func (k *kernelRPS) name() string { return "kernel-rps" }

func (k *kernelRPS) start(ctx context.Context, b *bed, hosts ...int) error {
	if err := k.kernel.start(ctx, b, hosts...); err != nil {
		return err
	}
	for _, n := range hosts {
		old := map[string]string{}
		err := b.Do(host(n), func() error { return setRPS(allCPUs(), old) })
		k.masks = append(k.masks, func() error {
			return b.Do(host(n), func() error { return restoreRPS(old) })
		})
		if err != nil {
			return errors.Join(err, k.stop())
		}
	}
	return nil
}

func (k *kernelRPS) stop() error {
	err := undo(k.masks)
	k.masks = nil
	return errors.Join(err, k.kernel.stop())
}

// allCPUs is the mask of the CPUs that are online, as sysfs writes it: 32 bits a word, the highest first.
func allCPUs() string {
	n := onlineCPUs()
	words := []string{fmt.Sprintf("%x", uint32(1<<(n%32)-1))}
	if n%32 == 0 {
		words = nil
	}
	for range n / 32 {
		words = append(words, "ffffffff")
	}
	return strings.Join(words, ",")
}

// ownSysfs gives the calling thread, which must be a throw-away one, a /sys that shows the interfaces of its network
// namespace: a mounted one shows those of whoever mounted it.
func ownSysfs() error {
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("sysfs", "/sys", "sysfs", 0, "")
	}
	if err != nil {
		return fmt.Errorf("bench: mount a sysfs for the namespace: %w", err)
	}
	return nil
}

func setRPS(mask string, old map[string]string) error {
	if err := ownSysfs(); err != nil {
		return err
	}
	paths, err := filepath.Glob("/sys/class/net/*/queues/rx-*/rps_cpus")
	if err != nil {
		return fmt.Errorf("bench: RPS: %w", err)
	}
	for _, p := range paths {
		before, err := os.ReadFile(p)
		if err == nil {
			err = os.WriteFile(p, []byte(mask), 0)
		}
		if err != nil {
			return fmt.Errorf("bench: RPS: %w", err)
		}
		old[p] = string(before)
	}
	if len(old) == 0 {
		return errors.New("bench: RPS: no interface has queues/rx-*/rps_cpus: the kernel lacks CONFIG_RPS")
	}
	return nil
}

func restoreRPS(old map[string]string) error {
	if err := ownSysfs(); err != nil {
		return err
	}
	var errs []error
	for p, mask := range old {
		if err := os.WriteFile(p, []byte(mask), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("bench: RPS: %w", err))
		}
	}
	return errors.Join(errs...)
}
