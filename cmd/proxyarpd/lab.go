package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"proxyarpd/internal/lab"
)

const defaultLab = "proxyarpd"

const labLong = `lab makes, enters and removes two hosts with pods, in network namespaces that ip netns sees. A lab
called NAME has the namespaces NAME-host0, NAME-host1, NAME-ns0, ... It needs root.`

const labExample = `  proxyarpd lab demo                           # all of it, by itself, in a lab of its own
  proxyarpd lab up --form calico --pods 3
  proxyarpd lab exec host0 proxyarpd run --control /run/proxyarpd-host0.sock
  proxyarpd lab exec pod0-0 ping -c 3 10.65.1.2
  proxyarpd lab down`

func newLab(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "lab COMMAND",
		Short:   "the two-host lab in network namespaces: up, down, exec, demo",
		Long:    labLong,
		Example: labExample,
		GroupID: groupLab,
		Args:    cobra.ArbitraryArgs, // RunE names the one that is no command
		RunE:    noCommand,
	}
	cmd.AddCommand(newLabUp(p), newLabDown(p), newLabExec(), newLabDemo(p))
	return cmd
}

// labName is --name of the lab's commands.
func labName(cmd *cobra.Command, at *string, lab string) {
	cmd.Flags().StringVar(at, "name", lab, "`NAME` of the lab: its namespaces are called NAME-host0, NAME-ns0, ...")
	complete(cmd, "name", labNames)
}

// labNames completes the names of the labs that there are.
func labNames(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return lab.Names(), cobra.ShellCompDirectiveNoFileComp
}

func newLabUp(p *program) *cobra.Command {
	var (
		spec lab.Spec
		form string
	)
	cmd := &cobra.Command{
		Use:     "up [--name NAME] [--form FORM] [--pods N]",
		Short:   "make the lab",
		Long:    "up makes the lab and prints what to type next. A lab that is up already, as it is asked for, is fine.",
		Example: "  proxyarpd lab up\n  proxyarpd lab up --name other --form slash32",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec.Form = lab.Form(form)
			return labUp(cmd.Context(), spec, p.text())
		},
	}
	labName(cmd, &spec.Name, defaultLab)
	cmd.Flags().StringVar(&form, "form", string(lab.FormArticle), "`FORM` of the pods' wiring: article (/24 addresses), slash32 or calico")
	cmd.Flags().Var(&scalar[int]{&spec.PodsPerHost, parseNumber, "N"}, "pods", "`N` pods a host (default 1, with --form calico 2)")
	var forms []string
	for _, f := range lab.Forms() {
		forms = append(forms, string(f))
	}
	complete(cmd, "form", words(forms...))
	return cmd
}

func labUp(ctx context.Context, spec lab.Spec, out io.Writer) error {
	if spec.PodsPerHost < 0 {
		return usagef("lab up: --pods %d: give 1 or more", spec.PodsPerHost)
	}
	if spec.Name == "" {
		return usagef("lab up: --name must not be empty")
	}
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
	fmt.Fprintf(out, "lab %s is up\n\n", spec.Name)
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
	if last.Addr6.IsValid() {
		fmt.Fprintf(out, "  %s%s ping %s\n", in, first.Node, last.Addr6.Addr())
	}
	fmt.Fprintln(out, "And in the end:")
	fmt.Fprintf(out, "  %s\n", down)
}

func newLabDown(p *program) *cobra.Command {
	name := ""
	cmd := &cobra.Command{
		Use:     "down [--name NAME]",
		Short:   "remove the lab",
		Long:    "down removes the lab with its namespaces and interfaces. Processes in them go on, and are named.",
		Example: "  proxyarpd lab down --name other",
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return labDown(name, p.text(), p.errw) },
	}
	labName(cmd, &name, defaultLab)
	return cmd
}

func labDown(name string, out, errw io.Writer) error {
	if err := (lab.Spec{Name: name}).Validate(); err != nil || name == "" {
		return usagef("lab down: --name %q is no lab's name", name)
	}
	if err := mayLab(); err != nil {
		return err
	}
	procs, err := lab.Processes(name)
	if err != nil {
		return err
	}
	found, err := lab.Remove(name)
	if err != nil {
		return err
	}
	for node, pids := range procs {
		fmt.Fprintf(errw, "proxyarpd: still running in what was %s, without its interfaces: process %s\n",
			node, strings.Trim(fmt.Sprint(pids), "[]"))
	}
	if !found {
		fmt.Fprintf(out, "lab %s: there is none\n", name)
		return nil
	}
	fmt.Fprintf(out, "lab %s is removed\n", name)
	return nil
}

func newLabExec() *cobra.Command {
	name := ""
	cmd := &cobra.Command{
		Use:         "exec [--name NAME] NODE [--] COMMAND [ARGUMENT...]",
		Short:       "run a command in one of its namespaces",
		Long:        "exec becomes the command, in the network namespace of a node: host0, host1, ns0, pod0-0, ...",
		Example:     "  proxyarpd lab exec host0 ip route\n  proxyarpd lab exec --name other ns0 -- sh -c 'ip neigh; ip route'",
		Annotations: map[string]string{exit0: "that of COMMAND, whatever it is"},
		RunE:        func(_ *cobra.Command, args []string) error { return labExec(name, args) },
		ValidArgsFunction: begun(func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return labNodes(name), cobra.ShellCompDirectiveNoFileComp
		}),
	}
	labName(cmd, &name, defaultLab)
	cmd.Flags().SetInterspersed(false) // flags behind NODE are COMMAND's
	return cmd
}

// labNodes are the names of a lab's nodes, for completion.
func labNodes(name string) (nodes []cobra.Completion) {
	l, err := lab.Open(name)
	if err != nil {
		return nil
	}
	for _, n := range l.Nodes() {
		nodes = append(nodes, n.Name)
	}
	return nodes
}

func labExec(name string, argv []string) error {
	if len(argv) > 1 && argv[1] == "--" {
		argv = append(argv[:1:1], argv[2:]...)
	}
	if len(argv) < 2 {
		return usagef("lab exec: give a node and a command: proxyarpd lab exec host0 ip route")
	}
	if err := mayLab(); err != nil {
		return err
	}
	l, err := lab.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab %s: there is none; make it with proxyarpd lab up", name)
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
