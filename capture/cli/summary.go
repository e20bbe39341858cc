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
	plain "proxyarpd/internal/printable"
)

// summary counts packets by interface and verdict.
type summary struct {
	w      io.Writer
	json   bool
	counts map[summaryKey]uint64
	waits  map[uint64]summaryKey // packets that wait, by their id
}

type summaryKey struct{ iface, direction, verdict, reason string }

// noVerdict stands in a table where nothing is known.
const noVerdict = "-"

// summaryRows bounds the table: interfaces come and go.
const summaryRows = 1 << 16

// summaryWaits bounds the packets that wait and are remembered: those beyond
// stay counted as such.
const summaryWaits = 1 << 16

// nameLen is what is shown of a file's names, bytes: the kernel's are shorter.
const nameLen = 64

// short is a name that is not too long, and keeps nothing else of a file.
func short(s string) string {
	if len(s) > nameLen {
		return strings.Clone(s[:nameLen])
	}
	return s
}

// packet counts a packet: one that has waited by how that ended.
func (s *summary) packet(p *pcapfile.Packet, v *capture.Verdict, again bool) error {
	k := summaryKey{verdict: noVerdict}
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
		k.direction = noVerdict
	}
	if s.counts == nil {
		s.counts = map[summaryKey]uint64{}
	}
	if v != nil {
		s.follow(k, v, again)
	}
	if _, known := s.counts[k]; !known && len(s.counts) == summaryRows {
		k = summaryKey{iface: "others", direction: k.direction, verdict: k.verdict}
	}
	s.counts[k]++
	return nil
}

// follow looks after packets that wait. How that ends is told of the packet as it
// came, or of the one that leaves.
func (s *summary) follow(k summaryKey, v *capture.Verdict, again bool) {
	if v.Kind == capture.Queue {
		if s.waits == nil {
			s.waits = map[uint64]summaryKey{}
		}
		if len(s.waits) < summaryWaits {
			s.waits[v.ID] = k
		}
		return
	}
	came, waited := s.waits[v.ID]
	left := v.Kind == capture.Forward && v.In != ""
	if !waited || !again && !left {
		return
	}
	delete(s.waits, v.ID)
	switch s.counts[came] {
	case 0:
		return // it is among the others
	case 1:
		delete(s.counts, came)
	default:
		s.counts[came]--
	}
	if left {
		came.verdict, came.reason = capture.Forward, ""
		s.counts[came]++
	}
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
	if s.json {
		for _, k := range keys {
			if err := writeRow(s.w, k, s.counts[k]); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(s.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PACKETS\tINTERFACE\tDIR\tVERDICT\tREASON")
	for _, k := range keys {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", s.counts[k], printable(k.iface), k.direction, k.verdict, printable(k.reason))
	}
	return w.Flush()
}

// printable keeps a file's names from reaching the terminal raw.
func printable(s string) string { return plain.String(s) }
