package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"proxyarpd/internal/lab"
)

// demoLimit is far more than the demo takes where it works.
const demoLimit = 60 * time.Second

// demo shows the product in a lab of its own. Whatever it claims it has read
// from the output that it prints.
type demo struct {
	ctx     context.Context
	out     io.Writer
	l       *lab.Lab
	bin     string
	dir     string // of the control sockets
	daemons []*demoDaemon
}

type demoDaemon struct {
	node string
	cmd  *lab.Cmd
	log  syncBuffer
	done chan struct{} // closed when it has ended
	err  error         // how, once done
}

func labDemo(ctx context.Context, args []string, out, errw io.Writer) error {
	fs := newFlags("lab demo", "")
	if err := parseFlags(fs, args, out); err != nil {
		return err
	}
	if err := noArguments(fs); err != nil {
		return err
	}
	if err := mayLab(); err != nil {
		return err
	}
	for _, p := range []struct{ program, pkg string }{{"ip", "iproute2"}, {"ping", "iputils-ping"}, {"iperf3", "iperf3"}} {
		if _, err := exec.LookPath(p.program); err != nil {
			return fmt.Errorf("lab demo: needs the program %s: apt-get install %s", p.program, p.pkg)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("not done after %v", demoLimit))
	defer cancel()
	d := &demo{ctx: ctx, out: out}
	err := d.show()
	if err != nil {
		d.printLogs(errw)
	}
	return errors.Join(err, d.remove())
}

func (d *demo) show() error {
	began := time.Now()
	for i, step := range []struct {
		title string
		run   func() error
	}{
		{"Two hosts and a pod on each, in network namespaces", d.makeLab},
		{"The kernel neither forwards nor answers for others", d.sysctls},
		{"proxyarpd starts on both hosts", d.startDaemons},
		{"A pod pings the one on the other host", d.ping},
		{"The pod's neighbours are all ee:ee:ee:ee:ee:ee", d.neighbours},
		{"TCP between the hosts", d.tcp},
		{"A pod is added while proxyarpd runs, and reached at once", d.addPod},
		{"What proxyarpd counted", d.status},
		{"And the sysctls are still 0", d.sysctls},
	} {
		fmt.Fprintf(d.out, "\n== %d. %s\n\n", i+1, step.title)
		if err := step.run(); err != nil {
			if d.ctx.Err() != nil {
				err = context.Cause(d.ctx)
			}
			return fmt.Errorf("lab demo: step %d (%s): %w", i+1, step.title, err)
		}
	}
	fmt.Fprintf(d.out, "\n== Done in %.0f s\n\n", time.Since(began).Seconds())
	return nil
}

func (d *demo) makeLab() (err error) {
	if d.bin, err = os.Executable(); err != nil {
		return err
	}
	if _, err := os.Stat(d.bin); err != nil {
		d.bin = "/proc/self/exe" // replaced or removed since it was started
	}
	if d.dir, err = os.MkdirTemp("", "parp-demo"); err != nil {
		return err
	}
	if d.l, err = lab.New(d.ctx, lab.Spec{Name: defaultLab + "-demo", Transient: true}); err != nil {
		return err
	}
	fmt.Fprintln(d.out, d.l.Topology())
	for _, n := range d.l.Nodes() {
		if _, err := d.run(n.Name, "ip", "route"); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) sysctls() error {
	for _, node := range []string{"host0", "host1"} {
		keys := []string{"net.ipv4.ip_forward"}
		for _, dev := range []string{"all", "veth0", "ens192"} {
			keys = append(keys, "net.ipv4.conf."+dev+".forwarding", "net.ipv4.conf."+dev+".proxy_arp")
		}
		for _, key := range keys {
			value, err := d.l.Sysctl(node, key)
			if err != nil {
				return err
			}
			fmt.Fprintf(d.out, "%s  %s = %s\n", node, key, value)
			if value != "0" {
				return fmt.Errorf("%s: %s is %s, not 0", node, key, value)
			}
		}
	}
	return nil
}

func (d *demo) control(node string) string { return filepath.Join(d.dir, node+".sock") }

func (d *demo) startDaemons() error {
	for _, node := range []string{"host0", "host1"} {
		args := []string{"run", "--workload", "veth*", "--uplink", "auto", "--proxy", "10.20.1.0/24", "--control", d.control(node)}
		d.echo(node, "proxyarpd", append(args, "&")...)
		// Not under d.ctx: it ends on SIGTERM, as it would elsewhere.
		dm := &demoDaemon{node: node, done: make(chan struct{})}
		dm.cmd = d.l.Command(context.WithoutCancel(d.ctx), node, d.bin, args...)
		dm.cmd.Stdout, dm.cmd.Stderr = &dm.log, &dm.log
		if err := dm.cmd.Start(); err != nil {
			return err
		}
		go func() {
			dm.err = dm.cmd.Wait()
			close(dm.done)
		}()
		d.daemons = append(d.daemons, dm)
	}
	for _, dm := range d.daemons {
		if err := d.awaitReady(dm); err != nil {
			return err
		}
	}
	return nil
}

// awaitReady waits for the daemon to be ready, or to end.
func (d *demo) awaitReady(dm *demoDaemon) error {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	go func() {
		select {
		case <-dm.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := d.runUntil(ctx, dm.node, "proxyarpd", "status", "--wait", "10s", "--control", d.control(dm.node))
	select {
	case <-dm.done:
		return fmt.Errorf("proxyarpd run on %s has ended: %v", dm.node, dm.err)
	default:
		return err
	}
}

var pingTime = regexp.MustCompile(`icmp_seq=1 .*time=([0-9.]+ ms)`)

func (d *demo) ping() error {
	out, err := d.run("ns0", "ping", "-c", "3", "10.20.1.3")
	if err != nil {
		return err
	}
	first := pingTime.FindStringSubmatch(out)
	switch {
	case first == nil || !strings.Contains(out, " 0% packet loss"):
		return errors.New("a ping was lost")
	case strings.Count(out, "ttl=62") != 3:
		return errors.New("the answers have not ttl=62: they did not pass two hosts")
	}
	fmt.Fprintf(d.out, "(ttl=62: two hosts on the way. The first ping, cold, took %s)\n", first[1])
	return nil
}

func (d *demo) neighbours() error {
	fmt.Fprintln(d.out, "(its own host, by way of the gateway 169.254.1.1, which nobody has)")
	if _, err := d.run("ns0", "ping", "-c", "1", "192.168.1.32"); err != nil {
		return err
	}
	if _, err := d.run("ns0", "ip", "route"); err != nil {
		return err
	}
	out, err := d.run("ns0", "ip", "neigh")
	if err != nil {
		return err
	}
	for _, ip := range []string{"10.20.1.3", "169.254.1.1"} {
		if !strings.Contains(out, ip+" dev eth0 lladdr ee:ee:ee:ee:ee:ee") {
			return fmt.Errorf("ns0 does not have ee:ee:ee:ee:ee:ee for %s", ip)
		}
	}
	return nil
}

func (d *demo) tcp() error {
	// Under a context of its own, so that it is gone when the client has failed.
	ctx, cancel := context.WithCancel(d.ctx)
	server := d.l.Command(ctx, "ns1", "iperf3", "-s", "-1", "--forceflush")
	listening := make(chan struct{})
	server.Stdout = &awaitText{text: "Server listening", seen: listening}
	d.echo("ns1", "iperf3", "-s", "-1", "&")
	if err := server.Start(); err != nil {
		cancel()
		return err
	}
	defer server.Wait()
	defer cancel()
	select {
	case <-listening:
	case <-time.After(5 * time.Second):
		return errors.New("iperf3 -s does not listen")
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := d.run("ns0", "iperf3", "-c", "10.20.1.3", "-t", "3", "-i", "0")
	return err
}

func (d *demo) addPod() error {
	pod, err := d.l.AddPod(d.ctx, 1, lab.PodOptions{})
	if err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(d.out, "(new on host1: %s --- %s %s %s)\n", pod.Iface, pod.Peer, pod.Node, pod.Addr)
	out, err := d.run("ns0", "ping", "-c", "1", pod.Addr.Addr().String())
	if err != nil {
		return err
	}
	if !strings.Contains(out, "ttl=62") {
		return errors.New("the answer has not ttl=62")
	}
	fmt.Fprintf(d.out, "(pinged and answered %d ms after it was made)\n", time.Since(began).Milliseconds())
	return nil
}

func (d *demo) status() error {
	for _, node := range []string{"host0", "host1"} {
		if _, err := d.run(node, "proxyarpd", "status", "--control", d.control(node)); err != nil {
			return err
		}
	}
	return nil
}

// echo shows a command as if it were typed in the node.
func (d *demo) echo(node, name string, args ...string) {
	line := name
	for _, a := range args {
		if strings.ContainsAny(a, "* ") {
			a = "'" + a + "'"
		}
		line += " " + a
	}
	fmt.Fprintf(d.out, "%s# %s\n", node, line)
}

// run shows a command, runs it in the node and shows what it prints.
func (d *demo) run(node, name string, args ...string) (string, error) {
	return d.runUntil(d.ctx, node, name, args...)
}

func (d *demo) runUntil(ctx context.Context, node, name string, args ...string) (string, error) {
	d.echo(node, name, args...)
	path := name
	if name == "proxyarpd" {
		path = d.bin
	}
	var all bytes.Buffer
	cmd := d.l.Command(ctx, node, path, args...)
	both := io.MultiWriter(d.out, &all)
	cmd.Stdout, cmd.Stderr = both, both // the same one, so written one at a time
	if err := cmd.Run(); err != nil {
		return all.String(), fmt.Errorf("%s# %s %s: %w", node, name, strings.Join(args, " "), err)
	}
	return all.String(), nil
}

func (d *demo) printLogs(errw io.Writer) {
	const most = 15
	for _, dm := range d.daemons {
		lines := strings.Split(strings.TrimSpace(dm.log.String()), "\n")
		fmt.Fprintf(errw, "proxyarpd: log of the daemon on %s:\n  %s\n", dm.node,
			strings.Join(lines[max(0, len(lines)-most):], "\n  "))
	}
}

// remove stops the daemons and removes all that the demo made.
func (d *demo) remove() error {
	var errs []error
	for _, dm := range d.daemons {
		dm.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, dm := range d.daemons {
		select {
		case <-dm.done:
			if dm.err != nil {
				errs = append(errs, fmt.Errorf("lab demo: proxyarpd run on %s: %w", dm.node, dm.err))
			}
		case <-time.After(5 * time.Second):
			errs = append(errs, fmt.Errorf("lab demo: proxyarpd run on %s does not end on SIGTERM", dm.node))
		}
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	if d.l != nil {
		err := d.l.Close()
		if err == nil {
			fmt.Fprintln(d.out, "The daemons, the namespaces and all that was in them are removed.")
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// syncBuffer is written by a process and read while that runs.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// awaitText closes seen once the text was written to it.
type awaitText struct {
	text string
	seen chan struct{}
	b    bytes.Buffer
	done bool
}

func (a *awaitText) Write(p []byte) (int, error) {
	if !a.done {
		a.b.Write(p)
		if a.done = strings.Contains(a.b.String(), a.text); a.done {
			close(a.seen)
		}
	}
	return len(p), nil
}
