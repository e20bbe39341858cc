package cli

import (
	"fmt"
	"net"
	"strings"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
)

// listInterfaces is -D.
func (r *run) listInterfaces() error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.Out, "1.%s (Pseudo-device that captures on all interfaces) [Up, Running]\n", capture.Any)
	for n, i := range all {
		var words []string
		for _, f := range []struct {
			flag net.Flags
			word string
		}{{net.FlagUp, "Up"}, {net.FlagRunning, "Running"}, {net.FlagLoopback, "Loopback"}} {
			if i.Flags&f.flag != 0 {
				words = append(words, f.word)
			}
		}
		if len(words) == 0 {
			words = []string{"none"}
		}
		fmt.Fprintf(r.Out, "%d.%s [%s]\n", n+2, printable(i.Name), strings.Join(words, ", "))
	}
	return nil
}

// listTypes is -L.
func (r *run) listTypes() error {
	r.cooked = r.several()
	name := strings.Join(r.interfaces, ", ")
	if name == "" {
		name = capture.Any
	}
	word, description, _ := strings.Cut(r.linkType().String(), " ")
	fmt.Fprintf(r.Out, "Data link types for %s (use option -y to set):\n  %s %s\n", name, word, description)
	return nil
}

// dumpFilter is -d: the program as tcpdump prints it, as C, or as numbers.
func (r *run) dumpFilter() error {
	f := r.selector.program
	if f == nil {
		link := filter.Ethernet
		if len(r.interfaces) == 1 && r.interfaces[0] == capture.Any || r.options.linkType == "LINUX_SLL2" {
			link = filter.LinuxSLL2
		}
		var err error
		if f, err = filter.Compile(r.expression, link); err != nil {
			return badExpression(err)
		}
	}
	program := f.Program()
	if program == nil {
		return fmt.Errorf("the filter is no program that the kernel would take")
	}
	switch r.dump {
	case 1:
		for n, i := range program {
			fmt.Fprintln(r.Out, image(n, i))
		}
	case 2:
		for _, i := range program {
			fmt.Fprintf(r.Out, "{ 0x%x, %d, %d, 0x%08x },\n", i.Op, i.Jt, i.Jf, i.K)
		}
	default:
		fmt.Fprintln(r.Out, len(program))
		for _, i := range program {
			fmt.Fprintln(r.Out, i.Op, i.Jt, i.Jf, i.K)
		}
	}
	return nil
}
