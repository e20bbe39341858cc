package capture

import (
	"errors"
	"slices"
	"strings"
)

// ErrNoDaemon says that no daemon listens at a control socket.
var ErrNoDaemon = errors.New("no daemon listens")

// BadExpression is what is wrong with a Request's filter expression, in
// tcpdump's words.
type BadExpression string

func (b BadExpression) Error() string { return string(b) }

// Request says what a capture session wants to see.
type Request struct {
	Interfaces []string `json:"interfaces"` // names, globs, or "any"
	Filter     string   `json:"filter,omitempty"`
	Snap       int      `json:"snap"`                // bytes of a frame
	Direction  string   `json:"direction,omitempty"` // "in", "out"; else both
	Drops      bool     `json:"drops,omitempty"`     // what was dropped alone
	Reasons    []string `json:"reasons,omitempty"`   // globs: these verdicts alone
	Buffer     int      `json:"buffer,omitempty"`    // bytes of packets that may wait for the reader
	// Promiscuous asks interfaces that are named for other hosts' frames.
	Promiscuous bool `json:"promiscuous,omitempty"`
	// LastDrops asks for the drops that the daemon has kept, so many of the last
	// ones at most that are selected, in place of what comes. Buffer and Promiscuous
	// do not count then. 0 is a live session.
	LastDrops int `json:"last_drops,omitempty"`
}

// Reply is what a session begins with; pcapng follows. While it does, the
// client may send AskStatistics; to close its end of the connection for writing
// ends the session.
type Reply struct {
	Interfaces []string `json:"interfaces"` // those there are now that were asked for
	// Foreign are those of them that the daemon does not serve: their packets
	// have no verdict.
	Foreign []string `json:"foreign,omitempty"`
	// HostTraffic says that also what the daemon leaves to the kernel is shown.
	HostTraffic bool `json:"host_traffic"`
	// Recorder is told with Request.LastDrops.
	Recorder *Recorder `json:"recorder,omitempty"`
}

// Recorder says what a daemon's flight recorder has seen since its start.
type Recorder struct {
	Kept     int    `json:"kept"`     // drops that are there, selected or not
	Recorded uint64 `json:"recorded"` // those that have been overwritten since included
	// Unseen counts by reason what was dropped and not recorded: the kernel, or an
	// eBPF program, dropped it before the daemon had it.
	Unseen map[string]uint64 `json:"unseen,omitempty"`
}

// AskStatistics asks for the statistics so far: they come as an Interface
// Statistics Block of each interface, without an end time, the first
// interface's last.
const AskStatistics byte = '?'

// Any is the name for all interfaces.
const Any = "any"

// Disappeared is why a capture of interfaces that are gone ends, in libpcap's
// words.
const Disappeared = "The interface disappeared"

// A stream that ends for a reason of its own has an interface at its end whose
// description says it.
const endPrefix = "end: "

// EndText is the description of the interface that says why a stream ends.
func EndText(reason string) string { return endPrefix + reason }

// ParseEnd reads what EndText wrote; "" if it is something else.
func ParseEnd(description string) string {
	reason, _ := strings.CutPrefix(description, endPrefix)
	if reason == description {
		return ""
	}
	return reason
}

// IsPattern reports whether a name stands for several interfaces.
func IsPattern(name string) bool { return name == Any || strings.ContainsAny(name, `*?[\`) }

// Several reports whether names are of more than one interface, or may be. What
// is captured then has the header of a cooked capture, as tcpdump -i any shows
// it, and its length is that of the packet behind the link-layer header to
// filters, as it is there.
func Several(names []string) bool { return len(names) != 1 || slices.ContainsFunc(names, IsPattern) }
