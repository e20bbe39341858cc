package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// contestant is who forwards. start returns when it can; stop leaves the hosts
// as start found them.
type contestant interface {
	name() string
	start(ctx context.Context, b *bed, hosts ...int) error
	stop() error
	// processes are what runs of it in userspace.
	processes() []*process
}

func host(n int) string { return fmt.Sprintf("host%d", n) }

// asFound is whoever forwards already.
type asFound struct{}

func (asFound) name() string                              { return AsFound }
func (asFound) start(context.Context, *bed, ...int) error { return nil }
func (asFound) stop() error                               { return nil }
func (asFound) processes() []*process                     { return nil }

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

func (k *kernel) processes() []*process { return nil }

func (k *kernel) start(_ context.Context, b *bed, hosts ...int) error {
	for _, n := range hosts {
		if err := k.startOn(b, host(n)); err != nil {
			return errors.Join(err, k.stop())
		}
	}
	return nil
}

// forwarding6 is the one sysctl that has the kernel forward IPv6; setting it sets that of each interface, too.
const forwarding6 = "net/ipv6/conf/all/forwarding"

// startOn6 has the kernel forward IPv6. It answers for the gateway as for any address of its own.
func (k *kernel) startOn6(b *bed, node string) error {
	restore, err := keepSysctls(b, node, forwarding6)
	if err != nil {
		return err
	}
	k.undo = append(k.undo, restore)
	return b.SetSysctl(node, forwarding6, "1")
}

func (k *kernel) startOn(b *bed, node string) error {
	if b.ipv6 {
		return k.startOn6(b, node)
	}
	keys := [][2]string{{"net/ipv4/conf/all/proxy_arp", "1"}}
	if !k.delayed {
		delays, err := sysctlKeys(b, node, "net/ipv4/neigh/*/proxy_delay")
		if err != nil {
			return err
		}
		for _, key := range delays {
			keys = append(keys, [2]string{key, "0"})
		}
	}
	// The last one turns forwarding on everywhere, and off again first.
	for _, kv := range append(keys, [2]string{"net/ipv4/ip_forward", "1"}) {
		restore, err := keepSysctls(b, node, kv[0])
		if err != nil {
			return err
		}
		k.undo = append(k.undo, restore)
		if err := b.SetSysctl(node, kv[0], kv[1]); err != nil {
			return err
		}
	}
	// proxy_arp answers for what has a route elsewhere, which the default
	// route of a real host gives.
	return b.Do(node, func() error {
		up, err := netlink.LinkByName("ens192")
		if err != nil {
			return fmt.Errorf("bench: %s: ens192: %w", node, err)
		}
		r := &netlink.Route{LinkIndex: up.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: hostNet(gateway)}
		if err := netlink.RouteAdd(r); err != nil {
			return fmt.Errorf("bench: %s: route to %s: %w", node, gateway, err)
		}
		k.undo = append(k.undo, func() error {
			return b.Do(node, func() error { return netlink.RouteDel(r) })
		})
		return nil
	})
}

// sysctlKeys finds the sysctls of a node that match.
func sysctlKeys(b *bed, node, pattern string) (keys []string, err error) {
	err = b.Do(node, func() error {
		paths, err := filepath.Glob("/proc/sys/" + pattern)
		for _, p := range paths {
			keys = append(keys, strings.TrimPrefix(p, "/proc/sys/"))
		}
		return err
	})
	return keys, err
}

// keepSysctls remembers values and returns what puts them back, in order.
func keepSysctls(b *bed, node string, keys ...string) (restore func() error, err error) {
	values := make([]string, len(keys))
	for i, key := range keys {
		if values[i], err = b.Sysctl(node, key); err != nil {
			return nil, err
		}
	}
	return func() error {
		var errs []error
		for i, key := range keys {
			if err := b.SetSysctl(node, key, values[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err) // else of an interface that has gone
			}
		}
		return errors.Join(errs...)
	}, nil
}

// newcomer prepares an interface made since start: the kernel gives new ones the
// proxy_delay of the machine's first namespace, whatever the host's default says.
func (k *kernel) newcomer(b *bed, node, iface string) error {
	if k.delayed || b.ipv6 {
		return nil
	}
	return b.SetSysctl(node, "net/ipv4/neigh/"+iface+"/proxy_delay", "0")
}

func (k *kernel) stop() error {
	err := undo(k.undo)
	k.undo = nil
	return err
}

// undo takes the steps back, the last one first.
func undo(steps []func() error) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		errs = append(errs, steps[i]())
	}
	return errors.Join(errs...)
}

