package cli

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
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

// dumpFilter is -d: the program as tcpdump prints it, as C, or as numbers. Its
// link type is that of the file, of the interface or of -y.
func (r *run) dumpFilter() (err error) {
	compile, snap := filter.Options{Origin: filter.FromNowhere, NoOptimize: r.noOptimize}, uint32(r.snap)
	link := filter.Ethernet
	switch {
	case r.read != "":
		src, err := r.openFile()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, src.close()) }()
		i := src.look()
		link, snap, compile.Origin = filterType(i), i.SnapLen, filter.FromFile
	case len(r.interfaces) > 0:
		if err := r.checkInterface(); err != nil {
			return err
		}
		r.cooked = r.several()
		link, compile.Origin = filter.LinkType(r.linkType()), filter.FromSocket
	case r.options.linkType != "":
		t, _ := pcapfile.LinkTypeNamed(r.options.linkType)
		link = filter.LinkType(t)
	default:
		fmt.Fprintln(r.Err, "Warning: assuming Ethernet")
	}
	f := r.selector.program
	if f == nil {
		if f, err = compile.Compile(r.expression, link); err != nil {
			return badExpression(err)
		}
	}
	program := f.Instructions()
	if r.selector.program == nil {
		program = cutTo(program, snap)
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

// cutTo has a program return another snapshot length.
func cutTo(program []filter.Instruction, snap uint32) []filter.Instruction {
	const returnK = 0x06
	for n := range program {
		if i := &program[n]; i.Op == returnK && i.K != 0 {
			i.K = snap
		}
	}
	return program
}

// checkInterface says whether a single interface is there, as tcpdump does.
func (r *run) checkInterface() error {
	name := r.interfaces[0]
	if r.several() {
		return nil
	}
	if _, err := net.InterfaceByName(name); err != nil {
		return fmt.Errorf("%s: No such device exists", printable(name))
	}
	return nil
}
