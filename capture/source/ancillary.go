package source

import (
	"bytes"
	"path"
	"slices"
	"sync/atomic"

	"github.com/google/gopacket"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// Ancillary is what is known of a packet beside its bytes. It is the only
// element of a CaptureInfo's AncillaryData, as a pointer.
type Ancillary struct {
	// Packet is the packet as a capture file has it: link type, interface,
	// direction (Flags), exact time, comments. CaptureInfo says the same where it
	// has a field for it; its InterfaceIndex is the kernel's on the host where the
	// packet was captured, 0 if that is not known.
	pcapfile.Packet
	// Verdict is what became of the packet; nil if nothing is known of that.
	Verdict *capture.Verdict
	// Again says that this reader has had the packet before, when it began to wait
	// (verdict queue): this is how that ended. Who counts packets passes it over.
	Again bool

	verdict capture.Verdict // that Verdict points to
}

// AncillaryOf finds what a [Source] said of a packet, nil if ci is another's.
func AncillaryOf(ci gopacket.CaptureInfo) *Ancillary {
	for _, a := range ci.AncillaryData {
		if a, ours := a.(*Ancillary); ours {
			return a
		}
	}
	return nil
}

// clone is a copy that shares nothing that the source writes to.
func (a *Ancillary) clone() *Ancillary {
	c := *a
	c.Data = bytes.Clone(a.Data)
	if c.Data == nil {
		c.Data = []byte{}
	}
	c.Comments = slices.Clone(a.Comments)
	for i, text := range c.Comments {
		c.Comments[i] = bytes.Clone(text)
	}
	if a.Verdict != nil {
		c.Verdict = &c.verdict
	}
	return &c
}

// parse reads the verdict from the comments.
func (a *Ancillary) parse() {
	a.Verdict = nil
	for _, c := range a.Comments {
		var ok bool
		if a.verdict, ok = capture.ParseComment(string(c)); ok {
			a.Verdict = &a.verdict
			return
		}
	}
}

// selection is which packets a reader gets of those that there are.
type selection struct {
	o     Options
	match func(*pcapfile.Packet) bool // nil: all
	// sorted says that what comes has been selected, and marked as Again, for this
	// reader.
	sorted bool
	cut    int // bytes of a packet that are kept, 0: all
}

// take completes a packet, and reports whether the reader gets it. It counts
// verdicts.
func (c *selection) take(a *Ancillary, verdicts *atomic.Uint64) bool {
	if a.Verdict = nil; !c.o.NoVerdicts || c.o.wantsVerdict() && !c.sorted {
		if a.parse(); a.Verdict != nil {
			verdicts.Add(1)
		}
	}
	if !c.sorted && !c.wants(a) {
		return false
	}
	a.Again = slices.ContainsFunc(a.Comments, capture.IsAgain) && (c.sorted || c.asked(&capture.Verdict{Kind: capture.Queue}))
	if c.cut > 0 && len(a.Data) > c.cut {
		a.Data = a.Data[:c.cut:c.cut]
	}
	return true
}

// wants applies what a daemon and a packet socket apply themselves.
func (c *selection) wants(a *Ancillary) bool {
	switch {
	case a.Verdict == nil && c.o.wantsVerdict(), a.Verdict != nil && !c.asked(a.Verdict):
		return false
	case c.o.Direction != pcapfile.DirectionUnknown && a.Flags.Direction() != c.o.Direction:
		return false
	}
	return c.match == nil || c.match(&a.Packet)
}

// asked reports whether a verdict is one of Drops and Reasons.
func (c *selection) asked(v *capture.Verdict) bool {
	if c.o.Drops && v.Kind != capture.Drop {
		return false
	}
	return len(c.o.Reasons) == 0 || slices.ContainsFunc(c.o.Reasons, func(g string) bool {
		a, _ := path.Match(g, v.Reason)
		b, _ := path.Match(g, v.Kind)
		return a && v.Reason != "" || b
	})
}
