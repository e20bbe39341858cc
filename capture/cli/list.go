package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/capture/source"
)

// listInterfaces is -D.
func (r *run) listInterfaces() error {
	all, err := interfaceList()
	if err != nil {
		return err
	}
	for n, i := range all {
		fmt.Fprintf(r.Out, "%d.%s%s [%s]\n", n+1, printable(i.name), i.description, strings.Join(i.words(), ", "))
	}
	return nil
}

// device is an interface as -D has it.
type device struct {
	name, description string
	flags             net.Flags
}

// words are its state in tcpdump's words.
func (d *device) words() (words []string) {
	loopback, up, running := d.flags&net.FlagLoopback != 0, d.flags&net.FlagUp != 0, d.flags&net.FlagRunning != 0
	for _, w := range []struct {
		is   bool
		word string
	}{
		{up, "Up"}, {running, "Running"}, {loopback, "Loopback"},
		{up && running && !loopback && d.description == "", "Connected"}, {up && !running && !loopback, "Disconnected"}, {!up && !running && !loopback, "none"},
	} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return words
}

// interfaceList gives the interfaces in the order of libpcap's list, by whose
// numbers -i takes them.
func interfaceList() ([]device, error) {
	found, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	all := make([]device, 0, len(found)+1)
	for _, i := range found {
		all = append(all, device{name: i.Name, flags: i.Flags})
	}
	all = append(all, device{name: capture.Any, description: " (Pseudo-device that captures on all interfaces)", flags: net.FlagUp | net.FlagRunning})
	slices.SortStableFunc(all, func(a, b device) int { return cmp.Compare(a.merit(), b.merit()) })
	return all, nil
}

// merit orders interfaces as libpcap does (pcap.c, get_figure_of_merit): those
// that run go first, then those that are up, the loopback last of its kind.
func (d *device) merit() (m uint32) {
	const notRunning, notUp, loopback, pseudo = 1 << 31, 1 << 30, 1 << 29, 1<<29 - 1
	if d.description != "" {
		return pseudo
	}
	for _, f := range []struct {
		is  bool
		bit uint32
	}{{d.flags&net.FlagRunning == 0, notRunning}, {d.flags&net.FlagUp == 0, notUp}, {d.flags&net.FlagLoopback != 0, loopback}} {
		if f.is {
			m |= f.bit
		}
	}
	return m
}

// exists reports whether there is an interface with that name.
func exists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
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
		defer func() { err = errors.Join(err, src.Close()) }()
		i := src.First()
		link, snap, compile.Origin = source.FilterType(i), i.SnapLen, filter.FromFile
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
	f := r.program
	if f == nil {
		if f, err = compile.Compile(r.expression, link); err != nil {
			return badExpression(err)
		}
	}
	program := f.Instructions()
	if r.program == nil {
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
