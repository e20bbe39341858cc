package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"proxyarpd/internal/lab"
)

// demoDaemon is `proxyarpd run` on one of the demo's hosts.
type demoDaemon struct {
	node string
	cmd  *lab.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how, once done
}

func (d *demo) control(node string) string { return filepath.Join(d.dir, node+".sock") }

func (d *demo) log(node string) string { return filepath.Join(d.dir, node+".log") }

func (d *demo) startDaemons() error {
	for _, node := range []string{"host0", "host1"} {
		args := []string{"run", "--workload", "veth*", "--uplink", "auto", "--proxy", "10.20.1.0/24", "--control", d.control(node)}
		d.echo(node, "proxyarpd", append(args, "&")...)
		// Not under d.ctx: it ends on SIGTERM, as it would elsewhere.
		dm := &demoDaemon{node: node, done: make(chan struct{})}
		dm.cmd = d.l.Command(context.WithoutCancel(d.ctx), node, d.bin, args...)
		log, err := os.Create(d.log(node))
		if err != nil {
			return err
		}
		dm.cmd.Stdout, dm.cmd.Stderr = log, log
		err = dm.cmd.Start()
		log.Close() // it is the process's now
		if err != nil {
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
		text, err := os.ReadFile(d.log(dm.node))
		if err != nil {
			continue // no log, then
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
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
