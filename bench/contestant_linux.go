package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
)

// contestant is who forwards. start returns when it does; stop leaves the hosts
// as start found them.
type contestant interface {
	name() string
	start(ctx context.Context, b *bed, hosts ...int) error
	stop() error
}

func host(n int) string { return fmt.Sprintf("host%d", n) }

// kernel forwards with ip_forward and proxy_arp.
type kernel struct {
	delayed bool // with the kernel's own proxy_delay, else 0
	undo    []func() error
}

func (k *kernel) name() string {
	if k.delayed {
		return "kernel, default proxy_delay"
	}
	return Kernel
}

func (k *kernel) start(_ context.Context, b *bed, hosts ...int) error {
	for _, n := range hosts {
		if err := k.startOn(b, host(n)); err != nil {
			return errors.Join(err, k.stop())
		}
	}
	return nil
}

func (k *kernel) startOn(b *bed, node string) error {
	keys := [][2]string{{"net/ipv4/conf/all/proxy_arp", "1"}}
	if !k.delayed {
		delays, err := proxyDelays(b, node)
		if err != nil {
			return err
		}
		for _, key := range delays {
			keys = append(keys, [2]string{key, "0"})
		}
	}
	// The last one turns forwarding on everywhere, and off again first.
	for _, kv := range append(keys, [2]string{"net/ipv4/ip_forward", "1"}) {
		old, err := b.Sysctl(node, kv[0])
		if err != nil {
			return err
		}
		if err := b.SetSysctl(node, kv[0], kv[1]); err != nil {
			return err
		}
		k.undo = append(k.undo, func() error {
			err := b.SetSysctl(node, kv[0], old)
			if errors.Is(err, os.ErrNotExist) {
				return nil // an interface that has gone
			}
			return err
		})
	}
	// proxy_arp answers for what has a route elsewhere, which the default
	// route of a real host gives.
	return b.Do(node, func() error {
		up, err := netlink.LinkByName("ens192")
		if err != nil {
			return fmt.Errorf("bench: %s: ens192: %w", node, err)
		}
		r := &netlink.Route{LinkIndex: up.Attrs().Index, Scope: netlink.SCOPE_LINK,
			Dst: &net.IPNet{IP: gateway.AsSlice(), Mask: net.CIDRMask(32, 32)}}
		if err := netlink.RouteAdd(r); err != nil {
			return fmt.Errorf("bench: %s: route to %s: %w", node, gateway, err)
		}
		k.undo = append(k.undo, func() error {
			return b.Do(node, func() error { return netlink.RouteDel(r) })
		})
		return nil
	})
}

func proxyDelays(b *bed, node string) (keys []string, err error) {
	err = b.Do(node, func() error {
		paths, err := filepath.Glob("/proc/sys/net/ipv4/neigh/*/proxy_delay")
		for _, p := range paths {
			keys = append(keys, strings.TrimPrefix(p, "/proc/sys/"))
		}
		return err
	})
	return keys, err
}

// newcomer prepares an interface made since start: the kernel gives new ones the
// proxy_delay of the machine's first namespace, whatever the host's default says.
func (k *kernel) newcomer(b *bed, node, iface string) error {
	if k.delayed {
		return nil
	}
	return b.SetSysctl(node, "net/ipv4/neigh/"+iface+"/proxy_delay", "0")
}

func (k *kernel) stop() error {
	var errs []error
	for i := len(k.undo) - 1; i >= 0; i-- {
		errs = append(errs, k.undo[i]())
	}
	k.undo = nil
	return errors.Join(errs...)
}

// daemon is proxyarpd with an engine, one process a host.
type daemon struct {
	engine string
	args   []string
	runs   []*running
}

type running struct {
	node, control string
	cmd           *lab.Cmd
	log           bytes.Buffer // until done is closed the process's
	done          chan struct{}
	err           error
	began         time.Time
	ready         time.Duration // from its start to status --wait saying so
}

func (d *daemon) name() string { return d.engine }

func (d *daemon) start(ctx context.Context, b *bed, hosts ...int) error {
	for _, n := range hosts {
		r, err := d.run(ctx, b, host(n))
		if err == nil {
			d.runs = append(d.runs, r)
			err = r.awaitReady(ctx, b)
		}
		if err != nil {
			return errors.Join(err, d.stop())
		}
	}
	return nil
}

func (d *daemon) run(ctx context.Context, b *bed, node string) (*running, error) {
	r := &running{node: node, control: filepath.Join(b.dir, node+".sock"), done: make(chan struct{})}
	args := append([]string{"run", "--workload", "cali*", "--engine", d.engine, "--control", r.control}, d.args...)
	// Not under ctx: it ends on SIGTERM, as it would elsewhere.
	r.cmd = b.Command(context.WithoutCancel(ctx), node, b.bin, args...)
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	r.began = time.Now()
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: proxyarpd run on %s: %w", node, err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	return r, nil
}

func (r *running) awaitReady(ctx context.Context, b *bed) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	out, err := b.Command(ctx, r.node, b.bin, "status", "--wait", "30s", "--control", r.control).CombinedOutput()
	r.ready = time.Since(r.began)
	select {
	case <-r.done:
		return fmt.Errorf("bench: proxyarpd run on %s has ended: %w: %s", r.node, r.err, lastLine(r.log.String()))
	default:
	}
	if err != nil {
		return fmt.Errorf("bench: proxyarpd on %s is not ready: %w: %s", r.node, err, lastLine(string(out)))
	}
	return nil
}

// state tells what each host knows, for when nothing passes.
func (d *daemon) state(ctx context.Context, b *bed) string {
	var text strings.Builder
	for _, r := range d.runs {
		out, err := b.Command(ctx, r.node, b.bin, "status", "--control", r.control).CombinedOutput()
		fmt.Fprintf(&text, "%s: status (%v):\n%s\nneighbours:\n", r.node, err, out)
		err = b.Do(r.node, func() error {
			neighbours, err := netlink.NeighList(0, netlink.FAMILY_V4)
			for _, n := range neighbours {
				fmt.Fprintf(&text, "  %s link %d %s state %#x flags %#x %#x\n", n.IP, n.LinkIndex, n.HardwareAddr, n.State, n.Flags, n.FlagsExt)
			}
			return err
		})
		if err != nil {
			fmt.Fprintln(&text, err)
		}
	}
	return text.String()
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

func (d *daemon) stop() error {
	var errs []error
	for _, r := range d.runs {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, r := range d.runs {
		select {
		case <-r.done:
		case <-time.After(20 * time.Second):
			errs = append(errs, fmt.Errorf("bench: proxyarpd on %s did not end on SIGTERM in 20 s", r.node))
			_ = unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL)
			<-r.done
		}
		if r.err != nil {
			errs = append(errs, fmt.Errorf("bench: proxyarpd on %s: %w: %s", r.node, r.err, lastLine(r.log.String())))
		}
	}
	d.runs = nil
	return errors.Join(errs...)
}
