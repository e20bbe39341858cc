package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxyarpd/internal/lab"
)

// demoLimit is far more than the demo takes where it works.
const demoLimit = 60 * time.Second

// demo shows the product in a lab of its own. Whatever it claims it has read
// from the output that it prints.
type demo struct {
	ctx     context.Context
	out     io.Writer
	spec    lab.Spec
	l       *lab.Lab
	bin     string
	dir     string // of the control sockets and logs
	ipv6    bool   // the kernel and proxyarpd do IPv6
	daemons []*demoDaemon
}

func newLabDemo(p *program) *cobra.Command {
	name := ""
	cmd := &cobra.Command{
		Use:     "demo [--name NAME]",
		Short:   "show pods talking through proxyarpd, in a lab of its own",
		Long:    "demo makes a lab, runs proxyarpd on both hosts, shows what it does, and removes all of it: a minute.",
		Example: "  proxyarpd lab demo",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			run, _, err := cmd.Root().Find([]string{"run"})
			if err != nil {
				return err
			}
			return labDemo(cmd.Context(), name, run.Flags().Lookup("ipv6") != nil, p.text(), p.errw)
		},
	}
	labName(cmd, &name, defaultLab+"-demo")
	return cmd
}

func labDemo(ctx context.Context, name string, ipv6 bool, out, errw io.Writer) error {
	spec := lab.Spec{Name: name, Transient: true}
	if err := spec.Validate(); err != nil || name == "" {
		return usagef("lab demo: --name %q cannot be a lab's name", name)
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
	d := &demo{ctx: ctx, out: out, spec: spec, ipv6: ipv6}
	err := d.show()
	if err != nil {
		d.printLogs(errw)
	}
	return errors.Join(err, d.remove())
}

// demoStep is one of the things that the demo shows.
type demoStep struct {
	title string
	run   func() error
}

func (d *demo) show() error {
	began := time.Now()
	steps := []demoStep{
		{"Two hosts and a pod on each, in network namespaces", d.makeLab},
		{"The kernel neither forwards nor answers for others", d.sysctls},
		{"proxyarpd starts on both hosts", d.startDaemons},
		{"A pod pings the one on the other host", func() error { return d.ping("10.20.1.3") }},
		{"The pod's neighbours are all ee:ee:ee:ee:ee:ee", d.neighbours},
		{"What became of each packet, and why: one that arrives and one that does not", d.capture},
		{"TCP between the hosts", d.tcp},
		{"A pod is added while proxyarpd runs, and reached at once", d.addPod},
		{"What proxyarpd counted", d.status},
		{"And the sysctls are still 0", d.sysctls},
	}
	if d.ipv6 {
		at := slices.IndexFunc(steps, func(s demoStep) bool { return strings.Contains(s.title, "neighbours") })
		steps = slices.Insert(steps, at+1, demoStep{"The same over IPv6, by the gateway that Calico's pods have", d.ping6})
	}
	for i, step := range steps {
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
	if d.dir, err = os.MkdirTemp("", "parp-"+d.spec.Name); err != nil {
		return err
	}
	if d.l, err = lab.New(d.ctx, d.spec); err != nil {
		return err
	}
	d.ipv6 = d.ipv6 && d.l.Pods()[0].Addr6.IsValid()
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
		if d.ipv6 {
			keys = append(keys, "net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.proxy_ndp")
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

var pingTime = regexp.MustCompile(`icmp_seq=1 .*time=([0-9.]+ ms)`)

func (d *demo) ping(to string) error {
	out, err := d.run("ns0", "ping", "-c", "3", to)
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

// gateway6 is the IPv6 gateway of the pods, for which proxyarpd answers.
const gateway6 = "fe80::ecee:eeff:feee:eeee"

func (d *demo) ping6() error {
	if _, err := d.run("ns0", "ip", "-6", "route", "show", "default"); err != nil {
		return err
	}
	if err := d.ping(d.l.Pods()[1].Addr6.Addr().String()); err != nil {
		return err
	}
	out, err := d.run("ns0", "ip", "-6", "neigh")
	if err != nil {
		return err
	}
	if !strings.Contains(out, gateway6+" dev eth0 lladdr ee:ee:ee:ee:ee:ee") {
		return fmt.Errorf("ns0 does not have ee:ee:ee:ee:ee:ee for %s", gateway6)
	}
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
	defer cancel()
	args := []string{"-s", "-1", "--forceflush"}
	d.echo("ns1", "iperf3", append(args, "&")...)
	server := d.l.Command(ctx, "ns1", "iperf3", args...)
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Wait()
	defer cancel()
	late := time.AfterFunc(5*time.Second, cancel)
	listening := false
	for lines := bufio.NewScanner(out); !listening && lines.Scan(); {
		listening = strings.Contains(lines.Text(), "Server listening")
	}
	if !late.Stop() || !listening {
		return errors.New("iperf3 -s does not listen")
	}
	go io.Copy(io.Discard, out)
	_, err = d.run("ns0", "iperf3", "-c", "10.20.1.3", "-t", "3", "-i", "0")
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
