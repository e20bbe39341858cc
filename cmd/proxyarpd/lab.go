package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"proxyarpd/internal/lab"
)

const defaultLab = "proxyarpd"

var labCommand = command{
	name:     "lab",
	synopsis: "the two-host lab in network namespaces: up, down, exec, demo",
	run:      runLab,
}

var labCommands = []command{
	{name: "up", synopsis: "make the lab", run: labUp},
	{name: "down", synopsis: "remove the lab", run: labDown},
	{name: "exec", synopsis: "run a command in one of its namespaces", run: labExec},
	{name: "demo", synopsis: "show pods talking through proxyarpd, in a lab of its own", run: labDemo},
}

func runLab(ctx context.Context, args []string, out, errw io.Writer) error {
	if len(args) == 0 {
		return usagef("lab: say up, down, exec or demo; see proxyarpd lab --help")
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		printCommands(out, "proxyarpd lab COMMAND", labCommands)
		return nil
	}
	for _, c := range labCommands {
		if c.name == args[0] {
			return c.run(ctx, args[1:], out, errw)
		}
	}
	return usagef("lab: no command %q: there are up, down, exec and demo", args[0])
}

func labFlags(name, usage, lab string) (*flag.FlagSet, *string) {
	fs := newFlags("lab "+name, usage)
	return fs, fs.String("name", lab, "`NAME` of the lab: its namespaces are called NAME-host0, NAME-ns0, ...")
}

func labUp(ctx context.Context, args []string, out, _ io.Writer) error {
	fs, name := labFlags("up", "[flags]", defaultLab)
	form := fs.String("form", string(lab.FormArticle), "`FORM` of the pods' wiring: article (/24 addresses), slash32 or calico")
	pods := fs.Int("pods", 0, "`N` pods a host (default 1, with --form calico 2)")
	if err := parseFlags(fs, args, out); err != nil {
		return err
	}
	if err := noArguments(fs); err != nil {
		return err
	}
	if *pods < 0 {
		return usagef("lab up: --pods %d: give 1 or more", *pods)
	}
	if *name == "" {
		return usagef("lab up: --name must not be empty")
	}
	spec := lab.Spec{Name: *name, Form: lab.Form(*form), PodsPerHost: *pods}
	if err := spec.Validate(); err != nil {
		return usageError("lab up: " + strings.TrimPrefix(err.Error(), "lab: "))
	}
	if err := mayLab(); err != nil {
		return err
	}
	l, err := lab.New(ctx, spec)
	if errors.Is(err, lab.ErrExists) {
		return alreadyUp(spec, out)
	}
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("lab up: interrupted, what was made is removed again: %w", err)
		}
		return err
	}
	fmt.Fprintf(out, "lab %s is up\n\n", *name)
	printLab(l, out)
	return nil
}

// alreadyUp is the second `lab up`: fine, if the lab is what was asked for.
func alreadyUp(spec lab.Spec, out io.Writer) error {
	l, err := lab.Open(spec.Name)
	if err != nil {
		return err
	}
	if is := l.Spec(); is.Form != spec.Form || spec.PodsPerHost != 0 && is.PodsPerHost != spec.PodsPerHost {
		return fmt.Errorf("lab %s is up already, in form %s with %d pods a host: remove it first with proxyarpd lab down --name %s",
			spec.Name, is.Form, is.PodsPerHost, spec.Name)
	}
	fmt.Fprintf(out, "lab %s is up already\n\n", spec.Name)
	printLab(l, out)
	return nil
}

// printLab draws the lab and says what to type next.
func printLab(l *lab.Lab, out io.Writer) {
	fmt.Fprintln(out, l.Topology())
	self := os.Args[0] // as the user found it: it need not be in PATH
	in := self + " lab exec "
	down := self + " lab down"
	if l.Name() != defaultLab {
		in += "--name " + l.Name() + " "
		down += " --name " + l.Name()
	}
	workload := "'veth*'"
	if l.Spec().Form == lab.FormCalico {
		workload = "'cali*'"
	}
	proxy := ""
	if l.Spec().Form == lab.FormArticle {
		proxy = " --proxy 10.20.1.0/24"
	}
	var first, last lab.Pod
	for i, p := range l.Pods() {
		if i == 0 {
			first = p
		}
		last = p
	}
	fmt.Fprintln(out, "Next, each in a terminal of its own:")
	for _, n := range l.Nodes() {
		if !n.IsPod {
			fmt.Fprintf(out, "  %s%s %s run --workload %s%s --control /run/%s.sock\n", in, n.Name, self, workload, proxy, n.Netns)
		}
	}
	fmt.Fprintf(out, "  %s%s ping %s\n", in, first.Node, last.Addr.Addr())
	fmt.Fprintln(out, "And in the end:")
	fmt.Fprintf(out, "  %s\n", down)
}

func labDown(_ context.Context, args []string, out, errw io.Writer) error {
	fs, name := labFlags("down", "[flags]", defaultLab)
	if err := parseFlags(fs, args, out); err != nil {
		return err
	}
	if err := noArguments(fs); err != nil {
		return err
	}
	if err := (lab.Spec{Name: *name}).Validate(); err != nil || *name == "" {
		return usagef("lab down: --name %q is no lab's name", *name)
	}
	if err := mayLab(); err != nil {
		return err
	}
	procs, err := lab.Processes(*name)
	if err != nil {
		return err
	}
	found, err := lab.Remove(*name)
	if err != nil {
		return err
	}
	for node, pids := range procs {
		fmt.Fprintf(errw, "proxyarpd: still running in what was %s, without its interfaces: process %s\n",
			node, strings.Trim(fmt.Sprint(pids), "[]"))
	}
	if !found {
		fmt.Fprintf(out, "lab %s: there is none\n", *name)
		return nil
	}
	fmt.Fprintf(out, "lab %s is removed\n", *name)
	return nil
}

func labExec(_ context.Context, args []string, out, _ io.Writer) error {
	fs, name := labFlags("exec", "[flags] NODE [--] COMMAND [ARGUMENT...]", defaultLab)
	if err := parseFlags(fs, args, out); err != nil {
		return err
	}
	argv := fs.Args()
	if len(argv) > 1 && argv[1] == "--" {
		argv = append(argv[:1:1], argv[2:]...)
	}
	if len(argv) < 2 {
		return usagef("lab exec: give a node and a command: proxyarpd lab exec host0 ip route")
	}
	if err := mayLab(); err != nil {
		return err
	}
	l, err := lab.Open(*name)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab %s: there is none; make it with proxyarpd lab up", *name)
	}
	if err != nil {
		return err
	}
	return l.Exec(argv[0], argv[1:], os.Environ())
}

// mayLab says what a user without the rights lacks, before half of it is done.
func mayLab() error {
	if missing := lab.MissingCaps(); len(missing) > 0 {
		return fmt.Errorf("lab: needs %s: run it as root", strings.Join(missing, " and "))
	}
	return nil
}
