package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// summary counts packets by interface and verdict.
type summary struct {
	w      io.Writer
	counts map[summaryKey]uint64
}

type summaryKey struct{ iface, direction, verdict, reason string }

// summaryRows bounds the table: interfaces come and go.
const summaryRows = 1 << 16

// nameLen is what is shown of a file's names, bytes: the kernel's are shorter.
const nameLen = 64

// short is a name that is not too long, and keeps nothing else of a file.
func short(s string) string {
	if len(s) > nameLen {
		return strings.Clone(s[:nameLen])
	}
	return s
}

func (s *summary) packet(p *pcapfile.Packet, v *capture.Verdict) error {
	k := summaryKey{verdict: "-"}
	if p.Interface != nil {
		k.iface = short(p.Interface.Name)
	}
	if v != nil {
		k.verdict, k.reason = v.Kind, short(v.Reason)
	}
	switch p.Flags.Direction() {
	case pcapfile.Inbound:
		k.direction = "in"
	case pcapfile.Outbound:
		k.direction = "out"
	default:
		k.direction = "-"
	}
	if s.counts == nil {
		s.counts = map[summaryKey]uint64{}
	}
	if _, known := s.counts[k]; !known && len(s.counts) == summaryRows {
		k = summaryKey{iface: "others", direction: k.direction, verdict: k.verdict}
	}
	s.counts[k]++
	return nil
}

func (s *summary) flush() error { return nil }

// close prints the table: the most frequent first.
func (s *summary) close() error {
	keys := make([]summaryKey, 0, len(s.counts))
	for k := range s.counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b summaryKey) int {
		return cmp.Or(cmp.Compare(s.counts[b], s.counts[a]), cmp.Compare(a.iface, b.iface), cmp.Compare(a.direction, b.direction),
			cmp.Compare(a.verdict, b.verdict), cmp.Compare(a.reason, b.reason))
	})
	w := tabwriter.NewWriter(s.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PACKETS\tINTERFACE\tDIR\tVERDICT\tREASON")
	for _, k := range keys {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", s.counts[k], printable(k.iface), k.direction, k.verdict, printable(k.reason))
	}
	return w.Flush()
}

// printable keeps a file's names from reaching the terminal raw.
func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}
