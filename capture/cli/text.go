package cli

import (
	"bufio"
	"io"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
	"proxyarpd/capture/pcapfile"
)

// sink is where packets go. v is nil where nothing is known of a packet.
type sink interface {
	//
	// again says that the packet has been there before, when it began to wait.
	packet(p *pcapfile.Packet, v *capture.Verdict, again bool) error
	flush() error
	close() error
}

const textBuffer = 64 << 10 // bytes

// text prints packets as tcpdump does, and what became of them behind.
type text struct {
	o       *options
	asJSON  bool
	w       *bufio.Writer
	printer *dissect.Printer
	cooked  bool // several interfaces: say which
	line    []byte
	buf     []byte
	suffix  []byte
	detail  []byte
	ifaces  interfaceNames
	encoded []byte
	prints  pcapfile.LinkType // the last packet's
	any     bool              // there was one
}

func newText(o *options, w io.Writer, cooked bool) *text {
	d := dissect.Options{Link: o.link, Numeric: o.numeric, Verbose: o.verbose, Quiet: o.quiet, Hex: o.hex, HexASCII: o.hexASCII,
		ASCII: o.ascii, TimeStamp: o.stamp, Nano: o.nano, Number: o.number, AbsoluteSeq: o.absoluteSeq, NoDomain: o.noDomain,
		NoChecksum: o.noChecksum, Type: o.packetType, ASDot: o.asDot, RawHandles: o.rawHandles}
	if o.numeric == 0 {
		n := &names{local: localNetwork(o)}
		d.HostName, d.PortName = n.host, n.port
	}
	if o.verdict == "json" {
		d.TimeStamp = 1
	}
	return &text{o: o, asJSON: o.verdict == "json", w: bufio.NewWriterSize(w, textBuffer), printer: dissect.New(d), cooked: cooked && o.verdict != "json"}
}

func (t *text) packet(p *pcapfile.Packet, v *capture.Verdict, again bool) error {
	if again && t.o.verdict == "off" {
		return nil
	}
	if t.cooked {
		p, t.buf = cook(p, t.buf)
	}
	if p.LinkType != t.prints || !t.any { // a later interface's of a file
		if err := t.o.checkPrintable(p.LinkType); err != nil {
			return err
		}
		t.prints, t.any = p.LinkType, true
	}
	exact := p.Exact()
	d := dissect.Packet{Seconds: exact.Seconds, Nanoseconds: exact.Nanoseconds, Data: p.Data, Len: int(p.Len), LinkType: uint16(p.LinkType)}
	d.Interface = t.ifaces.of(p)
	t.suffix, t.detail = t.suffix[:0], t.detail[:0]
	if v != nil && !t.asJSON {
		t.annotate(v)
		d.Suffix, d.Detail = t.suffix, t.detail
	}
	t.line = t.printer.Append(t.line[:0], &d)
	if t.asJSON {
		return t.json(p, v)
	}
	_, err := t.w.Write(t.line)
	if err == nil && t.o.lineBuffered {
		err = t.w.Flush()
	}
	return err
}

// annotate makes suffix and further lines of a verdict.
func (t *text) annotate(v *capture.Verdict) {
	switch t.o.verdict {
	case "suffix":
		t.suffix = v.AppendSuffix(t.suffix)
	case "line":
		t.detail = append(t.detail, '\t')
		start := len(t.detail)
		t.detail = v.AppendSuffix(t.detail)
		t.detail = append(t.detail[:start], t.detail[start+1:]...) // its first byte is a space
	}
	if t.o.verbose > 0 {
		mark := len(t.detail)
		if mark > 0 {
			t.detail = append(t.detail, '\n')
		}
		t.detail = append(t.detail, '\t')
		if start := len(t.detail); len(v.AppendDetail(t.detail)) == start {
			t.detail = t.detail[:mark]
			return
		}
		t.detail = v.AppendDetail(t.detail)
	}
}

func (t *text) flush() error { return t.w.Flush() }
func (t *text) close() error { return t.w.Flush() }
