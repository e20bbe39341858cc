package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
	"proxyarpd/capture/pcapfile"
)

// sink is where packets go. v is nil where nothing is known of a packet.
type sink interface {
	packet(p *pcapfile.Packet, v *capture.Verdict) error
	flush() error
	close() error
}

const textBuffer = 64 << 10 // bytes

// text prints packets as tcpdump does, and what became of them behind.
type text struct {
	o       *options
	w       *bufio.Writer
	printer *dissect.Printer
	cooked  bool // several interfaces: say which
	line    []byte
	buf     []byte
	suffix  []byte
	detail  []byte
	ifaces  interfaceNames
	encoded bytes.Buffer
}

func newText(o *options, w io.Writer, cooked bool) *text {
	d := dissect.Options{Link: o.link, Numeric: o.numeric, Verbose: o.verbose, Quiet: o.quiet, Hex: o.hex, HexASCII: o.hexASCII,
		ASCII: o.ascii, TimeStamp: o.stamp, Nano: o.nano, Number: o.number, AbsoluteSeq: o.absoluteSeq, NoDomain: o.noDomain,
		NoChecksum: o.noChecksum}
	if o.numeric == 0 {
		n := &names{}
		d.HostName, d.PortName = n.host, n.port
	}
	if o.verdict == "json" {
		d.TimeStamp, d.Number, d.Hex, d.HexASCII, d.ASCII = 1, false, 0, 0, 0
	}
	return &text{o: o, w: bufio.NewWriterSize(w, textBuffer), printer: dissect.New(d), cooked: cooked && o.verdict != "json"}
}

func (t *text) packet(p *pcapfile.Packet, v *capture.Verdict) error {
	if t.cooked {
		p, t.buf = cook(p, t.buf)
	}
	if err := t.o.checkPrintable(p.LinkType); err != nil { // a later interface's of a file
		return err
	}
	exact := p.Exact()
	d := dissect.Packet{Seconds: exact.Seconds, Nanoseconds: exact.Nanoseconds, Data: p.Data, Len: int(p.Len), LinkType: uint16(p.LinkType)}
	d.Interface = t.ifaces.of(p)
	t.suffix, t.detail = t.suffix[:0], t.detail[:0]
	if v != nil && t.o.verdict != "json" {
		t.annotate(v)
		d.Suffix, d.Detail = t.suffix, t.detail
	}
	t.line = t.printer.Append(t.line[:0], &d)
	if t.o.verdict == "json" {
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

// jsonPacket is a line of --verdict json.
type jsonPacket struct {
	Time      string `json:"time"` // RFC 3339 with nanoseconds, UTC
	Interface string `json:"interface,omitempty"`
	Direction string `json:"direction,omitempty"`
	Length    uint32 `json:"length"` // on the wire, bytes
	Text      string `json:"text"`   // as tcpdump has it
	*capture.Verdict
	IsAt string `json:"is_at,omitempty"`
}

func (t *text) json(p *pcapfile.Packet, v *capture.Verdict) error {
	line := t.line
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	j := jsonPacket{Time: p.When().UTC().Format(time.RFC3339Nano), Length: p.Len, Text: string(line), Verdict: v}
	if p.Interface != nil {
		j.Interface = short(p.Interface.Name)
	}
	if v != nil {
		j.IsAt = v.IsAt.String()
	}
	switch p.Flags.Direction() {
	case pcapfile.Inbound:
		j.Direction = "in"
	case pcapfile.Outbound:
		j.Direction = "out"
	}
	t.encoded.Reset()
	e := json.NewEncoder(&t.encoded)
	e.SetEscapeHTML(false)
	err := e.Encode(&j)
	if err == nil {
		t.line = asciiJSON(t.line[:0], t.encoded.Bytes())
		_, err = t.w.Write(t.line)
	}
	if err == nil && t.o.lineBuffered {
		err = t.w.Flush()
	}
	return err
}

// asciiJSON appends JSON with what is not ASCII in it as \u: a terminal takes
// some of that for commands.
func asciiJSON(b, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		switch {
		case r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

func (t *text) flush() error { return t.w.Flush() }
func (t *text) close() error { return t.w.Flush() }
