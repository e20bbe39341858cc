package cli

import (
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// docs/CAPTURE-JSON.md has the fields; a test compares.

// object is a JSON object that is being written, on one line and in ASCII: a
// terminal takes some of what is not for commands.
type object struct{ b []byte }

func (o *object) key(name string) {
	if n := len(o.b); n > 0 && o.b[n-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), `":`...)
}

func (o *object) str(name, value string) {
	o.key(name)
	o.b = appendJSONString(o.b, value)
}

// optional is str, but for what is empty.
func (o *object) optional(name, value string) {
	if value != "" {
		o.str(name, value)
	}
}

func (o *object) num(name string, value uint64) {
	o.key(name)
	o.b = strconv.AppendUint(o.b, value, 10)
}

// some is num, but for 0, which says that nothing is known.
func (o *object) some(name string, value uint64) {
	if value != 0 {
		o.num(name, value)
	}
}

func (o *object) yes(name string) {
	o.key(name)
	o.b = append(o.b, "true"...)
}

func (o *object) null(name string) {
	o.key(name)
	o.b = append(o.b, "null"...)
}

// words is an array of those names whose bits are set.
func (o *object) words(name string, bits uint, names []string) {
	o.key(name)
	o.b = append(o.b, '[')
	for i, w := range names {
		if bits&(1<<i) == 0 || w == "" {
			continue
		}
		if o.b[len(o.b)-1] != '[' {
			o.b = append(o.b, ',')
		}
		o.b = appendJSONString(o.b, w)
	}
	o.b = append(o.b, ']')
}

func (o *object) open() {
	if n := len(o.b); n > 0 && o.b[n-1] == '}' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '{')
}

func (o *object) close() { o.b = append(o.b, '}') }

func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r >= ' ' && r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		case r == utf8.RuneError:
			b = append(b, `\ufffd`...)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// rfc3339 is that of RFC 3339 with nine decimals, whatever they are.
const rfc3339 = "2006-01-02T15:04:05.000000000Z07:00"

// json writes a packet as a line. What tcpdump would say of it is in t.line.
func (t *text) json(p *pcapfile.Packet, v *capture.Verdict) error {
	line := t.line
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	o := object{t.encoded[:0]}
	o.open()
	o.str("time", p.When().UTC().Format(rfc3339))
	o.where(p, t.ifaces.of(p))
	o.num("length", uint64(p.Len))
	o.num("captured", uint64(len(p.Data)))
	o.packet(p)
	o.str("text", string(line))
	o.verdict(v)
	o.close()
	t.encoded = append(o.b, '\n')
	_, err := t.w.Write(t.encoded)
	if err == nil && t.o.lineBuffered {
		err = t.w.Flush()
	}
	return err
}

// where says on which interface a packet was seen, and which way it went.
func (o *object) where(p *pcapfile.Packet, name string) {
	o.optional("interface", name)
	if p.Interface != nil {
		o.some("ifindex", uint64(capture.ParseIfindex(p.Interface.Description)))
	}
	if p.Has&pcapfile.HasFlags == 0 {
		return
	}
	o.optional("direction", directionName(p.Flags))
	reception := [...]string{pcapfile.Unicast: "unicast", pcapfile.Multicast: "multicast", pcapfile.Broadcast: "broadcast", pcapfile.Promiscuous: "otherhost"}
	o.optional("reception", reception[p.Flags.Reception()])
}

func directionName(f pcapfile.Flags) string {
	switch f.Direction() {
	case pcapfile.Inbound:
		return "in"
	case pcapfile.Outbound:
		return "out"
	}
	return ""
}

func (o *object) verdict(v *capture.Verdict) {
	if v == nil {
		o.null("verdict")
		return
	}
	o.str("verdict", v.Kind)
	o.optional("reason", v.Reason)
	o.some("id", v.ID)
	if v.Again {
		o.yes("again")
	}
	o.optional("in", v.In)
	o.optional("out", v.Out)
	if v.Via.IsValid() {
		o.str("via", v.Via.String())
	}
	if v.Route.IsValid() {
		o.str("route", v.Route.String())
	}
	if v.IsAt != nil {
		o.str("is_at", v.IsAt.String())
	}
	o.pair(v.ICMP, "/", "icmp_error_type", "icmp_error_code")
	o.number("rule", v.Rule)
	o.some("table", uint64(v.Table))
	o.some("metric", uint64(v.Metric))
	o.optional("neighbour", v.Neighbour)
	o.optional("out_src_mac", v.Src)
	o.optional("out_dst_mac", v.Dst)
	o.pair(v.TTL, ">", "", "out_ttl")
	o.some("mtu", uint64(max(v.MTU, 0)))
	o.some("took_ns", uint64(max(v.Took, 0)))
}

// number is a number that a Verdict has as text; what is none is left out.
func (o *object) number(name, value string) {
	if n, err := strconv.ParseUint(value, 10, 64); err == nil && name != "" {
		o.num(name, n)
	}
}

// pair is two numbers that a Verdict has as text.
func (o *object) pair(value, between, first, second string) {
	for i := range value {
		if value[i:i+1] == between {
			o.number(first, value[:i])
			o.number(second, value[i+1:])
			return
		}
	}
}

// writeRow writes a row of a summary as a line of JSON.
func writeRow(w io.Writer, k summaryKey, packets uint64) error {
	o := object{}
	o.open()
	o.num("packets", packets)
	o.optional("interface", k.iface)
	if k.direction != noVerdict {
		o.str("direction", k.direction)
	}
	if k.verdict == noVerdict {
		o.null("verdict")
	} else {
		o.str("verdict", k.verdict)
	}
	o.optional("reason", k.reason)
	o.close()
	_, err := w.Write(append(o.b, '\n'))
	return err
}