// daemon is proxyarpd with an engine, one process a host.
type daemon struct {
	engine string
	args   []string
	runs   []*process
	ready  time.Duration // of the last one, from its start to status --wait saying so
}

func (d *daemon) name() string { return d.engine }

func (d *daemon) processes() []*process { return d.runs }

func control(b *bed, node string) string { return filepath.Join(b.dir, node+".sock") }

func (d *daemon) start(ctx context.Context, b *bed, hosts ...int) error {
	for _, n := range hosts {
		if err := d.startOn(ctx, b, host(n)); err != nil {
			return errors.Join(err, d.stop())
		}
	}
	return nil
}

func (d *daemon) startOn(ctx context.Context, b *bed, node string) error {
	args := append([]string{"run", "--workload", "cali*", "--engine", d.engine, "--control", control(b, node)}, d.args...)
	p, err := startProcess(ctx, b, node, "proxyarpd run", nil, b.bin, args...)
	if err != nil {
		return err
	}
	d.runs = append(d.runs, p)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	out, err := b.Command(ctx, node, b.bin, "status", "--wait", "30s", "--control", control(b, node)).CombinedOutput()
	d.ready = time.Since(p.began)
	if dead := p.alive(); dead != nil {
		return dead
	}
	if err != nil {
		return fmt.Errorf("bench: proxyarpd on %s is not ready: %w: %s", node, err, lastLine(string(out)))
	}
	return nil
}

// state tells what each host knows, for when nothing passes.
func (d *daemon) state(ctx context.Context, b *bed) string {
	var text strings.Builder
	for _, p := range d.runs {
		out, err := b.Command(ctx, p.node, b.bin, "status", "--control", control(b, p.node)).CombinedOutput()
		fmt.Fprintf(&text, "%s: status (%v):\n%s\nneighbours:\n", p.node, err, out)
		err = b.Do(p.node, func() error {
			neighbours, err := netlink.NeighList(0, b.family())
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
	for _, p := range d.runs {
		err := p.end(false, 20*time.Second)
		if err == nil && p.err != nil {
			err = fmt.Errorf("bench: proxyarpd on %s: %w: %s", p.node, p.err, p.log.lastLine())
		}
		errs = append(errs, err)
	}
	d.runs = nil
	return errors.Join(errs...)
}

// custom is a forwarder of the user's own, a shell command.
type custom struct {
	label, line string
	runs        []*process
	undo        []func() error
}

func (c *custom) name() string { return c.label }

func (c *custom) processes() []*process { return c.runs }

// start starts the command on each host. That traffic passes is for the step to see.
func (c *custom) start(ctx context.Context, b *bed, hosts ...int) error {
	for _, n := range hosts {
		if err := c.startOn(ctx, b, n); err != nil {
			return errors.Join(err, c.stop())
		}
	}
	return nil
}

// switches are the sysctls that a command may set in the lab to forward.
var switches = []string{"net/ipv4/ip_forward", "net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/proxy_arp",
	"net/ipv4/conf/*/rp_filter", "net/ipv4/neigh/*/proxy_delay", forwarding6, "net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/proxy_ndp"}

func (c *custom) startOn(ctx context.Context, b *bed, n int) error {
	if b.found == nil {
		var keys []string
		for _, pattern := range switches {
			more, err := sysctlKeys(b, host(n), pattern)
			if err != nil {
				return err
			}
			keys = append(keys, more...)
		}
		restore, err := keepSysctls(b, host(n), keys...)
		if err != nil {
			return err
		}
		c.undo = append(c.undo, restore)
	}
	env := []string{"BENCH_HOST=" + host(n), "BENCH_WORKLOADS=" + strings.Join(b.workloads(n), " ")}
	p, err := startProcess(ctx, b, host(n), c.label, env, "sh", "-c", c.line)
	if err != nil {
		return err
	}
	c.runs = append(c.runs, p)
	return nil
}

func (c *custom) stop() error {
	var errs []error
	for _, p := range c.runs {
		errs = append(errs, p.end(true, 5*time.Second))
	}
	errs = append(errs, undo(c.undo))
	c.runs, c.undo = nil, nil
	return errors.Join(errs...)
}

// alive says who of a contestant's processes has ended.
func alive(c contestant) error {
	var errs []error
	for _, p := range c.processes() {
		errs = append(errs, p.alive())
	}
	return errors.Join(errs...)
}

// workloads are the interfaces of a host that lead to pods.
func (b *bed) workloads(n int) (names []string) {
	for _, p := range b.Pods() {
		if p.Host == n {
			names = append(names, p.Iface)
		}
	}
	return names
}
